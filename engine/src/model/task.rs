//! A task: one piece of work for one subscription, and its two identities.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::event::{Claims, Mends};
use super::{Event, Fault, Name, Progress, Timestamp};

/// Most modules that a task remembers; versions may be many while it is tried again and again.
const MODULES_MAX: usize = 32;

/// A message as a source stream holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceMessage {
    /// Header names and values, in order, as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl SourceMessage {
    /// The first header of this name, case ignored.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Bytes of headers as NATS counts them (`name: value\r\n`), and of the body.
    pub fn sizes(&self) -> (usize, usize) {
        let line = |(name, value): &(String, String)| name.len() + value.len() + 4;
        (self.headers.iter().map(line).sum(), self.body.len())
    }
}

/// Where a message came from. Names it for good: stream, sequence, and the time it was stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceRef {
    /// The stream's name.
    pub stream: Arc<str>,
    /// The stream sequence.
    pub sequence: u64,
    /// When the server stored it.
    pub time: Timestamp,
}

/// Attributes of the event for lists, logs and metrics. Texts are cut to 256 bytes each where they are stored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventRef {
    /// `id`.
    pub id: String,
    /// `source`.
    pub source: String,
    /// `type`.
    pub ty: String,
    /// `time`, as the publisher said it: no step changes when something happened.
    pub time: Option<Timestamp>,
    /// Nobody has checked it: the message can't be read as an event, and this is what it says of itself. It is shown with the
    /// dead letter, and nowhere else.
    pub unverified: bool,
}

impl EventRef {
    /// Names an event.
    pub fn of(event: &Event) -> Self {
        let time = event.time.as_deref().and_then(Timestamp::parse);
        Self {
            id: event.id.clone(),
            source: event.source.clone(),
            ty: event.ty.clone(),
            time,
            unverified: false,
        }
    }

    /// What a message that can't be read says of itself.
    pub fn claimed(Claims { id, source, ty }: Claims) -> Self {
        Self { id, source, ty, time: None, unverified: true }
    }
}

/// The way a task took through splits: one number a split (`2`, then `2.0`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SplitPath(Vec<u32>);

impl SplitPath {
    /// No split.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of output `index` of a split here.
    #[must_use]
    pub fn child(&self, index: u32) -> Self {
        let mut path = self.0.clone();
        path.push(index);
        Self(path)
    }

    /// Whether no split was passed.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers, outermost first.
    pub fn indices(&self) -> &[u32] {
        &self.0
    }

    /// Reads `2.0`; the empty text is the root.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::root());
        }
        text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>().map(Self)
    }
}

impl fmt::Display for SplitPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, index) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(".")?;
            }
            write!(f, "{index}")?;
        }
        Ok(())
    }
}

/// Names one piece of work in storage: 26 characters of base32 over source message, pipeline, subscription and
/// split path. Two messages never share it, whatever their events' ids are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskKey(Arc<str>);

impl TaskKey {
    /// The key of the work of `subscription` (`_`: the pipeline as a whole) on one source message.
    pub fn derive(source: &SourceRef, pipeline: &Name, subscription: &str, path: &SplitPath) -> Self {
        let sequence = source.sequence.to_string();
        let time = source.time.unix_nanos().to_string();
        let parts = [&*source.stream, &sequence, &time, pipeline.as_str(), subscription, &path.to_string()];
        Self(digest26(&parts).into())
    }

    /// The key of output `index` of a split of a task that has not the key of its names.
    #[must_use]
    pub fn child(&self, index: u32) -> Self {
        Self(digest26(&[&self.0, &index.to_string()]).into())
    }

    /// A key read from storage.
    pub fn from_stored(text: &str) -> Option<Self> {
        let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        (text.len() == 26 && text.bytes().all(token)).then(|| Self(text.into()))
    }

    /// The 26 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `webhook-id`: the same for every attempt and repeat of one delivery of one event.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DeliveryId(Arc<str>);

impl DeliveryId {
    /// `msg_` and 26 characters over event source, event id, pipeline, subscription and split path.
    pub fn derive(
        event_source: &str,
        event_id: &str,
        pipeline: &Name,
        subscription: &str,
        path: &SplitPath,
    ) -> Self {
        let digest = digest26(&[event_source, event_id, pipeline.as_str(), subscription, &path.to_string()]);
        Self(format!("msg_{digest}").into())
    }

    /// `msg_` and the 26 characters of the task key of `subscription` (`_`: the pipeline as a whole) on one source
    /// message. Two messages never share it, whatever their events say of themselves.
    pub fn of_message(source: &SourceRef, pipeline: &Name, subscription: &str, path: &SplitPath) -> Self {
        Self(format!("msg_{}", TaskKey::derive(source, pipeline, subscription, path)).into())
    }

    /// The id of output `index` of a split: the same from wherever the task came to it, whatever its steps have made
    /// of the event's own id.
    #[must_use]
    pub fn child(&self, index: u32) -> Self {
        Self(format!("msg_{}", digest26(&[&self.0, &index.to_string()])).into())
    }

    /// An id read from storage.
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Base32 (lower case, no padding) of the first 130 bits of SHA-256 over the parts, each with its length before it.
fn digest26(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut text = data_encoding::BASE32_NOPAD.encode(&hash.finalize());
    text.truncate(26);
    text.make_ascii_lowercase();
    text
}

/// A finished delivery without what belongs to the moment (time, signature) or to the settings (URL, secrets).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// The media type of the body; `None` sends no `content-type`.
    pub content_type: Option<String>,
    /// Other HTTP headers: `ce-*` in binary mode, and what steps have set.
    pub headers: Vec<(String, String)>,
    /// The body that is signed and sent.
    pub body: Bytes,
}

impl Finished {
    /// Bytes of the body and of the headers as they are stored, about.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + 3 * value.len() + 32);
        self.body.len() + headers.sum::<usize>()
    }
}

/// What a task still has to do, with what it needs for it.
#[derive(Clone, PartialEq, Debug)]
pub enum Work {
    /// Validate, match and fan out again, from the original message.
    Source(SourceMessage),
    /// Go on with step `n` (0: the first), the event being as it enters that step.
    Step(u16, Arc<Event>),
    /// Send the finished result.
    Deliver(Arc<Finished>),
}

impl Work {
    /// `source`, `step/<n>` or `deliver`: the `Hookmill-Resume` header.
    pub fn resume(&self) -> String {
        match self {
            Self::Source(_) => "source".to_owned(),
            Self::Step(step, _) => format!("step/{step}"),
            Self::Deliver(_) => "deliver".to_owned(),
        }
    }
}

/// One piece of work for one subscription, or (without one) for the pipeline as a whole. The one message format of
/// retries, lanes and dead letters carries exactly this. Cheap to clone: bytes are shared.
#[derive(Clone, PartialEq, Debug)]
pub struct Task {
    /// The pipeline.
    pub pipeline: Name,
    /// The subscription; `None` is `_`, the pipeline as a whole.
    pub subscription: Option<Name>,
    /// What is left to do.
    pub work: Work,
    /// Identity in storage.
    pub key: TaskKey,
    /// Identity for receivers.
    pub delivery_id: DeliveryId,
    /// The message it came from.
    pub source: SourceRef,
    /// The subject of that message: kept for the pipeline as a whole alone.
    pub subject: Option<Arc<str>>,
    /// The event it is about.
    pub event: Arc<EventRef>,
    /// What was mended of the event when it was admitted.
    pub mends: Mends,
    /// The way through splits.
    pub path: SplitPath,
    /// Hash of the subscription's steps, by which a stored task knows them again.
    pub steps: Arc<str>,
    /// Raised by each redrive; a wait of an older one is no copy of this.
    pub generation: u64,
    /// How often it was stored so far, as far as is known here: each stored state has one more than what it came from
    /// ([`Progress`]). 0: never, or by a version that didn't count.
    pub stores: u64,
    /// Attempts made so far.
    pub attempt: u32,
    /// When the first attempt began.
    pub first_attempt: Option<Timestamp>,
    /// What is left of the retry schedule, for a task that waits in a lane.
    pub left: Option<Duration>,
    /// HTTP headers that steps have set so far.
    pub http: Vec<(String, String)>,
    /// The modules that have worked on it, the last one last: `name@version@digest`, or `name@digest` of a file.
    pub modules: Vec<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// How often the event was published onward by pipelines before.
    pub hops: u32,
    /// The last failure, for people.
    pub last: Option<LastFault>,
    /// An earlier point of the same work that is known to fit into a message: what is stored when what has become of
    /// it is too large. It lives in memory alone: it is the event as it was admitted, or as it came from storage.
    pub fits: Option<Arc<Fits>>,
}

/// A point of a task's work that is known to fit into a message.
#[derive(Clone, PartialEq, Debug)]
pub struct Fits {
    /// The step that the event enters.
    pub step: u16,
    /// The event there.
    pub event: Arc<Event>,
    /// The HTTP headers that steps had set by then.
    pub http: Vec<(String, String)>,
}

/// What is kept of the last failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastFault {
    /// One line.
    pub error: String,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
}

impl Task {
    /// The subscription's token in subjects: its name or `_`.
    pub fn subscription_token(&self) -> &str {
        self.subscription.as_ref().map_or("_", Name::as_str)
    }

    /// How far it has come as it stands.
    pub fn progress(&self) -> Progress {
        Progress { generation: self.generation, attempt: self.attempt, stores: self.stores }
    }

    /// Whether its key is that of its source message, names and path. One that another subscription has taken over keeps the
    /// key that it had: the new owner may have work of its own on the same message.
    pub fn has_key_of_its_names(&self) -> bool {
        self.key == TaskKey::derive(&self.source, &self.pipeline, self.subscription_token(), &self.path)
    }

    /// Since when the event is on its way: by its own `time`, or when it was stored, where it has none or one that is yet to
    /// come.
    pub fn since(&self, now: Timestamp) -> Timestamp {
        self.event.time.filter(|time| *time <= now).unwrap_or(self.source.time)
    }

    /// The event as it stands now, if the work still has one.
    pub fn event_now(&self) -> Option<&Arc<Event>> {
        match &self.work {
            Work::Step(_, event) => Some(event),
            Work::Source(_) | Work::Deliver(_) => None,
        }
    }

    /// Notes that a module works on it now.
    pub fn worked_on_by(&mut self, module: &str) {
        if self.modules.last().is_some_and(|last| last == module) {
            return;
        }
        self.modules.retain(|known| known != module);
        if self.modules.len() >= MODULES_MAX {
            self.modules.remove(0);
        }
        self.modules.push(module.to_owned());
    }

    /// Takes a failure along.
    #[must_use]
    pub fn with_fault(mut self, fault: &Fault) -> Self {
        self.last = Some(LastFault { error: fault.detail.clone(), status: fault.status });
        self
    }
}

/// Why a task ended without a delivery, on purpose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Filtered {
    /// The subscription's `match` or `filter` said no.
    Filter,
    /// A step dropped it, and said why.
    Dropped(String),
    /// A step returned an empty split.
    EmptySplit,
    /// A step failed for good and has `on_error = "drop"`.
    OnError(String),
}

/// What becomes of a task. `advance` returns it; the worker stores it, waits for the ack, gives the slot back, and
/// acknowledges the held message when the last of its tasks is settled.
#[derive(Debug)]
pub enum Next {
    /// The endpoint (or the stream) has it.
    Delivered {
        /// The HTTP status; none for a publish.
        status: Option<u16>,
    },
    /// It ended here on purpose.
    Filtered(Filtered),
    /// Store it as the lease, then call `advance` again.
    Onward(Task),
    /// Try again at that time.
    Wait(Task, Timestamp, Fault),
    /// It can't be delivered.
    DeadLetter(Task, Fault),
    /// It rests in its lane, with the attempts that it had, until what it has no part in is mended.
    Held(Task, Fault),
    /// It became several.
    Split(Vec<Task>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(sequence: u64) -> SourceRef {
        SourceRef { stream: "S".into(), sequence, time: Timestamp::from_unix_nanos(1) }
    }

    #[test]
    fn keys_tell_messages_apart_and_delivery_ids_events() {
        let pipeline = Name::new("p").unwrap();
        let root = SplitPath::root();
        let key = |sequence, sub| TaskKey::derive(&source(sequence), &pipeline, sub, &root);
        assert_eq!(key(1, "a"), key(1, "a"));
        assert_ne!(key(1, "a"), key(2, "a"));
        assert_ne!(key(1, "a"), key(1, "b"));
        assert_eq!(TaskKey::from_stored(key(1, "a").as_str()), Some(key(1, "a")));

        let id = |source, id| DeliveryId::derive(source, id, &pipeline, "a", &root);
        assert_eq!(id("/s", "1"), id("/s", "1"));
        assert_ne!(id("/s1", ""), id("/s", "1"), "lengths keep the parts apart");
        assert_eq!(id("/s", "1").as_str().len(), 30);
    }

    #[test]
    fn an_id_of_a_message_follows_everything_that_names_its_work_and_nothing_else() {
        let (p, q) = (Name::new("p").unwrap(), Name::new("q").unwrap());
        let root = SplitPath::root();
        let id = |source: &SourceRef, pipeline, subscription, path| {
            DeliveryId::of_message(source, pipeline, subscription, path)
        };
        let first = source(1);
        let expected = id(&first, &p, "a", &root);
        assert_eq!(expected, id(&first.clone(), &p, "a", &root));
        assert_eq!(expected.as_str().strip_prefix("msg_").map(str::len), Some(26));

        let again = source(2);
        let made_anew = SourceRef { time: Timestamp::from_unix_nanos(2), ..first.clone() };
        let elsewhere = SourceRef { stream: "T".into(), ..first.clone() };
        assert_ne!(expected, id(&again, &p, "a", &root), "published a second time");
        assert_ne!(expected, id(&made_anew, &p, "a", &root), "the same place of a stream made anew");
        assert_ne!(expected, id(&elsewhere, &p, "a", &root), "the same place of another stream");
        assert_ne!(expected, id(&first, &q, "a", &root), "the pipeline renamed");
        assert_ne!(expected, id(&first, &p, "b", &root), "another subscription");
        assert_ne!(expected, id(&first, &p, "_", &root), "the pipeline as a whole");
        assert_ne!(expected, id(&first, &p, "a", &root.child(0)), "an output of a split");
    }

    #[test]
    fn split_paths_read_back() {
        let path = SplitPath::root().child(2).child(0);
        assert_eq!(path.to_string(), "2.0");
        assert_eq!(SplitPath::parse("2.0"), Some(path));
        assert_eq!(SplitPath::parse(""), Some(SplitPath::root()));
        assert_eq!(SplitPath::parse("2."), None);
    }
}
