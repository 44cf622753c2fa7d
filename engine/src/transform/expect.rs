//! What became of an event in a step, written as JSON: to be shown, to be expected, to be compared.
//!
//! ```json
//! "keep"
//! { "drop": "a test order" }
//! { "replace": { …members of the event… }, "headers": { "x-shop": "eu" } }
//! { "split": [ { "event": { … }, "headers": { … } } ] }
//! { "rejected": "the event has no data" }   { "retry": "…" }   { "trap": "…" }   { "timeout": "…" }
//! ```

use serde_json::{Map, Value, json};

use super::errors::Broken;
use crate::model::event::EventError;
use crate::model::{Event, Output, Verdict};

/// What a step made of an event.
#[expect(clippy::large_enum_variant, reason = "one is alive at a time")]
#[derive(Debug)]
pub enum Outcome {
    /// The module decided.
    Verdict(Verdict),
    /// It refuses the event for good; its text.
    Rejected(String),
    /// It wants to be asked again later; its text.
    Retry(String),
    /// It is stopped by a time-out.
    Timeout(String),
    /// It ended in any other way, or what it returned breaks the contract.
    Trap(String),
}

impl Outcome {
    pub(super) fn broken(broken: &Broken) -> Self {
        match broken {
            Broken::Timeout { .. } | Broken::HostInstances { .. } => Self::Timeout(broken.problem()),
            Broken::Trap(_)
            | Broken::Memory { .. }
            | Broken::Table { .. }
            | Broken::Return { .. }
            | Broken::HostMemory { .. }
            | Broken::Sandbox(_)
            | Broken::Settings(_) => Self::Trap(broken.problem()),
        }
    }

    /// The word that it is known by.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Verdict(Verdict::Keep) => "keep",
            Self::Verdict(Verdict::Drop(_)) => "drop",
            Self::Verdict(Verdict::Replace(_)) => "replace",
            Self::Verdict(Verdict::Split(_)) => "split",
            Self::Rejected(_) => "rejected",
            Self::Retry(_) => "retry",
            Self::Timeout(_) => "timeout",
            Self::Trap(_) => "trap",
        }
    }

    /// Whether the event goes on, or ends on purpose.
    pub fn is_verdict(&self) -> bool {
        matches!(self, Self::Verdict(_))
    }

    /// In the form that this file's head shows.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Verdict(Verdict::Keep) => json!("keep"),
            Self::Verdict(Verdict::Drop(text))
            | Self::Rejected(text)
            | Self::Retry(text)
            | Self::Timeout(text)
            | Self::Trap(text) => json!({ self.word(): text }),
            Self::Verdict(Verdict::Replace(output)) => {
                let mut object = Map::new();
                object.insert("replace".to_owned(), event_json(&output.event));
                with_headers(&mut object, headers_json(output));
                Value::Object(object)
            }
            Self::Verdict(Verdict::Split(outputs)) => {
                let parts = outputs.iter().map(|output| {
                    let mut object = Map::new();
                    object.insert("event".to_owned(), event_json(&output.event));
                    with_headers(&mut object, headers_json(output));
                    Value::Object(object)
                });
                json!({ "split": parts.collect::<Vec<_>>() })
            }
        }
    }
}

fn event_json(event: &Event) -> Value {
    serde_json::from_slice(&event.to_structured()).unwrap_or_default()
}

fn headers_json(output: &Output) -> Map<String, Value> {
    output.headers.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect()
}

fn with_headers(object: &mut Map<String, Value>, headers: Map<String, Value>) {
    if !headers.is_empty() {
        object.insert("headers".to_owned(), Value::Object(headers));
    }
}

/// What is expected of a step.
#[derive(Clone, PartialEq, Debug)]
pub enum Expect {
    /// This word, whatever the text.
    Word(&'static str),
    /// This word with this text.
    Text(&'static str, String),
    /// The event with these members instead of its own (null: without).
    Replace(Part),
    /// Several events, each described like that.
    Split(Vec<Part>),
}

/// One event that is expected, and its headers: these and no others.
#[derive(Clone, PartialEq, Debug)]
pub struct Part {
    members: Map<String, Value>,
    headers: Map<String, Value>,
}

/// Why a JSON value expects nothing that can be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExpectError {
    /// None of the forms.
    #[error(
        "write \"keep\", \"drop\", \"rejected\", \"retry\", \"trap\" or \"timeout\", one of these but keep with its text as in \
         {{\"drop\": \"why\"}}, {{\"replace\": {{members of the event}}}} or {{\"split\": [{{\"event\": {{…}}}}]}}, the last two with \"headers\""
    )]
    Form,
    /// A key that means nothing there.
    #[error("{0:?} means nothing there")]
    Key(String),
    /// What is expected can't be an event.
    #[error("no such event can be: {0}")]
    Event(EventError),
}

const WORDS: [&str; 6] = ["keep", "drop", "rejected", "retry", "trap", "timeout"];

impl Expect {
    /// Reads one of the forms at this file's head, a word alone, or an event that is expected as it is.
    pub fn parse(value: &Value) -> Result<Self, ExpectError> {
        let word = |name: &str| WORDS.into_iter().find(|word| *word == name);
        match value {
            Value::String(name) => word(name).map(Self::Word).ok_or(ExpectError::Form),
            Value::Object(object) if object.contains_key("specversion") => {
                Ok(Self::Replace(Part { members: object.clone(), headers: Map::new() }))
            }
            Value::Object(object) if object.contains_key("replace") => {
                part(object, "replace").map(Self::Replace)
            }
            Value::Object(object) => match object.iter().next() {
                Some((name, Value::Array(parts))) if name == "split" && object.len() == 1 => {
                    let parts =
                        parts.iter().map(|value| part(value.as_object().ok_or(ExpectError::Form)?, "event"));
                    parts.collect::<Result<_, _>>().map(Self::Split)
                }
                Some((name, Value::String(text))) if name != "keep" && object.len() == 1 => {
                    let word = word(name).ok_or(ExpectError::Form)?;
                    Ok(Self::Text(word, text.clone()))
                }
                _ => Err(ExpectError::Form),
            },
            _ => Err(ExpectError::Form),
        }
    }

    /// What [`Outcome::to_json`] has to be for this event. `outcome` fills in the texts that are not expected.
    pub fn wanted(&self, event: &Event, outcome: &Outcome) -> Result<Value, ExpectError> {
        Ok(match self {
            Self::Word("keep") => json!("keep"),
            Self::Word(word) if *word == outcome.word() => outcome.to_json(),
            Self::Word(word) => json!({ *word: "…" }),
            Self::Text(word, text) => json!({ *word: text }),
            Self::Replace(part) => Value::Object(part.wanted(event, "replace")?),
            Self::Split(parts) => {
                let parts = parts.iter().map(|part| part.wanted(event, "event").map(Value::Object));
                json!({ "split": parts.collect::<Result<Vec<_>, _>>()? })
            }
        })
    }
}

fn part(object: &Map<String, Value>, event_key: &str) -> Result<Part, ExpectError> {
    if let Some(key) = object.keys().find(|key| *key != event_key && *key != "headers") {
        return Err(ExpectError::Key(key.clone()));
    }
    let map = |key: &str| match object.get(key) {
        Some(Value::Object(map)) => Ok(map.clone()),
        None if key == "headers" => Ok(Map::new()),
        _ => Err(ExpectError::Form),
    };
    let headers = map("headers")?;
    if !headers.values().all(Value::is_string) {
        return Err(ExpectError::Form);
    }
    let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    Ok(Part { members: map(event_key)?, headers })
}

impl Part {
    fn wanted(&self, event: &Event, event_key: &str) -> Result<Map<String, Value>, ExpectError> {
        let mut whole = match event_json(event) {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        for (data, other) in [("data", "data_base64"), ("data_base64", "data")] {
            if self.members.contains_key(data) {
                whole.remove(other);
            }
        }
        for (name, value) in &self.members {
            if value.is_null() && name != "data" {
                whole.remove(name);
            } else {
                whole.insert(name.clone(), value.clone());
            }
        }
        let text = Value::Object(whole).to_string();
        let event = Event::from_structured(&text.into()).map_err(ExpectError::Event)?;
        let mut object = Map::new();
        object.insert(event_key.to_owned(), event_json(&event));
        with_headers(&mut object, self.headers.clone());
        Ok(object)
    }
}
