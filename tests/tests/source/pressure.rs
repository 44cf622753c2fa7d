use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hookmill_tests::{Endpoint, Reply, behaviour};

use crate::mill::{LATER, Mill, orders};

/// Watches the durable until `done`; the most messages that it had out at once.
async fn most_held(mill: &Mill, done: &AtomicBool) -> usize {
    let mut most = 0;
    while !done.load(Ordering::Relaxed) {
        let durable = mill.durable().await.expect("the durable is there");
        most = most.max(durable.num_ack_pending);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    most
}

#[tokio::test]
async fn no_more_than_max_in_flight_is_held_and_a_hanging_endpoint_does_not_stop_it() {
    let mut mill = Mill::new(behaviour::hang(), "", "").await;
    // Hangs for the first 24, whoever they are, and takes all others at once.
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let first_hang = behaviour::custom(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0..24 => Reply::Hang,
        _ => Reply::Status(200),
    });
    mill.endpoint = Endpoint::start(first_hang).await;
    let text = orders(
        &mill.endpoint,
        "max_in_flight = 8",
        "timeout = \"4s\"\n[subscription.retry]\nschedule = [\"1s\"]",
    );
    mill.folder.write("orders.toml", text);
    let engine = mill.engine().start().await;
    let done = AtomicBool::new(false);
    let work = async {
        mill.publish(1..=100).await;
        // Eight hang, and for a second (until their leases are stored) nothing else is taken.
        mill.endpoint.wait_for("eight have come", LATER, |log| log.received() >= 8).await;
        // Then others are, long before the eight have ended.
        mill.endpoint.wait_for("others come", LATER, |log| log.delivered_ids() > 50).await;
        mill.delivered(1..=100).await;
        done.store(true, Ordering::Relaxed);
    };
    let ((), most) = futures_util::join!(work, most_held(&mill, &done));
    assert!((1..=8).contains(&most), "{most} were held at once");
    let ends = engine.metric("hookmill_deliveries_total", &["outcome=\"delivered\""]).await;
    assert!((ends - 100.0).abs() < f64::EPSILON, "{ends}");
}
