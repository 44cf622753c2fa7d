//! `hookmill trace`: where an event is, read from the streams.

mod truth;

use hookmill_tests::engine::Said;
use hookmill_tests::{Endpoint, behaviour, eventually, hookmill};
use serde_json::{Value, json};

use crate::retries::lane_command;
use crate::scene::{SOON, Scene, folder_with_modules, good, retry, step, webhook};

async fn said(scene: &Scene, arguments: &[&str]) -> Said {
    hookmill(&[&["trace"], arguments, &["--nats", &scene.server.url()]].concat()).await
}

/// The places of an event that are of this kind.
async fn places(scene: &Scene, arguments: &[&str], kind: &str) -> Vec<Value> {
    let said = said(scene, &[arguments, &["--json"]].concat()).await;
    let lines = said.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["kind"] == kind).collect()
}

/// Waits until the event is in one place of this kind that fits.
async fn place(scene: &Scene, id: &str, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(SOON, &format!("{id} is a {kind}"), || async {
        let mut found = places(scene, &[id], kind).await;
        found.retain(&fits);
        if found.len() == 1 { Ok(found.remove(0)) } else { Err(format!("{found:?}")) }
    })
    .await
}

#[tokio::test]
async fn an_event_is_found_wherever_it_waits_with_its_attempts_and_modules() {
    let endpoint = Endpoint::start(behaviour::always(503)).await;
    let refusing = Endpoint::start(behaviour::always(400)).await;
    let waits = webhook("all", &endpoint.url(), "")
        + &retry(&["1h"], "")
        + &step("redact", "remove = [\"/email\"]", "");
    let dies = webhook("dies", &refusing.url(), "") + &retry(&["1h"], "give_up_on = [400]");
    let server = hookmill_tests::NatsServer::start().await;
    let scene = Scene::open(server, folder_with_modules(&(waits + &dies))).await;
    scene.publish([good("one")]).await;

    let wait = place(&scene, "one", "wait", |_| true).await;
    assert_eq!((&wait["pipeline"], &wait["subscription"]), (&json!("p"), &json!("all")));
    assert_eq!(
        (&wait["attempts"], &wait["status"], &wait["resume"]),
        (&json!(1), &json!(503), &json!("deliver"))
    );
    assert_eq!(wait["last_error"], "the endpoint answered 503");
    assert_eq!(
        wait["event"],
        json!({ "id": "one", "source": "/tests", "type": "good", "unverified": false })
    );
    assert!(wait["until"].as_str() > wait["since"].as_str(), "{wait}");
    let digest = wait["modules"][0].as_str().and_then(|module| module.strip_prefix("redact@sha256:"));
    assert_eq!(digest.map(str::len), Some(64), "{wait}");

    let letter = place(&scene, "one", "dead_letter", |_| true).await;
    assert_eq!((&letter["subscription"], &letter["state"]), (&json!("dies"), &json!("given_up")));
    assert_eq!(letter["status"], 400);
    let source = place(&scene, "one", "source", |place| place["state"] == "settled").await;
    assert_eq!((&source["pipeline"], &source["sequence"]), (&json!("p"), &json!(1)));

    lane_command(&scene, "pause").await;
    let paused = |place: &Value| place["state"] == "paused: paused by hand";
    scene.publish([good("two")]).await;
    let lane = place(&scene, "two", "lane", paused).await;
    assert_eq!((&lane["stream"], &lane["attempts"]), (&json!("HOOKMILL_LANES"), &json!(0)));

    scene.engine.terminate().await;
    scene.publish([good("three")]).await;
    place(&scene, "three", "source", |place| place["state"] == "pending").await;

    // The source is looked at where a task came from, however far back that is.
    let found = places(&scene, &["one", "--since", "0s"], "source").await;
    assert_eq!(found.len(), 1, "{found:?}");
    let text = said(&scene, &["one"]).await;
    assert_eq!(text.code, 0, "{text:?}");
    for part in ["one of /tests (good)", "p/all", "503", "redact@sha256:", "given_up; redrive or discard it"]
    {
        assert!(text.stdout.contains(part), "{part:?} in {text:?}");
    }
}

#[tokio::test]
async fn what_has_ended_says_so_and_what_is_not_there_is_an_error_with_a_way_on() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = Scene::start(&webhook("all", &endpoint.url(), "")).await;
    let other = good("one").payload;
    let other = String::from_utf8(other.to_vec()).expect("text").replace("/tests", "/others");
    scene.publish([good("one"), hookmill_tests::events::structured_message(other)]).await;
    endpoint.wait_for_delivered(2, SOON).await;
    let settled = async || {
        let found = places(&scene, &["one"], "source").await;
        let all = found.iter().all(|place| place["state"] == "settled");
        if all && found.len() == 2 { Ok(()) } else { Err(format!("{found:?}")) }
    };
    eventually(SOON, "both are settled", settled).await;
    let text = said(&scene, &["one", "--source", "/others"]).await;
    assert!(text.stdout.starts_with("one of /others (good)\n"), "{text:?}");
    assert!(text.stdout.contains("nothing is left to do"), "{text:?}");
    assert!(!text.stdout.contains("/tests"), "{text:?}");

    let missing = said(&scene, &["none"]).await;
    assert_eq!(missing.code, 1, "{missing:?}");
    for part in ["no event with the id \"none\"", "HOOKMILL_EVENTS from 1 on", "hint: "] {
        assert!(missing.stderr.contains(part), "{part:?} in {missing:?}");
    }
    let passed = said(&scene, &["one", "--since", "0s"]).await;
    assert_eq!(passed.code, 1, "settled, and further back than was looked: {passed:?}");
    assert!(passed.stderr.contains("it may lie further back than 0s: --since looks there"), "{passed:?}");
}
