//! Publishes numbered events at a steady rate, whatever happens to the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::NatsServer;
use crate::events::{self, Message};

/// Publishes that may wait for their acks at once.
const IN_FLIGHT_MAX: usize = 256;
/// Pause before a publish without an ack is repeated.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Event `number`, every second one in binary mode. Its message id drops the repeats of the publisher itself.
pub(super) fn event(number: usize) -> Message {
    let message = if number.is_multiple_of(2) { events::structured(number) } else { events::binary(number) };
    message.header("Nats-Msg-Id", &number.to_string())
}

/// The running publisher.
pub(super) struct Publisher {
    tasks: JoinSet<usize>,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicUsize>,
}

impl Publisher {
    pub(super) async fn start(server: &NatsServer, rate: u32) -> Self {
        let jetstream = server.jetstream().await;
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        tasks.spawn(publish(jetstream, rate, Arc::clone(&stop), Arc::clone(&next)));
        Self { tasks, stop, next }
    }

    /// The number of the next event.
    pub(super) fn next(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Stops, and waits until every event that was begun is acknowledged; how many there are.
    pub(super) async fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.tasks.join_next().await.expect("one task");
        ended.expect("the publisher doesn't panic")
    }
}

async fn publish(jetstream: Context, rate: u32, stop: Arc<AtomicBool>, next: Arc<AtomicUsize>) -> usize {
    let room = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut under_way = JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let permit = Arc::clone(&room).acquire_owned().await.expect("nobody closes it");
        let number = next.fetch_add(1, Ordering::Relaxed);
        let jetstream = jetstream.clone();
        under_way.spawn(async move {
            until_acknowledged(&jetstream, number).await;
            drop(permit);
        });
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
    next.load(Ordering::Relaxed)
}

async fn until_acknowledged(jetstream: &Context, number: usize) {
    loop {
        let Message { subject, headers, payload } = event(number);
        let acknowledged = async {
            let ack = jetstream.publish_with_headers(subject, headers, payload).await.ok()?;
            ack.await.ok()
        };
        if acknowledged.await.is_some() {
            return;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}
