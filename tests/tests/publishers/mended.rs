//! Events with breaches on their way: stored, tried again, transformed, and taken from their source once more.

use hookmill_tests::{Endpoint, NatsServer, Reply, behaviour, eventually};

use nix::sys::signal::Signal;

use super::message;
use crate::scene::{SOON, Scene, folder_with_modules, messages_in, retry, step, webhook};

const FRAGMENT: &str = "wire-028-events_java_schemafrag-s";

#[tokio::test]
async fn an_event_whose_schema_has_a_fragment_is_stored_retried_and_transformed() {
    let endpoint = Endpoint::start(behaviour::custom(|request| {
        Reply::Status(if request.attempt < 3 { 503 } else { 200 })
    }))
    .await;
    let url = |path: &str| endpoint.url().replace("/hooks", path);
    let often = retry(&["1s", "1s", "1s"], "");
    let set = "mode = \"bad_attribute\", name = \"added\", value = \"new\"";
    let pipeline = [
        webhook("plain", &url("/plain"), "") + &often,
        webhook("binary", &url("/binary"), "format = \"binary\"") + &often,
        webhook("changed", &url("/changed"), "") + &often + &step("hostile", set, ""),
    ];
    let scene = Scene::open(NatsServer::start().await, folder_with_modules(&pipeline.concat())).await;
    let sent = message(FRAGMENT);
    scene.publish([sent.clone()]).await;
    endpoint.wait_for_delivered(3, SOON).await;
    scene.quiet().await;
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_DLQ").await, 0);
    let schema = "https://example.com/s.json#/defs/Order";
    for request in endpoint.requests() {
        match request.target.as_str() {
            "/plain" => assert_eq!(request.body, sent.payload, "byte for byte"),
            "/binary" => assert_eq!(request.header("ce-dataschema"), schema),
            _ => {
                assert_eq!(request.json()["dataschema"], schema);
                assert_eq!(request.json()["added"], "new");
            }
        }
    }
    assert_eq!(endpoint.received(), 9, "each was tried three times");
}

/// The step behind which a task waits is changed: its event is read from the source anew, as its pipeline reads.
#[tokio::test]
async fn an_event_that_begins_again_is_mended_again() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let pipeline = |second: &str| {
        webhook("all", &endpoint.url(), "")
            + &retry(&["2s", "2s", "2s", "2s"], "")
            + &step("hostile", "mode = \"keep\"", "")
            + &step("hostile", &format!("mode = \"{second}\""), "")
    };
    let scene = Scene::open(NatsServer::start().await, folder_with_modules(&pipeline("retry"))).await;
    scene.publish([message("keycloak-camel")]).await;
    eventually(SOON, "the event waits behind its first step", || async {
        let waiting = messages_in(&scene.jetstream, "HOOKMILL_RETRIES").await;
        if waiting > 0 { Ok(()) } else { Err("nothing waits".to_owned()) }
    })
    .await;
    scene.folder.write("p.toml", pipeline("keep"));
    scene.engine.signal(Signal::SIGHUP);
    endpoint.wait_for_delivered(1, SOON).await;
    let event = endpoint.requests()[0].json();
    assert_eq!((&event["datacontenttype"], event.get("dataContentType")), (&"application/json".into(), None));
    scene.quiet().await;
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_DLQ").await, 0);
}
