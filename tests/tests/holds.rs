//! Endpoints that ask to be left alone, lanes that persons and engines speak of at the same time, and records that an engine
//! does not know.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv;
use hookmill_tests::{Reply, behaviour, eventually};
use serde_json::{Value, json};

use crate::mill::{LATER, Mill};
use hookmill_tests::judge::at_rest;

/// Quick to open and to probe.
const CIRCUIT: &str =
    "[subscription.circuit]\nfailures = 3\nfor = \"1ms\"\nprobe = \"100ms\"\nprobe_max = \"200ms\"\n";

/// Time for a hold: it counts against the schedule of what waits in the lane, as an open circuit does.
const RETRY: &str = "[subscription.retry]\nschedule = [\"1s\", \"2m\"]\njitter = 0.0";

async fn bucket(mill: &Mill) -> kv::Store {
    mill.jetstream.get_key_value("HOOKMILL_REGISTRY").await.expect("the bucket is there")
}

async fn record(mill: &Mill) -> Option<Value> {
    let record = bucket(mill).await.get("lane.orders.hook").await.expect("it can be read");
    record.map(|record| serde_json::from_slice(&record).expect("JSON"))
}

async fn done(mill: &Mill, arguments: &[&str]) {
    let said = mill.command(arguments).await;
    assert_eq!(said.code, 0, "{said:?}");
}

/// The first `failing` requests are answered 503 with this `Retry-After`, all others 200.
fn asks_to_wait(failing: usize, seconds: u64) -> behaviour::Behaviour {
    let asked = AtomicUsize::new(0);
    behaviour::custom(move |_| {
        if asked.fetch_add(1, Ordering::Relaxed) < failing {
            Reply::Headers(503, vec![("retry-after".into(), seconds.to_string())])
        } else {
            Reply::Status(200)
        }
    })
}

/// Requests that came between the first one and so long after it, it included.
fn within(mill: &Mill, time: Duration) -> usize {
    let requests = mill.endpoint.requests();
    let first = requests.first().expect("one came").at;
    requests.iter().filter(|request| request.at.since(first) < time).count()
}

#[tokio::test]
async fn an_endpoint_that_asks_to_be_left_alone_is_and_what_was_not_sent_has_no_attempt_counted() {
    let deliver = format!("concurrency = 1\n{RETRY}");
    let mill = Mill::new(asks_to_wait(1, 4), "", &deliver).await;
    let engine = mill.engine().start().await;
    mill.publish(1..=30).await;
    let asked = |line: &hookmill_tests::engine::LogLine| {
        line.message().starts_with("the endpoint asks for no requests")
    };
    engine.wait_for_line("the lane is held", LATER, asked).await;
    eventually(LATER, "it stands in the record", || async {
        let record = record(&mill).await.unwrap_or_default();
        let held = record["state"] == "open" && record["held_until"].is_u64();
        if held { Ok(()) } else { Err(record.to_string()) }
    })
    .await;
    mill.delivered(1..=30).await;
    assert_eq!(within(&mill, Duration::from_millis(3_800)), 1, "nothing came while it asked for no requests");
    assert_eq!(mill.endpoint.received(), 31, "one was sent twice, all others once");
    at_rest(&mill.jetstream, LATER).await;
    assert_eq!(mill.stream_state("HOOKMILL_DLQ").await.map(|state| state.messages), Ok(0));
}

#[tokio::test]
async fn a_hold_stands_for_all_engines_and_over_a_restart() {
    let mill = Mill::new(asks_to_wait(1, 12), "", RETRY).await;
    let (mut first, second) = (mill.engine().start().await, mill.engine().start().await);
    mill.publish(1..=1).await;
    mill.endpoint.wait_for("it is asked once", LATER, |log| log.received() == 1).await;
    for engine in [&first, &second] {
        eventually(LATER, "each engine holds", || async {
            let state = engine.metric("hookmill_lane_state", &[]).await;
            if (1.5..2.5).contains(&state) { Ok(()) } else { Err(state.to_string()) }
        })
        .await;
    }
    mill.publish(2..=10).await;
    mill.holds("HOOKMILL_LANES", 9).await;
    first.restart().await;
    mill.publish(11..=20).await;
    mill.delivered(1..=20).await;
    assert_eq!(within(&mill, Duration::from_millis(11_500)), 1);
    at_rest(&mill.jetstream, LATER).await;
}

#[tokio::test]
async fn a_person_ends_a_hold() {
    let mill = Mill::new(asks_to_wait(1, 3_000), "", RETRY).await;
    let engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    let asked = |line: &hookmill_tests::engine::LogLine| {
        line.message().starts_with("the endpoint asks for no requests")
    };
    engine.wait_for_line("the lane is held", LATER, asked).await;
    mill.publish(2..=10).await;
    mill.holds("HOOKMILL_LANES", 9).await;
    eventually(LATER, "it stands in the record", || async {
        record(&mill).await.map(|_| ()).ok_or_else(|| "no record".to_owned())
    })
    .await;
    done(&mill, &["lane", "resume", "orders/hook"]).await;
    mill.endpoint.wait_for_delivered(9, LATER).await;
}

#[tokio::test]
async fn a_lane_that_ran_empty_while_its_circuit_was_open_is_not_disabled_by_time_alone() {
    let deliver = format!("[subscription.retry]\nschedule = [\"20ms\"]\n{CIRCUIT}disable_after = \"2s\"\n");
    let mill = Mill::new(behaviour::always(500), "", &deliver).await;
    let engine = mill.engine().start().await;
    mill.publish(1..=3).await;
    let opened = |line: &hookmill_tests::engine::LogLine| line.message().starts_with("circuit opened");
    engine.wait_for_line("the circuit opens", LATER, opened).await;
    mill.holds("HOOKMILL_DLQ", 3).await;
    at_rest(&mill.jetstream, LATER).await;
    // More than `disable_after`, in which nothing comes: the time that passes is what is tried.
    let quiet = Instant::now();
    eventually(LATER, "nothing comes for a while", || async {
        if quiet.elapsed() > Duration::from_secs(3) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    mill.endpoint.behave(behaviour::always(200));
    mill.publish(4..=4).await;
    mill.delivered(4..=4).await;
    assert_ne!(record(&mill).await.map(|record| record["state"].clone()), Some(json!("disabled")));
}

/// A circuit that opens and closes all the time, so that the engine speaks of the lane as often as it can.
#[tokio::test]
async fn a_persons_pause_is_never_undone_by_an_engine() {
    let requests = AtomicUsize::new(0);
    let flapping = behaviour::custom(move |_| {
        let failing = (requests.fetch_add(1, Ordering::Relaxed) / 4).is_multiple_of(2);
        Reply::Status(if failing { 500 } else { 200 })
    });
    let waits = vec!["\"100ms\""; 60].join(", ");
    let deliver = format!("concurrency = 4\n[subscription.retry]\nschedule = [{waits}]\n{CIRCUIT}");
    let mill = Mill::new(flapping, "", &deliver).await;
    let _engine = mill.engine().start().await;
    for round in 0..12 {
        mill.publish(round * 20 + 1..=round * 20 + 20).await;
        let before = mill.endpoint.received();
        mill.endpoint.wait_for("it flaps", LATER, |log| log.received() > before + 8).await;
        done(&mill, &["lane", "pause", "orders/hook"]).await;
        let until = Instant::now() + Duration::from_millis(700);
        eventually(LATER, "the pause is looked at for a while", || async {
            let state = record(&mill).await.map(|record| record["state"].clone());
            assert_eq!(state, Some(json!("paused")), "round {round}");
            if Instant::now() > until { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        done(&mill, &["lane", "resume", "orders/hook"]).await;
    }
    mill.endpoint.behave(behaviour::always(200));
    mill.delivered(1..=240).await;
}

#[tokio::test]
async fn a_lane_record_that_this_version_does_not_know_stops_its_lane_alone_until_it_is_resumed() {
    for strange in [r#"{"state":"frozen","why":"a thaw is planned","since":1}"#, "no record"] {
        let mill = Mill::new(behaviour::always(200), "", "").await;
        let engine = mill.engine().start().await;
        assert_eq!(engine.terminate().await, 0);
        bucket(&mill).await.put("lane.orders.hook", strange.into()).await.expect("it is written");
        let _engine = mill.engine().start().await;
        mill.publish(1..=3).await;
        mill.holds("HOOKMILL_LANES", 3).await;
        let status = mill.json(&["status"]).await;
        let lane = status.iter().find(|line| line["subscription"] == "hook").expect("it is shown");
        let why = lane["why"].as_str().unwrap_or_default();
        assert_eq!(lane["state"], "unknown");
        assert!(why.contains("a thaw is planned") || why.contains("can't be read"), "{why}");
        assert_eq!(mill.endpoint.received(), 0);
        done(&mill, &["lane", "resume", "orders/hook"]).await;
        mill.delivered(1..=3).await;
    }
}
