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
        let mut tasks = Vec::new();
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
            delivery_id: DeliveryId::derive(&event.source, &event.id, &self.name, token, &path),
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
