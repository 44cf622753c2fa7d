//! Dead letters and lanes over the API: the same as the commands show and do.

use hookmill_tests::{behaviour, events};
use serde_json::{Value, json};

use super::support::{ADMIN, Ask, Problems, Site, TOKENS};
use crate::mill::Mill;

const GIVE_UP: &str = "[subscription.retry]\ngive_up_on = [400]";

async fn three_letters() -> Site {
    let site = Site::of(Mill::new(behaviour::always(400), "", GIVE_UP).await, TOKENS).await;
    for number in 1..=3 {
        site.mill.publish(number..=number).await;
        site.mill.holds("HOOKMILL_DLQ", number as u64).await;
    }
    site
}

fn sequences(list: &Value) -> Vec<u64> {
    let letters = list["letters"].as_array().expect("a list");
    letters.iter().map(|letter| letter["sequence"].as_u64().expect("a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_page_by_page_as_the_command_lists_them() {
    let site = three_letters().await;
    events::publish_all(&site.mill.jetstream, [events::structured_message("no event")]).await;
    site.mill.holds("HOOKMILL_DLQ", 4).await;
    let listed = site.get("/v1/dlq").await.good(200);
    let command = site.mill.json(&["dlq", "list"]).await;
    assert_eq!((&listed["letters"], &listed["next"]), (&json!(command), &Value::Null));

    let (mut seen, mut after) = (Vec::new(), 0);
    loop {
        let page = site.get(&format!("/v1/dlq?limit=3&after={after}")).await.good(200);
        seen.extend(sequences(&page));
        let Some(next) = page["next"].as_u64() else { break };
        after = next;
    }
    assert_eq!(seen, [1, 2, 3, 4]);
    for (query, found) in [
        ("reason=given_up", &[1, 2, 3][..]),
        ("reason=not_cloudevent", &[4]),
        ("subscription=_", &[4]),
        ("subscription=hook&pipeline=orders", &[1, 2, 3]),
        ("pipeline=other", &[]),
        ("older_than=1h", &[]),
        ("older_than=1ms", &[1, 2, 3, 4]),
    ] {
        assert_eq!(sequences(&site.get(&format!("/v1/dlq?{query}")).await.good(200)), found, "{query}");
    }
    for bad in
        ["reason=bad_luck", "older_than=soon", "limit=0", "limit=1001", "pipline=x", "pipeline=*", "after=x"]
    {
        site.get(&format!("/v1/dlq?{bad}")).await.problem(400, "E208");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_shown_redriven_and_discarded() {
    let site = three_letters().await;
    let shown = site.get("/v1/dlq/2").await.good(200);
    assert_eq!(json!([shown]), json!(site.mill.json(&["dlq", "show", "2"]).await));
    site.get("/v1/dlq/two").await.problem(400, "E208");

    site.mill.endpoint.behave(behaviour::always(200));
    let post = async |path: &str| site.ask(Ask::new("POST", path).token(ADMIN)).await;
    assert_eq!(post("/v1/dlq/2/redrive").await.good(200), json!({ "sequence": 2, "redriven": true }));
    site.mill.delivered(2..=2).await;
    post("/v1/dlq/2/redrive").await.problem(404, "E219");
    let discarded = site.ask(Ask::new("DELETE", "/v1/dlq/3").token(ADMIN)).await;
    assert_eq!((discarded.status, discarded.body.len()), (204, 0));
    assert_eq!(sequences(&site.get("/v1/dlq").await.good(200)), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_whose_body_is_not_stored_can_not_be_redriven() {
    let site = Site::start(TOKENS).await;
    events::publish_all(&site.mill.jetstream, [events::structured_message("no event")]).await;
    site.mill.holds("HOOKMILL_DLQ", 1).await;
    // As an earlier version wrote it of what was too large: headers alone.
    let stream = site.mill.jetstream.get_stream("HOOKMILL_DLQ").await.expect("it is there");
    let letter = stream.get_raw_message(1).await.expect("it is there");
    let mut headers = async_nats::HeaderMap::new();
    for (name, values) in letter.headers.iter() {
        let name = name.to_string();
        if !name.starts_with("Hookmill-Source-Header-") {
            headers.insert(name.as_str(), values[0].as_str());
        }
    }
    let reference = site.mill.jetstream.publish_with_headers(letter.subject, headers, "".into()).await;
    reference.expect("it is sent").await.expect("it is stored");
    let ask = Ask::new("POST", "/v1/dlq/2/redrive").token(ADMIN);
    let problem = site.ask(ask).await.problem(409, "E220");
    assert_eq!(problem["hint"], "the event has to be published again");
    assert_eq!(sequences(&site.get("/v1/dlq").await.good(200)), [1, 2], "it stays where it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_is_paused_with_its_reason_and_resumed() {
    let site = Site::start(TOKENS).await;
    let post = async |path: &str, body: &'static str| {
        let ask = Ask::new("POST", path).token(ADMIN);
        site.ask(if body.is_empty() { ask } else { ask.body("application/json", body) }).await
    };
    let why = r#"{"why":"the endpoint moves house"}"#;
    let paused = post("/v1/lanes/orders/hook/pause", why).await.good(200);
    assert_eq!((&paused["state"], &paused["why"]), (&json!("paused"), &json!("the endpoint moves house")));
    site.mill.publish(1..=2).await;
    site.mill.holds("HOOKMILL_LANES", 2).await;
    let listed = site.get("/v1/lanes").await.good(200);
    let folder = site.mill.folder.path().to_str().expect("UTF-8").to_owned();
    assert_eq!(listed["lanes"], json!(site.mill.json(&["lane", "list", &folder]).await));
    assert_eq!(listed["lanes"][0]["backlog"], 2);
    let resumed = post("/v1/lanes/orders/hook/resume", "").await.good(200);
    assert_eq!(resumed["state"], "active");
    site.mill.delivered(1..=2).await;

    post("/v1/lanes/orders/none/pause", "").await.problem(404, "E221");
    post("/v1/lanes/none/hook/resume", "").await.problem(404, "E221");
    post("/v1/lanes/orders/Hook/pause", "").await.problem(400, "E208");
    post("/v1/lanes/orders/hook/pause", "{\"y\":1}").await.problem(400, "E208");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_the_answer_is_a_problem_and_health_goes_on() {
    let mut site = three_letters().await;
    site.mill.server.kill().await;
    for path in ["/v1/dlq", "/v1/modules", "/v1/lanes"] {
        let answer = site.get(path).await;
        answer.problem(503, "E215");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    assert_eq!(site.ask(Ask::new("GET", "/healthz")).await.status, 200);
    site.mill.server.restart().await;
    hookmill_tests::eventually(crate::mill::LATER, "dead letters are listed again", || async {
        let answer = site.get("/v1/dlq").await;
        if answer.status == 200 { Ok(()) } else { Err(answer.status.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_traced_as_the_command_traces_it() {
    let site = three_letters().await;
    let id = events::order_id(2);
    let command = site.mill.json(&["trace", &id]).await;
    let traced = site.get(&format!("/v1/trace/{id}")).await.good(200);
    assert_eq!(traced["places"], json!(command));
    let kinds: Vec<&Value> = command.iter().map(|place| &place["kind"]).collect();
    assert_eq!(kinds, ["source", "dead_letter"]);
    assert_eq!(
        traced["looked"],
        json!([{ "stream": "HOOKMILL_EVENTS", "first": 1, "from": 1, "unread": 0 }])
    );
    let other = site.get(&format!("/v1/trace/{id}?source=%2Fother&since=7d")).await.good(200);
    assert_eq!(other["places"], json!([]));
    for bad in ["since=soon", "sources=x"] {
        site.get(&format!("/v1/trace/{id}?{bad}")).await.problem(400, "E208");
    }
}
