//! `hookmill run`: production.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::{Global, RunArgs};
use super::output::chain;
use super::serving::{Serving, Taken};
use super::steps::{self, Source, Strictness};
use super::{Failure, assemble};
use crate::config;
use crate::nats::Modules;
use crate::server::{Current, Tls};
use crate::telemetry::metrics;
use crate::worker::{Engine, Limits};

/// How long running attempts may take to end at shutdown.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn run(global: &Global, args: RunArgs) -> Result<(), Failure> {
    let metrics = metrics::install();
    let mut signals = Signals::new().map_err(|error| Failure::failed(&error))?;
    let process = assemble::process(global)?;
    let settings = Serving::settings(&process)?;
    let host = assemble::host(&process)?;
    let client = assemble::client(&process, args.egress_allow)?;
    let loaded = config::load(&args.paths.paths);
    // Modules of the registry can't be loaded without a server; what is wrong anyway is said without one.
    let early = if loaded.problems.is_empty() && steps::need_registry(&loaded) {
        Some(tokio::select! {
            nats = assemble::connect(&process) => nats?,
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
    let engine = tokio::select! {
        engine = Engine::start(nats.clone(), pipelines, limits, None) => engine.map_err(|error| Failure::failed(&error))?,
        () = signals.next() => return Ok(()),
    };
    let stop = CancellationToken::new();
    let current = Current::default();
    current.set(Some(engine.clone()));
    serving.warn();
    let served = serving.open(&nats, &host, current, metrics, stop.clone()).await?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "health, metrics and admin API are served");
    let result = tokio::select! {
        result = work(&engine, tls.as_deref(), &mut signals) => result,
        () = served => Err(Failure::Failed("health, metrics and admin API can't be served any more".to_owned())),
    };
    stop.cancel();
    result
}

/// Hears signals until one ends it, then lets what runs come to its end.
async fn work(engine: &Engine, tls: Option<&Tls>, signals: &mut Signals) -> Result<(), Failure> {
    // What keeps it from becoming ready may last: it hears signals all the same.
    let ready = async {
        engine.ready().await;
        tracing::info!("ready");
        std::future::pending::<()>().await;
    };
    let hear = async {
        while signals.next_or_hangup().await {
            tracing::info!(
                "SIGHUP: the files of this engine are put into force, its certificate is read again"
            );
            engine.claim().await;
            if let Some(Err(error)) = tls.map(Tls::reload) {
                tracing::warn!(
                    error = chain(&error),
                    "the certificate was not read again, the old one stays"
                );
            }
        }
    };
    tokio::select! { () = hear => {} () = ready => {} }
    tracing::info!("stopping: no new messages, running attempts come to their end");
    tokio::select! {
        () = engine.shut_down(DRAIN_DEADLINE) => { tracing::info!("stopped"); Ok(()) }
        () = signals.next() => Err(Failure::Said(130)),
    }
}

/// SIGINT and SIGTERM.
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

    /// The next one: true for SIGHUP, false for those that end the program.
    async fn next_or_hangup(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => false,
            _ = self.terminate.recv() => false,
            _ = self.hangup.recv() => true,
        }
    }

    /// The next one of either.
    pub(crate) async fn next(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => {} _ = self.terminate.recv() => {} }
    }
}
