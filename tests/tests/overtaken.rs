//! A lease that is about to be deleted beside the place in the lane that was stored after it.

use async_nats::HeaderMap;
use hookmill_tests::{behaviour, eventually};

use crate::mill::{LATER, Mill};

/// An attempt that is stored in its lane (more waits than may) deletes its lease next. What is drained from the lane meanwhile
/// must not take that lease for a wait of its own: it is deleted, and nothing would be left of the event.
#[tokio::test]
async fn a_lease_about_to_be_deleted_is_no_wait_of_the_task_that_lies_in_the_lane() {
    let retries =
        "timeout = \"30s\"\n[subscription.retry]\nschedule = [\"2s\", \"2s\", \"2s\"]\njitter = 0.0";
    let mill = Mill::new(behaviour::hang(), "", retries).await;
    let mut engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    mill.holds("HOOKMILL_RETRIES", 1).await;
    engine.kill().await;

    let waits = mill.jetstream.get_stream("HOOKMILL_RETRIES").await.expect("the stream is there");
    let sequence = waits.cached_info().state.last_sequence;
    let lease = waits.get_raw_message(sequence).await.expect("the lease is there");
    // The same state as it is stored in the lane: nothing but the count of stores has changed.
    let mut headers = HeaderMap::new();
    for (name, values) in lease.headers.iter() {
        let (name, value) = (name.to_string(), values[0].as_str());
        if name == "Hookmill-Stores" {
            assert_eq!(value, "1");
            headers.insert("Hookmill-Stores", "2");
        } else if !name.starts_with("Nats-") {
            headers.insert(name.as_str(), value);
        }
    }
    let lane = lease.subject.replace("hookmill.wait.", "hookmill.lane.");
    let lane = lane.rsplit_once('.').expect("the task's key is the last token").0.to_owned();
    let stored = mill.jetstream.publish_with_headers(lane, headers, lease.payload).await;
    stored.expect("it can be published").await.expect("it is stored");

    mill.endpoint.behave(behaviour::always(500));
    let before = mill.endpoint.log().received();
    engine.restart().await;
    mill.endpoint.wait_for("the attempt from the lane", LATER, |log| log.received() > before).await;
    // It has failed and waits, whatever it was taken for; only then the lease is deleted, late.
    mill.holds("HOOKMILL_LANES", 0).await;
    let _ = waits.delete_message(sequence).await;
    mill.endpoint.behave(behaviour::always(200));
    mill.delivered(1..=1).await;
    eventually(LATER, "nothing is left", || async {
        let left = waits.get_info().await.map_err(|error| error.to_string())?.state.messages;
        if left == 0 { Ok(()) } else { Err(format!("{left} wait")) }
    })
    .await;
}
