//! When a failed delivery is tried again, and which bound ends it.

use std::time::{Duration, Instant};

use hookmill_tests::engine::LogLine;
use hookmill_tests::{Endpoint, behaviour, eventually, hookmill};

use crate::scene::{SOON, Scene, good, messages_in, retry, webhook};

/// Runs `hookmill lane <command>` for the lane `p/all`.
pub async fn lane_command(scene: &Scene, command: &str) {
    let said = hookmill(&["lane", command, "p/all", "--nats", &scene.server.url()]).await;
    assert_eq!(said.code, 0, "{said:?}");
}

/// Waits until the lanes hold `count` tasks.
pub async fn lanes_hold(scene: &Scene, count: u64) {
    eventually(SOON, &format!("{count} tasks in lanes"), || async {
        let held = messages_in(&scene.jetstream, "HOOKMILL_LANES").await;
        if held == count { Ok(()) } else { Err(format!("{held} in lanes")) }
    })
    .await;
}

#[tokio::test]
async fn the_greatest_age_ends_a_schedule_that_has_attempts_left() {
    let endpoint = Endpoint::start(behaviour::always(503)).await;
    let scene =
        Scene::start(&(webhook("all", &endpoint.url(), "") + &retry(&["700ms"; 50], "max_age = \"2s\"")))
            .await;
    scene.publish([good("1")]).await;
    let letters = scene.letters(1).await;
    let [letter] = letters.as_slice() else { panic!("one letter") };
    assert_eq!(letter.reason(), "exhausted");
    assert!(
        letter.error().contains("later than `max_age` (2s)") && letter.error().ends_with("answered 503"),
        "{}",
        letter.error()
    );
    // At 0, 0.7 and 1.4 s; the next would be at 2.1 s. On a busy machine the server fires later, and there are fewer.
    let attempts = letter.number("attempts");
    assert!((1..=3).contains(&attempts), "{attempts} attempts");
    assert_eq!(endpoint.received() as u64, attempts);
    scene.quiet().await;
}

#[tokio::test]
async fn what_a_paused_lane_holds_is_not_attempted_and_delivered_when_it_is_resumed_however_old_it_is() {
    let endpoint = Endpoint::start(behaviour::always(503)).await;
    let pipeline = webhook("all", &endpoint.url(), "") + &retry(&["500ms"; 3], "max_age = \"1s\"");
    let scene = Scene::start(&pipeline).await;
    scene.publish([good("1")]).await;
    endpoint.wait_for("its first attempt", SOON, |log| log.received() >= 1).await;
    lane_command(&scene, "pause").await;
    // The retry falls due meanwhile and is stored in the lane.
    lanes_hold(&scene, 1).await;
    let paused = endpoint.received();
    let first = Instant::now();
    eventually(SOON, "it is older than max_age", || async {
        if first.elapsed() > Duration::from_secs(2) { Ok(()) } else { Err(format!("{:?}", first.elapsed())) }
    })
    .await;
    assert_eq!((endpoint.received(), messages_in(&scene.jetstream, "HOOKMILL_DLQ").await), (paused, 0));
    endpoint.behave(behaviour::always(200));
    lane_command(&scene, "resume").await;
    endpoint.wait_for_delivered(1, SOON).await;
    scene.quiet().await;
    lanes_hold(&scene, 0).await;
    assert_eq!((endpoint.received(), messages_in(&scene.jetstream, "HOOKMILL_DLQ").await), (paused + 1, 0));
}

#[tokio::test]
async fn the_greatest_age_ends_what_waits_in_a_lane_that_is_open() {
    let endpoint = Endpoint::start(behaviour::always(503)).await;
    let circuit =
        "[subscription.circuit]\nfailures = 3\nfor = \"100ms\"\nprobe = \"1h\"\nprobe_max = \"1h\"\n";
    let retries = retry(&["200ms", "200ms", "1h"], "max_age = \"3s\"");
    let scene = Scene::start(&(webhook("all", &endpoint.url(), "") + &retries + circuit)).await;
    scene.publish([good("opens")]).await;
    let opened = |line: &LogLine| line.message().starts_with("circuit opened");
    scene.engine.wait_for_line("the circuit opens", SOON, opened).await;
    let before = endpoint.received();
    scene.publish((0..5).map(|number| good(&number.to_string()))).await;
    let letters = scene.letters(6).await;
    let in_lane = letters.iter().filter(|letter| letter.error().contains("ran out in the lane")).count();
    assert!(in_lane >= 5 && letters.iter().all(|letter| letter.reason() == "exhausted"), "{letters:#?}");
    assert_eq!(endpoint.received(), before, "nobody probed");
}

#[tokio::test]
async fn a_status_that_is_not_named_ends_at_once_and_a_broken_connection_never_does() {
    let endpoint = Endpoint::start(behaviour::always(503)).await;
    let pipeline = webhook("all", &endpoint.url(), "") + &retry(&["100ms"; 30], "retry_on = [503]");
    let scene = Scene::start(&pipeline).await;
    scene.publish([good("1")]).await;
    endpoint.wait_for("the status that is named is tried again", SOON, |log| log.received() >= 2).await;
    endpoint.behave(behaviour::close_mid_response());
    let before = endpoint.received();
    endpoint.wait_for("what breaks is tried again", SOON, |log| log.received() >= before + 2).await;
    endpoint.behave(behaviour::always(500));
    let letters = scene.letters(1).await;
    let [letter] = letters.as_slice() else { panic!("one letter") };
    let end = (letter.reason(), letter.number("status"), letter.error());
    assert_eq!(end, ("given_up", 500, "the endpoint answered 500, which `retry_on` doesn't name"));
    let answered_500 = endpoint.received();
    scene.quiet().await;
    assert_eq!(endpoint.received(), answered_500);
}

#[tokio::test]
async fn an_endpoint_that_is_broken_altogether_opens_its_circuit_though_nothing_is_tried_again() {
    let endpoint = Endpoint::start(behaviour::always(500)).await;
    let circuit = "[subscription.circuit]\nfailures = 3\nfor = \"1ms\"\nprobe = \"1h\"\nprobe_max = \"1h\"\n";
    let pipeline = webhook("all", &endpoint.url(), "concurrency = 1") + &retry(&["1h"], "retry_on = [503]");
    let scene = Scene::start(&(pipeline + circuit)).await;
    scene.publish((0..20).map(|number| good(&number.to_string()))).await;
    let opened = |line: &LogLine| line.message().starts_with("circuit opened");
    scene.engine.wait_for_line("the circuit opens", SOON, opened).await;
    let attempts = endpoint.received() as u64;
    lanes_hold(&scene, 20 - attempts).await;
    scene.letters(attempts).await;

    // An answer of 4xx is the endpoint's own word on the event.
    let judge = Endpoint::start(behaviour::always(404)).await;
    let pipeline = webhook("all", &judge.url(), "concurrency = 1") + &retry(&["1h"], "retry_on = [503]");
    let scene = Scene::start(&(pipeline + circuit)).await;
    scene.publish((0..20).map(|number| good(&number.to_string()))).await;
    scene.letters(20).await;
    assert_eq!(judge.received(), 20);
}
