//! From files to a running engine's parts; and `hookmill check`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use sha2::{Digest, Sha256};

use super::Failure;
use super::args::{CheckArgs, Global};
use super::open_files::OpenFiles;
use super::output::{self, chain};
use super::steps::{self, Maker, Source, Strictness};
use crate::config::checked::Egress;
use crate::config::{self, Loaded, Problem, Process, checked};
use crate::deliver::{Endpoint, publish};
use crate::egress;
use crate::filter::Filter;
use crate::model::Name;
use crate::nats::{Modules, Nats, Prefix};
use crate::pipeline::{Pipeline, Step, Subscription, SubscriptionParts, Target};
use crate::transform::Host;
use crate::validate::{self, Validator};

/// The file of the process's settings, whether it is there or not.
pub(crate) fn process_file(global: &Global) -> PathBuf {
    global.config.clone().unwrap_or_else(|| PathBuf::from("hookmill.toml"))
}

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
    connect_telling(process, &|_| {}).await
}

/// The same, and says each time why it still waits.
pub(crate) async fn connect_telling(
    process: &Process,
    tell: &(dyn Fn(&str) + Send + Sync),
) -> Result<Nats, Failure> {
    Nats::connect_telling(&process.nats, tell).await.map_err(|error| {
        let text = chain(&error);
        if error.is_usage() { Failure::Usage(text) } else { Failure::Failed(text) }
    })
}

/// The same where JetStream has a leader: a cluster without one tells of its streams as if nothing were wrong.
pub(crate) async fn connect_led(process: &Process) -> Result<Nats, Failure> {
    let nats = connect(process).await?;
    nats.answers().await.map_err(|error| Failure::failed(&error))?;
    Ok(nats)
}

/// The same for a command that looks after the engine's own streams: those that `needed` names have to be there. An empty
/// answer would look like "nothing wrong" where it is the server or the prefix that is.
pub(crate) async fn connect_to(
    process: &Process,
    needed: impl FnOnce(&Prefix) -> Vec<String>,
) -> Result<Nats, Failure> {
    let nats = connect_led(process).await?;
    let missing = nats.missing(needed(nats.prefix())).await.map_err(|error| Failure::failed(&error))?;
    if missing.is_empty() {
        return Ok(nats);
    }
    let (verb, streams) = (if missing.len() == 1 { "is" } else { "are" }, missing.join(", "));
    Err(Failure::Failed(format!(
        "{streams} {verb} not there: no engine has run on this NATS server with the prefix {:?}\n\
         hint: `hookmill init` makes all streams; or name another server (--nats) or --prefix",
        process.nats.prefix.as_str()
    )))
}

/// Prints problems, each as text or JSON, and says that there were some.
pub(crate) fn say(problems: &[Problem], json: bool) -> Failure {
    for problem in problems {
        if json {
            output::line(serde_json::to_string(problem).unwrap_or_default());
        } else {
            output::say(problem);
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

/// Steps that are made at the same time.
const STEPS_AT_ONCE: usize = 8;

/// The HTTP client of deliveries, by the rules of the process and with `allow` beside them, for as many connections as the
/// process may have. Reads the file of authorities.
pub(crate) fn client(process: &Process, allow: Vec<egress::Rule>) -> Result<Arc<egress::Client>, Failure> {
    let Egress { policy, ca, system_roots, tls_min, proxy } = process.egress.clone();
    let of_file = |error: &dyn std::fmt::Display| {
        let path = ca.as_deref().unwrap_or(Path::new("")).display();
        Failure::Usage(format!("[egress] ca: {path}: {error}"))
    };
    let pem = ca.as_ref().map(std::fs::read).transpose().map_err(|error| of_file(&error))?;
    let settings = egress::ClientSettings {
        policy: policy.with(&egress::Policy { allow, deny: Vec::new() }),
        tls: egress::TlsSettings { ca: pem, system_roots, min: tls_min },
        proxy,
        connections_max: Some(OpenFiles::raise().deliveries),
    };
    egress::Client::new(settings).map_err(|error| match &error {
        egress::ClientError::Proxy(_) => Failure::Usage(format!("[egress]: {}", chain(&error))),
        egress::ClientError::NotPem(_)
        | egress::ClientError::NoCertificate
        | egress::ClientError::NotAuthority(_) => of_file(&chain(&error)),
        egress::ClientError::Tls(_) => Failure::failed(&error),
    })
}

/// The sandbox of the process.
pub(crate) fn host(process: &Process) -> Result<Arc<Host>, Failure> {
    Host::new(process.host.clone()).map_err(|error| {
        let text = chain(&error);
        if error.is_usage() { Failure::Usage(text) } else { Failure::Failed(text) }
    })
}

/// Tries every step's module and settings.
pub(crate) async fn prepare(
    host: &Arc<Host>,
    mut loaded: Loaded,
    source: &Source,
    strictness: Strictness,
) -> Prepared {
    let maker = Maker::new(host, source, strictness);
    // All at once would only stand in one another's way; one after the other, a thousand slow modules would take an hour.
    let at_once = STEPS_AT_ONCE.min(host.settings().instances as usize);
    let described = loaded.pipelines.iter().flat_map(|pipeline| &pipeline.subscriptions);
    let described = described.flat_map(|subscription| &subscription.steps);
    let made = stream::iter(described).map(|step| maker.make(step)).buffered(at_once);
    let made: Vec<_> = made.collect().await;
    let mut made = made.into_iter();
    let mut steps = Vec::new();
    for pipeline in &loaded.pipelines {
        let mut of_pipeline = Vec::new();
        for subscription in &pipeline.subscriptions {
            let mut of_subscription = Vec::new();
            for (step, made) in subscription.steps.iter().zip(&mut made) {
                match made {
                    Ok(step) => of_subscription.extend(step),
                    Err(refused) => {
                        let problems = super::check::step_problems(&pipeline.file, step, &refused);
                        loaded.problems.extend(problems);
                    }
                }
            }
            of_pipeline.push(of_subscription);
        }
        steps.push(of_pipeline);
    }
    Prepared { loaded, steps }
}

impl Prepared {
    /// The pipelines, ready to run.
    pub(crate) fn pipelines(self, nats: &Nats, client: &egress::Client) -> Vec<Arc<Pipeline>> {
        let target = |_: &Name, _: &Name, target| match target {
            checked::Target::Deliver(settings) => Target::Webhook(Box::new(Endpoint::new(settings, client))),
            checked::Target::Publish(settings) => {
                Target::Publish(publish::Publisher::new(settings, nats.prefix().clone(), nats.clone()))
            }
        };
        self.pipelines_into(target).into_iter().map(Arc::new).collect()
    }

    /// The pipelines with targets that `target` makes, one for each pipeline and subscription.
    pub(crate) fn pipelines_into(
        self,
        mut target: impl FnMut(&Name, &Name, checked::Target) -> Target,
    ) -> Vec<Pipeline> {
        let pairs = self.loaded.pipelines.into_iter().zip(self.steps);
        pairs.map(|(pipeline, steps)| pipeline_of(pipeline, steps, &mut target)).collect()
    }
}

fn pipeline_of(
    from: checked::Pipeline,
    steps: Vec<Vec<Step>>,
    target: &mut impl FnMut(&Name, &Name, checked::Target) -> Target,
) -> Pipeline {
    let described = from.subscriptions.iter().flat_map(|subscription| &subscription.steps);
    let has_own_modules = described.into_iter().any(|step| !step.reference.is_moving());
    let subscriptions = from.subscriptions.into_iter().zip(steps);
    let subscriptions: Vec<_> = subscriptions
        .map(|(subscription, steps)| subscription_of(&from.name, subscription, steps, target))
        .collect();
    let revision = revision(&from.revision, &from.validate, has_own_modules, &subscriptions);
    let validator = Validator::new(from.validate);
    Pipeline::new(from.name, revision.into(), from.source, validator, subscriptions)
}

/// What tells how a pipeline judges: its file, and the schemas and modules in other files that it names. What a moving reference
/// leads to is no part of it: engines follow the registry by themselves. Without such files it is that of the file.
fn revision(
    file: &str,
    validate: &validate::Settings,
    has_own_modules: bool,
    subscriptions: &[Subscription],
) -> String {
    if validate.rules.is_empty() && !has_own_modules {
        return file.to_owned();
    }
    let mut hash = Sha256::new();
    hash.update(file.as_bytes());
    for rule in &validate.rules {
        hash.update(rule.schema.digest());
    }
    for subscription in subscriptions {
        hash.update(subscription.steps_hash().as_bytes());
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())
}

fn subscription_of(
    pipeline: &Name,
    from: checked::Subscription,
    steps: Vec<Step>,
    target: &mut impl FnMut(&Name, &Name, checked::Target) -> Target,
) -> Subscription {
    let timeout = match &from.target {
        checked::Target::Deliver(settings) => settings.timeout,
        checked::Target::Publish(settings) => settings.timeout,
    };
    Subscription::new(SubscriptionParts {
        target: target(pipeline, &from.name, from.target),
        name: from.name,
        filter: Filter::new(from.filter),
        steps,
        retry: from.retry,
        concurrency: from.concurrency,
        rate: from.rate,
        circuit: from.circuit,
        timeout,
    })
}

/// Longest wait for a server that only answers questions about modules.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// The registry of modules, if any step has its module from there.
pub(crate) async fn registry_for(process: &Process, loaded: &Loaded) -> Source {
    if !steps::need_registry(loaded) {
        return Source::Unasked;
    }
    let mut settings = process.nats.clone();
    settings.connect_timeout = settings.connect_timeout.min(ASK_TIMEOUT);
    match Nats::connect(&settings).await {
        Ok(nats) => Source::Open(Modules::look(&nats)),
        Err(error) => Source::Away(chain(&error)),
    }
}

/// `hookmill check`. Needs a server only where a file names a module of the registry.
pub(crate) async fn check(global: &Global, args: &CheckArgs) -> Result<(), Failure> {
    let process = process(global)?;
    let loaded = config::load(&args.paths.paths, &Prefix::new(&process.nats.prefix));
    let source = registry_for(&process, &loaded).await;
    let Prepared { mut loaded, .. } = prepare(&host(&process)?, loaded, &source, Strictness::Strict).await;
    let mut found = super::references::of_pipelines(&loaded.pipelines);
    found.extend(super::references::of_process(&process, &process_file(global)));
    if args.references {
        loaded.problems.extend(found);
    } else {
        loaded.warnings.extend(found.into_iter().map(Problem::warning));
    }
    match super::check::report(&loaded, global.json, &mut output::line, &mut output::say) {
        0 => Ok(()),
        code => Err(Failure::Said(code)),
    }
}
