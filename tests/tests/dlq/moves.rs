//! Lanes whose subscription is gone: reported, adopted by another subscription, or moved to the dead letters.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::HeaderMap;
use hookmill_tests::{Cable, Engine, PipelineFolder, behaviour, eventually};
use serde_json::{Value, json};

use super::stock::{old_ids, put_tasks, put_waits};
use crate::mill::{LATER, Mill, orders};

/// What a move has on its way at most, and so may repeat after a kill.
const AT_ONCE: usize = 64;

/// A mill whose engine has run the pipeline `old` with the subscription `hook`, and now runs `orders` alone. The lane of
/// `old/hook` holds orders 1 to 4, 5 and 6 wait, 7 is due.
async fn orphaned() -> (Mill, Engine) {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let old = PipelineFolder::with("old", &orders(&mill.endpoint, "subjects = [\"events.none\"]", ""));
    let engine = Engine::run(&mill.server).arg(old.path()).start().await;
    assert_eq!(engine.terminate().await, 0);
    put_tasks(&mill, "hookmill.lane.old.hook", 1..=4).await;
    put_waits(&mill, 5..=6).await;
    put_tasks(&mill, "hookmill.due.old.hook", 7..=7).await;
    let engine = mill.engine().start().await;
    (mill, engine)
}

async fn lane_of_status(mill: &Mill, pipeline: &str) -> Option<Value> {
    let lines = mill.json(&["status"]).await;
    let lane = |line: &&Value| {
        line["kind"] == "lane" && line["pipeline"] == pipeline && line["subscription"] == "hook"
    };
    lines.iter().find(lane).cloned()
}

/// Waits until the engine itself counts the lane of `<pipeline>/hook` as being in this state.
async fn lane_is(engine: &Engine, pipeline: &str, state: f64) {
    let label = format!("pipeline=\"{pipeline}\"");
    eventually(LATER, &format!("the lane is in state {state}"), || async {
        let found = engine.metric("hookmill_lane_state", &[&label]).await;
        if (found - state).abs() < f64::EPSILON { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

async fn delivered(mill: &Mill, ids: &HashSet<String>) {
    let what = format!("{} of the old ones are delivered", ids.len());
    mill.endpoint.wait_for(&what, LATER, |log| ids.is_subset(log.delivered())).await;
}

#[tokio::test]
async fn an_orphaned_lane_is_reported_and_adopted_with_its_waits_and_what_is_due() {
    let (mill, _engine) = orphaned().await;
    let lane = lane_of_status(&mill, "old").await.expect("it is reported");
    assert_eq!(
        (&lane["state"], &lane["why"]),
        (&json!("orphaned"), &json!("no engine that shows a sign of life runs its pipeline"))
    );
    assert_eq!((&lane["backlog"], &lane["waiting"]), (&json!(4), &json!(3)));

    let adopt = ["lane", "adopt", "old/hook", "--into", "orders/hook"];
    let said = mill.command(&[&adopt[..], &["--dry-run"]].concat()).await;
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, "", "7 would be adopted, 0 can't be\n"));
    assert_eq!(lane_of_status(&mill, "old").await, Some(lane));
    assert_eq!(mill.endpoint.received(), 0);

    let said = mill.command(&adopt).await;
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, "", "7 adopted, 0 can't be\n"));
    delivered(&mill, &old_ids(1..=7)).await;
    mill.holds("HOOKMILL_LANES", 0).await;
    mill.holds("HOOKMILL_RETRIES", 0).await;
    assert_eq!(mill.endpoint.received(), 7);
    assert_eq!(lane_of_status(&mill, "old").await, None);
    let said = mill.command(&adopt).await;
    assert_eq!((said.code, &*said.stderr), (0, "0 adopted, 0 can't be\n"));
}

#[tokio::test]
async fn an_adopted_task_and_the_new_owners_own_on_the_same_event_both_go_on() {
    let slow = "[subscription.retry]\nschedule = [\"1h\"]\njitter = 0.0";
    let mill = Mill::new(behaviour::always(503), "", slow).await;
    let old = mill.folder.write("old.toml", orders(&mill.endpoint, "", slow));
    let engine = mill.engine().start().await;
    assert_eq!(mill.command(&["lane", "pause", "old/hook"]).await.code, 0);
    lane_is(&engine, "old", 3.0).await;
    // Both pipelines take the same messages: the one's tasks wait in their lane, the other's for a retry.
    mill.publish(1..=4).await;
    mill.holds("HOOKMILL_LANES", 4).await;
    mill.holds("HOOKMILL_RETRIES", 4).await;
    assert_eq!(engine.terminate().await, 0);
    std::fs::remove_file(old).expect("it can be removed");
    let _engine = mill.engine().start().await;
    let lines = mill.json(&["lane", "adopt", "old/hook", "--into", "orders/hook"]).await;
    let moved = |line: &&Value| line["moved"] == true && line["error"].is_null();
    assert_eq!(lines.iter().filter(moved).count(), 4, "{lines:?}");
    mill.holds("HOOKMILL_LANES", 0).await;
    mill.holds("HOOKMILL_RETRIES", 8).await;
    assert_eq!(mill.endpoint.distinct_ids(), 8);
}

#[tokio::test]
async fn what_is_adopted_has_its_whole_schedule_and_waits_under_its_new_name() {
    let (mill, engine) = orphaned().await;
    assert_eq!(engine.terminate().await, 0);
    let slow = "[subscription.retry]\nschedule = [\"1h\"]\njitter = 0.0";
    mill.folder.write("orders.toml", orders(&mill.endpoint, "", slow));
    let _engine = mill.engine().start().await;
    mill.endpoint.behave(behaviour::always(503));
    let said = mill.command(&["lane", "adopt", "old/hook", "--into", "orders/hook"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    mill.holds("HOOKMILL_LANES", 0).await;
    mill.holds("HOOKMILL_RETRIES", 7).await;
    let lane = lane_of_status(&mill, "orders").await.expect("it is known");
    assert_eq!((&lane["state"], &lane["waiting"]), (&json!("active"), &json!(7)));
    assert_eq!(mill.stream_state("HOOKMILL_DLQ").await.expect("it is there").messages, 0);
}

#[tokio::test]
async fn a_lane_that_somebody_works_on_is_not_moved() {
    let (mill, engine) = orphaned().await;
    let file = orders(&mill.endpoint, "", "");
    let refused = async |arguments: &[&str], because: &str| {
        let said = mill.command(&[&["lane"], arguments].concat()).await;
        assert_eq!((said.code, &*said.stdout), (1, ""), "{said:?}");
        assert!(said.stderr.contains(because), "{because}: {}", said.stderr);
    };
    let in_force = "lane orders/hook is no orphan: the file in force (revision ";
    refused(&["dead-letter", "orders/hook"], in_force).await;
    refused(&["adopt", "orders/hook", "--into", "orders/hook"], in_force).await;
    refused(&["adopt", "orders/_", "--into", "orders/_"], "lane orders/_ is no orphan").await;
    refused(&["dead-letter", "orders/hook", "--dry-run"], "take the subscription out of its file").await;
    refused(
        &["adopt", "old/hook", "--into", "orders/none"],
        "no file in force has the subscription orders/none",
    )
    .await;
    refused(&["adopt", "old/hook", "--into", "old/hook"], "no file in force has the subscription old/hook")
        .await;
    refused(&["adopt", "old/hook", "--into", "orders/_"], "old/hook can't go into orders/_").await;

    // Another engine puts a file into force without the subscription: the first one still works on its lane.
    mill.folder.write("orders.toml", file.replace("name = \"hook\"", "name = \"other\""));
    let other = mill.engine().start().await;
    refused(&["dead-letter", "orders/hook"], "still runs another file of its pipeline").await;
    assert_eq!(engine.terminate().await, 0);
    let said = mill.command(&["lane", "dead-letter", "orders/hook"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "0 dead-lettered, 0 can't be\n"));
    assert_eq!(other.terminate().await, 0);
    for wrong in
        [&["adopt", "old", "--into", "orders/hook"][..], &["adopt", "old/hook", "--into", "Orders/hook"]]
    {
        let said = mill.command(&[&["lane"], wrong].concat()).await;
        assert_eq!(said.code, 2, "{said:?}");
    }
    assert_eq!(mill.command(&["lane", "adopt", "old/hook"]).await.code, 2);
}

#[tokio::test]
async fn what_is_dead_lettered_is_found_there_and_redriven_once_its_subscription_is_back() {
    let (mill, engine) = orphaned().await;
    let said = mill.command(&["lane", "dead-letter", "old/hook", "--dry-run"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "7 would be dead-lettered, 0 can't be\n"));
    mill.holds("HOOKMILL_DLQ", 0).await;
    let said = mill.command(&["lane", "dead-letter", "old/hook"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "7 dead-lettered, 0 can't be\n"));
    for (stream, count) in [("HOOKMILL_LANES", 0), ("HOOKMILL_RETRIES", 0), ("HOOKMILL_DLQ", 7)] {
        mill.holds(stream, count).await;
    }
    let letters = mill.json(&["dlq", "list", "--pipeline", "old", "--reason", "config"]).await;
    let ids: HashSet<String> =
        letters.iter().filter_map(|letter| letter["delivery_id"].as_str().map(str::to_owned)).collect();
    assert_eq!(ids, old_ids(1..=7));
    let said = "its subscription is gone; before that: the endpoint answered 503";
    assert_eq!((&letters[0]["error"], &letters[0]["status"]), (&json!(said), &json!(503)));

    assert_eq!(engine.terminate().await, 0);
    let old = PipelineFolder::with("old", &orders(&mill.endpoint, "subjects = [\"events.none\"]", ""));
    let _engine = Engine::run(&mill.server).arg(old.path()).start().await;
    assert_eq!(mill.json(&["dlq", "redrive", "--all"]).await.len(), 7);
    delivered(&mill, &old_ids(1..=7)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_killed_goes_on_when_it_is_run_again_and_nothing_is_lost() {
    const COUNT: usize = 1_000;
    for command in
        [&["lane", "adopt", "old/hook", "--into", "orders/hook"][..], &["lane", "dead-letter", "old/hook"]]
    {
        let (mill, engine) = orphaned().await;
        assert_eq!(mill.command(&["lane", "pause", "orders/hook"]).await.code, 0);
        put_tasks(&mill, "hookmill.lane.old.hook", 8..=COUNT).await;
        let cable = Cable::to(mill.server.address()).await;
        // So that several are always on their way.
        cable.delay(Duration::from_millis(5));
        let url = cable.nats_url();
        let arguments = [command, &["--json", "--nats", &url]].concat();
        let killed = Engine::command(&arguments).spawn();
        eventually(LATER, "it is in the middle", || async {
            let done = killed.lines().len();
            if done >= 100 { Ok(()) } else { Err(done.to_string()) }
        })
        .await;
        killed.kill().await;
        let left = lane_of_status(&mill, "old").await.expect("there is something left");
        let all = COUNT as u64 - 3;
        assert!(left["backlog"].as_u64().is_some_and(|left| left > 0 && left < all), "{left}");
        let said = mill.command(command).await;
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(lane_of_status(&mill, "old").await, None);
        if command[1] == "adopt" {
            assert_eq!(mill.command(&["lane", "resume", "orders/hook"]).await.code, 0);
            delivered(&mill, &old_ids(1..=COUNT)).await;
            assert!(mill.endpoint.received() <= COUNT + AT_ONCE, "{}", mill.endpoint.received());
        } else {
            let letters = mill.json(&["dlq", "list"]).await;
            let ids: HashSet<String> = letters
                .iter()
                .filter_map(|letter| letter["delivery_id"].as_str().map(str::to_owned))
                .collect();
            assert_eq!(ids, old_ids(1..=COUNT));
            assert!(letters.len() <= COUNT + AT_ONCE, "{}", letters.len());
        }
        assert_eq!(engine.terminate().await, 0);
    }
}

#[tokio::test]
async fn a_full_lane_stops_an_adoption_and_the_rest_is_adopted_later() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let settings = mill.folder.write("hookmill.settings", "[limits]\nlane = 10\n");
    let _engine = mill.engine().arg("--config").arg(settings).start().await;
    assert_eq!(mill.command(&["lane", "pause", "orders/hook"]).await.code, 0);
    put_tasks(&mill, "hookmill.lane.old.hook", 1..=10).await;
    put_waits(&mill, 11..=15).await;
    let adopt = ["lane", "adopt", "old/hook", "--into", "orders/hook"];
    let said = mill.command(&adopt).await;
    assert_eq!(said.code, 1, "{said:?}");
    let lines: Vec<&str> = said.stderr.lines().collect();
    let [refused, stopped, summary] = lines[..] else { panic!("{said:?}") };
    assert!(
        refused.contains("of old/hook stays: it can't be stored where it goes: JetStream refuses"),
        "{refused}"
    );
    assert!(stopped.starts_with("stopped there: the rest stays where it is"), "{stopped}");
    assert_eq!(summary, "10 adopted, 1 can't be");
    mill.holds("HOOKMILL_RETRIES", 5).await;
    assert_eq!(mill.command(&["lane", "resume", "orders/hook"]).await.code, 0);
    delivered(&mill, &old_ids(1..=10)).await;
    mill.holds("HOOKMILL_LANES", 0).await;
    let said = mill.command(&adopt).await;
    assert_eq!((said.code, &*said.stderr), (0, "5 adopted, 0 can't be\n"));
    delivered(&mill, &old_ids(1..=15)).await;
    assert_eq!(mill.endpoint.received(), 15);
}

#[tokio::test]
async fn a_task_that_cant_be_read_is_not_adopted_but_dead_lettered_byte_for_byte() {
    let (mill, _engine) = orphaned().await;
    let mut headers = HeaderMap::new();
    headers.insert("Hookmill-Task", "9");
    headers.insert("Hookmill-Novelty", "1");
    let subject = "hookmill.lane.old.hook".to_owned();
    let ack = mill.jetstream.publish_with_headers(subject, headers, "new".into()).await.expect("it is sent");
    ack.await.expect("it is stored");
    let said = mill.command(&["lane", "adopt", "old/hook", "--into", "orders/hook"]).await;
    assert_eq!(said.code, 1);
    let unreadable =
        "error: HOOKMILL_LANES 5 of old/hook stays: task format \"9\" is not known to this engine";
    assert!(said.stderr.starts_with(unreadable), "{said:?}");
    assert!(said.stderr.ends_with("\n7 adopted, 1 can't be\n"), "{said:?}");
    delivered(&mill, &old_ids(1..=7)).await;
    let said = mill.command(&["lane", "dead-letter", "old/hook"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "1 dead-lettered, 0 can't be\n"));
    let letters = mill.json(&["dlq", "show", "--all"]).await;
    let header = |name: &str| letters[0]["headers"][name].clone();
    assert_eq!([header("Hookmill-Task"), header("Hookmill-Novelty")], ["9", "1"]);
    assert_eq!((&letters[0]["body"], &letters[0]["reason"]), (&json!("new"), &json!("config")));
    let said = mill.command(&["dlq", "redrive", "--all"]).await;
    assert!(said.code == 1 && said.stderr.contains("upgrade it"), "{said:?}");
}
