//! Events as they come and go, by example; `invalid`, `readings`, `publishers`, `samples` and `properties` have the rest.

mod invalid;
mod properties;
mod publishers;
mod readings;
mod samples;

use bytes::Bytes;

use super::{Data, Event, EventError, EventParts, ParsedData, Reading, Refusal, Value};

/// Parses an event in structured mode.
fn structured(json: &str) -> Result<Event, EventError> {
    Event::from_structured(&Bytes::copy_from_slice(json.as_bytes()))
}

/// A valid event in structured mode with further members.
fn with(members: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{members}}}"#)
}

/// A valid structured event with further members, parsed.
fn parsed(members: &str) -> Event {
    structured(&with(members)).expect("a valid event")
}

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Parses an event in binary mode that has the required headers and these.
fn binary(more: &[(&str, &str)], body: &[u8]) -> Result<Event, Refusal> {
    let mut all =
        headers(&[("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]);
    all.extend(headers(more));
    strictly(&all, &Bytes::copy_from_slice(body))
}

/// The event of a message in the strict reading. The tolerant one has to read the same.
fn strictly(headers: &[(String, String)], body: &Bytes) -> Result<Event, Refusal> {
    let (event, mends) = Event::parse(headers, body, Reading::Strict)?;
    assert!(mends.is_empty());
    assert_eq!(Event::parse(headers, body, Reading::Tolerant), Ok((event.clone(), mends)));
    Ok(event)
}

fn parts() -> EventParts {
    EventParts { id: "1".into(), source: "/s".into(), ty: "t".into(), ..EventParts::default() }
}

fn json(text: &'static str) -> Data {
    Data::Json(Bytes::from_static(text.as_bytes()))
}

fn raw(bytes: &'static [u8]) -> Data {
    Data::Binary(Bytes::from_static(bytes))
}

/// The same event after it was stored and read.
fn stored(event: &Event) -> Event {
    let (headers, body) = event.to_stored();
    Event::from_stored(&headers, &body).expect("what was stored can be read")
}

/// The same event without the bytes that came.
fn rewritten(event: &Event) -> Event {
    Event { structured: None, ..event.clone() }
}

#[test]
fn structured_data_is_kept_byte_for_byte() {
    let data = r#"{"b": 12345678901234567890123456789.10, "a":[1E+2,-0, 0.10 ],"\u0061":"\u00e9\/\ud83d\ude00 \ud800","a":1}"#;
    let body = Bytes::from(with(&format!("\"data\" : {data} ")));
    let event = Event::from_structured(&body).unwrap();
    let kept = event.data.as_ref().unwrap();
    assert_eq!(kept, &Data::Json(Bytes::from(data)));
    assert_eq!(event.to_structured(), body);
    assert_eq!(event.to_structured().as_ptr(), body.as_ptr(), "nothing is copied");
    let start = body.windows(data.len()).position(|window| window == data.as_bytes()).unwrap();
    assert_eq!(kept.bytes().as_ptr(), body[start..].as_ptr(), "nothing is copied");

    assert_eq!(stored(&event).to_structured(), body);
    assert_eq!(event.to_http_binary().2, data);
    let changed =
        event.changed(EventParts { subject: Some("new".into()), ..EventParts::from(&event) }).unwrap();
    assert_eq!(changed.to_http_binary().2, data);
    assert_eq!(changed.structured, None);
    assert_eq!(stored(&changed), changed);
    let again = Event::from_structured(&changed.to_structured()).unwrap();
    assert_eq!(again, changed);
}

#[test]
fn an_envelope_is_read_whatever_its_spelling() {
    let body = " \r\n\t{ \"\\u0069d\" : \"\\\"1\\u00e9\" , \"type\":\"t\",\"x\":-5,\"y\":true,\"z\":\"\",\"n\":null, \"subject\":null,
        \"source\":\"\\/s\", \"specversion\":\"1.0\", \"time\":\"2018-04-05T17:31:00Z\", \"data_base64\":null, \"0\":-0 } \n";
    let event = structured(body).unwrap();
    assert_eq!((event.id.as_str(), event.source.as_str()), ("\"1é", "/s"));
    assert_eq!(event.time.as_deref(), Some("2018-04-05T17:31:00Z"));
    assert_eq!((&event.subject, &event.data), (&None, &None));
    let text = Value::Text(String::new());
    let extensions =
        [("x", Value::Integer(-5)), ("y", Value::Boolean(true)), ("z", text), ("0", Value::Integer(0))];
    assert_eq!(event.extensions, extensions.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn the_content_type_decides_what_structured_data_is() {
    for (members, data) in [
        (r#""data":{"a":1}"#, json(r#"{"a":1}"#)),
        (r#""data":"text""#, json(r#""text""#)),
        (r#""data":"{\"a\":1}""#, json(r#""{\"a\":1}""#)),
        (r#""data":null"#, json("null")),
        (r#""datacontenttype":"Application/JSON; charset=utf-8","data":"x""#, json(r#""x""#)),
        (r#""datacontenttype":"application/vnd.x+json","data":[1]"#, json("[1]")),
        (r#""datacontenttype":"text/plain","data":"a\tb é""#, raw("a\tb é".as_bytes())),
        (r#""datacontenttype":"text/plain","data":"plain""#, raw(b"plain")),
        (r#""datacontenttype":"text/plain","data":"""#, raw(b"")),
        (r#""datacontenttype":"application/xml","data":"<a b=\"c\"/>""#, raw(b"<a b=\"c\"/>")),
        (r#""datacontenttype":"text/plain","data":{"a":1}"#, json(r#"{"a":1}"#)),
        (r#""data_base64":"eyAieHl6IjogMTIzIH0=""#, raw(br#"{ "xyz": 123 }"#)),
        (
            r#""datacontenttype":"application/json","data_base64":"eyAieHl6IjogMTIzIH0=""#,
            json(r#"{ "xyz": 123 }"#),
        ),
        (r#""datacontenttype":"application/json","data_base64":"ew==""#, raw(b"{")),
        (r#""datacontenttype":"image/png","data_base64":"\/\/8A""#, raw(b"\xff\xff\0")),
        (r#""data":1,"data_base64":null"#, json("1")),
    ] {
        let event = parsed(members);
        assert_eq!(event.data, Some(data), "{members}");
        assert_eq!(
            Event::from_structured(&rewritten(&event).to_structured()),
            Ok(event.clone()),
            "{members}"
        );
        assert_eq!(stored(&rewritten(&event)), event, "{members}");
    }
}

#[test]
fn the_content_type_decides_what_binary_data_is() {
    let of = |named: Option<&str>, body: &'static [u8]| {
        let more: Vec<_> = named.map(|named| ("ce-datacontenttype", named)).into_iter().collect();
        binary(&more, body).unwrap().data
    };
    assert_eq!(of(None, b" {\"a\": 1.0}\n"), Some(json(" {\"a\": 1.0}\n")));
    assert_eq!(of(None, b"{"), Some(raw(b"{")));
    assert_eq!(of(None, b"\"\xff\""), Some(raw(b"\"\xff\"")));
    assert_eq!(of(None, b""), None);
    assert_eq!(of(Some("application/json"), b"1 2"), Some(raw(b"1 2")));
    assert_eq!(of(Some("application/x+json"), b"[]"), Some(json("[]")));
    assert_eq!(of(Some("text/plain"), b"{}"), Some(raw(b"{}")));
}

#[test]
fn header_names_have_no_case_and_values_are_decoded() {
    let more = [
        ("CE-Subject", "Euro%20%E2%82%ac%20%F0%9F%98%80"),
        ("Ce-COUNT", "5"),
        ("ce-quoted", r#" "a \"b\"" "#),
        ("Content-Type", "text/plain"),
        ("cé", "not ours"),
        ("Nats-Msg-Id", "not ours"),
        ("ce_id", "not ours"),
    ];
    let event = binary(&more, b"{}").unwrap();
    assert_eq!(event.subject.as_deref(), Some("Euro € 😀"));
    assert_eq!(event.datacontenttype.as_deref(), Some("text/plain"), "where there is no ce-datacontenttype");
    let text = |text: &str| Value::Text(text.to_owned());
    assert_eq!(event.extensions, [("count".to_owned(), text("5")), ("quoted".to_owned(), text("a \"b\""))]);
}

#[test]
fn the_structured_mode_is_told_by_its_media_type() {
    let body = Bytes::from(with(r#""data":1"#));
    for named in [
        "application/cloudevents+json",
        "Application/CloudEvents+JSON; charset=UTF-8",
        " application/cloudevents+json ;charset=utf-8",
        "application/cloudevents",
    ] {
        let event = strictly(&headers(&[("x", "y"), ("content-TYPE", named), ("ce-id", "ignored")]), &body);
        assert_eq!(event.unwrap().id, "1", "{named}");
    }
}

#[test]
fn an_event_is_rendered_for_both_bindings() {
    let members = r#""subject":"ä b","time":"2018-04-05T17:31:00Z","dataschema":"urn:x:y","n":-5,"yes":true,"data":{"a": 1}"#;
    let event = parsed(members);
    let common = headers(&[
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-subject", "%C3%A4%20b"),
        ("ce-time", "2018-04-05T17:31:00Z"),
        ("ce-dataschema", "urn:x:y"),
        ("ce-n", "-5"),
        ("ce-yes", "true"),
    ]);
    let body = Bytes::from_static(b"{\"a\": 1}");
    assert_eq!(event.to_http_binary(), (Some("application/json".to_owned()), common.clone(), body.clone()));
    let mut nats = common;
    nats.extend(headers(&[("ce-datacontenttype", "application/json")]));
    assert_eq!(event.to_nats_binary(), (nats, body));

    let bare = parsed(r#""data_base64":"AAE=""#);
    assert_eq!(bare.to_http_binary().0, None, "nothing is known of binary data without a content type");
    assert_eq!(parsed(r#""x":1"#).to_http_binary().2, Bytes::new());
    let typed = parsed(r#""datacontenttype":"text/plain; charset=utf-8","data":"é""#);
    assert_eq!(typed.to_http_binary().0.as_deref(), Some("text/plain; charset=utf-8"));
    assert!(
        typed
            .to_nats_binary()
            .0
            .contains(&("ce-datacontenttype".into(), "text/plain;%20charset=utf-8".into()))
    );
}

#[test]
fn a_changed_event_is_written_with_data_as_its_type_asks_for() {
    let written = |named: Option<&str>, data: &'static [u8]| {
        let named = named.map(str::to_owned);
        let event =
            Event::build(EventParts { datacontenttype: named, data: Some(data.into()), ..parts() }).unwrap();
        assert_eq!(Event::from_structured(&event.to_structured()), Ok(event.clone()));
        String::from_utf8(event.to_structured().to_vec()).unwrap()
    };
    assert_eq!(written(None, b"[1.0]"), with(r#""data":[1.0]"#));
    assert_eq!(written(None, b"[1.0"), with(r#""data_base64":"WzEuMA==""#));
    for (named, data, member) in [
        ("application/json", &b"{"[..], r#""data_base64":"ew==""#),
        ("text/plain", b"a\"b\n", r#""data":"a\"b\n""#),
        ("text/plain", b"\xff", r#""data_base64":"/w==""#),
        ("image/svg+xml", b"<svg/>", r#""data":"<svg/>""#),
        ("image/png", b"png", r#""data_base64":"cG5n""#),
        ("text/plain; charset=latin1", b"plain", r#""data":"plain""#),
        ("text/plain; charset=latin1", "é".as_bytes(), r#""data_base64":"w6k=""#),
    ] {
        assert_eq!(written(Some(named), data), with(&format!(r#""datacontenttype":"{named}",{member}"#)));
    }
}

#[test]
fn data_of_ten_thousand_levels_is_carried_and_only_not_read_as_a_value() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        let event = structured(&with(&format!("\"data\":{deep}"))).unwrap();
        assert_eq!(event.data, Some(Data::Json(deep.clone().into())));
        let too_deep = "the data can't be read as JSON: recursion limit exceeded at line 1 column ";
        assert!(event.document().unwrap_err().why().starts_with(too_deep), "{:?}", event.document());
        assert_eq!(binary(&[], deep.as_bytes()).unwrap().data, event.data);
        assert_eq!(stored(&rewritten(&event)), event);
        assert_eq!(Event::from_structured(&rewritten(&event).to_structured()), Ok(event));
        let attribute = structured(&with(&format!("\"x\":{deep}"))).unwrap_err().to_string();
        assert!(attribute.starts_with("extension \"x\" is an "), "{attribute}");
    }
}

#[test]
fn the_data_as_a_value_is_parsed_once_or_said_why_not() {
    let event = parsed(r#""data":{"a":[1]}"#);
    let reading = ParsedData::new(&event);
    assert_eq!(reading.document().unwrap().to_value(), serde_json::json!({"a": [1]}));
    assert!(std::ptr::eq(reading.document().unwrap(), reading.document().unwrap()));
    for (members, why) in [
        (r#""x":1"#, "the event has no data"),
        (r#""datacontenttype":"text/plain;a=b","data":"1""#, "the data is \"text/plain\", not JSON"),
        (r#""data_base64":"MQ==""#, "the data is binary, not JSON"),
        (r#""datacontenttype":"text/json","data_base64":"ew==""#, "the data is not valid JSON"),
        (
            r#""data":"\ud800""#,
            "the data can't be read as JSON: unexpected end of hex escape at line 1 column 8",
        ),
        (r#""data":1e999"#, "the data can't be read as JSON: number out of range at line 1 column 5"),
    ] {
        assert_eq!(parsed(members).document().unwrap_err().why(), why, "{members}");
    }
}

/// So the Rust SDK's NATS binding, the Go SDK's protocols and `nats pub` send events.
#[test]
fn a_message_that_says_nothing_of_its_mode_is_structured_if_its_body_is() {
    let text = r#"{"id":"1","source":"/s","specversion":"1.0","type":"t","data":{"a":1}}"#;
    let parse = |headers: &[(&str, &str)], body: &str| {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        strictly(&headers, &Bytes::from(body.to_owned()))
    };
    let event = parse(&[], text).unwrap();
    assert_eq!((event.id.as_str(), event.structured.as_deref()), ("1", Some(text.as_bytes())));
    assert_eq!(parse(&[("Nats-Msg-Id", "x"), ("ce-traceid", "9")], text), Ok(event));
    // What says something is taken at its word.
    for headers in [[("Content-Type", "application/json")], [("ce-specversion", "1.0")]] {
        assert!(parse(&headers, text).is_err(), "{headers:?}");
    }
    for body in ["", "[]", "{}", r#"{"a":{"specversion":"1.0"}}"#, r#"["specversion"]"#] {
        let said = parse(&[], body).unwrap_err();
        assert!(matches!(said.errors(), [EventError::NotMarked(_)]), "{body}: {said}");
    }
    let broken = parse(&[], r#"{"specversion":"1.0","id":"1""#).unwrap_err();
    assert!(matches!(broken.errors(), [EventError::NotJson(_)]), "{broken}");
}

/// The Go SDK writes the header of HTTP.
#[test]
fn a_content_type_beside_the_attributes_is_the_datas() {
    let of = |headers: &[(&str, &str)]| binary(headers, b"{}").unwrap().datacontenttype;
    assert_eq!(of(&[("content-type", "text/xml")]).as_deref(), Some("text/xml"));
    let both = [("Content-Type", "text/plain"), ("ce-datacontenttype", "text/xml")];
    assert_eq!(of(&both).as_deref(), Some("text/xml"), "the binding's own header wins");
    assert_eq!(of(&[("Content-Type", "no media type")]), None, "it is none, and the event no worse for it");
}

#[test]
fn byte_order_marks_are_skipped_and_not_sent_on() {
    let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}"#;
    let marked = format!("\u{feff}{text}");
    let event = Event::from_structured(&marked.clone().into()).unwrap();
    assert_eq!(event.to_structured(), text.as_bytes());
    assert_eq!(strictly(&[], &marked.into()), Ok(event));
    let data = binary(&[("ce-datacontenttype", "application/json")], "\u{feff}{}".as_bytes()).unwrap().data;
    assert_eq!(data, Some(json("{}")));
    let data = binary(&[("ce-datacontenttype", "text/plain")], "\u{feff}{}".as_bytes()).unwrap().data;
    assert_eq!(data, Some(raw("\u{feff}{}".as_bytes())), "of other data it may be a part");
}

#[test]
fn what_a_step_did_not_touch_stays_as_it_was() {
    let event = parsed(r#""b":1,"a":2,"datacontenttype":"text/plain","data":{"a":1}"#);
    let mut parts = EventParts::from(&event);
    parts.extensions.reverse();
    let same = event.changed(parts.clone()).unwrap();
    assert_eq!(same.structured, event.structured, "nothing but the order has changed");

    let renamed = event.changed(EventParts { ty: "other".into(), ..parts.clone() }).unwrap();
    assert_eq!((&renamed.data, &renamed.structured), (&event.data, &None));
    let retyped = event.changed(EventParts { datacontenttype: None, ..parts.clone() }).unwrap();
    assert_eq!(retyped.data, Some(json(r#"{"a":1}"#)));
    let replaced = event.changed(EventParts { data: Some(Bytes::from_static(b"{}")), ..parts }).unwrap();
    assert_eq!(replaced.data, Some(raw(b"{}")), "the data is text now, as its type says");
}

#[test]
fn a_stored_event_is_no_larger_than_its_data_and_attributes() {
    let data = Bytes::from(vec![0xff; 100_000]);
    let event = binary(&[("ce-subject", "%20")], &data).unwrap();
    let (headers, body) = event.to_stored();
    assert!(body.len() <= data.len() + 80, "{}", body.len());
    assert!(headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() < 128, "{headers:?}");
    assert_eq!(Event::from_stored(&headers, &body), Ok(event));
}

#[test]
fn what_was_not_stored_by_us_is_refused() {
    let event = rewritten(&parsed(r#""data":[1]"#));
    let (good, body) = event.to_stored();
    let broken = |header: usize, value: &str| {
        let mut headers = good.clone();
        value.clone_into(&mut headers[header].1);
        Event::from_stored(&headers, &body).unwrap_err().to_string()
    };
    assert_eq!(broken(0, "text/plain"), "the stored event has no known Content-Type");
    for value in ["", "-1", "99999"] {
        assert_eq!(broken(1, value), "the stored event has no usable header Hookmill-Event-Attributes");
    }
    assert_eq!(broken(2, "other"), "the stored event has no usable header Hookmill-Event-Data");
    let cut = Event::from_stored(&good, &body.slice(..body.len() - 1)).unwrap_err();
    assert_eq!(cut.to_string(), "the stored event has broken JSON data");
    let kindless = Event::from_stored(&good[..2], &body).unwrap_err();
    assert_eq!(kindless.to_string(), "the stored event has data of no kind");
}

#[test]
fn thousands_of_extensions_are_no_trouble() {
    let members: Vec<String> = (0..20_000).map(|n| format!("\"x{n}\":{n},\"y{n}\":null")).collect();
    let event = parsed(&members.join(","));
    assert_eq!(event.extensions.len(), 20_000);
    assert_eq!(stored(&rewritten(&event)).extensions, event.extensions);
}
