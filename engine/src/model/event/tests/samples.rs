//! The official samples: the conformance suite's features and events, and the examples of the JSON event format.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::{Data, Document, Event, EventParts, Value};
use super::{headers, rewritten, strictly, structured};

const HTTP: &str =
    include_str!("../../../../../tests/data/cloudevents/conformance/features/http-protocol-binding.feature");
const KAFKA: &str =
    include_str!("../../../../../tests/data/cloudevents/conformance/features/kafka-protocol-binding.feature");
const YAML: [&str; 2] = [
    include_str!("../../../../../tests/data/cloudevents/conformance/yaml/v1.yaml"),
    include_str!("../../../../../tests/data/cloudevents/conformance/yaml/v1_minimum.yaml"),
];

type Table = Vec<Vec<String>>;

/// A line that begins a step, with the text block and the table that follow it.
#[derive(Clone, Default, Debug)]
struct Step {
    line: String,
    text: Option<String>,
    table: Table,
}

/// The scenarios of a feature file; each one of an outline's examples is a scenario of its own.
fn scenarios(feature: &str) -> Vec<Vec<Step>> {
    let mut found: Vec<Vec<Step>> = Vec::new();
    let mut lines = feature.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        if trimmed.starts_with("Scenario") {
            found.push(Vec::new());
            continue;
        }
        let Some(steps) = found.last_mut() else { continue };
        if trimmed == "\"\"\"" {
            let indent = line.len() - line.trim_start().len();
            let block: Vec<&str> = lines
                .by_ref()
                .take_while(|line| line.trim() != "\"\"\"")
                .map(|l| l.get(indent..).unwrap_or(""))
                .collect();
            steps.last_mut().unwrap().text = Some(block.join("\n"));
        } else if let Some(row) = trimmed.strip_prefix('|') {
            let cells = row.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            steps.last_mut().unwrap().table.push(cells);
        } else if !trimmed.is_empty() {
            steps.push(Step { line: trimmed.to_owned(), ..Step::default() });
        }
    }
    found.iter().flat_map(|steps| expand(steps)).collect()
}

fn expand(steps: &[Step]) -> Vec<Vec<Step>> {
    let Some((examples, steps)) = steps.split_last().filter(|(last, _)| last.line == "Examples:") else {
        return vec![steps.to_vec()];
    };
    let variable = format!("<{}>", examples.table[0][0]);
    let filled = |value: &str| {
        let fill = |text: &String| text.replace(&variable, value);
        let step = |step: &Step| Step {
            line: step.line.clone(),
            text: step.text.as_ref().map(fill),
            table: step.table.iter().map(|row| row.iter().map(fill).collect()).collect(),
        };
        steps.iter().map(step).collect()
    };
    examples.table[1..].iter().map(|row| filled(&row[0])).collect()
}

fn step<'a>(scenario: &'a [Step], start: &str) -> &'a Step {
    scenario.iter().find(|step| step.line.starts_with(start)).expect("the scenario has this step")
}

/// All attributes by name, in their string-encoding.
fn attributes(event: &Event) -> BTreeMap<String, String> {
    let (content_type, headers, _) = event.to_http_binary();
    let plain = |(name, value): &(String, String)| {
        (name["ce-".len()..].to_owned(), super::super::percent::decode(value).unwrap().into_owned())
    };
    let typed = content_type.map(|value| ("datacontenttype".to_owned(), value));
    headers.iter().map(plain).chain(typed).collect()
}

/// Compares with what a scenario's `Then` says.
fn check(scenario: &[Step], event: &Event) {
    let table = &step(scenario, "Then the attributes are").table[1..];
    let expected: BTreeMap<_, _> = table.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(attributes(event), expected);
    let data = step(scenario, "And the data is equal").text.as_ref().unwrap();
    assert_eq!(event.document(), Ok(Document::parse(data.as_bytes()).unwrap()));
}

/// What another protocol calls by other names, as NATS calls it: in binary mode the content type is an attribute.
fn as_nats(given: &[(String, String)], prefix: &str) -> Vec<(String, String)> {
    let is_structured = given.iter().any(|(_, value)| value.starts_with("application/cloudevents"));
    let rename = |(name, value): &(String, String)| {
        let lower = name.to_ascii_lowercase();
        let name = match lower.strip_prefix(prefix) {
            Some(attribute) => format!("ce-{attribute}"),
            None if lower == "content-type" && !is_structured => "ce-datacontenttype".to_owned(),
            None => lower,
        };
        (name, value.clone())
    };
    given.iter().map(rename).collect()
}

#[test]
fn the_http_feature_holds() {
    let scenarios = scenarios(HTTP);
    assert_eq!(scenarios.len(), 4);
    for scenario in &scenarios {
        let request = step(scenario, "Given an HTTP request").text.as_ref().unwrap();
        let (head, body) = request.split_once("\n\n").unwrap();
        let given: Vec<_> = head.lines().skip(1).map(|line| line.split_once(": ").unwrap()).collect();
        assert!(
            given.contains(&("Content-Length", body.len().to_string().as_str())),
            "the body is read whole"
        );

        let given = headers(&given);
        let event = strictly(&as_nats(&given, "ce-"), &Bytes::copy_from_slice(body.as_bytes())).unwrap();
        check(scenario, &event);

        if event.structured.is_none() {
            let (content_type, ours, sent) = event.to_http_binary();
            let mut ours: Vec<_> = ours;
            ours.push(("Content-Type".to_owned(), content_type.unwrap()));
            let theirs = given.iter().filter(|(name, _)| name.starts_with("ce-") || name == "Content-Type");
            assert!(theirs.clone().all(|header| ours.contains(header)), "{ours:?}");
            assert_eq!((theirs.count(), sent), (ours.len(), Bytes::copy_from_slice(body.as_bytes())));
        }
    }
}

#[test]
fn the_kafka_feature_holds_with_its_headers_renamed() {
    let scenarios = scenarios(KAFKA);
    assert_eq!(scenarios.len(), 3);
    for scenario in &scenarios {
        let body = step(scenario, "Given a Kafka message").text.clone().unwrap();
        let table = &step(scenario, "And Kafka headers").table[1..];
        let given: Vec<_> = table.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
        check(scenario, &strictly(&as_nats(&given, "ce_"), &body.into()).unwrap());
    }
}

/// Reads the little YAML that the samples use: nested keys, plain and quoted scalars, and text blocks. A text block ends
/// in a line break, which attributes can't hold: it is kept for the data alone.
fn yaml_events(text: &str) -> Vec<EventParts> {
    text.split("---\n").map(yaml_event).collect()
}

fn yaml_event(text: &str) -> EventParts {
    let mut parts = EventParts::default();
    let mut section = String::new();
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        let (key, value) = line.split_once(':').unwrap();
        let (depth, key, value) = (key.len() - key.trim_start().len(), key.trim(), value.trim());
        if depth == 0 {
            key.clone_into(&mut section);
        }
        let mut block = String::new();
        while let Some(inner) =
            lines.next_if(|next| value == "|" && next.len() - next.trim_start().len() > depth)
        {
            block.push_str(inner.trim_start());
            block.push('\n');
        }
        let value = if value == "|" { block } else { value.trim_matches('"').to_owned() };
        match (section.as_str(), key) {
            ("Data", _) => parts.data = Some(value.into()),
            ("ContextAttributes", _) if depth > 0 && !value.is_empty() => {
                set(&mut parts, key, value.trim_end());
            }
            _ => {}
        }
    }
    parts
}

fn set(parts: &mut EventParts, name: &str, value: &str) {
    let value = value.to_owned();
    match name {
        "specversion" => assert_eq!(value, "1.0"),
        "id" => parts.id = value,
        "source" => parts.source = value,
        "type" => parts.ty = value,
        "time" => parts.time = Some(value),
        "datacontenttype" => parts.datacontenttype = Some(value),
        extension => parts.extensions.push((extension.to_owned(), Value::Text(value))),
    }
}

#[test]
fn the_sample_events_arrive_the_same_in_both_modes() {
    let events: Vec<_> = YAML.iter().flat_map(|text| yaml_events(text)).collect();
    assert_eq!(events.len(), 8);
    assert_eq!(
        events.iter().map(|parts| parts.extensions.len()).collect::<Vec<_>>(),
        [2, 2, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(events[3].data.as_deref(), Some("Hello, 🌎!\n".as_bytes()));
    for parts in events {
        let event = Event::build(parts).unwrap();
        let (headers, body) = event.to_nats_binary();
        let in_binary = strictly(&headers, &body).unwrap();
        let in_structured = Event::from_structured(&event.to_structured()).unwrap();
        for arrived in [in_binary, in_structured] {
            assert_eq!(attributes(&arrived), attributes(&event));
            match &event.data {
                Some(Data::Json(_)) => assert_eq!(arrived.document(), event.document()),
                data => assert_eq!(&arrived.data, data),
            }
        }
    }
}

/// The examples of the JSON event format, section 3.2, each with its other form: members, content type, body. (The first
/// one's data is only hinted at there.)
const EXAMPLES: [(&str, Option<&str>, &[u8]); 6] = [
    (
        r#""datacontenttype" : "application/vnd.apache.thrift.binary", "data_base64" : "gAEAAQ==""#,
        Some("application/vnd.apache.thrift.binary"),
        b"\x80\x01\x00\x01",
    ),
    (
        r#""unsetextension": null, "datacontenttype" : "application/xml", "data" : "<much wow=\"xml\"/>""#,
        Some("application/xml"),
        br#"<much wow="xml"/>"#,
    ),
    (
        r#""subject": null, "datacontenttype" : "application/json", "data" : { "appinfoA" : "abc", "appinfoC" : true }"#,
        Some("application/json"),
        br#"{ "appinfoA" : "abc", "appinfoC" : true }"#,
    ),
    (
        r#""subject": null, "datacontenttype" : "application/json", "data" : 1.5"#,
        Some("application/json"),
        b"1.5",
    ),
    (r#""subject": null, "data" : "I'm just a string""#, Some("application/json"), br#""I'm just a string""#),
    (r#""subject": null, "data_base64" : "eyAieHl6IjogMTIzIH0=""#, None, br#"{ "xyz": 123 }"#),
];

#[test]
fn the_examples_of_the_json_format_have_the_other_form_that_they_are_shown_with() {
    for (members, content_type, body) in EXAMPLES {
        let json = format!(
            r#"{{ "specversion" : "1.0", "type" : "com.example.someevent", "source" : "/mycontext", "id" : "A234-1234-1234",
                "time" : "2018-04-05T17:31:00Z", "comexampleextension1" : "value", "comexampleothervalue" : 5, {members} }}"#
        );
        let event = structured(&json).unwrap();
        let expected = headers(&[
            ("ce-specversion", "1.0"),
            ("ce-id", "A234-1234-1234"),
            ("ce-source", "/mycontext"),
            ("ce-type", "com.example.someevent"),
            ("ce-time", "2018-04-05T17:31:00Z"),
            ("ce-comexampleextension1", "value"),
            ("ce-comexampleothervalue", "5"),
        ]);
        let expected = (content_type.map(str::to_owned), expected, Bytes::from_static(body));
        assert_eq!(event.to_http_binary(), expected);
        assert_eq!(Event::from_structured(&rewritten(&event).to_structured()), Ok(event));
    }
}
