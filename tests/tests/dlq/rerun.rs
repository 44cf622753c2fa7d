//! `hookmill dlq redrive --rerun`: the original event again, through what stands in the files today.

use hookmill_tests::{Endpoint, Engine, NatsServer, behaviour, events, hookmill};
use serde_json::{Value, json};

use crate::mill::{LATER, Mill, delivery_ids};
use crate::scene::{Scene, event, folder_with_modules, step, webhook};

const GIVE_UP: &str = "[subscription.retry]\ngive_up_on = [400]";

/// A scene whose pipeline is `before` until `events` rest in the dead letters, all of them, and `after` from then on.
async fn scene(before: &str, events: Vec<events::Message>, after: &str) -> Scene {
    let mut scene = Scene::open(NatsServer::start().await, folder_with_modules(before)).await;
    let count = events.len() as u64;
    scene.publish(events).await;
    scene.letters(count).await;
    scene.engine.terminate().await;
    scene.folder.write("p.toml", after);
    scene.engine = Engine::run(&scene.server).arg(scene.folder.path()).start().await;
    scene
}

async fn dlq(scene: &Scene, arguments: &[&str]) -> hookmill_tests::engine::Said {
    hookmill(&[&["dlq"], arguments, &["--nats", &scene.server.url()]].concat()).await
}

/// A subscription that sends to the endpoint what has a total, through a module that takes the mail address away.
fn today(endpoint: &Endpoint) -> String {
    webhook("all", &endpoint.url(), "").replace("name = ", "match = { required = [\"total\"] }\nname = ")
        + &step("redact", "remove = [\"/email\"]", "")
}

fn order(id: &str, data: &str) -> events::Message {
    event(id, "order", &format!(",\"data\":{data}"))
}

#[tokio::test]
async fn the_original_goes_through_todays_filter_and_modules_with_the_id_that_it_had() {
    let endpoint = Endpoint::start(behaviour::always(400)).await;
    let orders = vec![
        order("good", r#"{"total":1,"email":"a@example.com"}"#),
        order("no-total", r#"{"email":"b@example.com"}"#),
    ];
    let before = webhook("all", &endpoint.url(), "") + GIVE_UP;
    let scene = scene(&before, orders, &today(&endpoint)).await;
    let first = endpoint.requests();
    let id = |request: &hookmill_tests::Request| request.header("webhook-id").to_owned();
    let sent = first.iter().find(|request| request.json()["id"] == "good").expect("it was sent");
    assert_eq!(sent.json()["data"]["email"], "a@example.com");
    endpoint.behave(behaviour::always(200));

    let said = dlq(&scene, &["redrive", "--all", "--rerun", "--dry-run"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "2 would be redriven, 0 can't be\n"));
    let said = dlq(&scene, &["redrive", "--all", "--rerun"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "2 redriven, 0 can't be\n"));
    endpoint.wait_for_delivered(1, LATER).await;
    scene.ends("all", "filtered", 1).await;
    let requests = endpoint.requests();
    let again = requests.last().expect("it was sent again");
    assert_eq!(requests.len(), first.len() + 1, "what the filter refuses is not sent");
    assert_eq!((&again.json()["id"], &again.json()["data"]), (&json!("good"), &json!({ "total": 1 })));
    assert_eq!(id(again), id(sent));
    scene.quiet().await;
    assert_eq!(crate::scene::messages_in(&scene.jetstream, "HOOKMILL_DLQ").await, 0);
}

#[tokio::test]
async fn what_todays_schema_refuses_is_a_dead_letter_of_its_subscription_until_the_schema_is_mended() {
    let endpoint = Endpoint::start(behaviour::always(400)).await;
    let subscription = webhook("all", &endpoint.url(), "") + GIVE_UP;
    let schema = "[[validate.schema]]\ntypes = [\"order\"]\nfile = \"order.schema.json\"\n";
    let after = format!("{schema}{subscription}");
    let folder = folder_with_modules(&subscription);
    folder
        .write("order.schema.json", r#"{"required":["data"],"properties":{"data":{"required":["total"]}}}"#);
    let mut scene = Scene::open(NatsServer::start().await, folder).await;
    scene.publish([order("one", r#"{"sum":1}"#)]).await;
    scene.letters(1).await;
    scene.engine.terminate().await;
    scene.folder.write("p.toml", &after);
    scene.engine = Engine::run(&scene.server).arg(scene.folder.path()).start().await;
    endpoint.behave(behaviour::always(200));
    assert_eq!(dlq(&scene, &["redrive", "1", "--rerun"]).await.code, 0);
    let refused = hookmill_tests::eventually(LATER, "the schema refuses it", || async {
        let letters = scene.letters(1).await;
        let found = letters.into_iter().find(|letter| letter.reason() == "schema");
        found.ok_or_else(|| "not yet".to_owned())
    })
    .await;
    assert_eq!((refused.end(), refused.text("resume")), (("all", "schema"), "source"));
    assert_eq!(refused.header("Hookmill-Generation"), Some("1"));
    assert_eq!(endpoint.received(), 1, "only what was answered 400");

    scene.engine.terminate().await;
    scene.folder.write("order.schema.json", "{}");
    scene.engine = Engine::run(&scene.server).arg(scene.folder.path()).start().await;
    assert_eq!(dlq(&scene, &["redrive", "--reason", "schema"]).await.code, 0);
    endpoint.wait_for_delivered(1, LATER).await;
}

#[tokio::test]
async fn what_is_not_in_its_stream_any_more_says_so_and_others_go_on() {
    let mill = Mill::new(behaviour::always(400), "", GIVE_UP).await;
    let _engine = mill.engine().start().await;
    for number in 1..=3 {
        mill.publish(number..=number).await;
        mill.holds("HOOKMILL_DLQ", number as u64).await;
    }
    mill.endpoint.behave(behaviour::always(200));
    let events = mill.jetstream.get_stream("HOOKMILL_EVENTS").await.expect("it is there");
    events.delete_message(2).await.expect("it is deleted");
    let aged = "its event is not in HOOKMILL_EVENTS any more (sequence 2): removed for its age or a limit, or settled in a work \
                queue; redrive it without --rerun, or publish the event again";
    for dry_run in [&["--dry-run"][..], &[]] {
        let said = mill.command(&[&["dlq", "redrive", "--all", "--rerun"], dry_run].concat()).await;
        let verb = if dry_run.is_empty() { "redriven" } else { "would be redriven" };
        let expected =
            format!("error: dead letter 2 (orders/hook) is not redriven: {aged}\n2 {verb}, 1 can't be\n");
        assert_eq!((said.code, said.stderr), (1, expected));
    }
    let there: std::collections::HashSet<_> =
        [1, 3].into_iter().flat_map(|order| delivery_ids(order..=order)).collect();
    mill.endpoint.wait_for("the others are delivered", LATER, |log| *log.delivered() == there).await;
    let left = mill.json(&["dlq", "list"]).await;
    assert_eq!(left.iter().map(|line| line["sequence"].clone()).collect::<Vec<Value>>(), [json!(2)]);

    // Made anew, the stream has another message under that sequence.
    mill.jetstream.delete_stream("HOOKMILL_EVENTS").await.expect("it is deleted");
    let said = mill.command(&["dlq", "redrive", "2", "--rerun"]).await;
    assert!(said.stderr.contains(aged), "{said:?}");
    events::make_source_stream(&mill.jetstream).await;
    mill.publish(7..=9).await;
    let said = mill.command(&["dlq", "redrive", "2", "--rerun"]).await;
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains(aged), "{said:?}");
    // What is stored in the letter is good as ever.
    assert_eq!(mill.command(&["dlq", "redrive", "2"]).await.code, 0);
    mill.holds("HOOKMILL_DLQ", 0).await;
}

#[tokio::test]
async fn an_output_of_a_split_is_made_again_and_its_siblings_are_not() {
    let endpoint = Endpoint::start(behaviour::custom(|request| {
        let status = if request.json()["id"] == "one-1" { 400 } else { 200 };
        hookmill_tests::Reply::Status(status)
    }))
    .await;
    let split = |count: usize| {
        webhook("all", &endpoint.url(), "")
            + GIVE_UP
            + "\n"
            + &step("hostile", &format!("mode = \"split\", count = {count}"), "")
    };
    let scene = Scene::open(NatsServer::start().await, folder_with_modules(&split(3))).await;
    scene.publish([event("one", "t", r#","data":{"n":1}"#)]).await;
    let letters = scene.letters(1).await;
    assert_eq!((letters[0].header("Hookmill-Split"), letters[0].text("resume")), (Some("1"), "deliver"));
    endpoint.wait_for_delivered(2, LATER).await;
    endpoint.behave(behaviour::always(200));
    assert_eq!(dlq(&scene, &["redrive", "--all", "--rerun"]).await.code, 0);
    endpoint.wait_for_delivered(3, LATER).await;
    assert_eq!((endpoint.received(), endpoint.distinct_ids()), (4, 3), "the other two are not sent again");
    scene.quiet().await;
    assert_eq!(scene.engine.terminate().await, 0);
}

#[tokio::test]
async fn a_letter_of_the_pipeline_as_a_whole_is_taken_again_by_all_of_it() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let refuse = "[validate]\nunknown = \"reject\"\n";
    let file = crate::mill::orders(&mill.endpoint, "", "");
    mill.folder.write("orders.toml", format!("{refuse}{file}"));
    let engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    mill.holds("HOOKMILL_DLQ", 1).await;
    assert_eq!(engine.terminate().await, 0);
    mill.folder.write("orders.toml", file);
    let _engine = mill.engine().start().await;
    let lines = mill.json(&["dlq", "redrive", "--reason", "unknown_type", "--rerun"]).await;
    assert_eq!(lines, [json!({ "sequence": 1, "redriven": true, "error": null })]);
    mill.delivered(1..=1).await;
    mill.holds("HOOKMILL_DLQ", 0).await;
}
