//! Messages as real publishers leave them, through the whole engine: what is delivered under each reading, what becomes of the
//! rest, and how that is found, read and sent again.

mod letters;
mod mended;

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_nats::HeaderMap;
use bytes::Bytes;
use hookmill_tests::events::{Message, structured_message};
use hookmill_tests::{Endpoint, NatsServer, PipelineFolder, behaviour};
use serde_json::Value;

use crate::scene::{SOON, Scene, webhook};

/// Refused in both readings.
const REFUSED: [&str; 8] = [
    "amqp-prefix",
    "cdevents-raw",
    "falco-go-sdk-old",
    "falco-nats",
    "kafka-prefix",
    "wire-024-events_java_timeoffsec-s",
    "wire-066-events_watermill_jsonmarshaler",
    "wire-152-events_camel_camelheaders",
];

/// Mended in the tolerant reading: the file, and the names of the mends.
const MENDED: [(&str, &[&str]); 14] = [
    ("azure-eventgrid-dataschema-hash", &["dataschema_relative"]),
    ("bento-mixed2", &["content_type_second"]),
    ("ct-header-contenttype-camel", &["content_type_name"]),
    ("ct-header-underscore", &["content_type_name"]),
    ("empty-dataschema", &["empty_attribute"]),
    ("go-src-percent", &["header_undecoded"]),
    ("keycloak-camel", &["name_case"]),
    ("wire-028-events_java_schemafrag-s", &["dataschema_fragment"]),
    ("wire-030-events_java_emptysubj-s", &["empty_attribute"]),
    ("wire-051-events_go_b", &["header_undecoded"]),
    ("wire-061-events_go_subj-b", &["header_undecoded"]),
    ("wire-068-events_dbz_hdr1", &["name_case", "null_beside_value"]),
    ("wire-069-events_dbz_jsonhdr1", &["name_case", "null_beside_value", "content_type_quoted"]),
    ("wire-094-events_cli_quoted", &["content_type_quoted"]),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/publishers")
}

/// The names of all messages.
fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("the folder is there");
    let names = entries.filter_map(|entry| {
        let name = entry.expect("it is there").file_name().into_string().expect("it is text");
        name.strip_suffix(".txt").map(str::to_owned)
    });
    names.collect()
}

/// A message, on the subject `events.<name>`.
fn message(name: &str) -> Message {
    let bytes = std::fs::read(folder().join(format!("{name}.txt"))).expect("the file is there");
    let mut rest = &bytes[..];
    let mut headers = HeaderMap::new();
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n').expect("headers end with a blank line");
        let line = std::str::from_utf8(&rest[..end]).expect("headers are text");
        rest = &rest[end + 1..];
        match line.split_once(':') {
            _ if line.starts_with('#') => {}
            // The server would take it for the same message again.
            Some(("Nats-Msg-Id", _)) => {}
            Some((name, value)) => headers.append(name, value.trim()),
            None => break,
        }
    }
    let body = Bytes::copy_from_slice(rest.strip_suffix(b"\n").unwrap_or(rest));
    Message { headers, ..structured_message(body) }.on(&format!("events.{name}"))
}

/// The id that a message names its event by.
fn id(name: &str) -> String {
    let message = message(name);
    let header = message.headers.iter().find(|(name, _)| name.to_string().eq_ignore_ascii_case("ce-id"));
    if let Some((_, values)) = header {
        return values[0].to_string();
    }
    let body: Value = serde_json::from_slice(&message.payload).expect("it is JSON");
    body["id"].as_str().expect("it has an id").to_owned()
}

/// How often each id is in a list.
fn counted(ids: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    ids.fold(BTreeMap::new(), |mut counts, id| {
        *counts.entry(id).or_default() += 1;
        counts
    })
}

fn dlq_arguments<'a>(scene: &'a Scene, url: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    let _ = scene;
    [&["dlq"], arguments, &["--nats", url]].concat()
}

/// Runs `hookmill dlq`.
async fn dlq(scene: &Scene, arguments: &[&str]) -> hookmill_tests::engine::Said {
    let url = scene.server.url();
    hookmill_tests::hookmill(&dlq_arguments(scene, &url, arguments)).await
}

#[tokio::test]
async fn all_messages_are_delivered_or_refused_as_their_reading_says() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let folder = PipelineFolder::new();
    for reading in ["tolerant", "strict"] {
        let url = endpoint.url().replace("/hooks", &format!("/{reading}"));
        let source = format!("[source]\nreading = \"{reading}\"\n");
        folder.write(&format!("{reading}.toml"), source + &webhook("all", &url, ""));
    }
    let scene = Scene::open(NatsServer::start().await, folder).await;
    let names = names();
    assert_eq!(names.len(), 44);
    scene.publish(names.iter().map(|name| message(name))).await;

    let mended = |name: &str| MENDED.iter().find(|(mended, _)| *mended == name);
    let is_refused = |name: &str| REFUSED.contains(&name);
    let tolerant: Vec<&String> = names.iter().filter(|name| !is_refused(name)).collect();
    let strict: Vec<&String> = tolerant.iter().copied().filter(|name| mended(name).is_none()).collect();
    assert_eq!((tolerant.len(), strict.len()), (36, 22));
    // Two of them have one id: they are two messages.
    let all = tolerant.len() + strict.len();
    endpoint.wait_for("every delivery", SOON, |log| log.requests().len() >= all).await;
    let letters = scene.letters(names.len() as u64 * 2 - all as u64).await;
    for (reading, expected) in [("tolerant", &tolerant), ("strict", &strict)] {
        let requests = endpoint.requests().into_iter();
        let requests = requests.filter(|request| request.target == format!("/{reading}"));
        let found = counted(requests.map(|request| request.json()["id"].as_str().expect("an id").to_owned()));
        assert_eq!(found, counted(expected.iter().map(|name| id(name))), "{reading}");
    }

    let mut identities: Vec<&str> = letters.iter().map(|letter| letter.text("delivery_id")).collect();
    identities.sort_unstable();
    identities.dedup();
    assert_eq!(identities.len(), letters.len(), "each letter has an id of its own");
    for letter in &letters {
        assert_eq!(letter.end(), ("_", "not_cloudevent"), "{}", letter.0);
        let subject = letter.0["source"]["subject"].as_str().expect("it carries its subject");
        let name = subject.strip_prefix("events.").expect("the subject it was sent to");
        assert!(is_refused(name) || letter.text("pipeline") == "strict", "{}", letter.0);
        assert_eq!(letter.0["event"]["unverified"], true, "{}", letter.0);
    }
    let claims = |name: &str| {
        let subject = Value::from(format!("events.{name}"));
        let letter = letters.iter().find(|letter| letter.0["source"]["subject"] == subject).expect("there");
        let text = |field: &str| letter.0["event"][field].as_str().expect("a text").to_owned();
        [text("id"), text("source"), text("type")]
    };
    assert_eq!(claims("falco-go-sdk-old"), ["falco-1", "https://falco.org", "falco.rule.output.v1"]);
    assert_eq!(claims("keycloak-camel")[0], "kc-1", "from a body that has specversion at its top");
    for nothing in ["kafka-prefix", "cdevents-raw", "falco-nats"] {
        assert_eq!(claims(nothing), ["", "", ""], "{nothing}");
    }

    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    MENDED.iter().flat_map(|(_, mends)| *mends).for_each(|mend| *counts.entry(mend).or_default() += 1);
    for (mend, count) in &counts {
        let labels = ["pipeline=\"tolerant\"".to_owned(), format!("mend=\"{mend}\"")];
        let labels = labels.each_ref().map(String::as_str);
        let found = scene.engine.metric("hookmill_events_mended_total", &labels).await;
        assert!((found - f64::from(*count)).abs() < 0.5, "{mend}: {found}");
    }
    let said =
        scene.engine.lines().into_iter().filter(|line| line.message().starts_with("an event was mended"));
    let said: Vec<(String, String)> = said
        .map(|line| {
            let field = |name: &str| line.field(name).and_then(Value::as_str).expect("a text").to_owned();
            (field("mend"), field("source"))
        })
        .collect();
    let mut once = said.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), said.len(), "once for each kind and source: {said:?}");
    assert!(
        said.contains(&("header_undecoded".to_owned(), "\"https://example.com/go?x=1&y=a%20b\"".to_owned()))
    );
    scene.quiet().await;
}
