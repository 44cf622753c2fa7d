//! From files to a running engine's parts; and `hookmill check`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Failure;
use super::args::{CheckArgs, Global};
use crate::config::{self, Code, Loaded, Problem, Process, checked};
use crate::deliver::{Endpoint, publish};
use crate::egress;
use crate::filter::Filter;
use crate::model::Name;
use crate::nats::Nats;
use crate::pipeline::{OnError, Pipeline, Step, Subscription, SubscriptionParts, Target};
use crate::transform::{self, Host};
use crate::validate::Validator;

/// The process's settings: the file, and what the command line says instead.
pub(crate) fn process(global: &Global) -> Result<Process, Failure> {
    let default = Path::new("hookmill.toml");
    let path = global.config.as_deref().or_else(|| default.exists().then_some(default));
    let mut process = config::load_process(path).map_err(|problems| say(&problems, global.json))?;
    if let Some(url) = &global.nats {
        process.nats.url.clone_from(url);
    }
    if let Some(prefix) = &global.prefix {
        process.nats.prefix =
            Name::new(prefix).map_err(|error| Failure::Usage(format!("--prefix: {error}")))?;
    }
    Ok(process)
}

/// Connects as the settings say.
pub(crate) async fn connect(process: &Process) -> Result<Nats, Failure> {
    Nats::connect(&process.nats).await.map_err(|error| {
        let text = super::output::chain(&error);
        if error.is_usage() { Failure::Usage(text) } else { Failure::Failed(text) }
    })
}

/// Prints problems, each as text or JSON, and says that there were some.
pub(crate) fn say(problems: &[Problem], json: bool) -> Failure {
    for problem in problems {
        if json {
            println!("{}", serde_json::to_string(problem).unwrap_or_default());
        } else {
            eprintln!("{problem}");
        }
    }
    Failure::Said(2)
}

/// The files with their guests: loaded, compiled and configured once.
pub(crate) struct Prepared {
    pub(crate) loaded: Loaded,
    /// The steps of each pipeline's subscriptions, in their order.
    steps: Vec<Vec<Vec<Step>>>,
}

/// Reads the files and tries every step's module and settings.
pub(crate) async fn prepare(paths: &[PathBuf], process: &Process) -> Result<Prepared, Failure> {
    let mut loaded = config::load(paths);
    let host = Host::new(process.host.clone()).map_err(|error| Failure::failed(&error))?;
    let mut steps = Vec::new();
    for pipeline in &loaded.pipelines {
        let mut of_pipeline = Vec::new();
        for subscription in &pipeline.subscriptions {
            let mut of_subscription = Vec::new();
            for step in &subscription.steps {
                match make_step(&host, step).await {
                    Ok(step) => of_subscription.push(step),
                    Err((code, message)) => {
                        loaded.problems.push(super::check::step_problem(
                            &pipeline.file,
                            step,
                            code,
                            &message,
                        ));
                    }
                }
            }
            of_pipeline.push(of_subscription);
        }
        steps.push(of_pipeline);
    }
    Ok(Prepared { loaded, steps })
}

async fn make_step(host: &Arc<Host>, step: &checked::Step) -> Result<Step, (Code, String)> {
    use super::output::chain;
    let name = step.reference.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = tokio::fs::read(&step.reference).await;
    let bytes = bytes.map_err(|error| {
        let text = format!("module {} can't be read: {}", step.reference.display(), error.kind());
        (Code::ModuleMissing, text)
    })?;
    let module = host.load_in_background(&name, bytes.into()).await;
    let module = module.map_err(|error| (Code::ModuleInvalid, chain(&error)))?;
    let settings = step.transform.clone();
    let identity = format!("{} {}", module.label(), settings.settings);
    let transform = transform::Step::new(host.clone(), module, settings).await;
    let transform = transform.map_err(|error| (Code::SettingsRefused, chain(&error)))?;
    let on_error = match step.on_error {
        checked::OnError::DeadLetter => OnError::DeadLetter,
        checked::OnError::Drop => OnError::Drop,
        checked::OnError::Skip => OnError::Skip,
    };
    Ok(Step { transform, on_error, identity })
}

impl Prepared {
    /// The pipelines, ready to run.
    pub(crate) fn pipelines(self, nats: &Nats, client: &egress::Client) -> Vec<Arc<Pipeline>> {
        let pairs = self.loaded.pipelines.into_iter().zip(self.steps);
        pairs.map(|(pipeline, steps)| Arc::new(pipeline_of(pipeline, steps, nats, client))).collect()
    }
}

fn pipeline_of(
    from: checked::Pipeline,
    steps: Vec<Vec<Step>>,
    nats: &Nats,
    client: &egress::Client,
) -> Pipeline {
    let subscriptions = from.subscriptions.into_iter().zip(steps);
    let subscriptions =
        subscriptions.map(|(subscription, steps)| subscription_of(subscription, steps, nats, client));
    let validator = Validator::new(from.validate);
    Pipeline::new(from.name, from.revision.into(), from.source, validator, subscriptions.collect())
}

fn subscription_of(
    from: checked::Subscription,
    steps: Vec<Step>,
    nats: &Nats,
    client: &egress::Client,
) -> Subscription {
    let (timeout, target) = match from.target {
        checked::Target::Deliver(settings) => {
            (settings.timeout, Target::Webhook(Endpoint::new(settings, client)))
        }
        checked::Target::Publish(settings) => {
            let timeout = settings.timeout;
            (timeout, Target::Publish(publish::Publisher::new(settings, nats.clone())))
        }
    };
    Subscription::new(SubscriptionParts {
        name: from.name,
        filter: Filter::new(from.filter),
        steps,
        target,
        retry: from.retry,
        concurrency: from.concurrency,
        rate: from.rate,
        circuit: from.circuit,
        timeout,
    })
}

/// `hookmill check`.
pub(crate) async fn check(global: &Global, args: &CheckArgs) -> Result<(), Failure> {
    let process = process(global)?;
    let prepared = prepare(&args.paths.paths, &process).await?;
    let code =
        super::check::report(&prepared.loaded, global.json, &mut std::io::stdout(), &mut std::io::stderr());
    match code.map_err(|error| Failure::failed(&error))? {
        0 => Ok(()),
        code => Err(Failure::Said(code)),
    }
}
