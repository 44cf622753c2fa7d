use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use hookmill_tests::{Endpoint, Reply, behaviour, eventually};
use tokio::sync::Notify;

use crate::mill::{LATER, Mill, orders};

/// Listens to the server until `done`; the most source messages that were out at once, delivered and not acknowledged. What
/// the durable says of itself would be too much: the server counts acknowledgements a moment after it has taken them.
async fn most_held(client: &async_nats::Client, done: &Notify) -> usize {
    const ACK: &str = "$JS.ACK.HOOKMILL_EVENTS.hookmill-orders.";
    // One subscription, so that everything comes in the order in which it happened.
    let mut everything = client.subscribe(">").await.expect("connected");
    client.flush().await.expect("connected");
    let (mut held, mut most) = (HashSet::new(), 0);
    loop {
        let message = tokio::select! {
            message = everything.next() => message.expect("connected"),
            () = done.notified() => return most,
        };
        if message.subject.starts_with(ACK) && &message.payload[..] != b"+WPI" {
            held.remove(message.subject.as_str());
        } else if let Some(reply) = message.reply.filter(|reply| reply.starts_with(ACK)) {
            held.insert(reply.to_string());
            most = most.max(held.len());
        }
    }
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
    let done = Notify::new();
    let client = mill.server.client().await;
    let work = async {
        mill.publish(1..=100).await;
        // Eight hang, and for a second (until their leases are stored) nothing else is taken.
        mill.endpoint.wait_for("eight have come", LATER, |log| log.received() >= 8).await;
        // Then others are, long before the eight have ended.
        mill.endpoint.wait_for("others come", LATER, |log| log.delivered_ids() > 50).await;
        mill.delivered(1..=100).await;
        done.notify_one();
    };
    let ((), most) = futures_util::join!(work, most_held(&client, &done));
    assert!((1..=8).contains(&most), "{most} were held at once");
    // The endpoint knows of a delivery before the engine does.
    eventually(LATER, "each has its end, and one alone", || async {
        let ends = engine.metric("hookmill_deliveries_total", &["outcome=\"delivered\""]).await;
        if (ends - 100.0).abs() < f64::EPSILON { Ok(()) } else { Err(ends.to_string()) }
    })
    .await;
}
