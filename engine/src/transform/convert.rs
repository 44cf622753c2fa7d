//! Events into a guest and verdicts out of it. In, everything is borrowed and copied once, into the guest's memory. Out,
//! nothing goes on that [`super::check`] and the rules of the event model don't allow.

use bytes::Bytes;

use super::bindings::exports::hookmill::transform::handler;
use super::bindings::hookmill::transform::types;
use super::check;
use super::errors::guest_text;
use crate::model::event::{EventError, EventParts};
use crate::model::{Data, Event, Output, Value, Verdict};

/// How what a guest returned breaks the contract. For a person; nothing in it is payload.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{0}")]
    Event(#[from] EventError),
    #[error("the data is not JSON, though datacontenttype is {0}; set another datacontenttype")]
    NotJson(String),
    #[error("header {name:?} {what}")]
    Header { name: String, what: &'static str },
    #[error("it sets {found} headers, the most is {max}")]
    HeaderCount { found: usize, max: usize },
    #[error("its headers are {found} bytes, the most is {max}")]
    HeaderBytes { found: usize, max: usize },
    #[error("it splits into {found} events, the most is {max}")]
    SplitCount { found: usize, max: usize },
    #[error("it is {found} bytes, the limit is output = {max:?}; raise `output` of the step")]
    Size { found: u64, max: String },
    #[error("output {index}: {problem}")]
    At { index: usize, problem: Box<Problem> },
}

/// The extensions as a guest gets them; apart from [`event`], which borrows them.
pub(super) fn extensions(event: &Event) -> Vec<types::ExtensionParam<'_>> {
    let value = |value| match value {
        &Value::Integer(integer) => types::ValueParam::Integer(integer),
        &Value::Boolean(boolean) => types::ValueParam::Boolean(boolean),
        Value::Text(text) => types::ValueParam::Text(text),
    };
    event.extensions.iter().map(|(name, it)| types::ExtensionParam { name, value: value(it) }).collect()
}

/// The event as a guest gets it.
pub(super) fn event<'a>(event: &'a Event, extensions: &'a [types::ExtensionParam<'a>]) -> handler::Event<'a> {
    handler::Event {
        id: &event.id,
        source: &event.source,
        type_: &event.ty,
        subject: event.subject.as_deref(),
        time: event.time.as_deref(),
        datacontenttype: event.datacontenttype.as_deref(),
        dataschema: event.dataschema.as_deref(),
        extensions,
        data: event.data.as_ref().map(|data| &data.bytes()[..]),
    }
}

/// What the guest decided about `input`, checked.
pub(super) fn verdict(verdict: types::Verdict, input: &Event, output_bytes: u64) -> Result<Verdict, Problem> {
    match verdict {
        types::Verdict::Keep => Ok(Verdict::Keep),
        types::Verdict::Drop(why) => Ok(Verdict::Drop(guest_text(why))),
        types::Verdict::Replace(found) => {
            check::total_size(std::slice::from_ref(&found), output_bytes)?;
            output(found, input).map(Verdict::Replace)
        }
        types::Verdict::Split(found) => {
            check::split_count(found.len())?;
            check::total_size(&found, output_bytes)?;
            let numbered = found.into_iter().enumerate();
            numbered
                .map(|(index, found)| part(index, found, input))
                .collect::<Result<_, _>>()
                .map(Verdict::Split)
        }
    }
}

/// One output of a split. One that kept the id gets `<id>-<index>`: no two of the outputs may pass for one event.
fn part(index: usize, mut found: types::Output, input: &Event) -> Result<Output, Problem> {
    if found.event.id == input.id {
        found.event.id = format!("{}-{index}", input.id);
    }
    output(found, input).map_err(|problem| Problem::At { index, problem: Box::new(problem) })
}

fn output(found: types::Output, input: &Event) -> Result<Output, Problem> {
    check::headers(&found.headers)?;
    let event = input.changed(parts(found.event))?;
    check_data(&event, input)?;
    let headers = found.headers.into_iter().map(|header| (header.name, header.value)).collect();
    Ok(Output { event, headers })
}

fn parts(event: types::EventResult) -> EventParts {
    let value = |value| match value {
        types::ValueResult::Text(text) => Value::Text(text),
        types::ValueResult::Integer(integer) => Value::Integer(integer),
        types::ValueResult::Boolean(boolean) => Value::Boolean(boolean),
    };
    EventParts {
        id: event.id,
        source: event.source,
        ty: event.type_,
        subject: event.subject,
        time: event.time,
        datacontenttype: event.datacontenttype,
        dataschema: event.dataschema,
        extensions: event.extensions.into_iter().map(|it| (it.name, value(it.value))).collect(),
        data: event.data.map(Bytes::from),
    }
}

/// Data that a guest made is JSON if its content type says so. Data that came without being what its type says is none
/// of the guest's doing.
fn check_data(event: &Event, input: &Event) -> Result<(), Problem> {
    let Some(data @ Data::Binary(_)) = &event.data else { return Ok(()) };
    let named = event.datacontenttype.as_deref();
    let declares_json = matches!(Data::classify(named, Bytes::from_static(b"0")), Data::Json(_));
    let untouched = input.data.as_ref() == Some(data);
    let unnamed_binary =
        named.is_none() && input.datacontenttype.is_none() && matches!(input.data, Some(Data::Binary(_)));
    if !declares_json || untouched || unnamed_binary {
        return Ok(());
    }
    Err(Problem::NotJson(named.map_or_else(|| "not set".to_owned(), |named| format!("{named:?}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> Event {
        let text = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","big":1,"data":{"n":10000000000000000000001}}"#;
        Event::from_structured(&Bytes::from_static(text)).unwrap()
    }

    fn same(event: &Event) -> types::EventResult {
        let extension = |(name, _): &(String, Value)| types::ExtensionResult {
            name: name.clone(),
            value: types::ValueResult::Integer(1),
        };
        types::EventResult {
            id: event.id.clone(),
            source: event.source.clone(),
            type_: event.ty.clone(),
            subject: None,
            time: None,
            datacontenttype: event.datacontenttype.clone(),
            dataschema: None,
            extensions: event.extensions.iter().map(extension).collect(),
            data: event.data.as_ref().map(|data| data.bytes().to_vec()),
        }
    }

    fn replace(event: types::EventResult) -> Result<Verdict, Problem> {
        verdict(types::Verdict::Replace(types::Output { event, headers: vec![] }), &input(), 1 << 20)
    }

    #[test]
    fn an_event_that_comes_back_as_it_went_in_keeps_its_bytes() {
        let Ok(Verdict::Replace(output)) = replace(same(&input())) else { panic!("no replace") };
        assert_eq!(output.event.structured, input().structured);
    }

    #[test]
    fn data_must_be_what_its_content_type_says() {
        let with = |named: Option<&str>, data: &[u8]| {
            let (datacontenttype, data) = (named.map(str::to_owned), Some(data.to_vec()));
            replace(types::EventResult { datacontenttype, data, ..same(&input()) })
        };
        assert!(with(None, b"{}").is_ok());
        assert!(with(Some("text/plain"), b"{").is_ok());
        assert!(with(Some("application/octet-stream"), b"\xff").is_ok());
        for (named, shown) in [(None, "not set"), (Some("application/x+json"), "\"application/x+json\"")] {
            assert_eq!(with(named, b"{"), Err(Problem::NotJson(shown.to_owned())));
            assert_eq!(with(named, b"\"\xff\""), Err(Problem::NotJson(shown.to_owned())));
        }
    }

    #[test]
    fn split_events_get_numbers_unless_they_have_ids() {
        let own = types::EventResult { id: "mine".into(), ..same(&input()) };
        let outputs = [same(&input()), own, same(&input())];
        let outputs = outputs.map(|event| types::Output { event, headers: vec![] });
        let split = verdict(types::Verdict::Split(outputs.into()), &input(), 1 << 20);
        let Ok(Verdict::Split(outputs)) = split else { panic!("{split:?}") };
        let ids: Vec<_> = outputs.iter().map(|output| output.event.id.as_str()).collect();
        assert_eq!(ids, ["1-0", "mine", "1-2"]);
    }

    #[test]
    fn a_problem_in_a_split_says_which_output_it_is() {
        let bad = types::EventResult { type_: String::new(), ..same(&input()) };
        let outputs = [same(&input()), bad].map(|event| types::Output { event, headers: vec![] });
        let problem = verdict(types::Verdict::Split(outputs.into()), &input(), 1 << 20).unwrap_err();
        assert_eq!(problem.to_string(), "output 1: attribute type is empty");
    }
}
