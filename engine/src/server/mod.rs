//! Health, metrics and the admin API, on one address; and the receiver of `listen`.

pub mod admin;
mod connections;
pub mod receiver;
pub mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

pub use admin::{Access, AccessError, Admin, AdminError};
pub use tls::{Tls, TlsError};

use crate::worker::Engine;

/// How often metrics are folded together.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Why the address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't listen on {address} for health, metrics and admin API; choose another with --listen (port 0: any free one)"
)]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: std::io::Error,
}

/// The engine that runs at present; none while there is none (`dev`, as long as the files have problems).
#[derive(Clone, Default)]
pub struct Current(Arc<RwLock<Shown>>);

#[derive(Default)]
struct Shown {
    engine: Option<Arc<Engine>>,
    notice: Option<String>,
    /// What the first start waits for.
    waits: Option<String>,
    /// Whether it has been ready once.
    started: bool,
}

impl Current {
    fn shown(&self) -> RwLockReadGuard<'_, Shown> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another one in its place.
    pub fn set(&self, engine: Option<Arc<Engine>>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).engine = engine;
    }

    /// What the start waits for, until there is an engine.
    pub fn waits_for(&self, what: impl Into<String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).waits = Some(what.into());
    }

    /// What is wrong, a line each; none: ready.
    fn troubles(&self) -> Vec<String> {
        let (engine, waits) = {
            let shown = self.shown();
            (shown.engine.clone(), shown.waits.clone())
        };
        match (engine, waits) {
            (Some(engine), _) => engine.troubles(),
            (None, Some(waits)) => vec![format!("starting: {waits}")],
            (None, None) => vec!["no engine runs: the pipeline files have problems".to_owned()],
        }
    }

    /// Whether it has been ready, now or before.
    fn has_started(&self) -> bool {
        if !self.shown().started && self.troubles().is_empty() {
            self.0.write().unwrap_or_else(PoisonError::into_inner).started = true;
        }
        self.shown().started
    }

    /// The one that runs.
    pub fn get(&self) -> Option<Arc<Engine>> {
        self.shown().engine.clone()
    }

    /// Whether it is this one.
    pub fn is(&self, engine: &Arc<Engine>) -> bool {
        self.shown().engine.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, engine))
    }

    /// What `/readyz` says besides, ready or not: a line without anything secret.
    pub fn notice(&self, notice: Option<String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).notice = notice;
    }
}

/// A bound address that does not answer yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    connections_max: usize,
}

/// What the handlers of health and metrics need.
#[derive(Clone)]
struct Shared {
    engine: Current,
    metrics: PrometheusHandle,
}

impl Listener {
    /// Binds, for so many connections at once; more wait in the system's queue.
    pub async fn bind(
        address: SocketAddr,
        tls: Option<Arc<Tls>>,
        connections_max: usize,
    ) -> Result<Self, ListenError> {
        let bound = async {
            let socket = TcpListener::bind(address).await?;
            let address = socket.local_addr()?;
            Ok(Self { socket, address, tls, connections_max })
        };
        bound.await.map_err(|source| ListenError { address, source })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Serves until `stop`: health and metrics from now on, the admin API once `door` is opened.
    pub async fn serve(
        self,
        engine: Current,
        metrics: PrometheusHandle,
        door: AdminDoor,
        stop: CancellationToken,
    ) {
        let upkeep = metrics.clone();
        let waiting = (engine.clone(), door);
        let health = Router::new()
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
            .route("/startupz", get(started))
            .route("/metrics", get(render))
            .with_state(Shared { engine, metrics })
            .fallback(move |request: Request| behind(waiting.clone(), request));
        let router = admin::with_problems_rendered(health);
        tokio::select! {
            () = connections::serve(self.socket, self.connections_max, self.tls, router, stop) => {}
            never = keep_up(&upkeep) => match never {},
        }
    }
}

/// Where the admin API comes in once NATS can be asked: until then there is none.
#[derive(Clone, Default)]
pub struct AdminDoor(Arc<OnceLock<Router>>);

impl AdminDoor {
    /// Opens it.
    pub fn open(&self, admin: Arc<Admin>) {
        // Opened once: a second API would be the same.
        let _ = self.0.set(admin::with_problems(admin::router(admin)));
    }
}

/// What is no health and no metrics: the admin API, or why there is none yet.
async fn behind((engine, door): (Current, AdminDoor), request: Request) -> Response {
    match door.0.get() {
        Some(router) => match router.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None => admin::not_yet(&engine.troubles().join("; ")),
    }
}

/// Folds what was recorded into the histograms' buckets. Until then each sample is kept, scraped or not.
async fn keep_up(metrics: &PrometheusHandle) -> Infallible {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    let notice = shared.engine.shown().notice.clone();
    let notice = notice.map(|notice| notice + "\n").unwrap_or_default();
    let troubles = shared.engine.troubles();
    if troubles.is_empty() {
        return (StatusCode::OK, format!("ready\n{notice}"));
    }
    (StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n" + &notice)
}

/// Whether it has been ready once: what probes of a slow start ask.
async fn started(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.engine.has_started() {
        return (StatusCode::OK, "started\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, shared.engine.troubles().join("\n") + "\n")
}

async fn render(State(shared): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.render())
}
