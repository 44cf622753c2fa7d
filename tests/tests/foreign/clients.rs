//! Publishers that nobody here wrote, with every kind of attribute and of data: what the official SDKs for Rust, Python, JavaScript
//! and Go send arrives as it was sent, attribute by attribute and byte by byte.

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use cloudevents::{AttributesReader, EventBuilder, EventBuilderV10};
use data_encoding::BASE64;
use hookmill_tests::engine::run_to_end;
use hookmill_tests::process::{bound_command, on_path};
use hookmill_tests::{Endpoint, NatsServer, PipelineFolder, Request, behaviour, events};
use serde_json::{Value, json};

use super::{checkout, python, script};
use crate::scene::{SOON, Scene, messages_in, webhook};

/// Kinds of data: `kind`, `datacontenttype`, and `json`, `text` or `base64`.
fn kinds_file() -> String {
    checkout().join("tests/data/foreign-events.json").display().to_string()
}

fn kinds() -> Vec<Value> {
    let text = std::fs::read_to_string(kinds_file()).expect("the file is there");
    serde_json::from_str(&text).expect("the file is a list")
}

/// What each client says of each event, beside its id and its data.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("specversion", "1.0"),
    ("source", "/shop/foreign"),
    ("type", "com.shop.order.created"),
    ("subject", "Straße 1, 100 %"),
    ("dataschema", "https://example.com/schema"),
    ("region", "eu"),
    ("count", "5"),
    ("link", "https://example.com/a?b=c"),
    ("blob", "AAEC"),
];

/// An engine that delivers each event in both modes.
async fn scene(endpoint: &Endpoint) -> Scene {
    let url = |path: &str| endpoint.url().replace("/hooks", path);
    let structured = webhook("structured", &url("/structured"), "");
    let binary = webhook("binary", &url("/binary"), "format = \"binary\"");
    let folder = PipelineFolder::with("p", &(structured + &binary));
    Scene::open(NatsServer::start().await, folder).await
}

/// Holds every delivery against the message as the source stream has it.
async fn arrives_as_it_was_sent(scene: &Scene, endpoint: &Endpoint, count: usize) {
    endpoint.wait_for_delivered(2 * count, SOON).await;
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_DLQ").await, 0);
    let stream = scene.jetstream.get_stream("HOOKMILL_EVENTS").await.expect("it is there");
    assert_eq!(stream.cached_info().state.messages, count as u64);
    let requests = endpoint.requests();
    for sequence in 1..=count as u64 {
        let sent = stream.get_raw_message(sequence).await.expect("it is there");
        let id = id_of(&sent);
        let delivered = |path: &str| {
            let is_it = |request: &&Request| request.target == path && id_of_request(request) == id;
            requests.iter().find(is_it).unwrap_or_else(|| panic!("{id} did not come to {path}"))
        };
        as_it_was_sent(&sent, &id, delivered("/structured"), delivered("/binary"));
    }
}

fn as_it_was_sent(sent: &StreamMessage, id: &str, structured: &Request, binary: &Request) {
    let event = structured.json();
    let shown = |name: &str| event[name].as_str().map_or_else(|| event[name].to_string(), str::to_owned);
    for (name, value) in ATTRIBUTES {
        assert_eq!(shown(name), value, "{id}: {name}");
        assert_eq!(decoded(binary.header(&format!("ce-{name}"))), value, "{id}: ce-{name}");
    }
    assert!(shown("time").starts_with("2026-11-24T03:00:00"), "{id}: {}", shown("time"));
    assert_eq!(shown("urgent").to_lowercase(), "true", "{id}");

    if is_binary(sent) {
        assert_eq!(binary.body, sent.payload, "{id}: the data, byte for byte");
        let named = header(sent, "ce-datacontenttype").or_else(|| header(sent, "content-type"));
        assert_eq!(binary.header("content-type"), named.unwrap_or_default(), "{id}");
        return;
    }
    assert_eq!(structured.body, sent.payload, "{id}: the event, byte for byte");
    let kind =
        kinds().into_iter().find(|kind| id.ends_with(&format!("-{}", kind["kind"].as_str().unwrap_or(" "))));
    let kind = kind.unwrap_or_else(|| panic!("{id} has no kind"));
    if let Some(json) = kind.get("json") {
        assert_eq!(binary.json(), *json, "{id}");
    } else if let Some(base64) = kind["base64"].as_str() {
        assert_eq!(BASE64.encode(&binary.body), base64, "{id}");
    } else {
        assert_eq!(binary.body, kind["text"].as_str().unwrap_or_default(), "{id}");
    }
}

fn header(sent: &StreamMessage, name: &str) -> Option<String> {
    let found = sent.headers.iter().find(|(have, _)| have.to_string().eq_ignore_ascii_case(name));
    found.map(|(_, values)| values[0].to_string())
}

fn is_binary(sent: &StreamMessage) -> bool {
    header(sent, "ce-specversion").is_some()
}

fn id_of(sent: &StreamMessage) -> String {
    let of_body = || {
        let event: Value = serde_json::from_slice(&sent.payload).expect("a structured event is JSON");
        event["id"].as_str().expect("it has an id").to_owned()
    };
    header(sent, "ce-id").unwrap_or_else(of_body)
}

fn id_of_request(request: &Request) -> String {
    match request.header("ce-id") {
        "" => request.json()["id"].as_str().unwrap_or_default().to_owned(),
        id => decoded(id),
    }
}

fn decoded(value: &str) -> String {
    percent_encoding::percent_decode_str(value).decode_utf8().expect("it is UTF-8").into_owned()
}

/// The body of the Rust SDK's `NatsCloudEvent`: the event as JSON, and no header.
#[tokio::test]
async fn events_of_the_rust_sdk_arrive_as_they_were_sent() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = scene(&endpoint).await;
    let event = |kind: &Value| {
        let builder = EventBuilderV10::new()
            .id(format!("rust-bare-{}", kind["kind"].as_str().expect("it has a kind")))
            .source("/shop/foreign")
            .ty("com.shop.order.created")
            .subject("Straße 1, 100 %")
            .time("2026-11-24T03:00:00Z")
            .extension("region", "eu".to_owned())
            .extension("count", 5_i64)
            .extension("urgent", true)
            .extension("link", "https://example.com/a?b=c".to_owned())
            .extension("blob", "AAEC".to_owned());
        let (named, schema) =
            (kind["datacontenttype"].as_str().unwrap_or_default(), "https://example.com/schema");
        let builder = match (kind.get("json"), kind["text"].as_str(), kind["base64"].as_str()) {
            (Some(json), _, _) => builder.data_with_schema(named, schema, json.clone()),
            (_, Some(text), _) => builder.data_with_schema(named, schema, text.to_owned()),
            (_, _, Some(base64)) => {
                let bytes = BASE64.decode(base64.as_bytes()).expect("it is base64");
                builder.data_with_schema(named, schema, bytes)
            }
            (None, None, None) => builder,
        };
        builder.build().expect("it is an event")
    };
    // The SDK has no schema without data.
    let all: Vec<_> = kinds().iter().map(event).filter(|event| event.dataschema().is_some()).collect();
    for event in &all {
        let payload = serde_json::to_vec(event).expect("it can be written");
        let published = scene.jetstream.publish(events::ORDER_SUBJECT, payload.into()).await;
        published.expect("it is sent").await.expect("it is stored");
    }
    arrives_as_it_was_sent(&scene, &endpoint, all.len()).await;
}

#[tokio::test]
async fn events_of_the_python_sdk_arrive_as_they_were_sent() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = scene(&endpoint).await;
    let mut command = bound_command(python());
    command.args([&script("events.py"), &scene.server.url(), events::ORDER_SUBJECT, &kinds_file()]);
    let said = run_to_end("events.py", command).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    let count = 3 * kinds().len();
    assert_eq!(serde_json::from_str::<Value>(&said.stdout).ok(), Some(json!({ "acknowledged": count })));
    arrives_as_it_was_sent(&scene, &endpoint, count).await;
}

#[tokio::test]
async fn events_of_the_javascript_sdk_arrive_as_they_were_sent() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = scene(&endpoint).await;
    let packages = checkout().join(".tools/clients/node/node_modules");
    assert!(packages.is_dir(), "no JavaScript clients at {}: run make peers first", packages.display());
    let mut command = bound_command("node");
    command.env("NODE_PATH", packages);
    command.arg(checkout().join("tests/clients/node/events.js")).arg(kinds_file());
    let said = run_to_end("events.js", command).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    for line in said.stdout.lines() {
        let message: Value = serde_json::from_str(line).expect("each line is JSON");
        let mut headers = HeaderMap::new();
        for (name, value) in message["headers"].as_object().expect("headers are an object") {
            headers.insert(
                name.as_str(),
                value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str(),
            );
        }
        let body = BASE64.decode(message["body"].as_str().expect("a text").as_bytes()).expect("it is base64");
        let published =
            scene.jetstream.publish_with_headers(events::ORDER_SUBJECT, headers, body.into()).await;
        published.expect("it is sent").await.expect("it is stored");
    }
    arrives_as_it_was_sent(&scene, &endpoint, 3 * kinds().len()).await;
}

/// Both protocols of the SDK for NATS, each structured (without a header) and binary.
#[tokio::test]
async fn events_of_the_go_sdk_arrive_as_they_were_sent() {
    if on_path("go").is_none() {
        eprintln!("NOT SHOWN: there is no go on PATH, so the Go SDK publishes nothing here");
        return;
    }
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = scene(&endpoint).await;
    let mut command = bound_command("go");
    command.current_dir(checkout().join("tests/clients/go"));
    command.args(["run", ".", &scene.server.url(), "HOOKMILL_EVENTS", events::ORDER_SUBJECT, &kinds_file()]);
    let said = hookmill_tests::engine::run_within("go", command, std::time::Duration::from_mins(10)).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    let count = 4 * kinds().len();
    assert_eq!(said.stdout.trim(), count.to_string());
    arrives_as_it_was_sent(&scene, &endpoint, count).await;
}
