//! What is no event, with the exact words in which it is refused.

use bytes::Bytes;

use super::super::{Event, EventParts, Value};
use super::{binary, headers, parts, strictly, structured, with};

/// Members of an event that are wrong, and what is said about them.
const MEMBERS: &[(&str, &str)] = &[
    (r#""id":"2""#, r#""id" is there more than once"#),
    (r#""\u0069d":"2""#, r#""id" is there more than once"#),
    (r#""subject":null,"subject":"x""#, r#""subject" is there more than once"#),
    (r#""x":1,"x":1"#, r#""x" is there more than once"#),
    (r#""x":null,"x":1"#, r#""x" is there more than once"#),
    (r#""x":null,"x":null"#, r#""x" is there more than once"#),
    (r#""data":1,"data":2"#, r#""data" is there more than once"#),
    (r#""data_base64":"","data_base64":"""#, r#""data_base64" is there more than once"#),
    (r#""data":1,"data_base64":"MQ==""#, "data and data_base64 are both there"),
    (r#""data":null,"data_base64":"MQ==""#, "data and data_base64 are both there"),
    (r#""data_base64":5"#, "data_base64 is a number, not a string"),
    (r#""data_base64":{"secret":1}"#, "data_base64 is an object, not a string"),
    (r#""data_base64":"MQ""#, "data_base64 is not base64"),
    (r#""data_base64":"MR==""#, "data_base64 is not base64"),
    (r#""data_base64":"-_8=""#, "data_base64 is not base64"),
    (r#""data_base64":"MQ==\n""#, "data_base64 is not base64"),
    (r#""data_base64":"\ud800""#, "data_base64 is not base64"),
    (r#""datacontenttype":"text/plain","data":"\ud800""#, "data is a string with an unpaired surrogate"),
    (r#""subject":"""#, "attribute subject is empty"),
    (r#""subject":5"#, "attribute subject is a number, not a string"),
    (r#""subject":1.5"#, "attribute subject is a number, not a string"),
    (r#""subject":false"#, "attribute subject is a boolean, not a string"),
    (r#""subject":["x"]"#, "attribute subject is an array, not a string"),
    (r#""time":{"x":1}"#, "attribute time is an object, not a string"),
    (r#""time":"yesterday""#, r#"time is "yesterday", which is not RFC 3339: 'y' at character 1"#),
    (
        r#""time":"2018-04-05 17:31:00Z""#,
        r#"time is "2018-04-05 17:31:00Z", which is not RFC 3339: ' ' at character 11"#,
    ),
    (
        r#""time":"2018-02-30T00:00:00Z""#,
        r#"time is "2018-02-30T00:00:00Z", which is not RFC 3339: there is no such day or time"#,
    ),
    (r#""time":"""#, "attribute time is empty"),
    (
        r#""dataschema":"/schemas/a""#,
        r#"dataschema is "/schemas/a", which is not an absolute URI: it has no scheme"#,
    ),
    (
        r#""dataschema":"urn:x y""#,
        r#"dataschema is "urn:x y", which is not an absolute URI: ' ' at character 6"#,
    ),
    (r#""dataschema":"""#, "attribute dataschema is empty"),
    (
        r#""datacontenttype":"json""#,
        r#"datacontenttype is "json", which is not a media type: it ends before character 5"#,
    ),
    (
        r#""datacontenttype":"text/plain\r\nx: y""#,
        r#"datacontenttype is "text/plain\r\nx: y", which is not a media type: '\r' at character 11"#,
    ),
    (r#""datacontenttype":"""#, "attribute datacontenttype is empty"),
    (r#""x":1.0"#, r#"extension "x" is "1.0": numbers have neither fraction nor exponent"#),
    (r#""x":1e2"#, r#"extension "x" is "1e2": numbers have neither fraction nor exponent"#),
    (r#""x":2147483648"#, r#"extension "x" is "2147483648": integers go from -2147483648 to 2147483647"#),
    (r#""x":-2147483649"#, r#"extension "x" is "-2147483649": integers go from -2147483648 to 2147483647"#),
    (r#""x":{"y":1}"#, r#"extension "x" is an object: only strings, integers and booleans are allowed"#),
    (r#""x":[]"#, r#"extension "x" is an array: only strings, integers and booleans are allowed"#),
    (
        r#""traceParent":"x""#,
        r#""traceParent" is not an attribute name: names are of a-z and 0-9; write "traceparent""#,
    ),
    (r#""my_ext":null"#, r#""my_ext" is not an attribute name: names are of a-z and 0-9; write "myext""#),
    (r#""":1"#, r#""" is not an attribute name: names are of a-z and 0-9"#),
    (r#""é\n":1"#, r#""é\n" is not an attribute name: names are of a-z and 0-9"#),
    (r#""subject":"a\nb""#, r#"attribute "subject" holds the control character U+000A at character 2"#),
    (r#""subject":"a\u0080b""#, r#"attribute "subject" holds the control character U+0080 at character 2"#),
    (r#""x":"\ufffe""#, r#"attribute "x" holds the noncharacter U+FFFE at character 1"#),
    (r#""x":"\udead""#, r#"attribute "x" holds an unpaired surrogate"#),
    (r#""x":"\ud800x""#, r#"attribute "x" holds an unpaired surrogate"#),
    (
        "\"x\":\"a\nb\"",
        "the event is not JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 61",
    ),
    (r#""x":01"#, "the event is not JSON: invalid number at line 1 column 61"),
    (r#""x":tru"#, "the event is not JSON: expected ident at line 1 column 63"),
    (r#""data":{"a":1,}"#, "the event is not JSON: key must be a string at line 1 column 70"),
    (r#""data":"\x""#, "the event is not JSON: invalid escape at line 1 column 65"),
];

#[test]
fn wrong_members_are_named_with_what_is_wrong() {
    for (members, text) in MEMBERS {
        assert_eq!(structured(&with(members)).unwrap_err().to_string(), *text, "{members}");
    }
}

/// Whole bodies in structured mode.
const BODIES: &[(&str, &str)] = &[
    ("", "the event is not JSON: EOF while parsing a value at line 1 column 0"),
    ("hello", "the event is not JSON: expected value at line 1 column 1"),
    ("truth", "the event is not JSON: expected ident at line 1 column 4"),
    ("\u{feff}{}", "attribute specversion is missing"),
    ("\u{feff}\u{feff}{}", "the event is not JSON: expected value at line 1 column 1"),
    ("{", "the event is not JSON: EOF while parsing an object at line 1 column 1"),
    ("{} {}", "the event is not JSON: trailing characters at line 1 column 4"),
    ("[{}]", "the event is an array, not a JSON object"),
    (" \"x\"", "the event is a string, not a JSON object"),
    ("-5", "the event is a number, not a JSON object"),
    ("true", "the event is a boolean, not a JSON object"),
    ("null", "the event is null, not a JSON object"),
    ("{}", "attribute specversion is missing"),
    (r#"{"specversion":null}"#, "attribute specversion is missing"),
    (r#"{"specversion":""}"#, "attribute specversion is empty"),
    (r#"{"specversion":1.0}"#, "attribute specversion is a number, not a string"),
    (r#"{"specversion":"0.3"}"#, r#"specversion is "0.3": only "1.0" is supported"#),
    (r#"{"specversion":"1.0.2"}"#, r#"specversion is "1.0.2": only "1.0" is supported"#),
    (r#"{"specversion":"1.0","source":"/s","type":"t"}"#, "attribute id is missing"),
    (r#"{"specversion":"1.0","id":null,"source":"/s","type":"t"}"#, "attribute id is missing"),
    (r#"{"specversion":"1.0","id":"1","type":"t"}"#, "attribute source is missing"),
    (r#"{"specversion":"1.0","id":"1","source":"/s"}"#, "attribute type is missing"),
    (r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#, "attribute id is empty"),
    (r#"{"specversion":"1.0","id":"1","source":"","type":"t"}"#, "attribute source is empty"),
    (r#"{"specversion":"1.0","id":"1","source":"/s","type":""}"#, "attribute type is empty"),
    (r#"{"specversion":"1.0","id":7,"source":"/s","type":"t"}"#, "attribute id is a number, not a string"),
    (
        r#"{"specversion":"1.0","id":"1","source":"my service","type":"t"}"#,
        r#"source is "my service", which is not a URI-reference: ' ' at character 3"#,
    ),
    (
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\u{7f}\"}",
        r#"attribute "type" holds the control character U+007F at character 2"#,
    ),
];

#[test]
fn wrong_bodies_are_refused_with_the_reason() {
    for (body, text) in BODIES {
        assert_eq!(structured(body).unwrap_err().to_string(), *text, "{body}");
    }
    let latin1 = Bytes::from_static(b"{\"id\":\"\xe9\"}");
    assert_eq!(
        Event::from_structured(&latin1).unwrap_err().to_string(),
        "the event is not UTF-8: byte 7 is invalid"
    );
}

/// Headers beside the required ones, in binary mode, and what the strict reading says. `!`: the tolerant one takes it.
const HEADERS: &[(&str, &str, &str)] = &[
    ("CE-ID", "2", r#""id" is there more than once"#),
    ("ce-subject", "", "!attribute subject is empty"),
    (
        "ce-time",
        "50%",
        r#"header "ce-time" is "50%": a % without two hexadecimal digits, '%' at character 3"#,
    ),
    (
        "CE-Subject",
        "50%",
        r#"!header "CE-Subject" is "50%": a % without two hexadecimal digits, '%' at character 3"#,
    ),
    ("ce-time", "%C0%A0", r#"header "ce-time" is "%C0%A0", which does not decode to UTF-8"#),
    ("ce-time", "\"open", r#"header "ce-time" is "\"open": an opening quote without its closing one"#),
    (
        "ce-subject",
        "a\u{7f}%20",
        r#"attribute "subject" holds the control character U+007F at character 2 (decoded from header "ce-subject", which is "a\u{7f}%20")"#,
    ),
    ("ce-x", "\u{ffff}", r#"attribute "x" holds the noncharacter U+FFFF at character 1"#),
    ("ce-time", "now", r#"time is "now", which is not RFC 3339: 'n' at character 1"#),
    (
        "ce-datacontenttype",
        "text",
        r#"datacontenttype is "text", which is not a media type: it ends before character 5"#,
    ),
    ("ce-dataschema", "x", r#"!dataschema is "x", which is not an absolute URI: it has no scheme"#),
    ("ce-dataschema", "urn:x#y", r#"!dataschema is "urn:x#y": an absolute URI has no fragment"#),
    ("ce-", "x", r#""" is not an attribute name: names are of a-z and 0-9"#),
    ("ce-my-ext", "x", r#""my-ext" is not an attribute name: names are of a-z and 0-9; write "myext""#),
    ("ce-data", "x", "data can't be an extension: the name is taken"),
    ("ce-data_base64", "x", "data_base64 can't be an extension: the name is taken"),
];

#[test]
fn wrong_headers_are_named_with_what_is_wrong() {
    for (name, value, text) in HEADERS {
        let hint = "; this pipeline reads strictly, [source] reading = \"tolerant\" takes it";
        let text = text.strip_prefix('!').map_or((*text).to_owned(), |text| format!("{text}{hint}"));
        assert_eq!(binary(&[(name, value)], b"{}").unwrap_err().to_string(), text, "{name}: {value}");
    }
    let twice = binary(&[("ce-x", "1"), ("Ce-X", "1")], b"").unwrap_err();
    assert_eq!(twice.to_string(), r#""x" is there more than once"#);
}

/// Headers, a body, and what is said about them.
type Message<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

#[test]
fn a_message_that_is_no_event_is_told_what_is_missing() {
    let not_marked = "not a CloudEvent: there is neither a header ce-specversion nor a Content-Type of \
                      application/cloudevents+json nor, without a Content-Type, a JSON object with specversion as the body";
    let looks = "its body looks like a structured event, which takes the header Content-Type: application/cloudevents+json";
    let named = |named: &str| format!("{not_marked}; its header Content-Type is \"{named}\"; {looks}");
    let (as_json, as_text) = (named("application/json"), named("text/plain; x=application/cloudevents+json"));
    let prefixed = format!("{not_marked}; header \"ce_id\" is not taken: in NATS it is ce-id");
    let mixed = "header ce-type is missing; header \"cloudEvents:type\" is not taken: in NATS it is ce-type";
    let batch = "a batch of events is not supported: publish each event as a message of its own";
    let event = r#" {"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let all = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
    let cases: &[Message] = &[
        (&[], "hello", not_marked),
        (&[("Nats-Msg-Id", "1")], "{\"a\":1}", not_marked),
        (
            &[("ce-specversion", "1.0")],
            event,
            "header ce-id is missing; header ce-source is missing; header ce-type is missing",
        ),
        (&[("Content-Type", "application/json")], event, &as_json),
        (&[("Content-Type", "text/plain; x=application/cloudevents+json")], event, &as_text),
        (&[("ce_id", "1")], "{}", &prefixed),
        (&[all[0], all[1], all[2], ("cloudEvents:type", "t")], "{}", mixed),
        (&all[1..], "", "header ce-specversion is missing"),
        (&[all[0], all[2], all[3]], "", "header ce-id is missing"),
        (&[all[0], all[1], all[3]], "", "header ce-source is missing"),
        (&all[..3], "", "header ce-type is missing"),
        (
            &[("ce-specversion", "0.3"), all[1], all[2], all[3]],
            "",
            r#"specversion is "0.3": only "1.0" is supported"#,
        ),
        (&[("Content-Type", "application/cloudevents-batch+json")], "[]", batch),
        (&[("Content-Type", "Application/CloudEvents-Batch+json; charset=utf-8")], "[]", batch),
        (
            &[("content-type", "application/cloudevents+avro"), all[0], all[1], all[2], all[3]],
            "",
            r#"event format "application/cloudevents+avro" is not supported: only application/cloudevents+json is"#,
        ),
    ];
    for (given, body, text) in cases {
        let found = strictly(&headers(given), &Bytes::copy_from_slice(body.as_bytes()));
        assert_eq!(found.unwrap_err().to_string(), *text, "{given:?} {body}");
    }
}

#[test]
fn what_is_built_keeps_the_same_rules() {
    let extension = |name: &str, value: &str| vec![(name.to_owned(), Value::Text(value.to_owned()))];
    let twice = [extension("x", "1"), extension("x", "2")].concat();
    let cases = [
        (EventParts { id: String::new(), ..parts() }, "attribute id is empty"),
        (
            EventParts { id: "a\0".into(), ..parts() },
            r#"attribute "id" holds the control character U+0000 at character 2"#,
        ),
        (
            EventParts { source: "a b".into(), ..parts() },
            r#"source is "a b", which is not a URI-reference: ' ' at character 2"#,
        ),
        (EventParts { ty: String::new(), ..parts() }, "attribute type is empty"),
        (EventParts { subject: Some(String::new()), ..parts() }, "attribute subject is empty"),
        (
            EventParts { time: Some("12:00".into()), ..parts() },
            r#"time is "12:00", which is not RFC 3339: ':' at character 3"#,
        ),
        (
            EventParts { datacontenttype: Some("a/b\r\n".into()), ..parts() },
            r#"datacontenttype is "a/b\r\n", which is not a media type: '\r' at character 4"#,
        ),
        (
            EventParts { dataschema: Some("s".into()), ..parts() },
            r#"dataschema is "s", which is not an absolute URI: it has no scheme"#,
        ),
        (
            EventParts { extensions: extension("id", "2"), ..parts() },
            "id can't be an extension: the name is taken",
        ),
        (
            EventParts { extensions: extension("data", "2"), ..parts() },
            "data can't be an extension: the name is taken",
        ),
        (
            EventParts { extensions: extension("a-b", "2"), ..parts() },
            r#""a-b" is not an attribute name: names are of a-z and 0-9; write "ab""#,
        ),
        (
            EventParts { extensions: extension("x", "a\r\nb"), ..parts() },
            r#"attribute "x" holds the control character U+000D at character 2"#,
        ),
        (EventParts { extensions: twice, ..parts() }, r#""x" is there more than once"#),
    ];
    for (given, text) in cases {
        assert_eq!(Event::build(given).unwrap_err().to_string(), text);
    }
}

#[test]
fn error_texts_cut_values_and_never_show_data() {
    let long = "ä ".repeat(500);
    let event = format!(r#"{{"specversion":"1.0","id":"1","source":"{long}","type":"t","data":"hush"}}"#);
    let text = structured(&event).unwrap_err().to_string();
    let cut = "ä ".repeat(21);
    assert_eq!(text, format!("source is \"{cut}…\", which is not a URI-reference: 'ä' at character 1"));
    for broken in
        [r#""data":"hush"#, r#""data":{"hush"}"#, r#""data":[hush]"#, r#""data":"hush","data":"hush""#]
    {
        let text = structured(&with(broken)).unwrap_err().to_string();
        assert!(!text.contains("hush"), "{text}");
    }
}
