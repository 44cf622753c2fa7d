//! Letters of a pipeline as a whole: whose they are, and what a redrive under other rules makes of them.

use hookmill::model::{DeliveryId, Name, SplitPath};
use hookmill_tests::events::{Message, structured_message};
use hookmill_tests::{Endpoint, NatsServer, PipelineFolder, behaviour, eventually, hookmill};
use serde_json::Value;

use nix::sys::signal::Signal;

use super::{dlq, message};
use crate::scene::{SOON, Scene, good, messages_in, webhook};

fn pipeline(endpoint: &Endpoint, reading: &str) -> String {
    format!("[source]\nreading = \"{reading}\"\n{}", webhook("all", &endpoint.url(), ""))
}

/// The sequences that a list shows.
async fn listed(scene: &Scene, filters: &[&str]) -> Vec<u64> {
    let said = dlq(scene, &[&["list", "--json"], filters].concat()).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    let lines = said.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let sequences = lines.map(|line| line["source"]["sequence"].as_u64().expect("a number"));
    let mut sequences: Vec<u64> = sequences.collect();
    sequences.sort_unstable();
    sequences
}

async fn trace(scene: &Scene, id: &str) -> String {
    let said = hookmill(&["trace", id, "--nats", &scene.server.url()]).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    said.stdout
}

#[tokio::test]
async fn letters_are_found_by_what_they_say_and_read_again_under_newer_rules() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let folder = PipelineFolder::with("p", &pipeline(&endpoint, "strict"));
    let mut scene = Scene::open(NatsServer::start().await, folder).await;
    let escapes = r#"{"specversion":"1.0","id":"\u001b[31mred","source":"/s"}"#;
    let sent: [Message; 4] = [
        message("azure-eventgrid-dataschema-hash"),
        message("falco-go-sdk-old"),
        good("fine"),
        structured_message(escapes).on("events.odd"),
    ];
    scene.publish(sent).await;
    endpoint.wait_for_delivered(1, SOON).await;
    scene.letters(3).await;

    assert_eq!(listed(&scene, &["--event", "azure-1"]).await, [1]);
    assert_eq!(listed(&scene, &["--source", "https://falco.org"]).await, [2]);
    assert_eq!(listed(&scene, &["--type", "falco.rule.output.v1", "--reason", "not_cloudevent"]).await, [2]);
    assert_eq!(listed(&scene, &["--subject", "events.falco-go-sdk-old"]).await, [2]);
    assert_eq!(listed(&scene, &["--subject", "events.>"]).await, [1, 2, 4]);
    assert_eq!(listed(&scene, &["--subject", "other.>"]).await, [0_u64; 0]);
    let said = dlq(&scene, &["list"]).await.stdout;
    assert!(said.contains("azure-1? on events.azure-eventgrid-dataschema-hash"), "{said}");
    assert!(
        said.contains("\\u{1b}[31mred?") && !said.contains('\u{1b}'),
        "nothing moves the cursor: {said:?}"
    );
    let said = trace(&scene, "falco-1").await;
    assert!(
        said.contains(
            "falco-1 of https://falco.org (falco.rule.output.v1), says a message that can't be read"
        ),
        "{said}"
    );
    assert!(
        said.contains("HOOKMILL_EVENTS 2") && said.contains("not_cloudevent; redrive or discard it"),
        "{said}"
    );
    let said = trace(&scene, "azure-1").await;
    assert!(
        said.contains(
            "p reads strictly now, and refuses what the tolerant reading mends: dataschema_relative"
        ),
        "{said}"
    );
    let log = scene.engine.lines();
    assert!(!log.iter().any(|line| line.text.contains("azure-1") || line.text.contains("falco.org")));

    let looked = dlq(&scene, &["redrive", "--reason", "not_cloudevent", "--dry-run"]).await;
    let expected = "of those that were no events, 0 would now be read as such, 3 would not";
    assert!(looked.stderr.contains(expected), "{}", looked.stderr);

    scene.folder.write("p.toml", pipeline(&endpoint, "tolerant"));
    scene.engine.signal(Signal::SIGHUP);
    eventually(SOON, "the new reading is known", || async {
        let looked = dlq(&scene, &["redrive", "--reason", "not_cloudevent", "--dry-run"]).await;
        let expected = "of those that were no events, 1 would now be read as such, 2 would not";
        if looked.stderr.contains(expected) { Ok(()) } else { Err(looked.stderr) }
    })
    .await;
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_DLQ").await, 3, "nothing was done");
    assert_eq!(dlq(&scene, &["redrive", "--reason", "not_cloudevent"]).await.code, 0);
    endpoint.wait_for_delivered(2, SOON).await;
    scene.letters(2).await;
    let request =
        endpoint.requests().into_iter().find(|request| request.json()["id"] == "azure-1").expect("sent");
    let (pipeline_name, source) = (Name::new("p").unwrap(), request.json()["source"].clone());
    let source = source.as_str().expect("a text");
    let own = DeliveryId::derive(source, "azure-1", &pipeline_name, "all", &SplitPath::root());
    assert_eq!(request.webhook_id, own.as_str(), "the id of an event that is read at first");
    assert!(request.json().get("dataschema").is_none());
    let said = trace(&scene, "azure-1").await;
    assert!(said.contains("p mends it: dataschema_relative; docs/your-publisher.md says how"), "{said}");

    // An engine of an earlier version says nothing of its reading.
    scene.engine.terminate().await;
    scene.folder.write("p.toml", pipeline(&endpoint, "strict"));
    scene.engine.restart().await;
    scene.publish([message("keycloak-camel")]).await;
    scene.letters(3).await;
    scene.engine.terminate().await;
    let bucket = scene.jetstream.get_key_value("HOOKMILL_REGISTRY").await.expect("it is there");
    let record = bucket.get("revision.p").await.expect("it can be read").expect("it is there");
    let mut record: Value = serde_json::from_slice(&record).expect("JSON");
    assert_eq!(record.as_object_mut().expect("an object").remove("reading"), Some("strict".into()));
    bucket.put("revision.p", record.to_string().into()).await.expect("it can be written");
    let looked = dlq(&scene, &["redrive", "--all", "--dry-run"]).await.stderr;
    assert!(looked.contains("0 would now be read as such, 2 would not"), "{looked}");
    assert!(looked.contains("1 depend on how their pipeline reads, which is not known"), "{looked}");
}
