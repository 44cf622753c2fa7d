//! A running engine follows what a moving reference means; what fails changes nothing and is said.

use std::time::Duration;

use bytes::Bytes;
use hookmill::nats::modules::ModulesError;
use hookmill_tests::stamp::{Stamp, stamp};
use hookmill_tests::{Endpoint, NatsServer, PipelineFolder, behaviour, eventually, hookmill};
use serde_json::json;

use super::support::{name, open, pipeline, put, runs, stamped, uses, version};
use crate::scene::{SOON, Scene, good, messages_in, retry};

/// A server with `stamp` 1.0.0 and an engine that runs `reference`.
async fn scene(endpoint: &Endpoint, reference: &str, more: &str) -> Scene {
    let server = NatsServer::start().await;
    put(&open(&server).await, "stamp", "1.0.0", stamp("one")).await;
    Scene::open(server, PipelineFolder::with("p", &pipeline(endpoint, reference, more))).await
}

async fn swaps(scene: &Scene, result: &str) -> f64 {
    let result = format!("result=\"{result}\"");
    let labels = ["pipeline=\"p\"", "subscription=\"shop\"", "step=\"0\"", result.as_str()];
    scene.engine.metric("hookmill_module_swaps_total", &labels).await
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_followed_and_a_yank_rolls_back() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = scene(&endpoint, "stamp@1.0", "").await;
    let modules = open(&scene.server).await;
    assert_eq!(stamped(&scene, &endpoint, "a").await, "one");
    // None of these is a 1.0.x that was released.
    put(&modules, "stamp", "1.1.0", stamp("minor")).await;
    put(&modules, "stamp", "1.0.2-rc.1", stamp("candidate")).await;
    put(&modules, "other", "1.0.9", stamp("other")).await;
    put(&modules, "stamp", "1.0.1", stamp("two")).await;
    runs(&scene.server, "1.0.1", None).await;
    assert_eq!(stamped(&scene, &endpoint, "b").await, "two");

    modules.yank(&name("stamp"), &version("1.0.1"), "it loses money").await.expect("it is there");
    runs(&scene.server, "1.0.0", None).await;
    assert_eq!(stamped(&scene, &endpoint, "c").await, "one");
    // Forward again with the same bytes: only the version is another one.
    put(&modules, "stamp", "1.0.2", stamp("one")).await;
    runs(&scene.server, "1.0.2", None).await;
    assert_eq!(stamped(&scene, &endpoint, "d").await, "one");
    assert!((swaps(&scene, "swapped").await - 3.0).abs() < 0.5);

    let status = hookmill(&["status", "--nats", &scene.server.url()]).await;
    assert!(status.stdout.contains("p/shop  0     stamp@1.0  1.0.2    "), "{}", status.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_leaves_the_old_one_in_place_and_is_said() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = scene(&endpoint, "stamp@1", "").await;
    let modules = open(&scene.server).await;
    let cases = [
        ("1.1.0", Bytes::from_static(b"no module at all"), "invalid", "is no WebAssembly"),
        (
            "1.2.0",
            Stamp { refuses: true, ..Stamp::fine() }.module().into(),
            "refused",
            "module stamp refuses its settings: no",
        ),
        (
            "1.3.0",
            with_sample(Stamp { traps: true, ..Stamp::fine() }).into(),
            "sample",
            "fails its own sample \"order\": it ends as \"trap\"",
        ),
    ];
    for (at, bytes, result, said) in cases {
        put(&modules, "stamp", at, bytes).await;
        runs(&scene.server, "1.0.0", Some(&format!("stamp@{at} is not used: "))).await;
        runs(&scene.server, "1.0.0", Some(said)).await;
        assert!(swaps(&scene, result).await > 0.5, "{result}");
        let logged = |line: &hookmill_tests::engine::LogLine| {
            let error = line.field("error").and_then(serde_json::Value::as_str).unwrap_or_default();
            line.message().starts_with("a module is not swapped") && error.contains(said)
        };
        scene.engine.wait_for_line("the reason in the log", SOON, logged).await;
        assert_eq!(stamped(&scene, &endpoint, at).await, "one");
    }
    put(&modules, "stamp", "1.4.0", stamp("four")).await;
    runs(&scene.server, "1.4.0", None).await;
    modules.yank(&name("stamp"), &version("1.4.0"), "x").await.expect("it is there");
    // Down past those that were refused.
    runs(&scene.server, "1.0.0", Some("stamp@1.3.0 is not used")).await;
    put(&modules, "stamp", "1.5.0", with_sample(Stamp::fine())).await;
    runs(&scene.server, "1.5.0", None).await;
    assert_eq!(stamped(&scene, &endpoint, "last").await, "fine");
    assert!((swaps(&scene, "swapped").await - 3.0).abs() < 0.5);
}

/// The guest with a sample in its metadata: an event that it has to pass on with its stamp.
fn with_sample(guest: Stamp<'_>) -> Vec<u8> {
    let event = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "t" });
    let expect = json!({ "replace": {}, "headers": { "x-version": guest.version } });
    let metadata = json!({ "samples": [{ "name": "order", "event": event, "expect": expect }] }).to_string();
    let mut module = guest.module();
    // A custom section: id 0, size, length of its name, name, content.
    let name = b"hookmill:metadata";
    module.push(0);
    leb(&mut module, 1 + name.len() + metadata.len());
    module.push(u8::try_from(name.len()).expect("short"));
    module.extend_from_slice(name);
    module.extend_from_slice(metadata.as_bytes());
    module
}

/// An unsigned number as WebAssembly writes it.
fn leb(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_runs_ends_with_the_module_that_it_began_with() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = scene(&endpoint, "stamp@1", "timeout = \"30s\"").await;
    let modules = open(&scene.server).await;
    put(&modules, "stamp", "1.1.0", Stamp { version: "slow", seconds: 10, ..Stamp::fine() }.module()).await;
    runs(&scene.server, "1.1.0", None).await;
    scene.publish([good("slow")]).await;
    eventually(SOON, "the slow call has its lease", || async {
        let leases = messages_in(&scene.jetstream, "HOOKMILL_RETRIES").await;
        if leases == 1 { Ok(()) } else { Err(leases.to_string()) }
    })
    .await;
    put(&modules, "stamp", "1.2.0", stamp("quick")).await;
    runs(&scene.server, "1.2.0", None).await;
    assert_eq!(endpoint.log().received(), 0, "the slow one is still at work");
    assert_eq!(stamped(&scene, &endpoint, "quick").await, "quick");
    endpoint.wait_for_delivered(2, SOON).await;
    assert_eq!(endpoint.requests()[1].header("x-version"), "slow");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_task_goes_on_after_a_swap_and_remembers_who_worked_on_it() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    let first = put(&modules, "stamp", "1.0.0", stamp("one")).await;
    let broken = put(&modules, "trap", "1.0.0", Stamp { seconds: 60, ..Stamp::fine() }.module()).await;
    let text = pipeline(&endpoint, "stamp@1", "")
        + "[[subscription.step]]\ntransform = \"trap@1\"\ntimeout = \"200ms\"\n"
        + &retry(&["1s", "1s", "1s", "1s", "1s", "1s", "1s", "1s", "1s", "1s"], "");
    let scene = Scene::open(server, PipelineFolder::with("p", &text)).await;
    scene.publish([good("a")]).await;
    // The second step is never done in time, so it is tried again from there.
    let failures = ["step=\"1\""];
    eventually(SOON, "the second step has failed", || async {
        let failed = scene.engine.metric("hookmill_step_failures_total", &failures).await;
        if failed > 0.5 { Ok(()) } else { Err(failed.to_string()) }
    })
    .await;
    put(&modules, "trap", "1.1.0", Stamp { traps: true, ..Stamp::fine() }.module()).await;
    let letters = scene.letters(1).await;
    assert_eq!((letters[0].reason(), letters[0].text("resume")), ("rejected", "step/1"), "{letters:?}");
    let modules = letters[0].0["modules"].as_array().expect("a list").clone();
    let digest = hookmill::model::Digest::of(&Stamp { traps: true, ..Stamp::fine() }.module());
    let expected = [
        format!("stamp@1.0.0@{}", first.digest),
        format!("trap@1.0.0@{}", broken.digest),
        format!("trap@1.1.0@{digest}"),
    ];
    assert_eq!(modules, expected);
    assert_eq!(letters[0].header("Hookmill-Modules"), Some(expected.join(",").as_str()));
    let logged = |line: &hookmill_tests::engine::LogLine| line.message() == "dead-lettered";
    let line = scene.engine.wait_for_line("the dead letter in the log", SOON, logged).await;
    assert_eq!(line.field("modules"), Some(&json!(expected.join(","))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_goes_on_while_its_registry_is_away_and_catches_up() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let mut scene = scene(&endpoint, "stamp@1", "").await;
    assert_eq!(stamped(&scene, &endpoint, "a").await, "one");
    scene.server.restart().await;
    let modules = open(&scene.server).await;
    put(&modules, "stamp", "1.1.0", stamp("two")).await;
    runs(&scene.server, "1.1.0", None).await;
    assert_eq!(stamped(&scene, &endpoint, "b").await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_in_use_is_not_deleted_until_its_engine_is_gone() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = scene(&endpoint, "stamp@1", "").await;
    let modules = open(&scene.server).await;
    let one = version("1.0.0");
    let error = modules.delete(&name("stamp"), &one).await.expect_err("it is used");
    let engine = uses(&scene.server).await[0]["engine"].as_str().expect("an id").to_owned();
    assert!(
        error
            .to_string()
            .starts_with(&format!("it is in use by p/shop step 0 (stamp@1) in engine {engine}; ")),
        "{error}"
    );
    assert!(matches!(error, ModulesError::InUse(_)));
    put(&modules, "stamp", "1.1.0", stamp("two")).await;
    runs(&scene.server, "1.1.0", None).await;
    modules.delete(&name("stamp"), &one).await.expect("nobody uses it any more");

    assert_eq!(scene.engine.terminate().await, 0);
    modules.delete(&name("stamp"), &version("1.1.0")).await.expect("nobody runs any more");
    assert_eq!(modules.names().await.expect("they can be listed"), []);
}

/// Somebody with access to the bucket can still take a module away.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_that_means_nothing_any_more_is_said_and_what_runs_goes_on() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = scene(&endpoint, "stamp@1.0.0", "").await;
    let bucket = scene.jetstream.get_key_value("HOOKMILL_REGISTRY").await.expect("it is there");
    bucket.purge("module.stamp.1.0.0").await.expect("anybody with access can");
    runs(&scene.server, "1.0.0", Some("could not start again")).await;
    assert_eq!(stamped(&scene, &endpoint, "a").await, "one");
    assert!(swaps(&scene, "unresolved").await > 0.5);
    put(&open(&scene.server).await, "stamp", "1.0.0", stamp("one")).await;
    runs(&scene.server, "1.0.0", None).await;
}

/// An engine that is killed leaves its signs behind, and they are not believed for ever.
#[tokio::test(flavor = "multi_thread")]
async fn the_signs_of_an_engine_that_was_killed_are_said_with_their_age() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = scene(&endpoint, "stamp@1", "").await;
    scene.engine.kill().await;
    let said = hookmill(&["status", "--json", "--nats", &scene.server.url()]).await;
    let engine: serde_json::Value =
        serde_json::from_str(said.stdout.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&engine["kind"], &engine["pipeline"]), (&json!("engine"), &json!("p")));
    assert!(engine["renewed_seconds_ago"].as_u64().expect("a number") < Duration::from_secs(60).as_secs());
    let error = open(&scene.server).await.delete(&name("stamp"), &version("1.0.0")).await;
    assert!(matches!(error, Err(ModulesError::InUse(_))), "it may only be slow");
}
