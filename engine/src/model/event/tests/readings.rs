//! The tolerant reading, one test a row of its table, and where it ends.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{Event, EventParts, Mend, Reading, Value};
use super::{headers, with};

/// Headers.
type Pairs<'a> = &'a [(&'a str, &'a str)];
type Read = Result<(Event, Vec<&'static str>), String>;

fn read(headers: &[(String, String)], body: &str, reading: Reading) -> Read {
    let read = Event::parse(headers, &Bytes::copy_from_slice(body.as_bytes()), reading);
    read.map(|(event, mends)| (event, mends.names())).map_err(|refusal| refusal.to_string())
}

/// A structured event with further members, in the tolerant reading.
fn members(members: &str) -> Read {
    let headers = headers(&[("Content-Type", "application/cloudevents+json")]);
    read(&headers, &with(members), Reading::Tolerant)
}

/// An event in binary mode with further headers, in the tolerant reading.
fn binary(more: &[(&str, &str)]) -> Read {
    let mut all =
        headers(&[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]);
    all.extend(headers(more));
    read(&all, "", Reading::Tolerant)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn names_are_folded_to_lower_case() {
    let (event, mends) =
        members(r#""traceParent":"x","Subject":"s","dataContentType":"text/plain","data":"d""#).unwrap();
    assert_eq!(mends, ["name_case"]);
    assert_eq!((event.subject.as_deref(), event.datacontenttype.as_deref()), (Some("s"), Some("text/plain")));
    assert_eq!(event.extensions, [("traceparent".to_owned(), text("x"))]);
    assert_eq!(event.structured, None, "it is rendered anew");
    let sent = String::from_utf8(event.to_structured().to_vec()).unwrap();
    assert!(sent.contains(r#""data":"d""#) && !sent.contains("dataContentType"), "{sent}");
}

#[test]
fn of_two_names_that_fold_to_one_a_null_gives_way() {
    for (given, value) in [
        (r#""txId":"7","txid":null"#, Some("7")),
        (r#""txId":null,"txid":"7""#, Some("7")),
        (r#""txId":null,"txid":null"#, None),
        (r#""txId":null,"txid":"7","TXID":null"#, Some("7")),
    ] {
        let (event, mends) = members(given).unwrap();
        assert_eq!(mends, ["name_case", "null_beside_value"], "{given}");
        let extensions: Vec<_> = value.map(|value| ("txid".to_owned(), text(value))).into_iter().collect();
        assert_eq!(event.extensions, extensions, "{given}");
    }
    let (event, _) = members(r#""Subject":null,"subject":"s""#).unwrap();
    assert_eq!(event.subject.as_deref(), Some("s"));
    for (given, said) in [
        (r#""txId":1,"txid":1"#, r#""txId" and "txid" are one attribute in lower case, and have two values"#),
        (r#""txid":1,"txid":null"#, r#""txid" is there more than once"#),
        (r#""txId":1,"txId":null"#, r#""txid" is there more than once"#),
        (
            r#""Subject":"a","subject":"b""#,
            r#""Subject" and "subject" are one attribute in lower case, and have two values"#,
        ),
    ] {
        assert_eq!(members(given).unwrap_err(), said, "{given}");
    }
}

#[test]
fn what_is_never_guessed_is_not_folded_to() {
    for name in ["ID", "Source", "TYPE", "specVersion", "Data", "Data_Base64"] {
        let meant = name.to_ascii_lowercase();
        let said = format!("\"{name}\" is not {meant}: write {meant}, it is never guessed");
        assert_eq!(members(&format!("\"{name}\":\"x\"")).unwrap_err(), said);
    }
    let missing = r#"{"specversion":"1.0","Id":"1","source":"/s","type":"t"}"#;
    let said = read(&[], missing, Reading::Tolerant).unwrap_err();
    assert_eq!(said, "\"Id\" is not id: write id, it is never guessed; attribute id is missing");
    for (name, better) in [("my_ext", "myext"), ("my-Ext", "myext"), ("é", "")] {
        let better = if better.is_empty() { String::new() } else { format!("; write \"{better}\"") };
        let said = format!("{name:?} is not an attribute name: names are of a-z and 0-9{better}");
        assert_eq!(members(&format!("{name:?}:1")).unwrap_err(), said);
    }
}

#[test]
fn optional_attributes_that_are_empty_are_left_out() {
    let all = r#""subject":"","time":"","dataschema":"","datacontenttype":"","x":"","data":{"a": 1}"#;
    let (event, mends) = members(all).unwrap();
    assert_eq!(mends, ["empty_attribute"]);
    let left = EventParts { data: Some(Bytes::from_static(b"{\"a\": 1}")), ..EventParts::from(&event) };
    assert_eq!(EventParts::from(&event), left);
    assert_eq!(
        (&event.subject, &event.time, &event.dataschema, &event.datacontenttype),
        (&None, &None, &None, &None)
    );
    assert_eq!(event.extensions, [("x".to_owned(), text(""))], "an extension may be empty");
    let (event, mends) = binary(&[("ce-subject", ""), ("ce-time", " "), ("ce-x", "\"\"")]).unwrap();
    assert_eq!((event.subject, event.time, mends), (None, None, vec!["empty_attribute"]));
    for name in ["id", "source", "type", "specversion"] {
        let empty =
            with("\"x\":1").replacen(&format!("\"{name}\":\""), &format!("\"{name}\":\"\",\"y\":\""), 1);
        let said = read(&[], &empty, Reading::Tolerant).unwrap_err();
        assert_eq!(said, format!("attribute {name} is empty"));
    }
}

#[test]
fn a_dataschema_without_a_scheme_is_left_out() {
    for relative in ["#", "/schemas/a", "s.json#/a", "no scheme", "1:2"] {
        let (event, mends) = members(&format!("\"dataschema\":\"{relative}\"")).unwrap();
        assert_eq!((event.dataschema, mends), (None, vec!["dataschema_relative"]), "{relative}");
    }
    let (event, mends) = binary(&[("ce-dataschema", "%23")]).unwrap();
    assert_eq!((event.dataschema, mends), (None, vec!["dataschema_relative"]));
    let said = members(r#""dataschema":"https://x/a b""#).unwrap_err();
    assert_eq!(said, r#"dataschema is "https://x/a b", which is not an absolute URI: ' ' at character 12"#);
}

#[test]
fn a_dataschema_with_a_fragment_is_kept_and_let_through_everywhere() {
    let (event, mends) = members(r#""dataschema":"https://x/s.json#/defs/A","data":1"#).unwrap();
    assert_eq!(mends, ["dataschema_fragment"]);
    assert_eq!(event.dataschema.as_deref(), Some("https://x/s.json#/defs/A"));
    assert!(event.structured.is_some(), "it is sent on byte for byte");
    let (headers, body) = event.to_stored();
    assert_eq!(Event::from_stored(&headers, &body), Ok(event.clone()), "stored");
    let changed = EventParts { subject: Some("new".to_owned()), ..EventParts::from(&event) };
    let changed = event.changed(changed).unwrap();
    assert_eq!(changed.dataschema, event.dataschema, "transformed");
    let (headers, body) = changed.to_stored();
    assert_eq!(Event::from_stored(&headers, &body), Ok(changed.clone()), "and stored");
    let (headers, body) = changed.to_nats_binary();
    let again = Event::parse(&headers, &body, Reading::Tolerant).unwrap();
    assert_eq!((again.0.dataschema, again.1.names()), (event.dataschema, vec!["dataschema_fragment"]));
    let said = Event::parse(&headers, &body, Reading::Strict).unwrap_err().to_string();
    assert!(
        said.starts_with(r#"dataschema is "https://x/s.json#/defs/A": an absolute URI has no fragment"#),
        "{said}"
    );
}

#[test]
fn a_value_that_is_none_once_it_is_decoded_is_taken_as_it_stands() {
    let undecoded = |name: &str, value: &str| {
        let (event, mends) = binary(&[(name, value)]).unwrap();
        assert_eq!(mends, ["header_undecoded"], "{value}");
        event
    };
    for value in ["100%", "%E4", "a%0Ab", "\"open"] {
        assert_eq!(undecoded("ce-subject", value).subject.as_deref(), Some(value));
    }
    let schema = undecoded("ce-dataschema", "https://x/a%20b").dataschema;
    assert_eq!(schema.as_deref(), Some("https://x/a%20b"));
    let source = |value: &str| {
        let all =
            headers(&[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", value), ("ce-type", "t")]);
        read(&all, "", Reading::Tolerant).map(|(event, mends)| (event.source, mends))
    };
    assert_eq!(source("/a%20b"), Ok(("/a%20b".to_owned(), vec!["header_undecoded"])));
    assert_eq!(source("/a%2Fb"), Ok(("/a/b".to_owned(), vec![])), "decoded as the binding says");
    let neither = source("/a b%20").unwrap_err();
    let said = r#"source is "/a b ", which is not a URI-reference: ' ' at character 3 (decoded from header "ce-source", which is "/a b%20")"#;
    assert_eq!(neither, said);
}

#[test]
fn odd_content_types_count_where_they_mark_an_event() {
    let event = with("\"data\":1");
    let structured = "application/cloudevents+json";
    let quoted = "\"application/cloudevents+json; charset=utf-8\"";
    let cases: [(Pairs<'_>, &[&str]); 7] = [
        (&[("Content-Type", quoted)], &["content_type_quoted"]),
        (&[("contentType", structured)], &["content_type_name"]),
        (&[("CONTENT_TYPE", quoted)], &["content_type_quoted", "content_type_name"]),
        (&[("Content-Type", "text/plain"), ("content-type", structured)], &["content_type_second"]),
        (
            &[("Content-Type", "a/b"), ("Content-Type", "a/c"), ("Content-Type", structured)],
            &["content_type_second"],
        ),
        (&[("Content-Type", "text/plain"), ("contentType", structured)], &["content_type_name"]),
        (&[("Content-Type", quoted), ("ce-id", "9")], &["content_type_quoted"]),
    ];
    for (given, mends) in cases {
        let (found, named) = read(&headers(given), &event, Reading::Tolerant).unwrap();
        assert_eq!((found.id.as_str(), &named[..]), ("1", mends), "{given:?}");
        assert_eq!(found.structured.as_deref(), Some(event.as_bytes()), "the event itself is as it came");
    }
    for (given, said) in [
        (("contentType", "application/json"), r#"its header contentType is "application/json""#),
        (("Content-Type", "\"application/cloudevents-batch+json\""), "a batch of events is not supported"),
    ] {
        let found = read(&headers(&[given]), &event.replace("specversion", "x"), Reading::Tolerant);
        assert!(found.unwrap_err().contains(said), "{given:?}");
    }
    // What says that it is in binary mode is taken at its word.
    let both = [("Content-Type", quoted), ("ce-specversion", "1.0")];
    let said = read(&headers(&both), &event, Reading::Tolerant).unwrap_err();
    assert_eq!(said, "header ce-id is missing; header ce-source is missing; header ce-type is missing");
}

#[test]
fn everything_that_is_wrong_is_named_at_once_and_within_bounds() {
    let said =
        members(r#""time":"now","subject":7,"my_ext":1,"ID":"x","data":1,"data_base64":"MQ==""#).unwrap_err();
    for fault in
        ["time is \"now\"", "subject is a number", "\"my_ext\" is not", "\"ID\" is not id", "both there"]
    {
        assert!(said.contains(fault), "{fault}: {said}");
    }
    let strict = Event::parse(&[], &Bytes::from(with(r#""Time":"","subject":"""#)), Reading::Strict);
    let said = strict.unwrap_err().to_string();
    assert!(said.contains("\"Time\" is not") && said.contains("subject is empty"), "{said}");
    assert!(said.ends_with("[source] reading = \"tolerant\" takes it"), "{said}");
    let many: Vec<String> = (0..10_000).map(|n| format!("\"bad-{n}\":1")).collect();
    let said = members(&many.join(",")).unwrap_err();
    assert!(said.len() < 3_000 && said.ends_with(" more"), "{said}");
    let long = "\u{1}".repeat(10_000).escape_unicode().to_string().replace("\\u{1}", "\\u0001");
    let said = members(&format!("\"subject\":\"{long}\",\"time\":\"{long}\"")).unwrap_err();
    assert!(said.len() < 3_000, "{}", said.len());
}

#[test]
fn thousands_of_names_that_fold_to_one_another_are_no_trouble() {
    let names: Vec<String> = (0..40_000).map(|n| format!("\"x{n}\":{n},\"X{n}\":null")).collect();
    let (event, mends) = members(&names.join(",")).unwrap();
    assert_eq!((event.extensions.len(), mends), (40_000, vec!["name_case", "null_beside_value"]));
}

/// Values of attributes as publishers get them wrong, and right.
fn value() -> impl Strategy<Value = String> {
    let usual = [
        "",
        "x",
        "7",
        "#",
        "/a b",
        "/a%20b",
        "a%2Fb",
        "urn:x#y",
        "https://x/a%20b",
        "2018-04-05T17:31:00Z",
        "text/plain",
        "%",
        "\u{1}",
    ];
    prop_oneof![3 => proptest::sample::select(usual.to_vec()).prop_map(str::to_owned), 1 => "[ -~]{0,12}"]
}

fn name() -> impl Strategy<Value = String> {
    let usual = [
        "id",
        "source",
        "type",
        "subject",
        "time",
        "dataschema",
        "datacontenttype",
        "Subject",
        "dataContentType",
        "txId",
        "txid",
        "TXID",
        "a_b",
        "ID",
    ];
    prop_oneof![4 => proptest::sample::select(usual.to_vec()).prop_map(str::to_owned), 1 => "[a-zA-Z0-9_-]{0,6}"]
}

/// A message in either mode, more or less an event.
fn any_message() -> impl Strategy<Value = (Vec<(String, String)>, Bytes)> {
    let more = || proptest::collection::vec((name(), value()), 0..5);
    let required = [("specversion", "1.0"), ("id", "1"), ("source", "/s"), ("type", "t")];
    let required = move || required.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mark = proptest::sample::select(vec![
        vec![],
        vec![("Content-Type", "application/cloudevents+json")],
        vec![("contentType", "\"application/cloudevents+json\"")],
        vec![("Content-Type", "application/json"), ("Content-Type", "application/cloudevents+json")],
    ]);
    let binary = more().prop_map(move |more| {
        let all = required().into_iter().chain(more);
        (all.map(|(name, value)| (format!("ce-{name}"), value)).collect(), Bytes::from_static(b"{\"a\": 1}"))
    });
    let structured = (more(), any::<bool>(), mark).prop_map(move |(more, null, mark)| {
        let member = |(name, value): (String, String)| {
            let value =
                if null && value == "x" { "null".to_owned() } else { serde_json::to_string(&value).unwrap() };
            format!("{}:{value}", serde_json::to_string(&name).unwrap())
        };
        let members: Vec<_> = required().into_iter().chain(more).map(member).collect();
        (headers(&mark), Bytes::from(format!("{{{},\"data\":{{\"a\": 1}}}}", members.join(","))))
    });
    prop_oneof![binary, structured]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4_096, ..ProptestConfig::default() })]

    #[test]
    fn what_is_mended_is_a_valid_event_and_what_is_valid_is_not_touched((headers, body) in any_message()) {
        let strict = Event::parse(&headers, &body, Reading::Strict);
        let tolerant = Event::parse(&headers, &body, Reading::Tolerant);
        if let Ok((event, mends)) = &strict {
            prop_assert!(mends.is_empty());
            prop_assert_eq!(tolerant.as_ref(), Ok(&(event.clone(), *mends)));
            prop_assert_eq!(&tolerant.unwrap().0.structured, &event.structured);
            return Ok(());
        }
        prop_assert_eq!(strict.unwrap_err().to_string().contains("reads strictly"), tolerant.is_ok());
        let Ok((event, mends)) = tolerant else { return Ok(()) };
        prop_assert!(!mends.is_empty());
        prop_assert_eq!(event.data.as_ref().map(|data| data.bytes().to_vec()), Some(b"{\"a\": 1}".to_vec()));
        let fragment = mends.iter().any(|mend| mend == Mend::DataschemaFragment);
        prop_assert_eq!(fragment, event.dataschema.as_deref().is_some_and(|schema| schema.contains('#')));
        let plain = if fragment { Event { dataschema: None, structured: None, ..event.clone() } } else { event };
        let marked = super::headers(&[("Content-Type", "application/cloudevents+json")]);
        let again = Event::parse(&marked, &plain.to_structured(), Reading::Strict);
        prop_assert_eq!(again.map(|(event, _)| event), Ok(plain.clone()));
        let (headers, body) = plain.to_nats_binary();
        prop_assert!(Event::parse(&headers, &body, Reading::Strict).is_ok());
    }
}
