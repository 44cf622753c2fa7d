//! `hookmill run`: production.

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
use crate::nats::{ApiError, Modules, Nats, Prefix};
use crate::server::{Current, Tls};
use crate::telemetry::metrics;
use crate::worker::{Limits, StartError};

/// How long running attempts may take to end at shutdown.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn run(global: &Global, args: RunArgs) -> Result<(), Failure> {
    let metrics = metrics::install();
    let mut signals = Signals::new().map_err(|error| Failure::failed(&error))?;
    let file = ProcessFile::of(global);
    let process = assemble::process(global)?;
    let settings = Serving::settings(&process)?;
    let host = assemble::host(&process)?;
    let client = assemble::client(&process, args.egress_allow)?;
    let open_files = OpenFiles::raise();
    let mut watch = args.watch.then(|| reload::watch(&args.paths.paths)).transpose()?;
    let loaded = config::load(&args.paths.paths, &Prefix::new(&process.nats.prefix));
    if let Some(watch) = &mut watch {
        watch.follow(&loaded);
    }
    // Modules of the registry can't be loaded without a server; what is wrong anyway is said without one.
    let early = if loaded.problems.is_empty() && steps::need_registry(&loaded) {
        Some(tokio::select! {
            nats = connect_and_ask(&process) => nats?,
            () = signals.next() => return Ok(()),
        })
    } else {
        None
    };
    let source = early.as_ref().map_or(Source::Unasked, |nats| Source::Open(Modules::look(nats)));
    let prepared = tokio::select! {
        prepared = assemble::prepare(&host, loaded, &source, Strictness::Lenient) => prepared,
        () = signals.next() => return Ok(()),
    };
    if !prepared.loaded.problems.is_empty() {
        return Err(assemble::say(&prepared.loaded.problems, global.json));
    }
    let serving = Serving::bind(&process, settings, args.listen, Taken::Fail).await?;
    let (address, tls) = (serving.address(), serving.tls());
    let nats = if let Some(nats) = early {
        nats
    } else {
        tokio::select! {
            nats = assemble::connect(&process) => nats?,
            () = signals.next() => return Ok(()),
        }
    };
    let pipelines = prepared.pipelines(&nats, &client);
    let limits = Limits { lane: process.limits.lane, waiting: process.limits.waiting };
    let (paths, json) = (args.paths.paths, global.json);
    let files = Files { paths, nats: nats.clone(), host: host.clone(), client, limits, json, process: file };
    let start = async || files.start(pipelines.clone(), None).await;
    let engine = tokio::select! {
        engine = patiently(process.nats.connect_timeout, StartError::is_passing, start) => engine?,
        () = signals.next() => return Ok(()),
    };
    let stop = CancellationToken::new();
    let current = Current::default();
    let mut reloading = Reloading::new(files, watch, engine, current.clone());
    serving.warn();
    let served = serving.open(&nats, &host, current, metrics, stop.clone()).await?;
    open_files.say();
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "health, metrics and admin API are served");
    let result = tokio::select! {
        result = work(&mut reloading, tls.as_deref(), &mut signals) => result,
        () = served => Err(Failure::Failed("health, metrics and admin API can't be served any more".to_owned())),
    };
    stop.cancel();
    result
}

/// Connects, and waits until JetStream answers: modules are read from there before anything else.
async fn connect_and_ask(process: &Process) -> Result<Nats, Failure> {
    let nats = assemble::connect(process).await?;
    patiently(process.nats.connect_timeout, ApiError::is_passing, async || nats.answers().await).await?;
    Ok(nats)
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
