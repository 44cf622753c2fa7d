//! `hookmill run`: production.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::{Global, RunArgs};
use super::open_files::OpenFiles;
use super::output::chain;
use super::patience::patiently;
use super::reload::{self, Files, ProcessFile, Reloading};
use super::serving::{Serving, Taken};
use super::steps::{self, Source, Strictness};
use super::{Failure, assemble};
use crate::config::{self, Process};
use crate::egress;
use crate::nats::{ApiError, Modules, Prefix};
use crate::server::{Current, Tls};
use crate::telemetry::metrics;
use crate::transform::Host;
use crate::worker::{Engine, Limits, StartError};

/// How long running attempts may take to end at shutdown.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn run(global: &Global, args: RunArgs) -> Result<(), Failure> {
    let metrics = metrics::install();
    let mut signals = Signals::new().map_err(|error| Failure::failed(&error))?;
    let file = ProcessFile::of(global);
    let process = assemble::process(global)?;
    let settings = Serving::settings(&process)?;
    let host = assemble::host(&process)?;
    let client = assemble::client(&process, args.egress_allow.clone())?;
    let open_files = OpenFiles::raise();
    let mut watch = args.watch.then(|| reload::watch(&args.paths.paths)).transpose()?;
    let loaded = config::load(&args.paths.paths, &Prefix::new(&process.nats.prefix));
    if let Some(watch) = &mut watch {
        watch.follow(&loaded);
    }
    if !loaded.problems.is_empty() {
        let prepared = assemble::prepare(&host, loaded, &Source::Unasked, Strictness::Lenient).await;
        return Err(assemble::say(&prepared.loaded.problems, global.json));
    }
    let serving = Serving::bind(&process, settings, args.listen, Taken::Fail).await?;
    serving.warn();
    let (address, tls) = (serving.address(), serving.tls());
    client.never_reach(address);
    let (current, stop) = (Current::default(), CancellationToken::new());
    current.waits_for("the pipelines are loaded");
    // From now on, so that whoever asks learns what the start waits for.
    let (api, served) = serving.begin(current.clone(), metrics, stop.clone());
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "health and metrics are served");
    let start = Start { global, process: &process, host: &host, loaded, client, file, args };
    let running = async {
        let Some((files, engine)) = start.until_there_is_an_engine(&current, &mut signals).await? else {
            return Ok(());
        };
        api.open(&files.nats, &host).await?;
        tracing::info!(%address, "health, metrics and admin API are served");
        open_files.say();
        let mut reloading = Reloading::new(files, watch, engine, current.clone());
        work(&mut reloading, tls.as_deref(), &mut signals).await
    };
    let result = tokio::select! {
        result = running => result,
        () = served => Err(Failure::Failed("health, metrics and admin API can't be served any more".to_owned())),
    };
    stop.cancel();
    result
}

/// What a start has before it asks NATS.
struct Start<'s> {
    global: &'s Global,
    process: &'s Process,
    host: &'s Arc<Host>,
    loaded: config::Loaded,
    client: Arc<egress::Client>,
    file: ProcessFile,
    args: RunArgs,
}

impl Start<'_> {
    /// Connects, compiles and starts; nothing, if it is told to end meanwhile. What it waits for is told by `current`.
    async fn until_there_is_an_engine(
        self,
        current: &Current,
        signals: &mut Signals,
    ) -> Result<Option<(Files, Arc<Engine>)>, Failure> {
        let tell = |why: &str| current.waits_for(why);
        tokio::select! {
            started = self.started(&tell) => started.map(Some),
            () = signals.next() => Ok(None),
        }
    }

    async fn started(self, tell: &(dyn Fn(&str) + Send + Sync)) -> Result<(Files, Arc<Engine>), Failure> {
        let Self { global, process, host, loaded, client, file, args } = self;
        let patience = process.nats.connect_timeout;
        // Modules of the registry can't be loaded without a server.
        let early = if steps::need_registry(&loaded) {
            let nats = assemble::connect_telling(process, tell).await?;
            patiently(patience, tell, ApiError::is_passing, async || nats.answers().await).await?;
            Some(nats)
        } else {
            None
        };
        let source = early.as_ref().map_or(Source::Unasked, |nats| Source::Open(Modules::look(nats)));
        tell("modules are compiled");
        let prepared = assemble::prepare(host, loaded, &source, Strictness::Lenient).await;
        if !prepared.loaded.problems.is_empty() {
            return Err(assemble::say(&prepared.loaded.problems, global.json));
        }
        tell("a connection to NATS is made");
        let nats = match early {
            Some(nats) => nats,
            None => assemble::connect_telling(process, tell).await?,
        };
        tell("streams and consumers are looked at");
        let pipelines = prepared.pipelines(&nats, &client);
        let limits = Limits { lane: process.limits.lane, waiting: process.limits.waiting };
        let (paths, json) = (args.paths.paths, global.json);
        let files = Files { paths, nats, host: host.clone(), client, limits, json, process: file };
        let start = async || files.start(pipelines.clone(), None).await;
        let engine = patiently(patience, tell, StartError::is_passing, start).await?;
        Ok((files, engine))
    }
}

/// Hears signals until one ends it, then lets what runs come to its end.
async fn work(
    reloading: &mut Reloading<'_>,
    tls: Option<&Tls>,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let read_certificate = || {
        if let Some(Err(error)) = tls.map(Tls::reload) {
            let error = chain(&error);
            tracing::warn!(error, "the certificate was not read again, the old one stays");
        }
    };
    reloading.until_stopped(signals, read_certificate).await;
    tracing::info!("stopping: no new messages, running attempts come to their end");
    tokio::select! {
        () = reloading.engine().shut_down(DRAIN_DEADLINE) => { tracing::info!("stopped"); Ok(()) }
        () = signals.next() => Err(Failure::Said(130)),
    }
}

/// What a signal tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// SIGINT and SIGTERM: to end.
    Stop,
    /// SIGHUP: to read again what may have changed.
    Hangup,
}

/// SIGINT, SIGTERM and SIGHUP.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        let listen = |kind| signal(kind);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub(crate) async fn next_or_hangup(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Hangup,
        }
    }

    /// The next one that ends the program.
    pub(crate) async fn next(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => {} _ = self.terminate.recv() => {} }
    }
}
