//! One process drains a lane at a time: who that is, what becomes of the lane when it ends in good order or is killed, and of
//! a task that kills it.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, kv};
use futures_util::TryStreamExt;
use hookmill_tests::{Engine, behaviour, events, eventually};
use serde_json::Value;

use crate::mill::{LATER, Mill};
use hookmill_tests::judge::{self, at_rest, dead_letters};

const SIGABRT_CODE: i32 = 128 + 6;
/// A process whose sign of life stands still for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(10);

async fn bucket(mill: &Mill) -> kv::Store {
    mill.jetstream.get_key_value("HOOKMILL_REGISTRY").await.expect("the bucket is there")
}

/// The process that drains `orders/hook`; none: nobody does.
async fn owner(mill: &Mill) -> Option<Value> {
    let record = bucket(mill).await.get("drain.orders.hook").await.expect("it can be read");
    record.map(|record| serde_json::from_slice(&record).expect("JSON"))
}

async fn keys(mill: &Mill, start: &str) -> Vec<String> {
    let keys: Vec<String> =
        bucket(mill).await.keys().await.expect("asked").try_collect().await.expect("read");
    keys.into_iter().filter(|key| key.starts_with(start)).collect()
}

/// Two engines, of which the first one drains a lane with a backlog; a lane is worked off at 20/s.
async fn first_drains() -> (Mill, Engine, Engine) {
    let mill = Mill::new(behaviour::slow(Duration::from_millis(100)), "", "concurrency = 4").await;
    let first = mill.engine().start().await;
    mill.publish(1..=400).await;
    let drained = eventually(LATER, "the lane is drained", || async {
        owner(&mill).await.ok_or_else(|| "nobody drains it".to_owned())
    });
    drained.await;
    let second = mill.engine().start().await;
    (mill, first, second)
}

#[tokio::test]
async fn a_lane_that_its_owner_leaves_is_drained_by_another_one_at_once_and_without_repeats() {
    let (mill, first, _second) = first_drains().await;
    let before = owner(&mill).await.expect("it is drained");
    assert_eq!(first.terminate().await, 0);
    let (ended, had) = (Instant::now(), mill.endpoint.log().delivered_ids());
    mill.endpoint.wait_for_delivered(had + 8, LATER).await;
    assert!(ended.elapsed() < GONE_AFTER, "it is not waited for: {:?}", ended.elapsed());
    let after = owner(&mill).await.expect("it is drained");
    assert_ne!(before["process"], after["process"]);
    mill.delivered(1..=400).await;
    assert_eq!(mill.endpoint.log().repeats(), 0);
    at_rest(&mill.jetstream, LATER).await;
    eventually(LATER, "it is nobody's", || async {
        owner(&mill).await.map_or(Ok(()), |owner| Err(owner.to_string()))
    })
    .await;
}

#[tokio::test]
async fn a_lane_whose_owner_was_killed_is_taken_over_and_only_what_was_under_way_is_repeated() {
    let (mill, first, second) = first_drains().await;
    let before = owner(&mill).await.expect("it is drained");
    first.kill().await;
    let taken_over = |line: &hookmill_tests::engine::LogLine| line.message() == "lane taken over";
    let line = second.wait_for_line("the lane is taken over", LATER, taken_over).await;
    assert_eq!(line.field("from"), Some(&before["process"]));
    mill.delivered(1..=400).await;
    at_rest(&mill.jetstream, LATER).await;
    let repeats = mill.endpoint.log().repeats();
    assert!(repeats <= 4, "{repeats} repeats, and four attempts were under way at most");
}

#[tokio::test]
async fn what_two_engines_store_in_one_lane_is_drained_by_one_of_them() {
    let mill = Mill::new(behaviour::slow(Duration::from_millis(100)), "", "concurrency = 2").await;
    let (_first, _second) = (mill.engine().start().await, mill.engine().start().await);
    for round in 0..6 {
        mill.publish(round * 50 + 1..=round * 50 + 50).await;
    }
    mill.delivered(1..=300).await;
    at_rest(&mill.jetstream, LATER).await;
    assert_eq!(mill.endpoint.log().repeats(), 0, "nothing was attempted by both");
    mill.publish(301..=301).await;
    mill.delivered(1..=301).await;
}

/// Starts the engine again each time it dies. How often it died until `done`.
async fn lives(mill: &Mill, killer: &str, done: impl Future<Output = ()>) -> usize {
    let mut deaths = 0;
    let lives = async {
        loop {
            let engine = mill.engine().env("HOOKMILL_TEST_ABORT_DRAINED", killer).spawn();
            assert_eq!(engine.wait().await, SIGABRT_CODE);
            deaths += 1;
        }
    };
    tokio::select! {
        () = done => {}
        () = lives => {}
    }
    deaths
}

#[tokio::test]
async fn a_task_that_kills_the_engine_from_its_lane_ends_as_a_crash_loop_and_the_others_are_delivered() {
    let mill = Mill::new(behaviour::always(200), "", "concurrency = 4").await;
    let engine = mill.engine().start().await;
    assert_eq!(mill.command(&["lane", "pause", "orders/hook"]).await.code, 0);
    eventually(LATER, "the engine knows of the pause", || async {
        let state = engine.metric("hookmill_lane_state", &[]).await;
        if state > 2.5 { Ok(()) } else { Err(state.to_string()) }
    })
    .await;
    let sequences = events::publish_all(&mill.jetstream, (1..=20).map(events::structured)).await;
    mill.holds("HOOKMILL_LANES", 20).await;
    assert_eq!(engine.terminate().await, 0);
    assert_eq!(mill.command(&["lane", "resume", "orders/hook"]).await.code, 0);
    let done = async {
        // Each life waits until the one before counts as gone.
        judge::holds(&mill.jetstream, "HOOKMILL_DLQ", 12 * GONE_AFTER, |count| count == 1).await;
        mill.endpoint.wait_for_delivered(19, LATER).await;
        at_rest(&mill.jetstream, LATER).await;
    };
    let deaths = lives(&mill, &events::order_id(3), done).await;
    let letters = dead_letters(&mill.jetstream).await;
    assert_eq!((&*letters[0].reason, letters[0].sequence), ("crash_loop", sequences[2]));
    assert_eq!(deaths, 6, "three times unsuspected, three times as a suspect");
    assert_eq!(keys(&mill, "suspect.").await, [""; 0], "nothing counts against anybody any more");
}

#[tokio::test]
async fn lanes_of_a_stream_that_an_older_version_has_made_are_read_in_batches_too() {
    let mill = Mill::new(behaviour::slow(Duration::from_millis(20)), "", "concurrency = 4").await;
    let old = jetstream::stream::Config {
        name: "HOOKMILL_LANES".into(),
        subjects: vec!["hookmill.lane.>".into()],
        retention: jetstream::stream::RetentionPolicy::WorkQueue,
        discard: jetstream::stream::DiscardPolicy::New,
        discard_new_per_subject: true,
        max_messages_per_subject: 1_000_000,
        description: Some("ours".to_owned()),
        ..jetstream::stream::Config::default()
    };
    mill.jetstream.create_stream(old).await.expect("the stream can be made");
    let _engine = mill.engine().start().await;
    let now = mill.jetstream.get_stream("HOOKMILL_LANES").await.expect("it is there");
    let config = &now.cached_info().config;
    assert_eq!((config.allow_direct, config.description.as_deref()), (true, Some("ours")));
    mill.publish(1..=200).await;
    mill.delivered(1..=200).await;
    at_rest(&mill.jetstream, LATER).await;
}
