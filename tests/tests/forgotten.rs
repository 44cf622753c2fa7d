//! A wait that the server has forgotten to fire, as a killed one may.

use async_nats::HeaderMap;
use hookmill_tests::behaviour;

use crate::mill::{LATER, Mill};

/// The server reads the name of the header to the letter: what is stored here is no schedule to it, as if it had lost one.
#[tokio::test]
async fn a_wait_that_the_server_does_not_fire_is_carried_on() {
    let hour = "[subscription.retry]\nschedule = [\"1h\"]";
    let mill = Mill::new(behaviour::fail_first(1, 500), "", hour).await;
    let mut engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    mill.holds("HOOKMILL_RETRIES", 1).await;
    assert_eq!(engine.terminate().await, 0);
    let stream = mill.jetstream.get_stream("HOOKMILL_RETRIES").await.expect("the stream is there");
    let sequence = stream.cached_info().state.last_sequence;
    let wait = stream.get_raw_message(sequence).await.expect("the wait is there");
    assert!(stream.delete_message(sequence).await.expect("it can be deleted"));
    let mut headers = HeaderMap::new();
    for (name, values) in wait.headers.iter() {
        let name = name.to_string();
        if name == "Nats-Schedule" {
            headers.insert("nats-schedule", "@at 2026-01-01T00:00:00Z");
        } else if !name.starts_with("Nats-Expected-") {
            headers.insert(name.as_str(), values[0].as_str());
        }
    }
    let stored = mill.jetstream.publish_with_headers(wait.subject, headers, wait.payload).await;
    stored.expect("it can be published").await.expect("it is stored");
    mill.holds("HOOKMILL_RETRIES", 1).await;
    engine.restart().await;
    mill.delivered(1..=1).await;
    mill.holds("HOOKMILL_RETRIES", 0).await;
    let woken =
        |line: &hookmill_tests::engine::LogLine| line.message().starts_with("waits were long overdue");
    engine.wait_for_line("it is said", LATER, woken).await;
    assert_eq!(mill.endpoint.log().received(), 2, "one attempt failed, and one was made anew");
}
