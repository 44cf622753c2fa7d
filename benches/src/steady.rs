//! A steady stream of orders, and an endpoint that notes when each arrives and which version of a module made it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Client;
use bytes::Bytes;
use hookmill_tests::{events, stamp};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How often some orders are published.
const TICK: Duration = Duration::from_millis(2);

/// One delivery.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The number of the order.
    pub order: usize,
    /// What the module stamped it with.
    pub version: String,
    /// When its body was complete.
    pub at: Instant,
}

/// The endpoint: 204 to everything, on a thread of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Arrivals {
    address: SocketAddr,
    seen: Arc<Seen>,
    runtime: Option<Runtime>,
}

#[derive(Debug, Default)]
struct Seen {
    arrivals: Mutex<Vec<Arrival>>,
    /// How many, and the version of the last.
    news: watch::Sender<(usize, String)>,
}

impl Arrivals {
    /// Starts the endpoint.
    pub fn start() -> Self {
        let seen = Arc::new(Seen::default());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket of ours");
        let serving = Arc::clone(&seen);
        runtime.spawn(async move {
            serve(TcpListener::from_std(listener).expect("within the runtime"), serving).await;
        });
        Self { address, seen, runtime: Some(runtime) }
    }

    /// Where it takes webhooks, in binary mode.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// All deliveries so far.
    pub fn all(&self) -> Vec<Arrival> {
        self.seen.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many have come, or until the deadline; how many have.
    pub async fn wait_for(&self, count: usize, deadline: Duration) -> usize {
        let mut news = self.seen.news.subscribe();
        let waited = tokio::time::timeout(deadline, news.wait_for(|(seen, _)| *seen >= count)).await;
        drop(waited);
        self.seen.news.borrow().0
    }

    /// Waits until one comes that this version made.
    pub async fn wait_for_version(&self, version: &str, deadline: Duration) -> bool {
        let mut news = self.seen.news.subscribe();
        tokio::time::timeout(deadline, news.wait_for(|(_, seen)| seen == version)).await.is_ok()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("the listener stays");
        stream.set_nodelay(true).expect("a socket of ours");
        let seen = Arc::clone(&seen);
        let answer = service_fn(move |request| answer(request, Arc::clone(&seen)));
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let text = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let (id, version) = (text("ce-id"), text(stamp::HEADER));
    // A request whose body breaks off is none.
    if request.into_body().collect().await.is_ok() {
        let order = id.strip_prefix("order-").and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
        let mut arrivals = seen.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.push(Arrival { order, version: version.clone(), at: Instant::now() });
        seen.news.send_replace((arrivals.len(), version));
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// Publishes orders at a steady rate, numbered on from how many there are in `times`, until it is told to stop; notes
/// when each was published. What was missed while this process did not run is made up for.
pub async fn publish(client: &Client, rate: usize, times: &Mutex<Vec<Instant>>, stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    let mut published = 0;
    while !*stop.borrow() {
        ticks.tick().await;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "counts are small"
        )]
        let due = (began.elapsed().as_secs_f64() * rate as f64) as usize;
        for _ in published..due {
            let message = events::structured(begin(times));
            let sent = client.publish_with_headers(message.subject, message.headers, message.payload).await;
            sent.expect("the publish is sent");
        }
        published = published.max(due);
        client.flush().await.expect("the server takes it");
    }
}

/// Notes that the next order is published now; its number.
fn begin(times: &Mutex<Vec<Instant>>) -> usize {
    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
    times.push(Instant::now());
    times.len() - 1
}
