//! Publishing to a NATS subject instead of a webhook, with a publish ack.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;

use crate::model::{Code, Event, Fault, Finished, Reason, Stage, SubjectTemplate, Task, Whose};
use crate::nats::{Nats, Prefix, StoreError};

/// How often an event may be published onward by pipelines before it is taken for a loop.
const HOPS_MAX: u32 = 16;
/// The pseudo header by which the finished result carries its subject from `render` to `send`.
const SUBJECT: &str = "hookmill-subject";

/// Where and how to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The subject, to be filled in for each event.
    pub subject: SubjectTemplate,
    /// How long to wait for the ack.
    pub timeout: Duration,
}

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Takes a message to the stream that wants it and waits until it is stored: JetStream, or what stands in for it where
/// nothing may be sent (`hookmill test`).
pub trait Outlet: Send + Sync {
    /// One message, one ack.
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), StoreError>>;
}

impl Outlet for Nats {
    fn publish(&self, message: Message) -> BoxFuture<'_, Result<(), StoreError>> {
        let Message { subject, headers, body } = message;
        Box::pin(self.store(subject, headers, body).map_ok(|_| ()))
    }
}

/// Publishes results of one subscription.
pub struct Publisher {
    settings: Settings,
    prefix: Prefix,
    outlet: Box<dyn Outlet>,
}

impl Publisher {
    /// Publishes through `outlet`, for an engine with this prefix.
    pub fn new(settings: Settings, prefix: Prefix, outlet: impl Outlet + 'static) -> Self {
        Self { settings, prefix, outlet: Box::new(outlet) }
    }

    /// The settings it was made from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The message: the event in structured mode.
    pub fn render(&self, event: &Event) -> Finished {
        Finished {
            content_type: Some("application/cloudevents+json".to_owned()),
            headers: vec![(SUBJECT.to_owned(), self.settings.subject.render(event))],
            body: event.to_structured(),
        }
    }

    /// Publishes and waits for the ack. Repeats of one piece of work share a message id, so a stream drops them
    /// within its deduplication window. Engines with another prefix have other ids: their pipelines may have the same names.
    pub async fn send(&self, finished: &Finished, task: &Task) -> Result<(), Fault> {
        let subject = finished.headers.iter().find(|(name, _)| name == SUBJECT);
        let Some(subject) = subject.map(|(_, subject)| subject.clone()) else {
            let detail = "it was finished for a webhook and names no subject; redrive it with --rerun";
            let (code, reason) = (Code::Publish, Reason::Config);
            return Err(Fault::never(Stage::Deliver, code, Whose::Operator, reason, detail));
        };
        if self.prefix.is_own_subject(&subject) {
            let detail = format!(
                "{subject} is a subject of the engine's own, where nothing may be published; begin subject with text of its own \
                 in [subscription.publish]"
            );
            let (code, reason) = (Code::Publish, Reason::Config);
            return Err(Fault::never(Stage::Deliver, code, Whose::Operator, reason, detail));
        }
        if task.hops >= HOPS_MAX {
            let detail = format!(
                "the event was published onward {} times already; look for a loop of pipelines, or deliver it otherwise",
                task.hops
            );
            let (code, reason) = (Code::Publish, Reason::Config);
            return Err(Fault::never(Stage::Deliver, code, Whose::Operator, reason, detail));
        }
        let mut headers = vec![
            ("Nats-Msg-Id".to_owned(), format!("{}.{}.{}", self.prefix.as_str(), task.key, task.generation)),
            ("Hookmill-Delivery-Id".to_owned(), task.delivery_id.to_string()),
            ("Hookmill-Hops".to_owned(), (task.hops + 1).to_string()),
        ];
        if let Some(content_type) = &finished.content_type {
            headers.push(("Content-Type".to_owned(), content_type.clone()));
        }
        if let Some(traceparent) = &task.traceparent {
            headers.push(("traceparent".to_owned(), traceparent.clone()));
        }
        let message = Message { subject: subject.clone(), headers, body: finished.body.clone() };
        let stored = self.outlet.publish(message);
        match tokio::time::timeout(self.settings.timeout, stored).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(fault(&error, &subject)),
            Err(_) => Err(fault(&StoreError::Unknown, &subject)),
        }
    }
}

fn fault(error: &StoreError, subject: &str) -> Fault {
    let detail = format!("publish to {subject}: {error}");
    match error {
        StoreError::TooLarge => {
            let reason = Reason::TargetTooLarge;
            Fault::never(Stage::Deliver, Code::TooLarge, Whose::Operator, reason, detail)
        }
        StoreError::Forbidden => {
            Fault::never(Stage::Deliver, Code::Publish, Whose::Operator, Reason::Config, detail)
        }
        StoreError::WrongLast | StoreError::Unknown | StoreError::NoStream | StoreError::Refused(_) => {
            Fault::later(Stage::Deliver, Code::Publish, Whose::Operator, Reason::Exhausted, detail)
        }
    }
}
