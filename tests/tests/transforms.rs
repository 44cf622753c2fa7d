//! The stock modules in a running engine, and the forms in which events arrive and leave.

use hookmill_tests::events::structured_message;
use hookmill_tests::{Endpoint, NatsServer, Request, behaviour};

use crate::scene::{SOON, Scene, binary, event, event_id, folder_with_modules, step, webhook};

async fn scene(pipeline: &str) -> Scene {
    Scene::open(NatsServer::start().await, folder_with_modules(pipeline)).await
}

/// The request that carries the event with this id.
fn of_event(endpoint: &Endpoint, id: &str) -> Request {
    let requests = endpoint.requests();
    let found = requests.into_iter().find(|request| event_id(request) == id);
    found.unwrap_or_else(|| panic!("no request for {id}"))
}

#[tokio::test]
async fn redact_takes_out_and_covers() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let settings = "remove = [\"/email\", \"/lines/*/price\"], mask = [\"/card/number\"], keep_last = 4";
    let scene = scene(&(webhook("all", &endpoint.url(), "") + &step("redact", settings, ""))).await;
    let data = r#"{"z":1.50,"email":"ann@example.com","card":{"number":"4111111111111111","exp":"12/30"},"lines":[{"price":1,"n":12345678901234567890123}]}"#;
    let untouched = r#"{ "z" : 1.50, "a":"\u00fc" , "big":12345678901234567890.12345678901234567890}"#;
    let plain = event("plain", "t", &format!(",  \"data\" : {untouched} "));
    scene
        .publish([
            event("secret", "t", &format!(",\"data\":{data}")),
            plain.clone(),
            event("text", "t", r#","datacontenttype":"text/plain","data":"ann@example.com""#),
            event("no-data", "t", ""),
        ])
        .await;
    endpoint.wait_for_delivered(3, SOON).await;
    let secret = String::from_utf8(of_event(&endpoint, "secret").body.to_vec()).expect("text");
    let expected =
        r#"{"z":1.50,"card":{"number":"***1111","exp":"12/30"},"lines":[{"n":12345678901234567890123}]}"#;
    assert!(secret.contains(&format!("\"data\":{expected}")), "{secret}");
    assert_eq!(of_event(&endpoint, "plain").body, plain.payload, "byte for byte");
    of_event(&endpoint, "no-data");
    let letters = scene.letters(1).await;
    assert_eq!((letters[0].end(), letters[0].text("resume")), (("all", "rejected"), "step/0"));
    assert_eq!(letters[0].0["event"]["id"], "text");
    assert!(!letters[0].error().contains("ann@"), "{}", letters[0].error());
}

#[tokio::test]
async fn reshape_builds_a_new_payload() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let settings = "missing = \"omit\", data = { \"/order/id\" = { from = \"/id\", missing = \"reject\" }, \
                    \"/order/total\" = { from = \"/sums/gross\" }, \"/note\" = { from = \"/note\", default = \"\" }, \
                    \"/about\" = { attribute = \"subject\" }, \"/kind\" = { value = \"order\" } }";
    let scene = scene(&(webhook("all", &endpoint.url(), "") + &step("reshape", settings, ""))).await;
    let data = r#"{"id":"ord_7","sums":{"gross":12.50},"email":"ann@example.com"}"#;
    scene
        .publish([
            event("full", "t", &format!(r#","subject":"shop/7","data":{data}"#)),
            event("no-id", "t", r#","data":{}"#),
            event("little", "t", r#","data":{"id":"ord_8"}"#),
        ])
        .await;
    endpoint.wait_for_delivered(2, SOON).await;
    let full = of_event(&endpoint, "full");
    assert!(String::from_utf8_lossy(&full.body).contains("12.50"), "all digits stay");
    let expected = serde_json::json!({"about": "shop/7", "kind": "order", "note": "",
        "order": {"id": "ord_7", "total": 12.5}});
    assert_eq!(full.json()["data"], expected);
    let little = serde_json::json!({"kind": "order", "note": "", "order": {"id": "ord_8"}});
    assert_eq!(of_event(&endpoint, "little").json()["data"], little);
    let letters = scene.letters(1).await;
    assert_eq!((letters[0].end(), &letters[0].0["event"]["id"]), (("all", "rejected"), &"no-id".into()));
}

#[tokio::test]
async fn route_drops_and_sets_headers_subject_and_type() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let rules = r#"rules = [
        { when = { pointer = "/total", less_than = 10 }, drop = "too small" },
        { when = { attribute = "region", one_of = ["eu", "uk"] }, headers = { x-queue = "europe" }, continue = true },
        { when = { pointer = "/express", equals = true }, type = "order.express", subject = "fast" },
    ]"#;
    let text = format!(
        "{}[[subscription.step]]\ntransform = \"./route.wasm\"\n[subscription.step.settings]\n{rules}\n",
        webhook("all", &endpoint.url(), "headers = { x-shop = \"eu\" }")
    );
    let scene = scene(&text).await;
    let same = event("same", "order.new", r#","data":{"total":10}"#);
    scene
        .publish([
            event("small", "order.new", r#","data":{"total":9.99}"#),
            event("europe", "order.new", r#","region":"eu","data":{"total":10}"#),
            event("express", "order.new", r#","region":"uk","data":{"total":11,"express":true}"#),
            same.clone(),
        ])
        .await;
    endpoint.wait_for_delivered(3, SOON).await;
    scene.ends("all", "filtered", 1).await;
    let europe = of_event(&endpoint, "europe");
    assert_eq!((europe.header("x-queue"), europe.header("x-shop")), ("europe", "eu"));
    assert_eq!(europe.json()["type"], "order.new");
    let express = of_event(&endpoint, "express");
    let event = express.json();
    assert_eq!((&event["type"], &event["subject"]), (&"order.express".into(), &"fast".into()));
    assert_eq!(express.header("x-queue"), "europe");
    let unchanged = of_event(&endpoint, "same");
    assert_eq!((unchanged.header("x-queue"), &unchanged.body), ("", &same.payload));
}

#[tokio::test]
async fn an_unchanged_event_leaves_with_the_bytes_that_came() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = scene(&webhook("all", &endpoint.url(), "")).await;
    let texts = [
        " {\"data\" : [1e400, -0.0, 1.10, 123456789012345678901234567890],\n\"type\":\"t\", \"source\":\"/s\",\
         \"id\":\"\\u0031\", \"specversion\":\"1.0\"} ",
        r#"{"specversion":"1.0","id":"2","source":"/s","type":"t","data":{"b":1,"a":{"b":2,"a":1},"b":3}}"#,
        r#"{"specversion":"1.0","id":"3","source":"/s","type":"t","data_base64":"AAEC/w=="}"#,
        r#"{"specversion":"1.0","id":"4","source":"/s","type":"t","n":-5,"flag":false,"data":"\ud83d\ude00 \/ é"}"#,
        r#"{"specversion":"1.0","id":"5","source":"/s","type":"t","data":null}"#,
    ];
    scene.publish(texts.iter().map(|text| structured_message((*text).to_owned()))).await;
    endpoint.wait_for_delivered(texts.len(), SOON).await;
    for text in texts {
        let found = endpoint.requests().iter().any(|request| request.body == text.as_bytes());
        assert!(found, "changed on the way: {text}");
    }
    let requests = endpoint.requests();
    let typed = |request: &Request| request.header("content-type") == "application/cloudevents+json";
    assert!(requests.iter().all(typed));
}

#[tokio::test]
async fn events_leave_in_the_form_that_the_file_asks_for() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let url = |path: &str| format!("{}/{path}", endpoint.url());
    let pipeline = [
        webhook("structured", &url("structured"), ""),
        webhook("binary", &url("binary"), "format = \"binary\""),
        webhook("data", &url("data"), "format = \"data\""),
    ]
    .concat();
    let scene = scene(&pipeline).await;
    let requests = |path: &str| {
        let target = format!("/hooks/{path}");
        let requests = endpoint.requests();
        let own: Vec<_> = requests.into_iter().filter(|request| request.target == target).collect();
        assert_eq!(own.len(), 1, "{path}");
        own.into_iter().next().expect("one")
    };
    let json = r#"{ "b":1.10, "a":"\u00fc" }"#;
    let headers =
        [("Content-Type", "application/json"), ("ce-subject", "%C3%BC%20%22x%22"), ("ce-count", "7")];
    scene.publish([binary("one", "t", &headers, json)]).await;
    endpoint.wait_for_delivered(3, SOON).await;
    for path in ["binary", "data"] {
        let request = requests(path);
        assert_eq!(
            (request.body.as_ref(), request.header("content-type")),
            (json.as_bytes(), "application/json")
        );
    }
    let sent = requests("binary");
    let attributes = ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-subject", "ce-count"];
    assert_eq!(
        attributes.map(|name| sent.header(name)),
        ["1.0", "one", "/tests", "t", "%C3%BC%20%22x%22", "7"]
    );
    assert!(requests("data").headers.keys().all(|name| !name.as_str().starts_with("ce-")));
    let whole = requests("structured");
    assert!(String::from_utf8_lossy(&whole.body).contains(json), "the data stays as it came");
    assert_eq!((&whole.json()["subject"], &whole.json()["id"]), (&"ü \"x\"".into(), &"one".into()));

    // Bytes that are no text, and no data at all.
    endpoint.forget();
    let octets = [("Content-Type", "application/octet-stream")];
    scene.publish([binary("two", "t", &octets, &b"\xff\x00\xfe"[..])]).await;
    endpoint.wait_for_delivered(3, SOON).await;
    assert_eq!(requests("binary").body.as_ref(), b"\xff\x00\xfe");
    assert_eq!(requests("data").body.as_ref(), b"\xff\x00\xfe");
    assert_eq!(requests("structured").json()["data_base64"], "/wD+");
    endpoint.forget();
    scene.publish([event("three", "t", "")]).await;
    endpoint.wait_for_delivered(3, SOON).await;
    assert_eq!((requests("binary").body.len(), requests("binary").header("ce-id")), (0, "three"));
    assert_eq!(requests("data").body.len(), 0);
}
