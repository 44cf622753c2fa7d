//! From files to a running engine's parts; and `hookmill check`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Failure;
use super::args::{CheckArgs, Global};
use crate::config::{self, Code, Loaded, Problem, Process, checked};
use crate::deliver::{self, Endpoint, publish};
use crate::egress;
use crate::filter::Filter;
use crate::lane::{Jitter, Policy};
use crate::model::Name;
use crate::nats::{self, Nats};
use crate::pipeline::{OnError, Pipeline, Step, Subscription, SubscriptionParts, Target};
use crate::source;
use crate::transform::{self, Host, HostSettings};
use crate::validate::Validator;

/// The process's settings: the file, and what the command line says instead.
pub(crate) fn process(global: &Global) -> Result<Process, Failure> {
    let default = Path::new("hookmill.toml");
    let path = global.config.as_deref().or_else(|| default.exists().then_some(default));
    let mut process = config::load_process(path).map_err(|problems| say(&problems, global.json))?;
    if let Some(url) = &global.nats {
        process.nats.url = url.split(',').map(|part| part.trim().to_owned()).collect();
    }
    if let Some(prefix) = &global.prefix {
        process.nats.prefix = Name::new(prefix).map_err(|error| Failure::Usage(format!("--prefix: {error}")))?;
    }
    Ok(process)
}

/// Connects as the settings say.
pub(crate) async fn connect(process: &Process) -> Result<Nats, Failure> {
    let from = &process.nats;
    let mut settings = nats::Settings::for_url(from.url.join(","));
    settings.prefix = from.prefix.clone();
    settings.replicas = from.replicas;
    settings.connect_timeout = from.connect_timeout;
    settings.ca.clone_from(&from.ca);
    if let Some((cert, key)) = &from.certificate {
        settings.cert = Some(cert.clone());
        settings.key = Some(key.clone());
    }
    match &from.login {
        checked::Login::None => {}
        checked::Login::Credentials(path) => settings.credentials = Some(path.clone()),
        checked::Login::User { user, password } => {
            settings.user = Some(user.clone());
            settings.password = Some(password.clone());
        }
        checked::Login::Token(token) => settings.token = Some(token.clone()),
    }
    Nats::connect(&settings).await.map_err(|error| {
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
    let settings = HostSettings {
        instances: process.limits.instances,
        memory_bytes: process.limits.memory_bytes,
        ..HostSettings::default()
    };
    let host = Host::new(settings).map_err(|error| Failure::failed(&error))?;
    let mut steps = Vec::new();
    for pipeline in &loaded.pipelines {
        let mut of_pipeline = Vec::new();
        for (index, subscription) in pipeline.subscriptions.iter().enumerate() {
            let mut of_subscription = Vec::new();
            for (place, step) in subscription.steps.iter().enumerate() {
                match make_step(&host, step).await {
                    Ok(step) => of_subscription.push(step),
                    Err((code, message)) => {
                        let key = format!("subscription[{index}].step[{place}].settings");
                        let problem = Problem::new(code, pipeline.file.display().to_string(), message);
                        loaded.problems.push(problem.at(step.settings_line, 1).key(key));
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
    let settings = transform::Settings {
        settings: step.settings.clone(),
        timeout: step.timeout,
        memory_bytes: step.memory_bytes,
        output_bytes: step.output_bytes,
        isolation: match step.isolation {
            checked::Isolation::Instance => transform::Isolation::Instance,
            checked::Isolation::Event => transform::Isolation::Event,
        },
    };
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
    let source = source::Settings {
        stream: from.source.stream.into(),
        subjects: from.source.subjects,
        start: match from.source.start {
            checked::Start::New => source::Start::New,
            checked::Start::All => source::Start::All,
            checked::Start::Time(time) => source::Start::Time(time),
        },
        max_in_flight: from.source.max_in_flight,
    };
    let subscriptions = from.subscriptions.into_iter().zip(steps);
    let subscriptions = subscriptions.map(|(subscription, steps)| subscription_of(subscription, steps, nats, client));
    let validator = Validator::new(from.validate);
    Pipeline::new(from.name, from.revision.into(), source, validator, subscriptions.collect())
}

fn subscription_of(
    from: checked::Subscription,
    steps: Vec<Step>,
    nats: &Nats,
    client: &egress::Client,
) -> Subscription {
    let (timeout, target) = match from.target {
        checked::Target::Deliver(deliver) => {
            let timeout = deliver.timeout;
            let settings = deliver::Settings {
                url: deliver.url,
                format: match deliver.format {
                    checked::Format::Structured => deliver::Format::Structured,
                    checked::Format::Binary => deliver::Format::Binary,
                    checked::Format::Data => deliver::Format::Data,
                },
                headers: deliver.headers,
                sign: deliver.sign,
                timeout,
                give_up_on: deliver.give_up_on,
                retry_after_max: deliver.retry_after_max,
                allow: deliver.allow,
            };
            (timeout, Target::Webhook(Endpoint::new(settings, client)))
        }
        checked::Target::Publish(to) => {
            let timeout = to.timeout;
            let settings = publish::Settings { subject: to.subject, timeout };
            (timeout, Target::Publish(publish::Publisher::new(settings, nats.clone())))
        }
    };
    let jitter = match from.retry.jitter {
        checked::Jitter::Around(share) => Jitter::Share(share),
        checked::Jitter::Full => Jitter::Full,
    };
    Subscription::new(SubscriptionParts {
        name: from.name,
        filter: Filter::new(from.filter),
        steps,
        target,
        retry: Policy { schedule: from.retry.schedule, jitter },
        concurrency: from.concurrency,
        timeout,
    })
}

/// `hookmill check`.
pub(crate) async fn check(global: &Global, args: &CheckArgs) -> Result<(), Failure> {
    let process = process(global)?;
    let prepared = prepare(&args.paths.paths, &process).await?;
    if !prepared.loaded.problems.is_empty() {
        let failure = say(&prepared.loaded.problems, global.json);
        let problems = prepared.loaded.problems.len();
        eprintln!("{problems} problem{}", if problems == 1 { "" } else { "s" });
        return Err(failure);
    }
    let pipelines = prepared.loaded.pipelines.len();
    let subscriptions: usize = prepared.loaded.pipelines.iter().map(|one| one.subscriptions.len()).sum();
    eprintln!("{pipelines} pipelines, {subscriptions} subscriptions: no problems");
    Ok(())
}
