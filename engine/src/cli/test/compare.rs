//! What was expected against what became of the event: a text for each difference.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::diff::diff;
use super::outlet::{Address, Sent};
use super::stage::{Ended, Outcome};
use crate::config::suite::{Delivered, End, HeaderCheck, Test};
use crate::model::event::{Reading, STRUCTURED_CONTENT_TYPE};
use crate::model::{Event, Name, Reason};

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mismatch {
    /// The subscription, with the number of the output after a split; empty: the pipeline as a whole.
    pub(super) place: String,
    /// One line.
    pub(super) text: String,
    /// Lines with `-` for expected and `+` for found.
    pub(super) diff: Option<String>,
}

/// Everything that is not as the test expects it.
pub(super) fn compare(test: &Test, outcome: &Outcome) -> Vec<Mismatch> {
    let whole = |text: String| vec![Mismatch { place: String::new(), text, diff: None }];
    match (&test.rejected, outcome) {
        (Some(expected), Outcome::Rejected(reason, _)) if expected.value == *reason => Vec::new(),
        (Some(expected), Outcome::Rejected(reason, error)) => {
            whole(format!("expected rejected as {}, but it is rejected as {reason}: {error}", expected.value))
        }
        (Some(expected), Outcome::Ends(_)) => {
            whole(format!("expected rejected as {}, but the pipeline takes the event", expected.value))
        }
        (None, Outcome::Rejected(reason, error)) => {
            whole(format!("the pipeline rejects the event as {reason}: {error}"))
        }
        (None, Outcome::Ends(ends)) => {
            let of_one = |(name, expected): &(_, Vec<End>)| subscription(name_of(name), expected, ends);
            test.expect.iter().flat_map(of_one).collect()
        }
    }
}

fn name_of(at: &crate::config::suite::At<String>) -> &str {
    &at.value
}

fn subscription(name: &str, expected: &[End], ends: &HashMap<Name, Vec<Ended>>) -> Vec<Mismatch> {
    let found = ends.iter().find(|(known, _)| known.as_str() == name).map_or(&[][..], |(_, ends)| ends);
    if let ([End::Unmatched], []) = (expected, found) {
        return Vec::new();
    }
    if expected.len() != found.len() || expected.contains(&End::Unmatched) {
        let wanted: Vec<String> = expected.iter().map(wanted).collect();
        let there: Vec<String> = found.iter().map(there).collect();
        let there = if there.is_empty() {
            "unmatched: it doesn't want this type".to_owned()
        } else {
            there.join("; ")
        };
        let text = format!("expected {}, but it is {there}", wanted.join("; "));
        return vec![Mismatch { place: name.to_owned(), text, diff: None }];
    }
    let place =
        |number: usize| if expected.len() == 1 { name.to_owned() } else { format!("{name}[{number}]") };
    let pairs = expected.iter().zip(found).enumerate();
    pairs.flat_map(|(number, (expected, found))| one(&place(number), expected, found)).collect()
}

/// One end against one expectation.
fn one(place: &str, expected: &End, found: &Ended) -> Vec<Mismatch> {
    let fine = match (expected, found) {
        (End::Delivered(expected), Ended::Delivered(sent)) => {
            let texts = delivery(expected, sent).into_iter();
            return texts.map(|(text, diff)| Mismatch { place: place.to_owned(), text, diff }).collect();
        }
        (End::Filtered(why), Ended::Filtered(found)) => why.as_ref().is_none_or(|why| why == found),
        (End::DeadLettered { reason, error }, Ended::DeadLettered { reason: found, error: said }) => {
            reason == found && error.as_ref().is_none_or(|error| said.contains(error.as_str()))
        }
        (
            End::Delivered(_) | End::Filtered(_) | End::DeadLettered { .. } | End::Unmatched,
            Ended::Delivered(_) | Ended::Filtered(_) | Ended::DeadLettered { .. },
        ) => false,
    };
    if fine {
        return Vec::new();
    }
    let text = format!("expected {}, but it is {}", wanted(expected), there(found));
    vec![Mismatch { place: place.to_owned(), text, diff: None }]
}

fn wanted(end: &End) -> String {
    match end {
        End::Delivered(_) => "delivered".to_owned(),
        End::Filtered(None) => "filtered".to_owned(),
        End::Filtered(Some(why)) => format!("filtered ({why:?})"),
        End::DeadLettered { reason, error: None } => dead(*reason),
        End::DeadLettered { reason, error: Some(error) } => {
            format!("{} with {error:?} in its error", dead(*reason))
        }
        End::Unmatched => "unmatched".to_owned(),
    }
}

fn there(end: &Ended) -> String {
    match end {
        Ended::Delivered(Sent { to: Address::Url(url), .. }) => format!("delivered to {url}"),
        Ended::Delivered(Sent { to: Address::Subject(subject), .. }) => format!("published to {subject}"),
        Ended::Filtered(why) => format!("filtered ({why:?})"),
        Ended::DeadLettered { reason, error } => format!("{}: {error}", dead(*reason)),
    }
}

fn dead(reason: Reason) -> String {
    format!("dead-lettered as {reason}")
}

type Difference = (String, Option<String>);

fn delivery(expected: &Delivered, sent: &Sent) -> Vec<Difference> {
    let mut all = Vec::new();
    let (url, subject) = match &sent.to {
        Address::Url(url) => (Some(url), None),
        Address::Subject(subject) => (None, Some(subject)),
    };
    for (what, expected, found) in [("url", &expected.url, url), ("subject", &expected.subject, subject)] {
        if let Some(expected) = expected
            && found != Some(expected)
        {
            let found = found.map_or_else(|| "has none".to_owned(), |found| format!("is {found:?}"));
            all.push((format!("its {what} {found}, expected {expected:?}"), None));
        }
    }
    for (name, check) in &expected.headers {
        let found: Vec<&str> =
            sent.headers.iter().filter(|(have, _)| have == name).map(|(_, value)| value.as_str()).collect();
        let fine = match check {
            HeaderCheck::Is(value) => found.as_slice() == [value],
            HeaderCheck::There => !found.is_empty(),
            HeaderCheck::Absent => found.is_empty(),
        };
        if !fine {
            let expected = match check {
                HeaderCheck::Is(value) => format!("{value:?}"),
                HeaderCheck::There => "any".to_owned(),
                HeaderCheck::Absent => "none".to_owned(),
            };
            all.push((format!("header {name} {}, expected {expected}", shown(&found)), None));
        }
    }
    if let Some(body) = &expected.body {
        all.extend(json("body", body, &sent.body));
    }
    let of_event = expected.data.is_some() || expected.includes.is_some() || !expected.attributes.is_empty();
    if of_event {
        event(expected, sent, &mut all);
    }
    all
}

fn shown(found: &[&str]) -> String {
    if found.is_empty() { "isn't there".to_owned() } else { format!("is {found:?}").replace(['[', ']'], "") }
}

/// What the event that was sent is, against what is expected of it.
fn event(expected: &Delivered, sent: &Sent, all: &mut Vec<Difference>) {
    let (event, data) = match carried(sent) {
        Carried::Event(event) => {
            let data = event.data.as_ref().map(|data| data.bytes().clone()).unwrap_or_default();
            (Some(event), data)
        }
        Carried::Data => (None, sent.body.clone()),
        Carried::Broken(error) => {
            all.push((format!("what is sent is no CloudEvent: {error}"), None));
            return;
        }
    };
    for (name, expected) in &expected.attributes {
        let found = event.as_ref().and_then(|event| attribute(event, name));
        if found != *expected {
            let text = |value: &Option<String>, none: &str| {
                value.as_ref().map_or_else(|| none.to_owned(), |value| format!("{value:?}"))
            };
            let (found, expected) = (text(&found, "isn't there"), text(expected, "none"));
            let is = if found.starts_with('"') { "is " } else { "" };
            all.push((format!("attribute {name} {is}{found}, expected {expected}"), None));
        }
    }
    if let Some(expected) = &expected.data {
        all.extend(json("data", expected, &data));
    }
    if let Some(expected) = &expected.includes {
        match serde_json::from_slice::<Json>(&data) {
            Ok(found) => {
                let found = project(&found, expected);
                all.extend(
                    unequal(expected, &found).map(|diff| ("its data lacks something".to_owned(), Some(diff))),
                );
            }
            Err(_) => all.push(("its data is no JSON".to_owned(), None)),
        }
    }
}

/// What a request or a message carries.
enum Carried {
    Event(Box<Event>),
    /// The data alone.
    Data,
    Broken(String),
}

fn carried(sent: &Sent) -> Carried {
    let header =
        |name: &str| sent.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.clone());
    let content_type = header("content-type");
    let parsed = if content_type.as_deref() == Some(STRUCTURED_CONTENT_TYPE) {
        Event::from_structured(&sent.body).map_err(|error| error.to_string())
    } else if header("ce-specversion").is_some() {
        // The HTTP binding has the type of the data in a header of its own, the NATS binding among the attributes.
        let attributes = sent.headers.iter().filter(|(name, _)| name.starts_with("ce-")).cloned();
        let ty = content_type.map(|ty| ("ce-datacontenttype".to_owned(), ty));
        // What the engine itself has written has at most the breach that it lets through.
        let parsed = Event::parse(&attributes.chain(ty).collect::<Vec<_>>(), &sent.body, Reading::Tolerant);
        parsed.map(|(event, _)| event).map_err(|error| error.to_string())
    } else {
        return Carried::Data;
    };
    parsed.map_or_else(Carried::Broken, |event| Carried::Event(Box::new(event)))
}

fn attribute(event: &Event, name: &str) -> Option<String> {
    let extension = || {
        let found = event.extensions.iter().find(|(have, _)| have == name);
        found.map(|(_, value)| value.to_string())
    };
    match name {
        "specversion" => Some("1.0".to_owned()),
        "id" => Some(event.id.clone()),
        "source" => Some(event.source.clone()),
        "type" => Some(event.ty.clone()),
        "subject" => event.subject.clone(),
        "time" => event.time.clone(),
        "datacontenttype" => event.datacontenttype.clone(),
        "dataschema" => event.dataschema.clone(),
        _ => extension(),
    }
}

/// A body or data against a value: as JSON if it is JSON, else as text.
fn json(what: &str, expected: &Json, found: &[u8]) -> Option<Difference> {
    let json = serde_json::from_slice::<Json>(found).ok();
    let differs = |diff| (format!("its {what} is not as expected"), Some(diff));
    if let (Json::String(text), Some(json)) = (expected, &json)
        && let Ok(expected) = serde_json::from_str::<Json>(text)
    {
        return unequal(&expected, json).map(differs);
    }
    match (expected, json) {
        (_, Some(json)) => unequal(expected, &json).map(differs),
        (Json::String(text), None) => {
            let found = String::from_utf8_lossy(found);
            (*text != found).then(|| differs(diff(text, &found)))
        }
        (_, None) => {
            Some(differs(diff(&pretty(expected), &format!("(no JSON)\n{}", String::from_utf8_lossy(found)))))
        }
    }
}

/// The differences of two JSON values, if there are any.
fn unequal(expected: &Json, found: &Json) -> Option<String> {
    let (expected, found) = (plain(expected), plain(found));
    (expected != found).then(|| diff(&pretty(&expected), &pretty(&found)))
}

fn pretty(json: &Json) -> String {
    serde_json::to_string_pretty(json).unwrap_or_default()
}

/// Members in order and whole numbers without a fraction, so that what means the same is the same.
fn plain(json: &Json) -> Json {
    match json {
        Json::Number(number) => whole(number).map_or_else(|| json.clone(), Json::from),
        Json::Array(items) => items.iter().map(plain).collect(),
        Json::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_str());
            sorted.into_iter().map(|(name, value)| (name.clone(), plain(value))).collect()
        }
        Json::Null | Json::Bool(_) | Json::String(_) => json.clone(),
    }
}

/// `2.0` as 2. Beyond 2^53 not every whole number is a double.
fn whole(number: &serde_json::Number) -> Option<i64> {
    let float = number.as_f64().filter(|_| number.is_f64())?;
    #[expect(clippy::cast_possible_truncation, reason = "it is within 2^53")]
    let whole = float as i64;
    (float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0).then_some(whole)
}

/// What is there of the members that are expected.
fn project(found: &Json, expected: &Json) -> Json {
    match (found, expected) {
        (Json::Object(found), Json::Object(expected)) => {
            let there = expected.iter().filter_map(|(name, expected)| {
                found.get(name).map(|found| (name.clone(), project(found, expected)))
            });
            there.collect()
        }
        _ => found.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(headers: &[(&str, &str)], body: &str) -> Sent {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sent { to: Address::Url("https://a.example/".to_owned()), headers, body: body.to_owned().into() }
    }

    fn texts(expected: &Delivered, sent: &Sent) -> Vec<String> {
        delivery(expected, sent).into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn json_is_compared_as_json_and_anything_else_as_text() {
        for (expected, found, same) in [
            (json!({"a": 1, "b": [1.0]}), r#"{ "b": [1], "a": 1.0 }"#, true),
            (json!({"a": 1}), r#"{"a": 1, "b": 2}"#, false),
            (json!(r#"{"a":null}"#), r#"{"a": null}"#, true),
            (json!("plain"), "plain", true),
            (json!("plain"), "\"plain\"", true),
            (json!("plain"), "other", false),
            (json!("7"), "7", true),
            (json!(7), "seven", false),
            (json!(9_007_199_254_740_993_i64), "9007199254740993", true),
            (json!(9_007_199_254_740_993_i64), "9007199254740992", false),
        ] {
            assert_eq!(json("body", &expected, found.as_bytes()).is_none(), same, "{expected} {found}");
        }
    }

    #[test]
    fn the_event_is_found_in_each_format() {
        let body = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","region":"eu","data":{"a":1,"b":{"c":2,"d":3}}}"#;
        let structured = sent(&[("content-type", STRUCTURED_CONTENT_TYPE)], body);
        let binary = [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
            ("ce-region", "eu"),
        ];
        let data = r#"{"a":1,"b":{"c":2,"d":3}}"#;
        let has = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let of_event = vec![has("type", Some("t")), has("region", Some("eu")), has("subject", None)];
        let expected = Delivered {
            data: Some(json!({"b": {"d": 3, "c": 2}, "a": 1})),
            includes: Some(json!({"b": {"c": 2}})),
            attributes: of_event,
            ..Delivered::default()
        };
        assert_eq!(texts(&expected, &structured), [""; 0]);
        assert_eq!(texts(&expected, &sent(&binary, data)), [""; 0]);
        let alone = sent(&[("content-type", "application/json")], data);
        let expected_of_data = Delivered { attributes: Vec::new(), ..expected.clone() };
        assert_eq!(texts(&expected_of_data, &alone), [""; 0]);
        assert_eq!(texts(&expected, &alone)[0], "attribute type isn't there, expected \"t\"");
        let other = Delivered {
            includes: Some(json!({"b": {"c": 9}, "z": 1})),
            attributes: vec![has("region", None), has("type", Some("u"))],
            ..Delivered::default()
        };
        let found = delivery(&other, &structured);
        assert_eq!(found[0].0, "attribute region is \"eu\", expected none");
        assert_eq!(found[1].0, "attribute type is \"t\", expected \"u\"");
        let diff = found[2].1.as_deref().unwrap_or_default();
        assert!(diff.contains("-     \"c\": 9") && diff.contains("+     \"c\": 2"), "{diff}");
        assert!(diff.contains("-   \"z\": 1") && !diff.contains("\"d\""), "{diff}");
    }

    #[test]
    fn headers_are_there_or_not_or_have_a_value() {
        let sent = sent(&[("x-a", "1"), ("x-b", "2")], "");
        let check = |name: &str, check: HeaderCheck| {
            texts(&Delivered { headers: vec![(name.to_owned(), check)], ..Delivered::default() }, &sent)
        };
        assert_eq!(check("x-a", HeaderCheck::Is("1".to_owned())), [""; 0]);
        assert_eq!(check("x-a", HeaderCheck::There), [""; 0]);
        assert_eq!(check("x-c", HeaderCheck::Absent), [""; 0]);
        assert_eq!(check("x-a", HeaderCheck::Is("2".to_owned())), ["header x-a is \"1\", expected \"2\""]);
        assert_eq!(check("x-c", HeaderCheck::There), ["header x-c isn't there, expected any"]);
        assert_eq!(check("x-b", HeaderCheck::Absent), ["header x-b is \"2\", expected none"]);
    }
}
