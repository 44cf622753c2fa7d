//! `[source] webhook_id`: what a `webhook-id` is made of, over what it is stable and over what not, and what is said of
//! publishers that give several events one id.

use std::collections::HashSet;

use async_nats::jetstream;
use hookmill::model::{DeliveryId, Name, SourceRef, SplitPath, Timestamp};
use hookmill_tests::engine::LogLine;
use hookmill_tests::{Engine, PipelineFolder, behaviour, events, eventually, hookmill};
use nix::sys::signal::Signal;

use crate::mill::{LATER, Mill, SOON, delivery_ids, orders, retry};
use crate::scene::messages_in;

const OF_MESSAGE: &str = "webhook_id = \"message\"";
const GIVE_UP: &str = "[subscription.retry]\ngive_up_on = [400]";

/// The ids that messages of the source stream, as they lie there now, have in the lane `hook` of a pipeline.
async fn ids_of(mill: &Mill, pipeline: &str, sequences: &[u64]) -> HashSet<String> {
    let stream = mill.jetstream.get_stream("HOOKMILL_EVENTS").await.expect("the stream is there");
    let (pipeline, path) = (Name::new(pipeline).expect("a name"), SplitPath::root());
    let mut ids = HashSet::new();
    for &sequence in sequences {
        let stored = stream.get_raw_message(sequence).await.expect("it is there").time;
        let nanos = u64::try_from(stored.unix_timestamp_nanos()).expect("a time of this century");
        let source =
            SourceRef { stream: "HOOKMILL_EVENTS".into(), sequence, time: Timestamp::from_unix_nanos(nanos) };
        ids.insert(DeliveryId::of_message(&source, &pipeline, "hook", &path).to_string());
    }
    ids
}

/// Waits until so many deliveries have come, and looks whether they and all other attempts had these ids.
async fn delivered_as(mill: &Mill, ids: &HashSet<String>) {
    let what = format!("{} deliveries", ids.len());
    mill.endpoint.wait_for(&what, LATER, |log| log.delivered_ids() >= ids.len()).await;
    let log = mill.endpoint.log();
    assert_eq!(log.delivered(), ids);
    assert_eq!(log.distinct_ids(), ids.len(), "{}", log.summary());
}

async fn renamed(mill: &Mill) -> Engine {
    let said = mill.command(&["pipeline", "rename", "orders", "shop"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    std::fs::rename(mill.folder.path().join("orders.toml"), mill.folder.path().join("shop.toml"))
        .expect("it is there");
    mill.engine().start().await
}

#[tokio::test]
async fn the_id_of_a_message_is_the_same_over_retries() {
    let mill = Mill::new(behaviour::fail_first(2, 500), OF_MESSAGE, &retry(5)).await;
    let _engine = mill.engine().start().await;
    mill.publish(1..=2).await;
    let ids = ids_of(&mill, "orders", &[1, 2]).await;
    delivered_as(&mill, &ids).await;
    assert!(mill.endpoint.received() > 2, "some attempts failed");
}

#[tokio::test]
async fn the_id_of_a_message_is_the_same_after_a_kill_and_a_restart() {
    let mill = Mill::new(
        behaviour::hang(),
        OF_MESSAGE,
        "timeout = \"2s\"\n[subscription.retry]\nschedule = [\"2s\"]",
    )
    .await;
    let mut engine = mill.engine().start().await;
    mill.publish(1..=3).await;
    mill.endpoint.wait_for("all have begun", SOON, |log| log.received() == 3).await;
    engine.kill().await;
    mill.endpoint.behave(behaviour::always(200));
    engine.restart().await;
    delivered_as(&mill, &ids_of(&mill, "orders", &[1, 2, 3]).await).await;
    // And where what waits was stored.
    mill.endpoint.behave(behaviour::always(500));
    mill.publish(4..=4).await;
    mill.endpoint.wait_for("an attempt has failed", SOON, |log| log.distinct_ids() == 4).await;
    assert_eq!(engine.terminate().await, 0);
    mill.endpoint.behave(behaviour::always(200));
    engine.restart().await;
    delivered_as(&mill, &ids_of(&mill, "orders", &[1, 2, 3, 4]).await).await;
}

/// Two dead letters of a subscription, redriven with these arguments by an engine that was started anew.
async fn redriven(arguments: &[&str]) {
    let mill = Mill::new(behaviour::always(400), OF_MESSAGE, GIVE_UP).await;
    let mut engine = mill.engine().start().await;
    mill.publish(1..=2).await;
    mill.holds("HOOKMILL_DLQ", 2).await;
    engine.restart().await;
    mill.endpoint.behave(behaviour::always(200));
    let said = mill.command(&[&["dlq", "redrive", "--all"], arguments].concat()).await;
    assert_eq!((said.code, &*said.stderr), (0, "2 redriven, 0 can't be\n"));
    delivered_as(&mill, &ids_of(&mill, "orders", &[1, 2]).await).await;
    assert_eq!(mill.endpoint.received(), 4, "each was sent twice");
}

#[tokio::test]
async fn the_id_of_a_message_is_the_same_after_a_redrive() {
    redriven(&[]).await;
}

#[tokio::test]
async fn the_id_of_a_message_is_the_same_after_a_redrive_of_the_original() {
    redriven(&["--rerun"]).await;
}

#[tokio::test]
async fn what_was_refused_as_a_whole_gets_the_id_of_its_message_when_it_is_redriven() {
    let mill = Mill::new(behaviour::always(200), OF_MESSAGE, "").await;
    let file = orders(&mill.endpoint, OF_MESSAGE, "");
    mill.folder.write("orders.toml", format!("{file}\n[validate]\nunknown = \"reject\"\n"));
    let engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    mill.holds("HOOKMILL_DLQ", 1).await;
    assert_eq!(engine.terminate().await, 0);
    mill.folder.write("orders.toml", file);
    let _engine = mill.engine().start().await;
    let said = mill.command(&["dlq", "redrive", "--all"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    delivered_as(&mill, &ids_of(&mill, "orders", &[1]).await).await;
}

#[tokio::test]
async fn a_task_that_a_rename_carries_along_keeps_the_id_of_its_message() {
    let mill = Mill::new(behaviour::always(500), OF_MESSAGE, &retry(30)).await;
    let engine = mill.engine().start().await;
    mill.publish(1..=2).await;
    mill.endpoint.wait_for("each is attempted", SOON, |log| log.distinct_ids() == 2).await;
    assert_eq!(engine.terminate().await, 0);
    mill.endpoint.behave(behaviour::always(200));
    let _engine = renamed(&mill).await;
    delivered_as(&mill, &ids_of(&mill, "orders", &[1, 2]).await).await;
}

#[tokio::test]
async fn a_new_event_gets_the_id_of_its_message_by_the_new_name_after_a_rename() {
    let mill = Mill::new(behaviour::always(200), OF_MESSAGE, "").await;
    let engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    let mut ids = ids_of(&mill, "orders", &[1]).await;
    delivered_as(&mill, &ids).await;
    assert_eq!(engine.terminate().await, 0);
    mill.publish(2..=2).await;
    let _engine = renamed(&mill).await;
    let by_new_name = ids_of(&mill, "shop", &[2]).await;
    assert_ne!(by_new_name, ids_of(&mill, "orders", &[2]).await);
    ids.extend(by_new_name);
    delivered_as(&mill, &ids).await;
}

#[tokio::test]
async fn an_event_that_is_published_twice_has_two_ids_of_messages() {
    let mill = Mill::new(behaviour::always(200), OF_MESSAGE, "").await;
    let _engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    mill.publish(1..=1).await;
    let ids = ids_of(&mill, "orders", &[1, 2]).await;
    assert_eq!(ids.len(), 2);
    delivered_as(&mill, &ids).await;
}

#[tokio::test]
async fn an_event_of_a_stream_that_was_made_anew_has_another_id_of_its_message() {
    let mill = Mill::new(behaviour::always(200), OF_MESSAGE, "").await;
    let engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    let before = ids_of(&mill, "orders", &[1]).await;
    delivered_as(&mill, &before).await;
    assert_eq!(engine.terminate().await, 0);
    mill.jetstream.delete_stream("HOOKMILL_EVENTS").await.expect("it can be deleted");
    events::make_source_stream(&mill.jetstream).await;
    mill.publish(1..=1).await;
    let after = ids_of(&mill, "orders", &[1]).await;
    assert_ne!(before, after);
    let _engine = mill.engine().start().await;
    delivered_as(&mill, &before.union(&after).cloned().collect()).await;
}

#[tokio::test]
async fn what_waits_keeps_its_id_when_the_setting_is_changed() {
    let mill = Mill::new(behaviour::always(500), "", &retry(30)).await;
    let engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    mill.endpoint.wait_for("it is attempted", SOON, |log| log.received() > 0).await;
    assert_eq!(engine.terminate().await, 0);
    mill.endpoint.behave(behaviour::always(200));
    mill.folder.write("orders.toml", orders(&mill.endpoint, OF_MESSAGE, &retry(30)));
    let _engine = mill.engine().start().await;
    mill.publish(2..=2).await;
    let mut ids = delivery_ids(1..=1);
    ids.extend(ids_of(&mill, "orders", &[2]).await);
    delivered_as(&mill, &ids).await;
}

#[tokio::test]
async fn what_is_published_onward_names_the_same_id() {
    for source in ["", OF_MESSAGE] {
        let mill = Mill::new(behaviour::always(200), "", "").await;
        let config = jetstream::stream::Config {
            name: "OUT".into(),
            subjects: vec!["out.>".into()],
            ..Default::default()
        };
        let out = mill.jetstream.create_stream(config).await.expect("it can be made");
        let publish = "[[subscription]]\nname = \"hook\"\n[subscription.publish]\nsubject = \"out.{type}\"\n";
        mill.folder.write("orders.toml", format!("[source]\n{source}\n{publish}"));
        let _engine = mill.engine().start().await;
        mill.publish(1..=1).await;
        mill.publish(1..=1).await;
        mill.holds("OUT", 2).await;
        let mut found = HashSet::new();
        for sequence in 1..=2 {
            let stored = out.get_raw_message(sequence).await.expect("it is there");
            found.insert(stored.headers.get("Hookmill-Delivery-Id").expect("it is there").to_string());
        }
        let of_message = ids_of(&mill, "orders", &[1, 2]).await;
        assert_eq!(of_message.len(), 2);
        assert_eq!(found, if source.is_empty() { delivery_ids(1..=1) } else { of_message });
    }
}

#[tokio::test]
async fn a_test_of_a_pipeline_has_the_id_of_the_first_message_of_its_stream_stored_when_the_test_begins() {
    let folder = PipelineFolder::with(
        "p",
        "[source]\nwebhook_id = \"message\"\n[[subscription]]\nname = \"hook\"\n[subscription.deliver]\nurl = \"https://example.com\"\n",
    );
    let now = "2026-11-24T08:00:10Z";
    let time = Timestamp::parse(now).expect("a time");
    let source = SourceRef { stream: "HOOKMILL_EVENTS".into(), sequence: 1, time };
    let id = DeliveryId::of_message(&source, &Name::new("p").expect("a name"), "hook", &SplitPath::root());
    let test = |name: &str, id: &str| {
        let event = format!(r#"{{"specversion":"1.0","id":"{name}","source":"/s","type":"t"}}"#);
        format!(
            "[[test]]\nname = \"{name}\"\nnow = {now}\nevent = '{event}'\n[test.expect.hook.delivered]\nheaders = {{ webhook-id = \"{id}\" }}\n"
        )
    };
    folder.write("p.test.toml", test("one", id.as_str()) + &test("two", id.as_str()));
    let said = hookmill(&["test", folder.path().to_str().expect("a path of text")]).await;
    assert_eq!((said.code, said.stdout.lines().last()), (0, Some("2 tests: 2 passed, 0 failed")), "{said:?}");
}

/// Two changes, as Debezium for `MySQL` publishes them: one id, since there is no row in it.
const CHANGES: [&str; 2] =
    [include_str!("../data/debezium/mysql-with-schema.json"), include_str!("../data/debezium/mysql.json")];

async fn publish_change(mill: &Mill, change: usize) {
    let message = events::structured_message(CHANGES[change].trim_end());
    events::publish_all(&mill.jetstream, [message]).await;
}

async fn reused(engine: &Engine) -> f64 {
    engine.metric("hookmill_events_id_reused_total", &["pipeline=\"orders\""]).await
}

fn is_about_reuse(line: &LogLine) -> bool {
    line.message().contains("the same source and id")
}

#[tokio::test]
async fn changes_of_debezium_with_one_id_are_delivered_counted_and_spoken_of_once() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let engine = mill.engine().start().await;
    publish_change(&mill, 0).await;
    mill.endpoint.wait_for("the first", SOON, |log| log.received() == 1).await;
    // Files that are loaded again are no reason to forget it.
    mill.folder.write("orders.toml", orders(&mill.endpoint, "", "") + "# changed\n");
    engine.signal(Signal::SIGHUP);
    eventually(LATER, "the file is loaded again", || async {
        let times = engine.metric("hookmill_config_reloads_total", &["result=\"ok\""]).await;
        if times > 0.5 { Ok(()) } else { Err(times.to_string()) }
    })
    .await;
    publish_change(&mill, 1).await;
    let line = engine.wait_for_line("it is said", SOON, is_about_reuse).await;
    let source = line.field("source").and_then(|source| source.as_str());
    assert_eq!(source, Some("/debezium/mysql/test_server"), "{}", line.text);
    assert!(line.message().contains("webhook_id = \"message\""), "{}", line.text);
    assert!(!line.text.contains("amount") && !line.text.contains("Böb"), "{}", line.text);
    // Both of them once more: they are nothing new. Then a third change, which is.
    publish_change(&mill, 0).await;
    publish_change(&mill, 1).await;
    let third = CHANGES[1].trim_end().replace("1.1", "2.2");
    events::publish_all(&mill.jetstream, [events::structured_message(third)]).await;
    mill.endpoint.wait_for("all are delivered", LATER, |log| log.received() == 5).await;
    assert_eq!(mill.endpoint.distinct_ids(), 1);
    let count = reused(&engine).await;
    assert!((count - 2.0).abs() < 0.1, "{count}");
    assert_eq!(engine.terminate().await, 0);
    assert_eq!(engine.lines().iter().filter(|line| is_about_reuse(line)).count(), 1);
}

#[tokio::test]
async fn changes_of_debezium_have_an_id_each_under_message_and_nothing_is_counted() {
    let mill = Mill::new(behaviour::always(200), OF_MESSAGE, "").await;
    let engine = mill.engine().start().await;
    for change in 0..CHANGES.len() {
        publish_change(&mill, change).await;
    }
    let ids = ids_of(&mill, "orders", &[1, 2]).await;
    assert_eq!(ids.len(), 2);
    delivered_as(&mill, &ids).await;
    let bodies: HashSet<_> = mill.endpoint.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, CHANGES.map(|change| bytes::Bytes::from(change.trim_end())).into());
    assert!(reused(&engine).await < 0.1);
    assert_eq!(engine.terminate().await, 0);
    assert_eq!(engine.lines().iter().filter(|line| is_about_reuse(line)).count(), 0);
    assert_eq!(messages_in(&mill.jetstream, "HOOKMILL_DLQ").await, 0);
}
