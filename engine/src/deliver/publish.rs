//! Publishing to a NATS subject instead of a webhook, with a publish ack.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::model::{Code, Event, Fault, Finished, Reason, Stage, Task, Value, Whose};
use crate::nats::{Nats, StoreError};

/// What a token of a subject holds as it is; all else is percent-encoded.
const TOKEN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.');
/// The pseudo header by which the finished result carries its subject from `render` to `send`.
const SUBJECT: &str = "hookmill-subject";

/// A piece of a subject template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Text as it is.
    Text(String),
    /// An attribute of the event, percent-encoded outside `[A-Za-z0-9_.-]`; empty if the event has none.
    Attribute(String),
}

/// Where and how to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The subject, in pieces.
    pub subject: Vec<Piece>,
    /// How long to wait for the ack.
    pub timeout: Duration,
}

/// Publishes results of one subscription.
pub struct Publisher {
    settings: Settings,
    nats: Nats,
}

impl Publisher {
    /// Publishes over `nats`.
    pub fn new(settings: Settings, nats: Nats) -> Self {
        Self { settings, nats }
    }

    /// The message: the event in structured mode.
    pub fn render(&self, event: &Event) -> Finished {
        Finished {
            content_type: Some("application/cloudevents+json".to_owned()),
            headers: vec![(SUBJECT.to_owned(), subject(&self.settings.subject, event))],
            body: event.to_structured(),
        }
    }

    /// Publishes and waits for the ack. Repeats of one piece of work share a message id, so a stream drops them
    /// within its deduplication window.
    pub async fn send(&self, finished: &Finished, task: &Task) -> Result<(), Fault> {
        let subject = finished.headers.iter().find(|(name, _)| name == SUBJECT);
        let subject = subject.map(|(_, subject)| subject.clone()).unwrap_or_default();
        let mut headers = vec![
            ("Nats-Msg-Id".to_owned(), format!("{}.{}", task.key, task.generation)),
            ("Hookmill-Delivery-Id".to_owned(), task.delivery_id.to_string()),
            ("Hookmill-Hops".to_owned(), (task.hops + 1).to_string()),
        ];
        if let Some(content_type) = &finished.content_type {
            headers.push(("Content-Type".to_owned(), content_type.clone()));
        }
        if let Some(traceparent) = &task.traceparent {
            headers.push(("traceparent".to_owned(), traceparent.clone()));
        }
        let stored = self.nats.store(subject.clone(), headers, finished.body.clone());
        match tokio::time::timeout(self.settings.timeout, stored).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(fault(&error, &subject)),
            Err(_) => Err(fault(&StoreError::Unknown, &subject)),
        }
    }
}

fn fault(error: &StoreError, subject: &str) -> Fault {
    let detail = format!("publish to {subject}: {error}");
    match error {
        StoreError::TooLarge => {
            Fault::never(Stage::Deliver, Code::TooLarge, Whose::Operator, Reason::TooLarge, detail)
        }
        StoreError::WrongLast | StoreError::Unknown | StoreError::NoStream | StoreError::Refused(_) => {
            Fault::later(Stage::Deliver, Code::Publish, Whose::Operator, Reason::Exhausted, detail)
        }
    }
}

fn subject(pieces: &[Piece], event: &Event) -> String {
    let mut subject = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => subject.push_str(text),
            Piece::Attribute(name) => {
                let value = attribute(event, name).unwrap_or_default();
                subject.extend(utf8_percent_encode(&value, TOKEN));
            }
        }
    }
    tidy(&subject)
}

/// A subject has no empty tokens: what an attribute left empty becomes `_`.
fn tidy(subject: &str) -> String {
    let tokens = subject.split('.').map(|token| if token.is_empty() { "_" } else { token });
    tokens.collect::<Vec<_>>().join(".")
}

fn attribute(event: &Event, name: &str) -> Option<String> {
    match name {
        "id" => Some(event.id.clone()),
        "source" => Some(event.source.clone()),
        "type" => Some(event.ty.clone()),
        "subject" => event.subject.clone(),
        "time" => event.time.clone(),
        "datacontenttype" => event.datacontenttype.clone(),
        "dataschema" => event.dataschema.clone(),
        _ => {
            let found = event.extensions.iter().find(|(have, _)| have == name);
            found.map(|(_, value)| match value {
                Value::Text(text) => text.clone(),
                Value::Integer(number) => number.to_string(),
                Value::Boolean(flag) => flag.to_string(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn subjects_are_made_of_encoded_attributes() {
        let body = r#"{"specversion":"1.0","id":"1","source":"/a b","type":"com.x","n":5}"#;
        let event = Event::from_structured(&Bytes::from(body)).unwrap();
        let make = |name: &str| {
            subject(&[Piece::Text("out.".into()), Piece::Attribute(name.into())], &event)
        };
        assert_eq!(make("type"), "out.com.x");
        assert_eq!(make("source"), "out.%2Fa%20b");
        assert_eq!(make("n"), "out.5");
        assert_eq!(make("subject"), "out._");
    }
}
