//! The door of a pipeline: a message becomes a task for each subscription that wants its event, or is refused for the
//! pipeline as a whole.

use std::sync::Arc;

use super::{Pipeline, Subscription, TASK_ROOM_BYTES};
use crate::deliver;
use crate::model::event::{Claims, Mends, ParsedData};
use crate::model::{
    Code, DeliveryId, Event, EventRef, Fault, Fits, Name, Reason, SourceMessage, SourceRef, SplitPath, Stage,
    Task, TaskKey, Value, Whose, Work,
};

/// Headers that a source message may have, in bytes.
pub const SOURCE_HEADERS_BYTES_MAX: usize = 32 * 1024;
/// The header that counts how often an event was published onward.
const HOPS: &str = "Hookmill-Hops";
/// Tasks that an event commonly becomes, at most.
const TASKS_EXPECTED: usize = 4;

/// A message of a source, but for what is in it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'m> {
    /// Where it lies.
    pub source: &'m SourceRef,
    /// The subject it was published to; none: an earlier version, which didn't keep it, has stored it.
    pub subject: Option<&'m str>,
    /// Raised by each redrive.
    pub generation: u64,
}

/// What became of a message at the door.
pub enum Admitted {
    /// A task for each subscription that wants the event, and how many wanted its type but not the event.
    Tasks {
        /// To be carried on.
        tasks: Vec<Task>,
        /// Subscriptions whose `match` said no.
        filtered: Vec<Name>,
        /// Tasks of subscriptions whose `match` can't judge the event, and why.
        unjudged: Vec<(Task, Fault)>,
        /// The event, for onlookers.
        about: Arc<EventRef>,
    },
    /// It can't be taken; the task holds the message as it came.
    Refused(Box<Task>, Fault),
}

/// What the tasks of one event have in common.
struct Common {
    event: Arc<Event>,
    about: Arc<EventRef>,
    mends: Mends,
    hops: u32,
    traceparent: Option<String>,
    fits: Arc<Fits>,
}

impl Pipeline {
    /// Turns a message into tasks: parse, validate, match, filter. `max_payload` is the server's, in bytes.
    pub fn admit(&self, message: SourceMessage, arrival: Arrival<'_>, max_payload: usize) -> Admitted {
        let (headers_bytes, body_bytes) = message.sizes();
        let room = max_payload.saturating_sub(TASK_ROOM_BYTES);
        if headers_bytes > SOURCE_HEADERS_BYTES_MAX || headers_bytes + body_bytes > room {
            let detail = format!(
                "the message has {headers_bytes} bytes of headers and {body_bytes} of body; \
                 {SOURCE_HEADERS_BYTES_MAX} and {room} together fit (the server's max_payload less 64 KiB)"
            );
            let fault =
                Fault::never(Stage::Source, Code::TooLarge, Whose::Publisher, Reason::TooLarge, detail);
            // Whose it is can be told all the same: it is no larger than what the server takes.
            let event = Event::parse(&message.headers, &message.body, self.source.reading);
            let about = event.map_or_else(|_| claimed(&message), |(event, _)| EventRef::of(&event));
            return self.refuse(message, arrival, about.into(), fault);
        }
        let (event, mends) = match Event::parse(&message.headers, &message.body, self.source.reading) {
            Ok(parsed) => parsed,
            Err(refusal) => {
                let (code, reason) = (Code::NotCloudEvent, Reason::NotCloudEvent);
                let detail = refusal.to_string();
                let fault = Fault::never(Stage::Source, code, Whose::Publisher, reason, detail);
                let about = claimed(&message).into();
                return self.refuse(message, arrival, about, fault);
            }
        };
        self.mended.note(&event, mends);
        let about = Arc::new(EventRef::of(&event));
        let event = Arc::new(event);
        let data = ParsedData::new(&event);
        if let Err(fault) = self.validator.check(&data) {
            return self.refuse(message, arrival, about, fault);
        }
        let common = Common {
            hops: message.header(HOPS).map_or(0, hops),
            traceparent: traceparent(&event, &message),
            fits: Arc::new(Fits { step: 0, event: event.clone(), http: Vec::new() }),
            event: event.clone(),
            about: about.clone(),
            mends,
        };
        let (mut filtered, mut unjudged) = (Vec::new(), Vec::new());
        // Most events have few takers: room for one or two of them is a good deal less than what a list begins with.
        let mut tasks = Vec::with_capacity(self.subscriptions.len().min(TASKS_EXPECTED));
        for subscription in self.subscriptions.iter().filter(|sub| sub.filter.wants_type(&event.ty)) {
            match subscription.filter.matches(&data) {
                Ok(false) => filtered.push(subscription.name.clone()),
                Ok(true) => tasks.push(self.task(subscription, arrival, &common)),
                Err(fault) => unjudged.push((self.task(subscription, arrival, &common), fault)),
            }
        }
        Admitted::Tasks { tasks, filtered, unjudged, about }
    }

    /// The task of a subscription for an event.
    fn task(&self, subscription: &Subscription, arrival: Arrival<'_>, common: &Common) -> Task {
        let Common { event, about, .. } = common;
        let path = SplitPath::root();
        let token = subscription.name.as_str();
        Task {
            pipeline: self.name.clone(),
            subscription: Some(subscription.name.clone()),
            work: Work::Step(0, event.clone()),
            key: TaskKey::derive(arrival.source, &self.name, token, &path),
            delivery_id: self.source.webhook_id.derive(event, arrival.source, &self.name, token, &path),
            source: arrival.source.clone(),
            subject: None,
            event: about.clone(),
            mends: common.mends,
            path,
            steps: subscription.steps_hash.clone(),
            generation: arrival.generation,
            stores: 0,
            attempt: 0,
            first_attempt: None,
            left: None,
            hops: common.hops,
            http: Vec::new(),
            modules: Vec::new(),
            traceparent: common.traceparent.clone(),
            last: None,
            fits: Some(common.fits.clone()),
        }
    }

    fn refuse(
        &self,
        message: SourceMessage,
        arrival: Arrival<'_>,
        about: Arc<EventRef>,
        fault: Fault,
    ) -> Admitted {
        let task = self.whole(message, arrival, about);
        Admitted::Refused(Box::new(task.with_fault(&fault)), fault)
    }

    /// A task for the pipeline as a whole: the message as it came. Its delivery id names it alone: what a redrive sends has
    /// the id that its event has when it is read.
    pub fn whole(&self, message: SourceMessage, arrival: Arrival<'_>, about: Arc<EventRef>) -> Task {
        let path = SplitPath::root();
        Task {
            pipeline: self.name.clone(),
            subscription: None,
            work: Work::Source(message),
            key: TaskKey::derive(arrival.source, &self.name, "_", &path),
            delivery_id: DeliveryId::of_message(arrival.source, &self.name, "_", &path),
            source: arrival.source.clone(),
            subject: arrival.subject.map(Arc::from),
            event: about,
            mends: Mends::NONE,
            path,
            steps: "".into(),
            generation: arrival.generation,
            stores: 0,
            attempt: 0,
            first_attempt: None,
            left: None,
            hops: 0,
            http: Vec::new(),
            modules: Vec::new(),
            traceparent: None,
            last: None,
            fits: None,
        }
    }
}

/// What a message that can't be read says of itself.
fn claimed(message: &SourceMessage) -> EventRef {
    EventRef::claimed(Claims::of(&message.headers, Some(&message.body)))
}

/// How often the event was published onward. More than can be counted is very often; what is no number is nothing of ours.
fn hops(text: &str) -> u32 {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().unwrap_or(if is_number { u32::MAX } else { 0 })
}

/// The event's trace context: its `traceparent` extension (Distributed Tracing extension), else the message's header.
fn traceparent(event: &Event, message: &SourceMessage) -> Option<String> {
    let extension = event.extensions.iter().find(|(name, _)| name == "traceparent");
    let text = match extension {
        Some((_, Value::Text(text))) => Some(text.as_str()),
        _ => message.header("traceparent"),
    };
    text.filter(|text| deliver::is_traceparent(text)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::deliver::publish::{Message, Outlet, Publisher, Settings};
    use crate::filter::Filter;
    use crate::lane::circuit;
    use crate::lane::retry::{Jitter, Policy};
    use crate::model::event::Reading;
    use crate::model::{SubjectTemplate, Timestamp};
    use crate::nats::{Prefix, StoreError};
    use crate::pipeline::{SubscriptionParts, Target};
    use crate::source::{DeliveryIdFrom, Settings as Source, Start};
    use crate::validate::Validator;

    struct Nowhere;

    impl Outlet for Nowhere {
        fn publish(&self, _: Message) -> BoxFuture<'_, Result<(), StoreError>> {
            unreachable!("nothing is attempted")
        }
    }

    /// A pipeline with one subscription that wants everything.
    fn pipeline(reading: Reading) -> Pipeline {
        let name = |text| Name::new(text).unwrap();
        let settings =
            Settings { subject: SubjectTemplate::parse("out.all").unwrap(), timeout: Duration::from_secs(1) };
        let subscription = Subscription::new(SubscriptionParts {
            name: name("a"),
            filter: Filter::new(crate::filter::Settings::default()),
            steps: Vec::new(),
            target: Target::Publish(Publisher::new(settings, Prefix::new(&name("hookmill")), Nowhere)),
            retry: Policy { schedule: Vec::new(), jitter: Jitter::Share(0.0), max_age: None },
            concurrency: 4,
            rate: None,
            circuit: circuit::Settings::default(),
            timeout: Duration::from_secs(1),
        });
        let (stream, subjects, start, max_in_flight) = ("S".into(), Vec::new(), Start::New, 1);
        let webhook_id = DeliveryIdFrom::Event;
        let source = Source { stream, subjects, start, max_in_flight, reading, webhook_id };
        let validator = Validator::new(crate::validate::Settings::default());
        Pipeline::new(name("p"), "r".into(), source, validator, vec![subscription])
    }

    fn structured() -> SourceMessage {
        let body = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"com.shop.order","time":"2026-01-01T00:00:00Z","datacontenttype":"application/json","tenant":"t1","data":{"total":19.9}}"#;
        let headers = vec![("Content-Type".to_owned(), "application/cloudevents+json".to_owned())];
        SourceMessage { headers, body: Bytes::from_static(body.as_bytes()) }
    }

    fn binary() -> SourceMessage {
        let header = |name: &str, value: &str| (format!("ce-{name}"), value.to_owned());
        let headers = vec![
            header("specversion", "1.0"),
            header("id", "1"),
            header("source", "/shop"),
            header("type", "com.shop.order"),
            header("time", "2026-01-01T00:00:00Z"),
            header("datacontenttype", "application/json"),
            header("tenant", "t1"),
        ];
        SourceMessage { headers, body: Bytes::from_static(br#"{"total":19.9}"#) }
    }

    /// Allocations and bytes of one admission.
    fn cost(pipeline: &Pipeline, message: &SourceMessage) -> (u64, u64) {
        let time = Timestamp::from_unix_nanos(1);
        let source = SourceRef { stream: "S".into(), sequence: 1, time };
        let arrival = Arrival { source: &source, subject: Some("events.shop"), generation: 0 };
        let mut admitted = None;
        let message = message.clone();
        let cost = allocation_counter::measure(|| {
            admitted = Some(pipeline.admit(message, arrival, 1024 * 1024));
        });
        assert!(matches!(admitted, Some(Admitted::Tasks { tasks, .. }) if tasks.len() == 1));
        (cost.count_total, cost.bytes_total)
    }

    #[test]
    fn the_tolerant_reading_costs_a_valid_event_nothing() {
        for (message, allocations) in [(structured(), 25), (binary(), 30)] {
            let [strict, tolerant] = [Reading::Strict, Reading::Tolerant].map(|reading| {
                let pipeline = pipeline(reading);
                cost(&pipeline, &message);
                cost(&pipeline, &message)
            });
            assert_eq!(strict, tolerant);
            assert_eq!(tolerant.0, allocations, "{tolerant:?}");
        }
    }
}
