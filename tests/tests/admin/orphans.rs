//! What a lane holds whose subscription is gone, moved over the API; and dead letters with their original event.

use std::collections::HashSet;

use hookmill_tests::behaviour;
use serde_json::{Value, json};

use super::support::{ADMIN, Ask, Problems, Site, TOKENS};
use crate::dlq::stock::{old_ids, put_tasks, put_waits};
use crate::mill::{LATER, Mill};

async fn post(site: &Site, path: &str, body: &'static str) -> hookmill_tests::http::Answer {
    let ask = Ask::new("POST", path).token(ADMIN);
    site.ask(if body.is_empty() { ask } else { ask.body("application/json", body) }).await
}

/// Tasks of `old/hook`, of which no engine has ever heard: three in the lane, two that wait.
async fn orphaned() -> Site {
    let site = Site::start(TOKENS).await;
    put_tasks(&site.mill, "hookmill.lane.old.hook", 1..=3).await;
    put_waits(&site.mill, 4..=5).await;
    site
}

async fn delivered(site: &Site, ids: &HashSet<String>) {
    site.mill.endpoint.wait_for("all are delivered", LATER, |log| log.delivered() == ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaned_lane_is_adopted() {
    let site = orphaned().await;
    let path = "/v1/lanes/old/hook/adopt";
    let moves = |moved: u64, dry_run: bool| json!({ "moved": moved, "stays": 0, "problem": null, "done": true, "dry_run": dry_run });
    let dry = post(&site, path, r#"{"into":"orders/hook","dry_run":true}"#).await.good(200);
    assert_eq!(dry, moves(5, true));
    site.mill.holds("HOOKMILL_LANES", 3).await;
    assert_eq!(post(&site, path, r#"{"into":"orders/hook"}"#).await.good(200), moves(5, false));
    delivered(&site, &old_ids(1..=5)).await;
    assert_eq!(post(&site, path, r#"{"into":"orders/hook"}"#).await.good(200), moves(0, false));
    for (path, body) in [
        (path, ""),
        (path, r#"{"into":"orders"}"#),
        (path, r#"{"into":"orders/hook","to":1}"#),
        ("/v1/lanes/old/Hook/adopt", r#"{"into":"orders/hook"}"#),
        ("/v1/lanes/old/Hook/dead-letter", ""),
        ("/v1/lanes/old/hook/dead-letter", r#"{"into":"orders/hook"}"#),
    ] {
        post(&site, path, body).await.problem(400, "E208");
    }
    let refused =
        post(&site, "/v1/lanes/orders/hook/adopt", r#"{"into":"orders/hook"}"#).await.problem(409, "E222");
    let detail = refused["detail"].as_str().expect("text");
    assert!(detail.starts_with("lane orders/hook is no orphan: the file in force (revision "), "{detail}");
    post(&site, path, r#"{"into":"orders/none"}"#).await.problem(409, "E222");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaned_lane_is_moved_to_the_dead_letters_and_from_there_redriven() {
    let site = orphaned().await;
    let path = "/v1/lanes/old/hook/dead-letter";
    let dry = post(&site, path, r#"{"dry_run":true}"#).await.good(200);
    assert_eq!((&dry["moved"], &dry["dry_run"]), (&json!(5), &json!(true)));
    site.mill.holds("HOOKMILL_DLQ", 0).await;
    assert_eq!(post(&site, path, "").await.good(200)["moved"], 5);
    for (stream, count) in [("HOOKMILL_LANES", 0), ("HOOKMILL_RETRIES", 0), ("HOOKMILL_DLQ", 5)] {
        site.mill.holds(stream, count).await;
    }
    let listed = site.get("/v1/dlq?reason=config&subscription=hook").await.good(200);
    assert_eq!(listed["letters"].as_array().map(Vec::len), Some(5));
    // Its subscription is still gone: it waits in its lane again.
    post(&site, "/v1/dlq/1/redrive", "").await.good(200);
    assert_eq!(
        post(&site, "/v1/lanes/old/hook/adopt", r#"{"into":"orders/hook"}"#).await.good(200)["moved"],
        1
    );
    site.mill.endpoint.wait_for_delivered(1, LATER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_redriven_with_its_original_event_as_long_as_that_is_there() {
    let give_up = "[subscription.retry]\ngive_up_on = [400]";
    let site = Site::of(Mill::new(behaviour::always(400), "", give_up).await, TOKENS).await;
    site.mill.publish(1..=2).await;
    site.mill.holds("HOOKMILL_DLQ", 2).await;
    site.mill.endpoint.behave(behaviour::always(200));
    let events = site.mill.jetstream.get_stream("HOOKMILL_EVENTS").await.expect("it is there");
    let letters = site.get("/v1/dlq").await.good(200);
    let sequence_of = |event: u64| {
        let letters = letters["letters"].as_array().expect("a list");
        let of = |letter: &&Value| letter["source"]["sequence"] == event;
        letters.iter().find(of).expect("it is there")["sequence"].as_u64().expect("a number")
    };
    events.delete_message(2).await.expect("it is deleted");
    let path = |event| format!("/v1/dlq/{}/redrive?rerun=true", sequence_of(event));
    post(&site, &path(1), "").await.good(200);
    site.mill.delivered(1..=1).await;
    let aged = post(&site, &path(2), "").await.problem(409, "E220");
    assert!(
        aged["detail"].as_str().is_some_and(|text| text.contains("not in HOOKMILL_EVENTS any more")),
        "{aged}"
    );
    post(&site, "/v1/dlq/1/redrive?again=1", "").await.problem(400, "E208");
}
