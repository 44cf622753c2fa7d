//! Messages as real publishers leave them in JetStream (`tests/data/publishers`), under both readings: what is delivered has
//! every attribute and the data as they were sent, but for what is mended.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use data_encoding::BASE64;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::{Event, Reading};
use super::strictly;

/// A message as it lay in a stream.
struct Message {
    headers: Vec<(String, String)>,
    body: Bytes,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/publishers")
}

fn message(file: &str) -> Message {
    let bytes = std::fs::read(folder().join(format!("{file}.txt"))).expect("the file is there");
    let mut rest = &bytes[..];
    let mut headers = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n').expect("headers end with a blank line");
        let line = std::str::from_utf8(&rest[..end]).expect("headers are text");
        rest = &rest[end + 1..];
        match line.split_once(':') {
            _ if line.starts_with('#') => {}
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let body = rest.strip_suffix(b"\n").unwrap_or(rest);
    Message { headers, body: Bytes::copy_from_slice(body) }
}

/// Attributes by name, as text.
type Attributes = BTreeMap<String, String>;

/// The members of a structured event, as far as they are data.
#[derive(Deserialize)]
struct DataMembers<'b> {
    #[serde(borrow)]
    data: Option<&'b RawValue>,
    data_base64: Option<String>,
}

/// What a message says, read by nothing of ours.
fn said(message: &Message) -> (Attributes, Option<Vec<u8>>) {
    let binary = message.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("ce-specversion"));
    if binary {
        let mut attributes = Attributes::new();
        for (name, value) in &message.headers {
            let lower = name.to_ascii_lowercase();
            if let Some(name) = lower.strip_prefix("ce-") {
                let value = percent_decode_str(value).decode_utf8().expect("it is text");
                attributes.insert(name.to_owned(), value.into_owned());
            }
            if lower == "content-type" {
                attributes.entry("datacontenttype".to_owned()).or_insert_with(|| value.clone());
            }
        }
        return (attributes, (!message.body.is_empty()).then(|| message.body.to_vec()));
    }
    let members: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&message.body).expect("JSON");
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Null => None,
        other => Some(other.to_string()),
    };
    let is_data = |name: &str| name == "data" || name == "data_base64";
    let attributes = members.into_iter().filter(|(name, _)| !is_data(name));
    let attributes = attributes.filter_map(|(name, value)| Some((name, text(value)?))).collect();
    let data: DataMembers<'_> = serde_json::from_slice(&message.body).expect("JSON");
    let bytes = match (data.data, data.data_base64) {
        (Some(raw), _) => Some(raw.get().as_bytes().to_vec()),
        (None, Some(text)) => Some(BASE64.decode(text.as_bytes()).expect("base64")),
        (None, None) => None,
    };
    (attributes, bytes)
}

/// The attributes of an event by name, in their string-encoding.
fn attributes(event: &Event) -> Attributes {
    let required =
        [("specversion", "1.0"), ("id", &event.id), ("source", &event.source), ("type", &event.ty)];
    let optional = [
        ("subject", &event.subject),
        ("time", &event.time),
        ("datacontenttype", &event.datacontenttype),
        ("dataschema", &event.dataschema),
    ];
    let mut all: Attributes = required.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
    all.extend(optional.iter().filter_map(|(name, text)| Some(((*name).into(), text.as_ref()?.clone()))));
    all.extend(event.extensions.iter().map(|(name, value)| (name.clone(), value.to_string())));
    all
}

/// Attributes that are other than what was sent: none where they are left out.
type Changed = &'static [(&'static str, Option<&'static str>)];

/// Holds an event against its message.
fn is_as_sent(file: &str, message: &Message, event: &Event, changed: Changed) {
    let (mut expected, data) = said(message);
    for (name, value) in changed {
        match value {
            Some(value) => drop(expected.insert((*name).to_owned(), (*value).to_owned())),
            None => drop(expected.remove(*name)),
        }
    }
    assert_eq!(attributes(event), expected, "{file}");
    let bytes = event.data.as_ref().map(|data| data.bytes().to_vec());
    assert_eq!(bytes, data, "{file}: data");
    if changed.is_empty() && event.structured.is_some() {
        assert_eq!(
            event.to_structured(),
            message.body,
            "{file}: what wasn't touched is sent on byte for byte"
        );
    }
    let again = Event::from_structured(&event.to_structured()).expect("what is delivered is an event");
    assert_eq!(&again, event, "{file}");
    let (headers, body) = event.to_stored();
    assert_eq!(Event::from_stored(&headers, &body).as_ref(), Ok(event), "{file}");
}

const VALID: [&str; 22] = [
    "wire-003-events_java_ext-s",
    "wire-004-events_java_ext-s-none",
    "wire-007-events_java_long-b",
    "wire-012-events_java_bytes-s",
    "wire-013-events_java_bytes-b",
    "wire-015-events_java_xml-b",
    "wire-022-events_java_nulljson-b",
    "wire-035-events_dapr_json",
    "wire-039-events_dapr_bin",
    "wire-043-events_dapr_badjson",
    "wire-048-events_dapr_notrace-hdr",
    "wire-049-events_go_s-none",
    "wire-062-events_argo_webhook-es_example",
    "wire-090-events_cli_binary",
    "wire-150-events_camel_http",
    "wire-169-events_dbzmysql_hdr1",
    "wire-172-events_dbzmysql_hdr2",
    "cdevents-structured",
    "eventarc-audit-binary",
    "go-subject-percent",
    "harbor-binary",
    "tekton",
];

const GO_SOURCE: (&str, Option<&str>) = ("source", Some("https://example.com/go?x=1&y=a%20b"));
const TX_ID: (&str, Option<&str>) = ("iodebeziumtxid", Some("565"));

/// File, what is mended, what is other than what was sent, and what the strict reading says.
const MENDED: [(&str, &[&str], Changed, &[&str]); 14] = [
    (
        "wire-051-events_go_b",
        &["header_undecoded"],
        &[GO_SOURCE],
        &[
            r#"source is "https://example.com/go?x=1&y=a b""#,
            r#"which is "https://example.com/go?x=1&y=a%20b""#,
        ],
    ),
    ("wire-061-events_go_subj-b", &["header_undecoded"], &[GO_SOURCE], &["' ' at character 31"]),
    (
        "go-src-percent",
        &["header_undecoded"],
        &[("source", Some("https://example.com/reports/Q1%20summary"))],
        &[r#"decoded from header "ce-source", which is "https://example.com/reports/Q1%20summary""#],
    ),
    (
        "wire-028-events_java_schemafrag-s",
        &["dataschema_fragment"],
        &[],
        &["an absolute URI has no fragment"],
    ),
    (
        "azure-eventgrid-dataschema-hash",
        &["dataschema_relative"],
        &[("dataschema", None)],
        &["dataschema is \"#\", which is not an absolute URI"],
    ),
    (
        "wire-030-events_java_emptysubj-s",
        &["empty_attribute"],
        &[("subject", None)],
        &["attribute subject is empty"],
    ),
    (
        "empty-dataschema",
        &["empty_attribute"],
        &[("subject", None), ("dataschema", None), ("time", None)],
        &["attribute subject is empty", "attribute dataschema is empty", "attribute time is empty"],
    ),
    (
        "wire-068-events_dbz_hdr1",
        &["name_case", "null_beside_value"],
        &[("iodebeziumtxId", None), TX_ID],
        &[r#""iodebeziumtxId" is not an attribute name: names are of a-z and 0-9; write "iodebeziumtxid""#],
    ),
    (
        "keycloak-camel",
        &["name_case"],
        &[("dataContentType", None), ("datacontenttype", Some("application/json"))],
        &[r#""dataContentType" is not an attribute name"#],
    ),
    (
        "wire-069-events_dbz_jsonhdr1",
        &["name_case", "null_beside_value", "content_type_quoted"],
        &[("iodebeziumtxId", None), TX_ID],
        &[r#"its header Content-Type is "\"application/cloudevents+json\"""#],
    ),
    (
        "wire-094-events_cli_quoted",
        &["content_type_quoted"],
        &[],
        &[r#"its header Content-Type is "\"application/cloudevents+json\"""#],
    ),
    (
        "ct-header-contenttype-camel",
        &["content_type_name"],
        &[],
        &[r#"its header contentType is "application/cloudevents+json""#],
    ),
    (
        "ct-header-underscore",
        &["content_type_name"],
        &[],
        &[r#"its header content_type is "application/cloudevents+json""#],
    ),
    ("bento-mixed2", &["content_type_second"], &[], &[r#"its header Content-Type is "application/json""#]),
];

/// File, and what both readings say.
const REFUSED: [(&str, &[&str]); 8] = [
    (
        "wire-024-events_java_timeoffsec-s",
        &[r#"time is "1900-01-01T00:00:00+00:19:32", which is not RFC 3339: ':' at character 26"#],
    ),
    ("kafka-prefix", &[r#"header "ce_specversion" is not taken: in NATS it is ce-specversion"#]),
    (
        "amqp-prefix",
        &[
            r#"header "cloudEvents_specversion" is not taken: in NATS it is ce-specversion"#,
            r#"its header contentType is "application/json""#,
        ],
    ),
    (
        "falco-go-sdk-old",
        &[r#""event_source" is not an attribute name: names are of a-z and 0-9; write "eventsource""#],
    ),
    (
        "wire-152-events_camel_camelheaders",
        &[
            r#"header "CamelCloudEventSource" is not taken: in NATS it is ce-source"#,
            r#"its header Content-Type is "application/json""#,
        ],
    ),
    ("wire-066-events_watermill_jsonmarshaler", &["not a CloudEvent"]),
    ("falco-nats", &["not a CloudEvent"]),
    ("cdevents-raw", &["not a CloudEvent", "its body has a specversion, but not at its top"]),
];

#[test]
fn every_message_of_the_folder_is_held_against_both_readings() {
    let tested =
        VALID.into_iter().chain(MENDED.iter().map(|row| row.0)).chain(REFUSED.iter().map(|row| row.0));
    let mut tested: Vec<String> = tested.map(|file| format!("{file}.txt")).collect();
    tested.sort();
    let there = std::fs::read_dir(folder()).expect("the folder is there");
    let there = there.map(|entry| entry.expect("it is there").file_name().into_string().expect("it is text"));
    let mut there: Vec<String> = there.filter(|name| name != "README.md").collect();
    there.sort();
    assert_eq!((tested.len(), tested), (44, there));
}

#[test]
fn valid_messages_are_the_same_in_both_readings() {
    for file in VALID {
        let message = message(file);
        let event = strictly(&message.headers, &message.body);
        let event = event.unwrap_or_else(|refusal| panic!("{file}: {refusal}"));
        is_as_sent(file, &message, &event, &[]);
    }
}

#[test]
fn small_breaches_are_mended_and_nothing_else_is_touched() {
    for (file, mends, changed, strict) in MENDED {
        let message = message(file);
        let (event, found) = Event::parse(&message.headers, &message.body, Reading::Tolerant)
            .unwrap_or_else(|refusal| panic!("{file}: {refusal}"));
        assert_eq!(found.names(), mends, "{file}");
        is_as_sent(file, &message, &event, changed);
        let refusal = strictly(&message.headers, &message.body).unwrap_err().to_string();
        for text in strict {
            assert!(refusal.contains(text), "{file}: {refusal}");
        }
        let hint = "this pipeline reads strictly, [source] reading = \"tolerant\" takes it";
        assert!(refusal.ends_with(hint), "{file}: {refusal}");
    }
}

#[test]
fn other_breaches_are_refused_by_both_with_what_is_wrong() {
    for (file, texts) in REFUSED {
        let message = message(file);
        for reading in [Reading::Strict, Reading::Tolerant] {
            let refusal = Event::parse(&message.headers, &message.body, reading).unwrap_err().to_string();
            for text in texts {
                assert!(refusal.contains(text), "{file}: {refusal}");
            }
            assert!(!refusal.contains("reads strictly"), "{file}: {refusal}");
        }
    }
}
