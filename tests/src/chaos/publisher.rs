//! Publishes numbered events at a steady rate, whatever happens to the server, and notes every ack.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::clock::Clock;
use super::{Settings, many};
use crate::NatsServer;
use crate::events::{self, Message};

/// Publishes that may wait for their acks at once.
const IN_FLIGHT_MAX: usize = 256;
/// Pause before a publish without an ack is repeated.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Event `number`, every second one in binary mode. Its message id drops the repeats of the publisher itself.
pub(super) fn event(number: usize) -> Message {
    if number >= many::FIRST {
        return many::event(number);
    }
    let message = if number.is_multiple_of(2) { events::structured(number) } else { events::binary(number) };
    message.header("Nats-Msg-Id", &number.to_string())
}

/// What the server has acknowledged to the publisher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acked {
    pub(super) number: usize,
    /// Its sequence in the stream.
    pub(super) sequence: u64,
    /// When the ack came.
    pub(super) at: Duration,
}

/// The running publisher.
pub(super) struct Publisher {
    tasks: JoinSet<Vec<Acked>>,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicUsize>,
}

impl Publisher {
    /// Orders from the beginning on; the events of the many lanes after a quarter of the time.
    pub(super) async fn start(server: &NatsServer, settings: &Settings, clock: Clock) -> Self {
        let jetstream = server.jetstream().await;
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let (rate, stops, nexts) = (settings.rate, Arc::clone(&stop), Arc::clone(&next));
        tasks.spawn(publish(jetstream.clone(), rate, stops, nexts, clock));
        if settings.lanes > 0 {
            tasks.spawn(publish_to_many(jetstream, settings.time, clock));
        }
        Self { tasks, stop, next }
    }

    /// The number of the next order.
    pub(super) fn next(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Stops, and waits until every event that was begun is acknowledged; all acks.
    pub(super) async fn stop(self) -> Vec<Acked> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.concat()
    }
}

async fn publish(
    jetstream: Context,
    rate: u32,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicUsize>,
    clock: Clock,
) -> Vec<Acked> {
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let (mut under_way, mut acked) = (JoinSet::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let permit = Arc::clone(&room).acquire_owned().await.expect("nobody closes it");
        let number = next.fetch_add(1, Ordering::Relaxed);
        let jetstream = jetstream.clone();
        under_way.spawn(async move {
            let acked = until_acknowledged(&jetstream, number, clock).await;
            drop(permit);
            acked
        });
        acked.extend(std::iter::from_fn(|| under_way.try_join_next()));
    }
    acked.extend(std::iter::from_fn(|| under_way.try_join_next()));
    let mut acked = acked.into_iter().collect::<Result<Vec<_>, _>>().expect("publishing doesn't panic");
    acked.extend(under_way.join_all().await);
    acked
}

/// As many as each of the many lanes can deliver within half of the time, after a quarter of it.
async fn publish_to_many(jetstream: Context, time: Duration, clock: Clock) -> Vec<Acked> {
    tokio::time::sleep(time / 4).await;
    let each = time.as_secs() / 2 / many::SECONDS_EACH;
    let mut acked = Vec::new();
    for number in (many::FIRST..).take(usize::try_from(each).expect("a count")) {
        acked.push(until_acknowledged(&jetstream, number, clock).await);
    }
    acked
}

async fn until_acknowledged(jetstream: &Context, number: usize, clock: Clock) -> Acked {
    loop {
        let Message { subject, headers, payload } = event(number);
        let acknowledged = async {
            let ack = jetstream.publish_with_headers(subject, headers, payload).await.ok()?;
            ack.await.ok()
        };
        if let Some(ack) = acknowledged.await {
            return Acked { number, sequence: ack.sequence, at: clock.now() };
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
