//! Publishers that nobody here wrote, with every kind of attribute and of data: what the official SDKs for Rust, Python, JavaScript,
//! Go and Java send arrives as it was sent, attribute by attribute and byte by byte.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use async_nats::HeaderMap;
use cloudevents::{AttributesReader, AttributesWriter, EventBuilder, EventBuilderV10};
use data_encoding::BASE64;
use hookmill::telemetry::output;
use hookmill_tests::engine::run_to_end;
use hookmill_tests::process::{bound_command, on_path};
use hookmill_tests::{Endpoint, NatsServer, PipelineFolder, Request, behaviour, events};
use serde::Deserialize;
use serde_json::{Value, json};

use super::faithful::{Kind, Sent, Wire, id_of_request, is_faithful};
use super::{checkout, python, script};
use crate::scene::{SOON, Scene, messages_in, webhook};

fn kinds_file() -> String {
    checkout().join("tests/data/foreign-events.json").display().to_string()
}

/// The kinds of data.
fn kinds() -> Vec<Value> {
    let text = std::fs::read_to_string(kinds_file()).expect("the file is there");
    serde_json::from_str(&text).expect("the file is a list")
}

/// A pipeline that delivers each event in both modes, and what becomes of a client's events.
struct Trial {
    scene: Scene,
    endpoint: Endpoint,
}

impl Trial {
    async fn start() -> Self {
        let endpoint = Endpoint::start(behaviour::always(200)).await;
        let url = |path: &str| endpoint.url().replace("/hooks", path);
        let structured = webhook("structured", &url("/structured"), "");
        let binary = webhook("binary", &url("/binary"), "format = \"binary\"");
        let folder = PipelineFolder::with("p", &(structured + &binary));
        let scene = Scene::open(NatsServer::start().await, folder).await;
        Self { scene, endpoint }
    }

    async fn publish(&self, headers: HeaderMap, payload: Vec<u8>) {
        let sent = self.scene.jetstream.publish_with_headers(events::ORDER_SUBJECT, headers, payload.into());
        sent.await.expect("it is sent").await.expect("it is stored");
    }

    /// Waits for all deliveries and holds each against its message. `ways` are the beginnings of ids, and how these events
    /// go over the wire; each way has an event of each kind.
    async fn arrives_as_it_was_sent(&self, ways: &[(&str, Wire)]) {
        let kinds = kinds();
        let kinds: Vec<_> = kinds.iter().map(Kind).collect();
        let count = ways.len() * kinds.len();
        self.endpoint.wait_for_delivered(2 * count, SOON).await;
        let requests = self.endpoint.requests();
        assert_eq!(requests.len(), 2 * count, "each comes once a mode");
        assert_eq!(messages_in(&self.scene.jetstream, "HOOKMILL_DLQ").await, 0);

        let came: BTreeMap<_, _> = requests
            .iter()
            .map(|request| ((request.target.as_str(), id_of_request(request)), request))
            .collect();
        let came = |path: &'static str, id: &str| -> &Request {
            came.get(&(path, id.to_owned())).unwrap_or_else(|| panic!("{id} did not come to {path}"))
        };
        let mut expected: BTreeSet<String> = ways
            .iter()
            .flat_map(|(way, _)| kinds.iter().map(move |kind| format!("{way}-{}", kind.name())))
            .collect();
        let stream = self.scene.jetstream.get_stream("HOOKMILL_EVENTS").await.expect("it is there");
        for sequence in 1..=count as u64 {
            let sent = Sent::new(&stream.get_raw_message(sequence).await.expect("it is there"));
            let id = sent.id.as_str();
            assert!(expected.remove(id), "{id} was not to be sent, or not twice");
            let (way, kind) = id.rsplit_once('-').expect("it names its kind");
            let wire = ways.iter().find(|(have, _)| *have == way).map(|(_, wire)| *wire);
            assert_eq!(Some(sent.wire), wire, "{id}");
            let kind = kinds.iter().find(|have| have.name() == kind).expect("it is one of them");
            is_faithful(kind, &sent, came("/structured", id), came("/binary", id));
        }
    }
}

/// An event of the Rust SDK. Its extensions are text, integers and booleans.
fn event_of_the_rust_sdk(kind: &Kind) -> cloudevents::Event {
    const SCHEMA: &str = "https://example.com/schema";
    let builder = EventBuilderV10::new()
        .id(format!("rust-bare-{}", kind.name()))
        .source("/shop/foreign")
        .ty("com.shop.order.created")
        .subject("Straße 1, 100 %")
        .time("2026-11-24T03:00:00.25Z")
        .extension("region", "eu")
        .extension("count", 5_i64)
        .extension("urgent", true)
        .extension("link", "https://example.com/a?b=c")
        .extension("seen", "2026-11-24T03:00:00.25Z")
        .extension("blob", "AAEC");
    let with = |named: Option<&str>, data: cloudevents::Data| {
        builder.clone().data_with_schema(named.expect("data has a content type"), SCHEMA, data)
    };
    let built = match (kind.json(), kind.text(), kind.bytes()) {
        (Some(json), _, _) => with(kind.content_type(), json.clone().into()),
        (_, Some(text), _) => with(kind.content_type(), text.into()),
        (_, _, Some(bytes)) => with(kind.content_type(), bytes.into()),
        (None, None, None) => with(Some("text/plain"), "".into()),
    };
    let mut event = built.build().expect("it is an event");
    if kind.content_type().is_none() {
        // The builder has no schema without data.
        let (_, schema, _) = event.take_data();
        event.set_dataschema(schema);
    }
    assert!(event.dataschema().is_some());
    event
}

/// The body of the SDK's `NatsCloudEvent`: the event as JSON, and no header.
#[tokio::test]
async fn events_of_the_rust_sdk_arrive_as_they_were_sent() {
    let trial = Trial::start().await;
    for kind in &kinds() {
        let event = event_of_the_rust_sdk(&Kind(kind));
        trial.publish(HeaderMap::new(), serde_json::to_vec(&event).expect("it can be written")).await;
    }
    trial.arrives_as_it_was_sent(&[("rust-bare", Wire::Bare)]).await;
}

#[tokio::test]
async fn events_of_the_python_sdk_arrive_as_they_were_sent() {
    let trial = Trial::start().await;
    let mut command = bound_command(python());
    command.args([&script("events.py"), &trial.scene.server.url(), events::ORDER_SUBJECT, &kinds_file()]);
    let said = run_to_end("events.py", command).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    let count = json!({ "acknowledged": 3 * kinds().len() });
    assert_eq!(serde_json::from_str::<Value>(&said.stdout).ok(), Some(count));
    let ways = [
        ("python-structured", Wire::Structured),
        ("python-bare", Wire::Bare),
        ("python-binary", Wire::Binary),
    ];
    trial.arrives_as_it_was_sent(&ways).await;
}

/// A message as `events.js` prints it.
#[derive(Deserialize)]
struct Printed {
    headers: Vec<(String, String)>,
    /// In base64.
    body: String,
}

#[tokio::test]
async fn events_of_the_javascript_sdk_arrive_as_they_were_sent() {
    let trial = Trial::start().await;
    let packages = checkout().join(".tools/clients/node/node_modules");
    assert!(packages.is_dir(), "no JavaScript clients at {}: run make peers first", packages.display());
    let mut command = bound_command("node");
    command.env("NODE_PATH", packages);
    command.arg(checkout().join("tests/clients/node/events.js")).arg(kinds_file());
    let said = run_to_end("events.js", command).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    for line in said.stdout.lines() {
        let message: Printed = serde_json::from_str(line).expect("each line is a message");
        let mut headers = HeaderMap::new();
        for (name, value) in &message.headers {
            headers.insert(name.as_str(), value.as_str());
        }
        trial.publish(headers, BASE64.decode(message.body.as_bytes()).expect("it is base64")).await;
    }
    let ways =
        [("node-structured", Wire::Structured), ("node-bare", Wire::Bare), ("node-binary", Wire::Binary)];
    trial.arrives_as_it_was_sent(&ways).await;
}

/// Whether the tool is there that a test needs and that this machine may be without. Where it isn't, that is said past the test
/// runner, which keeps what a test prints that passes.
pub fn is_there(tool: &Path, what: &str) -> bool {
    let is_there = tool.exists();
    if !is_there {
        output::say(format_args!(
            "\nNOT SHOWN: {what}, since there is no {}: make peers says why it can't be built",
            tool.display()
        ));
    }
    is_there
}

/// Both protocols of the SDK for NATS, each asked for either mode. That for core NATS has no binary mode.
#[tokio::test]
async fn events_of_the_go_sdk_arrive_as_they_were_sent() {
    let client = checkout().join(".tools/clients/go/publish");
    if !is_there(&client, "events of the Go SDK") {
        return;
    }
    let trial = Trial::start().await;
    let mut command = bound_command(client);
    command.args([&trial.scene.server.url(), "HOOKMILL_EVENTS", events::ORDER_SUBJECT, &kinds_file()]);
    let said = run_to_end("the Go client", command).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(said.stdout.trim(), (4 * kinds().len()).to_string());
    let ways = [
        ("gocore-structured", Wire::Bare),
        ("gocore-binary", Wire::Bare),
        ("gostream-structured", Wire::Bare),
        ("gostream-binary", Wire::Binary),
    ];
    trial.arrives_as_it_was_sent(&ways).await;
}

/// Extensions of every type that the SDK has, bytes among them.
#[tokio::test]
async fn events_of_the_java_sdk_arrive_as_they_were_sent() {
    let client = checkout().join(".tools/clients/java");
    let java = on_path("java").unwrap_or_else(|| "java".into());
    if !is_there(&java, "events of the Java SDK")
        || !is_there(&client.join("sources"), "events of the Java SDK")
    {
        return;
    }
    let trial = Trial::start().await;
    let mut command = bound_command(java);
    command.arg("-cp").arg(format!("{0}/classes:{0}/jars/*", client.display())).arg("Publish");
    command.args([&trial.scene.server.url(), events::ORDER_SUBJECT, &kinds_file()]);
    let said = run_to_end("the Java client", command).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(said.stdout.trim(), (3 * kinds().len()).to_string());
    let ways =
        [("java-structured", Wire::Structured), ("java-bare", Wire::Bare), ("java-binary", Wire::Binary)];
    trial.arrives_as_it_was_sent(&ways).await;
}
