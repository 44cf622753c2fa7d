//! Health, metrics, and (later) the admin API, on an address of their own.

pub mod receiver;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::worker::Engine;

/// How often metrics are folded together.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

/// Why the address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't listen on {address} for health and metrics; choose another with --listen (port 0: any free one)"
)]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: std::io::Error,
}

/// A bound address that does not answer yet: bound before intake, served once there is an engine.
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

/// What the handlers need.
#[derive(Clone)]
struct Shared {
    engine: Arc<Engine>,
    metrics: PrometheusHandle,
}

impl Listener {
    /// Binds.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bound.await.map_err(|source| ListenError { address, source })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`.
    pub async fn serve(self, engine: Arc<Engine>, metrics: PrometheusHandle, stop: CancellationToken) {
        let upkeep = metrics.clone();
        let router = Router::new()
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(render))
            .with_state(Shared { engine, metrics });
        let served = axum::serve(self.listener, router).with_graceful_shutdown(stop.cancelled_owned());
        tokio::select! {
            served = served => if let Err(error) = served {
                tracing::warn!(%error, "health and metrics are not served any more");
            },
            never = keep_up(&upkeep) => match never {},
        }
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
    let troubles = shared.engine.troubles();
    if troubles.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, troubles.join("\n") + "\n")
}

async fn render(State(shared): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.metrics.render())
}
