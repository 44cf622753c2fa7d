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

async fn done(mill: &Mill, arguments: &[&str]) {
    let said = mill.command(arguments).await;
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, "", ""));
}

/// Waits until the engine itself counts the lane as being in this state.
async fn in_state(engine: &Engine, state: f64) {
    eventually(LATER, &format!("the lane is in state {state}"), || async {
        let found = engine.metric("hookmill_lane_state", &["subscription=\"hook\""]).await;
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
        "why": "paused by hand", "backlog": 10, "waiting": 0 });
    assert_eq!(lane(&mill, "hook").await, expected);
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
        "why": "no loaded pipeline file has it", "backlog": 5, "waiting": 0 });
    assert_eq!(lane(&mill, "hook").await, expected);
    assert_eq!(lane(&mill, "other").await["state"], "active");
    let engine = mill.engine().start().await;
    mill.publish(6..=6).await;
    mill.endpoint.wait_for("the other has its order", LATER, |log| log.delivered_ids() == 1).await;
    assert_eq!(lane(&mill, "hook").await, expected);
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
