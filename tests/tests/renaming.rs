//! `hookmill pipeline rename`: everything that is kept of a pipeline goes on under its new name, once, with the same ids.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use futures_util::TryStreamExt as _;
use hookmill_tests::engine::{Said, built_program, engine_command, run_to_end};
use hookmill_tests::{Endpoint, Engine, behaviour, events, eventually};

use crate::mill::{LATER, Mill, SOON, delivery_ids_of, json_lines, orders};

/// A pipeline whose orders are in every place where one can be: `soon` and `late` wait, `lane` is paused, `dead` gives up.
struct Backlog {
    mill: Mill,
    late: Endpoint,
    lane: Endpoint,
    dead: Endpoint,
}

const ORDERS: usize = 4;

fn subscription(name: &str, endpoint: &Endpoint, deliver: &str) -> String {
    let url = endpoint.url();
    format!("[[subscription]]\nname = \"{name}\"\n[subscription.deliver]\nurl = \"{url}\"\n{deliver}\n")
}

fn waits(wait: &str) -> String {
    format!("[subscription.retry]\nschedule = [{}]\njitter = 0.0", vec![format!("\"{wait}\""); 8].join(", "))
}

impl Backlog {
    async fn new() -> Self {
        let bad = || behaviour::always(500);
        let mill = Mill::new(bad(), "", "").await;
        let (late, lane) = (Endpoint::start(bad()).await, Endpoint::start(bad()).await);
        let dead = Endpoint::start(behaviour::always(400)).await;
        let backlog = Self { mill, late, lane, dead };
        backlog.mill.folder.write("orders.toml", backlog.file());
        let engine = backlog.mill.engine().start().await;
        let said = backlog.mill.command(&["lane", "pause", "orders/lane"]).await;
        assert_eq!(said.code, 0, "{said:?}");
        eventually(SOON, "the lane is paused", || async {
            let state = engine.metric("hookmill_lane_state", &["subscription=\"lane\""]).await;
            if (state - 3.0).abs() < 0.1 { Ok(()) } else { Err(state.to_string()) }
        })
        .await;
        backlog.mill.publish(1..=ORDERS).await;
        for endpoint in [&backlog.mill.endpoint, &backlog.late, &backlog.dead] {
            endpoint.wait_for("each is attempted", SOON, |log| log.distinct_ids() == ORDERS).await;
        }
        backlog.mill.holds("HOOKMILL_LANES", ORDERS as u64).await;
        backlog.mill.holds("HOOKMILL_DLQ", ORDERS as u64).await;
        assert_eq!(engine.terminate().await, 0);
        // Nothing runs now: what falls due stays due.
        backlog.mill.holds("HOOKMILL_RETRIES", 2 * ORDERS as u64).await;
        backlog.mill.publish(ORDERS + 1..=ORDERS + 2).await;
        for endpoint in [&backlog.mill.endpoint, &backlog.late, &backlog.lane, &backlog.dead] {
            endpoint.behave(behaviour::always(200));
        }
        backlog
    }

    fn file(&self) -> String {
        let Self { mill, late, lane, dead } = self;
        orders(&mill.endpoint, "", &waits("1s")).replace("\"hook\"", "\"soon\"")
            + &subscription("late", late, &waits("12s"))
            + &subscription("lane", lane, "")
            + &subscription("dead", dead, "[subscription.retry]\ngive_up_on = [400]")
    }

    /// The pipeline under its new name delivers everything, once, and what was begun before with the ids that it had.
    async fn goes_on_as_shop(&self) {
        let Self { mill, late, lane, dead } = self;
        std::fs::remove_file(mill.folder.path().join("orders.toml")).expect("it is there");
        mill.folder.write("shop.toml", self.file());
        let engine = mill.engine().start().await;
        for (name, endpoint) in [("soon", &mill.endpoint), ("late", late)] {
            endpoint.wait_for_delivered(ORDERS + 2, LATER).await;
            Self::ids_are_right(name, endpoint);
        }
        // The pause came along; so did what lies there.
        mill.holds("HOOKMILL_LANES", ORDERS as u64 + 2).await;
        assert_eq!(lane.received(), 0);
        let said = mill.command(&["lane", "resume", "shop/lane"]).await;
        assert_eq!(said.code, 0, "{said:?}");
        lane.wait_for_delivered(ORDERS + 2, LATER).await;
        Self::ids_are_right("lane", lane);
        let said = mill.command(&["dlq", "redrive", "--pipeline", "shop"]).await;
        assert_eq!(said.code, 0, "{said:?}");
        dead.wait_for_delivered(ORDERS + 2, LATER).await;
        Self::ids_are_right("dead", dead);
        for stream in ["HOOKMILL_RETRIES", "HOOKMILL_LANES", "HOOKMILL_DLQ"] {
            mill.holds(stream, 0).await;
        }
        for endpoint in [&mill.endpoint, late, lane, dead] {
            let log = endpoint.log();
            let ok = log.requests().iter().filter(|request| request.answered == Some(200)).count();
            assert_eq!(ok, ORDERS + 2, "each once");
        }
        assert_eq!(self.keys_of("orders").await, BTreeSet::new());
        assert_eq!(engine.terminate().await, 0);
    }

    fn ids_are_right(subscription: &str, endpoint: &Endpoint) {
        let mut wanted = delivery_ids_of("orders", subscription, 1..=ORDERS);
        wanted.extend(delivery_ids_of("shop", subscription, ORDERS + 1..=ORDERS + 2));
        assert_eq!(*endpoint.log().delivered(), wanted, "{subscription}");
    }

    async fn keys_of(&self, pipeline: &str) -> BTreeSet<String> {
        keys(&self.mill).await.into_iter().filter(|key| key.split('.').nth(1) == Some(pipeline)).collect()
    }
}

/// The keys in the bucket.
async fn keys(mill: &Mill) -> BTreeSet<String> {
    let bucket = mill.jetstream.get_key_value("HOOKMILL_REGISTRY").await.expect("the bucket is there");
    let keys = bucket.keys().await.expect("keys can be listed");
    keys.try_collect().await.expect("all keys are told")
}

async fn rename(mill: &Mill, more: &[&str]) -> Said {
    mill.command(&[&["pipeline", "rename", "orders", "shop"][..], more].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_lies_in_lanes_or_is_dead_goes_on_under_the_new_name_once_with_the_same_ids() {
    let backlog = Backlog::new().await;
    let mill = &backlog.mill;
    let before = keys(mill).await;
    let said = rename(mill, &["--dry-run"]).await;
    let counts = "floor 4 of HOOKMILL_EVENTS, 1 lane state, 4 tasks in lanes, ";
    assert!(said.stdout.starts_with(&format!("orders would be renamed to shop: {counts}")), "{said:?}");
    assert!(said.code == 0 && said.stdout.ends_with("4 dead letters\n"), "{said:?}");
    assert_eq!(keys(mill).await, before);
    let said = rename(mill, &["--json"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let line = &json_lines(&said)[0];
    let (floor, tasks) = (line["floor"]["sequence"].as_u64(), line["lane_tasks"].as_u64());
    assert_eq!((floor, tasks), (Some(4), Some(4)), "{line}");
    let waited = line["waits"].as_u64().zip(line["due"].as_u64()).expect("both are numbers");
    assert_eq!(waited.0 + waited.1, 8, "{line}");
    backlog.goes_on_as_shop().await;
    let said = rename(mill, &[]).await;
    assert!(said.code == 1 && said.stderr.contains("a pipeline shop is there already"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_is_killed_after_each_of_its_steps_is_finished_by_running_it_again() {
    let backlog = Backlog::new().await;
    let mill = &backlog.mill;
    let mut killed = 0;
    loop {
        let said = rename_killed_after(mill, 1).await;
        if said.code == 0 {
            break;
        }
        assert!(said.stderr.is_empty(), "{said:?}");
        killed += 1;
        assert!(killed < 200, "it makes no progress");
        if killed == 20 {
            // Half done: no engine may run either of them, and no other rename may begin.
            mill.folder.write("shop.toml", backlog.file());
            let engine = mill.engine().spawn();
            let refused = engine.wait_for_line("it is told", SOON, |line| line.text.starts_with("error: "));
            assert!(refused.await.text.contains("hookmill pipeline rename orders shop"));
            assert_eq!(engine.wait().await, 1);
            std::fs::remove_file(mill.folder.path().join("shop.toml")).expect("it is there");
            let said = mill.command(&["pipeline", "rename", "orders", "other"]).await;
            assert!(said.code == 1 && said.stderr.contains("was not finished"), "{said:?}");
        }
    }
    // Each task is stored, removed and released; some of these are under way at the same time.
    assert!(killed > 25, "only {killed} steps");
    backlog.goes_on_as_shop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_not_renamed_while_it_runs_or_while_its_messages_are_unsettled() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let engine = mill.engine().start().await;
    let refused = async |arguments: &[&str], code: i32, why: &str| {
        let said = mill.command(&[&["pipeline", "rename"][..], arguments].concat()).await;
        assert!(said.code == code && said.stderr.contains(why), "{said:?}");
    };
    refused(&["orders", "shop"], 1, " runs orders: its last sign of life is ").await;
    refused(&["nothing", "shop"], 1, "nothing is kept of a pipeline nothing").await;
    refused(&["shop", "orders"], 1, "a pipeline orders is there already, with floor 0 of ").await;
    refused(&["orders", "orders"], 2, "orders is its name already").await;
    refused(&["orders", "A Shop"], 2, "is not a name").await;
    mill.endpoint.behave(behaviour::hang());
    mill.publish(1..=3).await;
    mill.endpoint.wait_for("all have begun", SOON, |log| log.received() == 3).await;
    engine.kill().await;
    // As it is 5 minutes later.
    let bucket = mill.jetstream.get_key_value("HOOKMILL_REGISTRY").await.expect("the bucket is there");
    for key in keys(&mill).await.iter().filter(|key| key.starts_with("engine.orders.")) {
        bucket.purge(key).await.expect("it can be removed");
    }
    let held = mill.durable().await.expect("it is there").num_ack_pending;
    assert!(held > 0, "the engine was killed before any lease was stored");
    refused(&["orders", "shop"], 1, "did not settle them; start one with orders and stop it").await;
    assert!(!keys(&mill).await.iter().any(|key| key.starts_with("rename.")), "nothing is begun");
    let said = rename(&mill, &["--repeat"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    mill.endpoint.behave(behaviour::always(200));
    mill.folder.write("shop.toml", orders(&mill.endpoint, "", ""));
    std::fs::remove_file(mill.folder.path().join("orders.toml")).expect("it is there");
    let _engine = mill.engine().start().await;
    let delivered = |log: &hookmill_tests::endpoint::Log| {
        let ok = log.requests().iter().filter(|request| request.answered == Some(200));
        ok.map(|request| request.json()["id"].to_string()).collect::<HashSet<_>>().len()
    };
    mill.endpoint.wait_for("all are delivered", LATER, |log| delivered(log) == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_source_stream_goes_on_behind_the_floor() {
    for retention in [RetentionPolicy::Limits, RetentionPolicy::Interest, RetentionPolicy::WorkQueue] {
        let mill = Mill::new(behaviour::always(200), "", "").await;
        mill.jetstream.delete_stream("HOOKMILL_EVENTS").await.expect("the stream can be deleted");
        let config = Config { retention, ..Config::default() };
        events::make_source_stream_like(&mill.jetstream, config).await;
        let engine = mill.engine().start().await;
        mill.publish(1..=5).await;
        mill.delivered(1..=5).await;
        assert_eq!(engine.terminate().await, 0);
        mill.publish(6..=8).await;
        let said = rename(&mill, &[]).await;
        assert_eq!(said.code, 0, "{retention:?}: {said:?}");
        mill.publish(9..=10).await;
        mill.folder.write("shop.toml", orders(&mill.endpoint, "", ""));
        std::fs::remove_file(mill.folder.path().join("orders.toml")).expect("it is there");
        let engine: Engine = mill.engine().start().await;
        mill.endpoint.wait_for_delivered(10, Duration::from_secs(30)).await;
        // One at a time: a log is locked while it is read.
        let received = mill.endpoint.log().received();
        assert_eq!((received, mill.endpoint.log().repeats()), (10, 0), "{retention:?}");
        assert_eq!(engine.terminate().await, 0);
    }
}

/// Runs the rename until it has made so many changes.
async fn rename_killed_after(mill: &Mill, steps: usize) -> Said {
    let url = mill.server.url();
    let mut command = engine_command(built_program());
    command.args(["pipeline", "rename", "orders", "shop", "--nats", &url]);
    command.env("HOOKMILL_TEST_ABORT_STEP", steps.to_string());
    run_to_end("hookmill pipeline rename", command).await
}

/// A pipeline that has delivered five orders and was stopped; three more have come since.
async fn with_three_more() -> Mill {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let engine = mill.engine().start().await;
    mill.publish(1..=5).await;
    mill.delivered(1..=5).await;
    assert_eq!(engine.terminate().await, 0);
    mill.publish(6..=8).await;
    mill
}

/// Writes the floor of `orders` under `key`, changed.
async fn put_floor(mill: &Mill, key: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let bucket = mill.jetstream.get_key_value("HOOKMILL_REGISTRY").await.expect("the bucket is there");
    let floor = bucket.get("floor.orders").await.expect("it can be read").expect("it is there");
    let mut floor = serde_json::from_slice(&floor).expect("it is JSON");
    change(&mut floor);
    bucket.put(key, floor.to_string().into()).await.expect("it can be written");
}

/// As an engine leaves it that was about to start with the new file, `start = "new"`, when the rename began.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_an_engine_has_left_under_the_new_name_meanwhile_does_not_count() {
    let mill = with_three_more().await;
    let killed = rename_killed_after(&mill, 2).await;
    assert_ne!(killed.code, 0, "{killed:?}");
    put_floor(&mill, "floor.shop", |floor| floor["sequence"] = 8.into()).await;
    let stream = mill.jetstream.get_stream("HOOKMILL_EVENTS").await.expect("the stream is there");
    let durable = Some("hookmill-shop".to_owned());
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: durable.clone(),
        name: durable,
        deliver_policy: async_nats::jetstream::consumer::DeliverPolicy::New,
        ..Default::default()
    };
    stream.create_consumer(config).await.expect("it can be made");
    let said = rename(&mill, &[]).await;
    assert_eq!(said.code, 0, "{said:?}");
    goes_on_with_all(&mill).await;
}

/// The floor that was kept is of a stream that was deleted: the durable is on the one that is there now.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_stream_that_was_made_anew_is_not_skipped() {
    let mill = with_three_more().await;
    let of_before = |floor: &mut serde_json::Value| {
        (floor["created"], floor["sequence"]) = ("2020-01-01T00:00:00Z".into(), 100.into());
    };
    put_floor(&mill, "floor.orders", of_before).await;
    let said = rename(&mill, &[]).await;
    assert_eq!(said.code, 0, "{said:?}");
    goes_on_with_all(&mill).await;
}

/// An engine with the new name delivers what the old one has not had, and that alone.
async fn goes_on_with_all(mill: &Mill) {
    mill.folder.write("shop.toml", orders(&mill.endpoint, "", ""));
    std::fs::remove_file(mill.folder.path().join("orders.toml")).expect("it is there");
    let engine = mill.engine().start().await;
    mill.endpoint.wait_for_delivered(8, LATER).await;
    let received = mill.endpoint.log().received();
    assert_eq!(received, 8, "each once");
    assert_eq!(engine.terminate().await, 0);
}
