use async_nats::HeaderMap;
use hookmill_tests::{Engine, behaviour, eventually};
use serde_json::{Value, json};

use crate::mill::{LATER, Mill, orders};

/// The line of a lane in `lane list --json`.
async fn lane(mill: &Mill, name: &str) -> Value {
    let folder = mill.folder.path().to_str().expect("a path of text");
    let lines = mill.json(&["lane", "list", folder]).await;
    let of = |line: &&Value| line["subscription"] == name;
    lines.iter().find(of).unwrap_or_else(|| panic!("{lines:?}")).clone()
}

/// The same without what depends on the time of the test.
async fn timeless(mill: &Mill, name: &str) -> Value {
    let mut lane = lane(mill, name).await;
    let oldest = lane.as_object_mut().and_then(|lane| lane.remove("oldest"));
    assert!(oldest.is_some_and(|oldest| oldest.is_string()), "{lane}");
    lane
}

async fn done(mill: &Mill, arguments: &[&str]) {
    let said = mill.command(arguments).await;
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, "", ""));
}

/// Waits until the engine itself counts the lane as being in this state.
async fn in_state(engine: &Engine, state: f64) {
    lane_in_state(engine, "hook", state).await;
}

async fn lane_in_state(engine: &Engine, subscription: &str, state: f64) {
    let label = format!("subscription=\"{subscription}\"");
    eventually(LATER, &format!("the lane is in state {state}"), || async {
        let found = engine.metric("hookmill_lane_state", &[&label]).await;
        if (found - state).abs() < f64::EPSILON { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn what_comes_while_a_lane_is_paused_waits_until_it_is_resumed() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let engine = mill.engine().start().await;
    mill.publish(1..=5).await;
    mill.delivered(1..=5).await;
    done(&mill, &["lane", "pause", "orders/hook"]).await;
    in_state(&engine, 3.0).await;
    mill.publish(6..=15).await;
    mill.holds("HOOKMILL_LANES", 10).await;
    let expected = json!({ "pipeline": "orders", "subscription": "hook", "state": "paused",
        "why": "paused by hand", "backlog": 10, "waiting": 0, "last_error": null, "next_probe": null });
    assert_eq!(timeless(&mill, "hook").await, expected);
    assert_eq!(mill.endpoint.received(), 5);
    let text = mill.command(&["lane", "list", mill.folder.path().to_str().expect("text")]).await;
    assert_eq!(text.stdout.lines().next(), Some("LANE         STATE   BACKLOG  WAITING  WHY"));
    assert_eq!(text.stdout.lines().nth(1), Some("orders/hook  paused  10       0        paused by hand"));

    done(&mill, &["lane", "resume", "orders/hook"]).await;
    mill.delivered(1..=15).await;
    mill.holds("HOOKMILL_LANES", 0).await;
    in_state(&engine, 0.0).await;
    assert_eq!(mill.endpoint.received(), 15);
    assert_eq!(lane(&mill, "hook").await["state"], "active");
    let backlog = engine.metric("hookmill_lane_backlog", &["subscription=\"hook\""]).await;
    assert!(backlog.abs() < f64::EPSILON, "{backlog}");
}

#[tokio::test]
async fn what_belongs_to_a_subscription_that_nobody_runs_is_orphaned_until_somebody_does() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let engine = mill.engine().start().await;
    done(&mill, &["lane", "pause", "orders/hook"]).await;
    in_state(&engine, 3.0).await;
    mill.publish(1..=5).await;
    mill.holds("HOOKMILL_LANES", 5).await;
    assert_eq!(engine.terminate().await, 0);
    done(&mill, &["lane", "resume", "orders/hook"]).await;

    let with = orders(&mill.endpoint, "", "");
    mill.folder.write("orders.toml", with.replace("name = \"hook\"", "name = \"other\""));
    let expected = json!({ "pipeline": "orders", "subscription": "hook", "state": "orphaned",
        "why": "the files that were looked at don't have it", "backlog": 5, "waiting": 0, "last_error": null, "next_probe": null });
    assert_eq!(timeless(&mill, "hook").await, expected);
    assert_eq!(lane(&mill, "other").await["state"], "active");
    let engine = mill.engine().start().await;
    mill.publish(6..=6).await;
    mill.endpoint.wait_for("the other has its order", LATER, |log| log.delivered_ids() == 1).await;
    assert_eq!(timeless(&mill, "hook").await, expected);
    assert_eq!(engine.terminate().await, 0);

    mill.endpoint.forget();
    mill.folder.write("orders.toml", with);
    let _engine = mill.engine().start().await;
    mill.delivered(1..=5).await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_disables_its_lane_until_it_is_resumed() {
    let mill = Mill::new(behaviour::gone(), "", "").await;
    let engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    mill.holds("HOOKMILL_DLQ", 1).await;
    eventually(LATER, "the lane is disabled", || async {
        let found = lane(&mill, "hook").await;
        if found["state"] == "disabled" { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    mill.publish(2..=10).await;
    mill.holds("HOOKMILL_LANES", 9).await;
    assert_eq!(mill.endpoint.received(), 1);
    assert_eq!(lane(&mill, "hook").await["why"], "the endpoint answered 410 Gone");
    in_state(&engine, 4.0).await;

    mill.endpoint.behave(behaviour::always(200));
    done(&mill, &["lane", "resume", "orders/hook"]).await;
    mill.delivered(2..=10).await;
    let letters = mill.json(&["dlq", "list"]).await;
    assert_eq!([&letters[0]["reason"], &letters[0]["status"]], [&json!("gone"), &json!(410)]);
    mill.json(&["dlq", "redrive", "--reason", "gone"]).await;
    mill.delivered(1..=10).await;
}

#[tokio::test]
async fn a_lane_is_named_by_pipeline_and_subscription() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let said = mill.command(&["init"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    for wrong in ["orders", "orders/", "Orders/hook", "a/b/c"] {
        for verb in ["pause", "resume"] {
            let said = mill.command(&["lane", verb, wrong]).await;
            assert_eq!(said.code, 2, "{said:?}");
            let expected = format!("error: {wrong:?} is no lane; write PIPELINE/SUBSCRIPTION, as");
            assert!(said.stderr.starts_with(&expected), "{said:?}");
        }
    }
}

/// Puts what only a newer engine could read into a lane, as that would; its sequence.
async fn put_from_the_future(mill: &Mill, subscription: &str) -> u64 {
    let mut headers = HeaderMap::new();
    headers.insert("Hookmill-Task", "9");
    let subject = format!("hookmill.lane.orders.{subscription}");
    let ack = mill.jetstream.publish_with_headers(subject, headers, "?".into()).await.expect("it is sent");
    let sequence = ack.await.expect("it is stored").sequence;
    let client = mill.server.client().await;
    client.publish("hookmill.nudge.orders", "".into()).await.expect("the engine is nudged");
    client.flush().await.expect("the nudge is sent");
    sequence
}

async fn take_away(mill: &Mill, sequence: u64) {
    let stream = mill.jetstream.get_stream("HOOKMILL_LANES").await.expect("the stream is there");
    assert!(stream.delete_message(sequence).await.expect("it is deleted"));
}

async fn listed_as(mill: &Mill, subscription: &str, state: &str) -> Value {
    eventually(LATER, &format!("lane {subscription} is listed as {state}"), || async {
        let found = lane(mill, subscription).await;
        if found["state"] == state { Ok(found) } else { Err(found.to_string()) }
    })
    .await
}

#[tokio::test]
async fn a_lane_with_a_task_of_an_unknown_format_says_so_and_is_read_again_when_resumed() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let engine = mill.engine().start().await;
    let sequence = put_from_the_future(&mill, "hook").await;
    in_state(&engine, 5.0).await;
    let listed = listed_as(&mill, "hook", "unreadable").await;
    let why =
        "a task in it can't be read: task format \"9\" is not known to this engine (it knows 1); upgrade it";
    assert_eq!((&listed["why"], &listed["backlog"]), (&json!(why), &json!(1)));
    let said = |line: &hookmill_tests::engine::LogLine| {
        line.message()
            .starts_with("a stored task can't be read, its lane is left alone; `hookmill lane resume`")
    };
    let line = engine.wait_for_line("it is said", LATER, said).await;
    assert_eq!(line.field("subscription"), Some(&json!("hook")));

    // Resumed in vain: it is read, and left alone again.
    done(&mill, &["lane", "resume", "orders/hook"]).await;
    eventually(LATER, "it is said a second time", || async {
        let times = engine.lines().iter().filter(|line| said(line)).count();
        if times == 2 { Ok(()) } else { Err(times.to_string()) }
    })
    .await;
    listed_as(&mill, "hook", "unreadable").await;

    mill.publish(1..=3).await;
    mill.holds("HOOKMILL_LANES", 4).await;
    take_away(&mill, sequence).await;
    done(&mill, &["lane", "resume", "orders/hook"]).await;
    mill.delivered(1..=3).await;
    in_state(&engine, 0.0).await;
    assert_eq!(lane(&mill, "hook").await["state"], "active");
}

#[tokio::test]
async fn an_unreadable_lane_that_somebody_else_has_emptied_needs_no_resuming() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let engine = mill.engine().start().await;
    for subscription in ["hook", "_"] {
        let sequence = put_from_the_future(&mill, subscription).await;
        listed_as(&mill, subscription, "unreadable").await;
        lane_in_state(&engine, subscription, 5.0).await;
        take_away(&mill, sequence).await;
        lane_in_state(&engine, subscription, 0.0).await;
    }
    listed_as(&mill, "hook", "active").await;
    mill.publish(1..=1).await;
    mill.delivered(1..=1).await;
}

#[tokio::test]
async fn an_engine_that_starts_looks_for_itself_whether_a_lane_can_be_read() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let mut engine = mill.engine().start().await;
    let sequence = put_from_the_future(&mill, "hook").await;
    listed_as(&mill, "hook", "unreadable").await;
    mill.publish(1..=2).await;
    mill.holds("HOOKMILL_LANES", 3).await;
    engine.kill().await;
    take_away(&mill, sequence).await;
    engine.restart().await;
    mill.delivered(1..=2).await;
    listed_as(&mill, "hook", "active").await;
}
