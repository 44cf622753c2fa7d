//! A steady stream of orders, and an endpoint that notes when each arrives and which version of a module made it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Client;
use hookmill_tests::{events, stamp};
use hyper::HeaderMap;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::server::Server;

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

/// The endpoint. Dropping it ends it.
#[derive(Debug)]
pub struct Arrivals {
    server: Server,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    arrivals: Mutex<Vec<Arrival>>,
    /// How many, and the version of the last.
    news: watch::Sender<(usize, String)>,
}

impl Seen {
    fn take(&self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (id, version) = (text("ce-id"), text(stamp::HEADER).to_owned());
        let order = id.strip_prefix("order-").and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.push(Arrival { order, version: version.clone(), at: Instant::now() });
        self.news.send_replace((arrivals.len(), version));
    }
}

impl Arrivals {
    /// Starts the endpoint.
    pub fn start() -> Self {
        let seen = Arc::new(Seen::default());
        let taking = Arc::clone(&seen);
        Self { server: Server::start(move |headers| taking.take(headers)), seen }
    }

    /// Where it takes webhooks, in binary mode.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// All deliveries so far.
    pub fn all(&self) -> Vec<Arrival> {
        self.seen.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When so many had come; waits for that.
    pub async fn reached(&self, count: usize, deadline: Duration) -> Option<Instant> {
        if self.wait_for(count, deadline).await < count {
            return None;
        }
        let arrivals = self.seen.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.get(count - 1).map(|arrival| arrival.at)
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
