//! Properties of any event: the same reading as the `CloudEvents` SDK, and nothing lost on any way out and back.

use std::fmt::Write;
use std::sync::LazyLock;

use bytes::Bytes;
use cloudevents::AttributesReader;
use cloudevents::event::ExtensionValue;
use data_encoding::BASE64;
use proptest::char::range;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::{Data, Event, EventParts, Value, rules};
use super::{headers, rewritten, stored, strictly, structured, with};

/// Data as structured mode spells it.
#[derive(Clone, Debug)]
enum Spelling {
    Nothing,
    Json(String),
    Text(String),
    Base64(Vec<u8>),
}

/// An event and the spelling of its data.
#[derive(Clone, Debug)]
struct Sample {
    parts: EventParts,
    spelling: Spelling,
}

/// What an attribute may hold.
fn text(lengths: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let character = prop_oneof![
        8 => range(' ', '~'),
        1 => proptest::sample::select(vec!['"', '\\', '%', '/', '€', '😀', '\u{fffd}', '\u{10fffd}']),
        1 => range('\u{a0}', '\u{2fff}'),
    ];
    vec(character, lengths).prop_map(String::from_iter)
}

fn source() -> impl Strategy<Value = String> {
    prop_oneof![
        "/x[a-zA-Z0-9._~!$&'()*+,;=:@/?-]{0,20}",
        "https://[a-z]{1,8}\\.example/[a-z]{0,5}",
        "urn:[a-z]{2,5}:[a-z0-9]{1,8}",
        "[0-9]-[0-9]{1,9}"
    ]
}

fn schema() -> impl Strategy<Value = String> {
    prop_oneof![
        "https://[a-z]{1,8}\\.example/[a-z0-9/]{0,10}(\\?[a-z=&]{0,5})?",
        "urn:[a-z]{2,6}:[a-z0-9]{1,8}"
    ]
}

fn moment() -> impl Strategy<Value = String> {
    let date =
        (1970..2200, 1..=12, 1..=28).prop_map(|(year, month, day)| format!("{year}-{month:02}-{day:02}"));
    let time =
        (0..24, 0..60, 0..60).prop_map(|(hour, minute, second)| format!("{hour:02}:{minute:02}:{second:02}"));
    (date, time, "(\\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-2]):[0-5][0-9])")
        .prop_map(|(date, time, rest)| format!("{date}T{time}{rest}"))
}

fn extensions() -> impl Strategy<Value = Vec<(String, Value)>> {
    let value = prop_oneof![
        text(0..20).prop_map(Value::Text),
        any::<i32>().prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Boolean),
    ];
    let name = "[a-z0-9]{1,20}".prop_filter("not taken", |name| rules::extension_name(name).is_ok());
    btree_map(name, value, 0..5).prop_map(|map| map.into_iter().collect())
}

/// Any JSON text without white space around it.
fn json() -> impl Strategy<Value = String> {
    let numbers =
        ["0", "-0", "1.10", "1E+2", "123456789012345678901234567890", "-9223372036854775808", "1e-7"];
    let leaf = prop_oneof![
        proptest::sample::select(vec!["null", "true", "false", "[ ]", "{\n}"]).prop_map(str::to_owned),
        proptest::sample::select(numbers.to_vec()).prop_map(str::to_owned),
        any::<String>().prop_map(|text| quoted(&text, false)),
        any::<String>().prop_map(|text| quoted(&text, true)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let member = (any::<String>(), inner.clone())
            .prop_map(|(name, value)| format!("{} :{value}", quoted(&name, true)));
        prop_oneof![
            vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(" ,"))),
            vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(",\n\t"))),
        ]
    })
}

/// A content type and data that fits it.
fn payload() -> impl Strategy<Value = (Option<String>, Spelling)> {
    let json_types =
        ["application/json", "application/json; charset=utf-8", "text/json", "application/vnd.x+json"];
    let other_types =
        ["text/plain", "TEXT/plain;charset=utf-8", "application/xml", "image/png", "text/x; a=\"b;c\""];
    let named = |names: &[&'static str]| {
        proptest::sample::select(names.to_vec()).prop_map(|name| Some(name.to_owned()))
    };
    let bytes = || vec(any::<u8>(), 0..40);
    // Without a content type, base64 is never taken as JSON; the SDK does so if it can, hence bytes that are none.
    let no_json = bytes().prop_map(|mut bytes| {
        bytes.insert(0, 0xff);
        bytes
    });
    prop_oneof![
        2 => (Just(None), prop_oneof![Just(Spelling::Nothing), json().prop_map(Spelling::Json), no_json.prop_map(Spelling::Base64)]),
        2 => (named(&json_types), prop_oneof![
            Just(Spelling::Nothing),
            json().prop_map(Spelling::Json),
            json().prop_map(|json| Spelling::Base64(json.into())),
            bytes().prop_map(Spelling::Base64),
        ]),
        2 => (named(&other_types), prop_oneof![
            Just(Spelling::Nothing),
            any::<String>().prop_map(Spelling::Text),
            bytes().prop_map(Spelling::Base64),
        ]),
    ]
}

fn sample() -> impl Strategy<Value = Sample> {
    let optional =
        (proptest::option::of(text(1..20)), proptest::option::of(moment()), proptest::option::of(schema()));
    (text(1..30), source(), text(1..30), optional, extensions(), payload()).prop_map(
        |(id, source, ty, (subject, time, dataschema), extensions, (datacontenttype, spelling))| {
            let data = match &spelling {
                Spelling::Nothing => None,
                Spelling::Json(text) | Spelling::Text(text) => Some(Bytes::from(text.clone())),
                Spelling::Base64(bytes) => Some(Bytes::from(bytes.clone())),
            };
            let parts =
                EventParts { id, source, ty, subject, time, datacontenttype, dataschema, extensions, data };
            Sample { parts, spelling }
        },
    )
}

/// A JSON string, with as few escapes as can be or with many.
fn quoted(text: &str, escaped: bool) -> String {
    if !escaped {
        return serde_json::to_string(text).unwrap();
    }
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            'a'..='z' | '0'..='9' => out.push(character),
            '/' => out.push_str("\\/"),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").unwrap();
                }
            }
        }
    }
    out.push('"');
    out
}

/// The members of a sample's JSON object, absent ones as null.
fn members(sample: &Sample, escaped: bool) -> Vec<(String, String)> {
    let parts = &sample.parts;
    let optional =
        |value: &Option<String>| value.as_ref().map_or("null".to_owned(), |value| quoted(value, escaped));
    let mut members = vec![
        ("specversion", "\"1.0\"".to_owned()),
        ("id", quoted(&parts.id, escaped)),
        ("source", quoted(&parts.source, escaped)),
        ("type", quoted(&parts.ty, escaped)),
        ("subject", optional(&parts.subject)),
        ("time", optional(&parts.time)),
        ("datacontenttype", optional(&parts.datacontenttype)),
        ("dataschema", optional(&parts.dataschema)),
    ];
    members.extend(parts.extensions.iter().map(|(name, value)| {
        let value = if let Value::Text(text) = value { quoted(text, escaped) } else { value.to_string() };
        (name.as_str(), value)
    }));
    members.extend(match &sample.spelling {
        Spelling::Nothing => None,
        Spelling::Json(json) => Some(("data", json.clone())),
        Spelling::Text(text) => Some(("data", quoted(text, escaped))),
        Spelling::Base64(bytes) => Some(("data_base64", quoted(&BASE64.encode(bytes), escaped))),
    });
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A sample and one of the many ways to write it: members in any order, escapes, white space.
fn written() -> impl Strategy<Value = (Sample, String)> {
    let space = proptest::sample::select(vec!["", " ", "\n  ", "\t\r\n"]);
    (sample(), any::<bool>(), any::<bool>(), space).prop_flat_map(|(sample, values, names, space)| {
        (Just(sample.clone()), Just(members(&sample, values)).prop_shuffle()).prop_map(
            move |(sample, members)| {
                let member = |(name, value): &(String, String)| {
                    let name = if names { quoted(name, true) } else { format!("\"{name}\"") };
                    format!("{space}{name}{space}:{space}{value}{space}")
                };
                let members: Vec<_> = members.iter().map(member).collect();
                (sample, format!("{space}{{{}}}{space}", members.join(",")))
            },
        )
    })
}

/// The event that a sample stands for.
fn expected(sample: &Sample) -> Event {
    let mut event = Event::build(sample.parts.clone()).expect("samples are valid");
    let bytes = sample.parts.data.clone();
    event.data = match &sample.spelling {
        Spelling::Json(_) => bytes.map(Data::Json),
        Spelling::Text(_) => bytes.map(Data::Binary),
        Spelling::Nothing | Spelling::Base64(_) => event.data,
    };
    event
}

/// Compares what we read with what the SDK reads. It keeps times in UTC and URIs normalised, JSON as values.
fn agree(ours: &Event, theirs: &cloudevents::Event) {
    assert_eq!(ours.id, theirs.id());
    assert_eq!(&ours.source, theirs.source());
    assert_eq!(ours.ty, theirs.ty());
    assert_eq!(ours.subject.as_deref(), theirs.subject());
    assert_eq!(ours.datacontenttype.as_deref(), theirs.datacontenttype());
    let uri = ours.dataschema.as_ref().map(|text| url::Url::parse(text).unwrap());
    assert_eq!(uri.as_ref(), theirs.dataschema());
    let nanos =
        ours.time.as_ref().map(|text| OffsetDateTime::parse(text, &Rfc3339).unwrap().unix_timestamp_nanos());
    assert_eq!(nanos, theirs.time().map(|time| time.timestamp_nanos_opt().unwrap().into()));
    assert_eq!(ours.extensions.len(), theirs.iter_extensions().count());
    for (name, value) in &ours.extensions {
        let value = match value {
            Value::Text(text) => ExtensionValue::String(text.clone()),
            Value::Integer(integer) => ExtensionValue::Integer((*integer).into()),
            Value::Boolean(boolean) => ExtensionValue::Boolean(*boolean),
        };
        assert_eq!(Some(&value), theirs.extension(name), "{name}");
    }
    match (&ours.data, theirs.data()) {
        (None, None) => {}
        (Some(Data::Json(_)), Some(cloudevents::Data::Json(value))) => {
            assert_eq!(ours.document(), Ok(value.into()));
        }
        (Some(Data::Binary(bytes)), Some(cloudevents::Data::Binary(theirs))) => assert_eq!(bytes, theirs),
        (Some(Data::Binary(bytes)), Some(cloudevents::Data::String(theirs))) => assert_eq!(bytes, theirs),
        (ours, theirs) => panic!("{ours:?} is not {theirs:?}"),
    }
}

/// The official JSON Schema of events, formats checked.
static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let text = include_str!("../../../../../tests/data/cloudevents/cloudevents.json");
    let schema = serde_json::from_str(text).unwrap();
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
});

/// An event as binary mode can carry it: all values text, the implied content type there, no empty data.
fn as_binary(event: &Event) -> Event {
    let text = |(name, value): &(String, Value)| (name.clone(), Value::Text(value.to_string()));
    let implied = event.data_is_json().then(|| "application/json".to_owned());
    Event {
        extensions: event.extensions.iter().map(text).collect(),
        datacontenttype: event.datacontenttype.clone().or(implied),
        data: event.data.clone().filter(|data| !data.bytes().is_empty()),
        structured: None,
        ..event.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_valid_structured_event_is_read_as_the_sdk_reads_it((sample, text) in written()) {
        let ours = structured(&text).unwrap();
        prop_assert_eq!(&ours, &expected(&sample));
        agree(&ours, &serde_json::from_str(&text).unwrap());
    }

    #[test]
    fn no_event_loses_anything_when_it_is_written_or_stored((sample, text) in written()) {
        let event = structured(&text).unwrap();
        prop_assert_eq!(event.to_structured(), text);
        let kept = stored(&event);
        prop_assert_eq!((&kept, &kept.structured), (&event, &event.structured));
        let changed = rewritten(&event);
        prop_assert_eq!(&Event::from_structured(&changed.to_structured()).unwrap(), &event);
        let kept = stored(&changed);
        prop_assert_eq!((&kept, &kept.structured), (&event, &None));
        prop_assert_eq!(&kept.extensions, &event.extensions);
        let same = event.changed(EventParts::from(&event)).unwrap();
        prop_assert_eq!(&same.structured, &event.structured);
        prop_assert_eq!(Event::build(sample.parts).unwrap(), event);
    }

    #[test]
    fn what_is_written_keeps_the_official_schema(sample in sample()) {
        let written = expected(&sample).to_structured();
        let value = serde_json::from_slice(&written).unwrap();
        prop_assert!(SCHEMA.is_valid(&value), "{:?}", SCHEMA.iter_errors(&value).map(|e| e.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn binary_mode_carries_all_but_the_types_of_values(sample in sample()) {
        let event = expected(&sample);
        let (headers, body) = event.to_nats_binary();
        prop_assert!(headers.iter().all(|(_, value)| value.bytes().all(|byte| byte.is_ascii_graphic())));
        let arrived = strictly(&headers, &body).unwrap();
        prop_assert_eq!(&arrived, &as_binary(&event));
        // From there on nothing changes any more.
        prop_assert_eq!(arrived.to_nats_binary(), (headers.clone(), body.clone()));
        prop_assert_eq!(&stored(&arrived), &arrived);
        let (content_type, http, sent) = event.to_http_binary();
        prop_assert_eq!((content_type, sent), (arrived.datacontenttype, body));
        prop_assert!(http.iter().all(|header| headers.contains(header) && header.0 != "ce-datacontenttype"));
    }

    #[test]
    fn no_message_makes_the_parser_panic(
        name in "(?i)(ce-)?[a-z-]{0,8}", value in any::<String>(), body in vec(any::<u8>(), 0..64), cut in any::<usize>(), (_, text) in written(),
    ) {
        let body = Bytes::from(body);
        let _ = strictly(&headers(&[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t"), (&name, &value)]), &body);
        let _ = Event::from_structured(&body);
        let text = Bytes::from(text);
        let cut = text.slice(..cut % text.len());
        prop_assert!(Event::from_structured(&cut).is_err() || text[cut.len()..].trim_ascii().is_empty());
    }
}

#[test]
fn the_official_schema_is_in_force() {
    let event = |id: &str, time: &str| serde_json::json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t", "time": time});
    assert!(SCHEMA.is_valid(&event("1", "2018-04-05T17:31:00Z")));
    assert!(!SCHEMA.is_valid(&event("", "2018-04-05T17:31:00Z")));
    assert!(!SCHEMA.is_valid(&event("1", "yesterday")));
}

#[test]
fn where_the_sdk_reads_otherwise_the_spec_decides() {
    let of = |members: &str| {
        let text = with(members);
        (
            structured(&text).map_err(|error| error.to_string()),
            serde_json::from_str::<cloudevents::Event>(&text),
        )
    };
    // The media type has no case, its parameters don't count, and only the suffix +json means JSON: the SDK compares text.
    for (named, is_json) in [
        ("Application/JSON", true),
        ("application/problem+json; charset=utf-8", true),
        ("image/json", true),
        ("application/json-seq", false),
        ("text/jsonp", false),
    ] {
        let (ours, theirs) = of(&format!(r#""datacontenttype":"{named}","data":"x""#));
        assert_eq!(ours.unwrap().data_is_json(), is_json, "{named}");
        assert_eq!(matches!(theirs.unwrap().data(), Some(cloudevents::Data::Json(_))), !is_json, "{named}");
    }
    // "If the datacontenttype attribute is absent, the decoding MUST NOT make an assumption of JSON-formatted data."
    let (ours, theirs) = of(r#""data_base64":"MQ==""#);
    assert_eq!(ours.unwrap().data, Some(Data::Binary(Bytes::from_static(b"1"))));
    assert!(matches!(theirs.unwrap().data(), Some(cloudevents::Data::Json(_))));
    // What isn't a string under a content type that isn't JSON: implementations may fail, and need not.
    let (ours, theirs) = of(r#""datacontenttype":"text/plain","data":{}"#);
    assert!(ours.unwrap().data_is_json() && theirs.is_err());
    // The official schema lets data_base64 be null, as any member that is unset.
    let (ours, theirs) = of(r#""data_base64":null"#);
    assert!(ours.unwrap().data.is_none() && theirs.is_err());

    // Rules of the spec that the SDK doesn't check.
    for members in [
        r#""id":"2""#,
        r#""subject":"""#,
        r#""subject":"a\u0000""#,
        r#""x":2147483648"#,
        r#""my_ext":1"#,
        r#""datacontenttype":"none""#,
        r#""time":"2018-04-05 17:31:00Z""#,
        r#""datacontenttype":"application/json","data_base64":"MR==""#,
    ] {
        let (ours, _) = of(members);
        assert!(ours.is_err(), "{members}");
    }
    for members in [r#""id":"2""#, r#""subject":"""#, r#""x":2147483648"#, r#""my_ext":1"#] {
        assert!(of(members).1.is_ok(), "{members}");
    }
}
