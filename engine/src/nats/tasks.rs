//! The one message format of retries, lanes and dead letters: a [`Task`] as headers and a body.
//!
//! It is built from nothing: no header of the message that a task came from is ever sent on as it is. A copied
//! `Nats-Schedule-Next` would purge a live wait, a copied `Nats-Expected-*` or `Nats-TTL` would make the task
//! unstorable. No task carries a `Nats-Msg-Id`: deduplication would swallow a later redrive and acknowledge it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::parts::{PARTS, Parts};
use crate::model::event::Mends;
use crate::model::progress::next_store;
use crate::model::task::LastFault;
use crate::model::{
    DeliveryId, Event, EventRef, Finished, Fits, Name, Progress, Reason, SourceMessage, SourceRef, SplitPath,
    Task, TaskKey, Timestamp, Work,
};

/// The format this engine writes and reads.
pub const FORMAT: &str = "1";
/// The header by which the server knows when to fire a wait: `@at` and a time.
pub const SCHEDULE: &str = "Nats-Schedule";
/// The header that says on which subject a wait is due.
pub const SCHEDULE_TARGET: &str = "Nats-Schedule-Target";
/// Longest value of a header that is there for people, in bytes, before encoding.
const SHOWN_BYTES_MAX: usize = 256;

/// What a header value can't hold as it is (`CloudEvents` NATS binding, "Header values").
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

const TASK: &str = "Hookmill-Task";
const RESUME: &str = "Hookmill-Resume";
const STEPS: &str = "Hookmill-Steps";
const KEY: &str = "Hookmill-Key";
const DELIVERY_ID: &str = "Hookmill-Delivery-Id";
const GENERATION: &str = "Hookmill-Generation";
const STORES: &str = "Hookmill-Stores";
const ATTEMPT: &str = "Hookmill-Attempt";
const FIRST_ATTEMPT: &str = "Hookmill-First-Attempt";
const LEFT: &str = "Hookmill-Left";
const SPLIT: &str = "Hookmill-Split";
const EVENT_ID: &str = "Hookmill-Event-Id";
const EVENT_SOURCE: &str = "Hookmill-Event-Source";
const EVENT_TYPE: &str = "Hookmill-Event-Type";
const EVENT_UNVERIFIED: &str = "Hookmill-Event-Unverified";
const MENDS: &str = "Hookmill-Mends";
const SOURCE_SUBJECT: &str = "Hookmill-Source-Subject";
const EVENT_TIME: &str = "Hookmill-Event-Time";
const SOURCE_STREAM: &str = "Hookmill-Source-Stream";
const SOURCE_SEQUENCE: &str = "Hookmill-Source-Sequence";
const SOURCE_TIME: &str = "Hookmill-Source-Time";
const REASON: &str = "Hookmill-Reason";
const ERROR: &str = "Hookmill-Error";
const STATUS: &str = "Hookmill-Status";
const MODULES: &str = "Hookmill-Modules";
const HTTP_PREFIX: &str = "Hookmill-Http-";
const SOURCE_HEADER_PREFIX: &str = "Hookmill-Source-Header-";
const HOPS: &str = "Hookmill-Hops";
const TRACEPARENT: &str = "traceparent";
const CONTENT_TYPE: &str = "Content-Type";

/// A stored task's headers and body.
pub type Encoded = (Vec<(String, String)>, Bytes);

/// Why a message is no task that this engine can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is no format at all: somebody else wrote it.
    #[error("it has no header {TASK}, which every task has")]
    NoTask,
    /// A format that this engine doesn't know: a newer one wrote it.
    #[error("task format {0:?} is not known to this engine (it knows {FORMAT}); upgrade it")]
    Format(String),
    /// A header is missing or not what it should be.
    #[error("task header {0} is missing or malformed")]
    Header(&'static str),
    /// The event in the body does not parse.
    #[error("the stored event can't be read: {0}")]
    Event(String),
}

impl DecodeError {
    /// Whether it can be no task of any version: somebody else has put it there.
    pub fn is_foreign(&self) -> bool {
        match self {
            Self::NoTask | Self::Header(_) => true,
            Self::Format(_) | Self::Event(_) => false,
        }
    }
}

fn encode_value(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}

fn decode_value(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// As much of a value that is there for people as is kept.
pub(super) fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(SHOWN_BYTES_MAX)]
}

fn shown(value: &str) -> String {
    encode_value(cut(value))
}

/// Why a dead letter is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Death {
    /// The reason.
    pub reason: Reason,
    /// One line for people.
    pub error: String,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
}

/// A task as a message: its next stored state, with one more store behind it.
pub fn encode(task: &Task) -> Encoded {
    let mut headers = context(task);
    let body = match &task.work {
        Work::Source(message) => {
            let kept = message.headers.iter();
            headers.extend(kept.map(|(name, value)| (source_header(name), encode_value(value))));
            message.body.clone()
        }
        Work::Step(_, event) => {
            let (stored, body) = event.to_stored();
            headers.extend(stored);
            push_http(&mut headers, &task.http);
            body
        }
        Work::Deliver(finished) => {
            if let Some(content_type) = &finished.content_type {
                headers.push((CONTENT_TYPE.to_owned(), encode_value(content_type)));
            }
            push_http(&mut headers, &finished.headers);
            finished.body.clone()
        }
    };
    (headers, body)
}

/// A dead letter as a message.
pub fn encode_dead_letter(task: &Task, death: &Death) -> Encoded {
    let (mut headers, body) = encode(task);
    push_death(&mut headers, death);
    (headers, body)
}

/// A stored task that can't be read as a dead letter, byte for byte but for what the server has put onto it.
pub fn dead_letter_as_it_is(headers: &[(String, String)], body: &Bytes, death: &Death) -> Encoded {
    let own = |(name, _): &&(String, String)| !name.to_ascii_lowercase().starts_with("nats-");
    let mut headers: Vec<_> = headers.iter().filter(own).cloned().collect();
    push_death(&mut headers, death);
    (headers, body.clone())
}

/// A dead letter whose message, no task of ours, is kept in parts.
pub fn foreign_in_parts(death: &Death, parts: &Parts) -> Encoded {
    let mut headers = Vec::new();
    push_death(&mut headers, death);
    headers.push((PARTS.to_owned(), parts.to_string()));
    (headers, Bytes::new())
}

/// A dead letter whose task is kept in parts: headers that say whose it is, each value cut.
pub fn encode_in_parts(task: &Task, death: &Death, parts: &Parts) -> Encoded {
    // The last module alone: a list that is cut would name one that doesn't exist.
    let modules = task.modules.last().cloned().into_iter().collect();
    let mut headers = context(&Task { modules, ..task.clone() });
    headers.retain(|(name, _)| name != RESUME);
    headers.push((RESUME.to_owned(), "source".to_owned()));
    push_death(&mut headers, death);
    headers.push((PARTS.to_owned(), parts.to_string()));
    for (_, value) in &mut headers {
        value.truncate(value.floor_char_boundary(SHOWN_BYTES_MAX));
    }
    (headers, Bytes::new())
}

pub(super) fn push_death(headers: &mut Vec<(String, String)>, death: &Death) {
    headers.retain(|(name, _)| name != ERROR && name != STATUS);
    headers.push((REASON.to_owned(), death.reason.as_str().to_owned()));
    headers.push((ERROR.to_owned(), encode_value(&death.error)));
    if let Some(status) = death.status {
        headers.push((STATUS.to_owned(), status.to_string()));
    }
}

fn push_http(headers: &mut Vec<(String, String)>, http: &[(String, String)]) {
    headers.extend(http.iter().map(|(name, value)| (format!("{HTTP_PREFIX}{name}"), encode_value(value))));
}

fn source_header(name: &str) -> String {
    format!("{SOURCE_HEADER_PREFIX}{}", encode_value(name))
}

/// The headers that every task has.
fn context(task: &Task) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(24);
    let mut push = |name: &str, value: String| headers.push((name.to_owned(), value));
    push(TASK, FORMAT.to_owned());
    push(RESUME, task.work.resume());
    push(STEPS, task.steps.to_string());
    push(KEY, task.key.to_string());
    push(DELIVERY_ID, task.delivery_id.to_string());
    push(GENERATION, task.generation.to_string());
    push(STORES, next_store(task.stores).to_string());
    push(ATTEMPT, task.attempt.to_string());
    if let Some(first) = task.first_attempt {
        push(FIRST_ATTEMPT, first.to_string());
    }
    if let Some(left) = task.left {
        push(LEFT, left.as_millis().to_string());
    }
    if !task.path.is_root() {
        push(SPLIT, task.path.to_string());
    }
    push(EVENT_ID, shown(&task.event.id));
    push(EVENT_SOURCE, shown(&task.event.source));
    push(EVENT_TYPE, shown(&task.event.ty));
    if let Some(time) = task.event.time {
        push(EVENT_TIME, time.to_string());
    }
    if task.event.unverified {
        push(EVENT_UNVERIFIED, "true".to_owned());
    }
    if !task.mends.is_empty() {
        push(MENDS, task.mends.names().join(","));
    }
    if let Some(subject) = &task.subject {
        push(SOURCE_SUBJECT, shown(subject));
    }
    push(SOURCE_STREAM, task.source.stream.to_string());
    push(SOURCE_SEQUENCE, task.source.sequence.to_string());
    push(SOURCE_TIME, task.source.time.to_string());
    if task.hops > 0 {
        push(HOPS, task.hops.to_string());
    }
    if !task.modules.is_empty() {
        push(MODULES, encode_value(&task.modules.join(",")));
    }
    if let Some(traceparent) = &task.traceparent {
        push(TRACEPARENT, encode_value(traceparent));
    }
    if let Some(last) = &task.last {
        push(ERROR, encode_value(&last.error));
        if let Some(status) = last.status {
            push(STATUS, status.to_string());
        }
    }
    headers
}

struct Fields<'h>(&'h [(String, String)]);

impl<'h> Fields<'h> {
    fn text(&self, name: &'static str) -> Option<&'h str> {
        let found = self.0.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn required(&self, name: &'static str) -> Result<&str, DecodeError> {
        self.text(name).ok_or(DecodeError::Header(name))
    }

    fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, DecodeError> {
        self.required(name)?.parse().map_err(|_| DecodeError::Header(name))
    }

    /// A number that older versions didn't write: 0 then.
    fn count(&self, name: &'static str) -> Result<u64, DecodeError> {
        if self.text(name).is_none() { Ok(0) } else { self.number(name) }
    }

    fn prefixed(&self, prefix: &str) -> Vec<(String, String)> {
        let names = self.0.iter().filter_map(|(name, value)| {
            let head = name.get(..prefix.len())?;
            head.eq_ignore_ascii_case(prefix).then(|| (name[prefix.len()..].to_owned(), decode_value(value)))
        });
        names.collect()
    }
}

/// Reads a task from a message of a lane, of what is due, of a wait or of a dead letter.
pub fn decode(
    pipeline: &Name,
    subscription: Option<&Name>,
    headers: &[(String, String)],
    body: &Bytes,
) -> Result<Task, DecodeError> {
    let fields = Fields(headers);
    let format = fields.text(TASK).ok_or(DecodeError::NoTask)?;
    if format != FORMAT {
        return Err(DecodeError::Format(format.to_owned()));
    }
    let time = |name| {
        let text: &str = fields.required(name)?;
        Timestamp::parse(text).ok_or(DecodeError::Header(name))
    };
    let work = work(&fields, headers, body)?;
    let http = match work {
        Work::Step(..) => fields.prefixed(HTTP_PREFIX),
        Work::Source(_) | Work::Deliver(_) => Vec::new(),
    };
    // It came from storage, so it fits into storage.
    let fits = match &work {
        Work::Step(step, event) => {
            Some(Arc::new(Fits { step: *step, event: event.clone(), http: http.clone() }))
        }
        Work::Source(_) | Work::Deliver(_) => None,
    };
    let first_attempt = fields.text(FIRST_ATTEMPT).map(|_| time(FIRST_ATTEMPT)).transpose()?;
    let left: Option<u64> = fields.text(LEFT).map(|_| fields.number(LEFT)).transpose()?;
    let status: Option<u16> = fields.text(STATUS).and_then(|text| text.parse().ok());
    Ok(Task {
        pipeline: pipeline.clone(),
        subscription: subscription.cloned(),
        work,
        key: TaskKey::from_stored(fields.required(KEY)?).ok_or(DecodeError::Header(KEY))?,
        delivery_id: DeliveryId::from_stored(fields.required(DELIVERY_ID)?),
        source: SourceRef {
            stream: fields.required(SOURCE_STREAM)?.into(),
            sequence: fields.number(SOURCE_SEQUENCE)?,
            time: time(SOURCE_TIME)?,
        },
        event: Arc::new(EventRef {
            id: decode_value(fields.text(EVENT_ID).unwrap_or_default()),
            source: decode_value(fields.text(EVENT_SOURCE).unwrap_or_default()),
            ty: decode_value(fields.text(EVENT_TYPE).unwrap_or_default()),
            time: fields.text(EVENT_TIME).and_then(Timestamp::parse),
            unverified: fields.text(EVENT_UNVERIFIED).is_some(),
        }),
        mends: fields.text(MENDS).map_or(Mends::NONE, Mends::parse),
        subject: fields.text(SOURCE_SUBJECT).map(|text| decode_value(text).into()),
        path: SplitPath::parse(fields.text(SPLIT).unwrap_or_default()).ok_or(DecodeError::Header(SPLIT))?,
        steps: fields.text(STEPS).unwrap_or_default().into(),
        generation: fields.number(GENERATION)?,
        stores: fields.count(STORES)?,
        attempt: fields.number(ATTEMPT)?,
        first_attempt,
        left: left.map(Duration::from_millis),
        http,
        modules: fields
            .text(MODULES)
            .map(|text| decode_value(text).split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        traceparent: fields.text(TRACEPARENT).map(decode_value),
        hops: fields.text(HOPS).and_then(|text| text.parse().ok()).unwrap_or(0),
        fits,
        last: fields.text(ERROR).map(|text| LastFault { error: decode_value(text), status }),
    })
}

fn work(fields: &Fields<'_>, headers: &[(String, String)], body: &Bytes) -> Result<Work, DecodeError> {
    let resume = fields.required(RESUME)?;
    if resume == "source" {
        let mut kept = fields.prefixed(SOURCE_HEADER_PREFIX);
        for (name, _) in &mut kept {
            *name = decode_value(name);
        }
        return Ok(Work::Source(SourceMessage { headers: kept, body: body.clone() }));
    }
    if resume == "deliver" {
        let finished = Finished {
            content_type: fields.text(CONTENT_TYPE).map(decode_value),
            headers: fields.prefixed(HTTP_PREFIX),
            body: body.clone(),
        };
        return Ok(Work::Deliver(Arc::new(finished)));
    }
    let step = resume.strip_prefix("step/").and_then(|step| step.parse().ok());
    let step = step.ok_or(DecodeError::Header(RESUME))?;
    let event = Event::from_stored(headers, body).map_err(|error| DecodeError::Event(error.to_string()))?;
    Ok(Work::Step(step, Arc::new(event)))
}

/// Why a dead letter is one, from its headers.
pub fn death(headers: &[(String, String)]) -> Option<Death> {
    let fields = Fields(headers);
    Some(Death {
        reason: Reason::parse(fields.text(REASON)?)?,
        error: fields.text(ERROR).map(decode_value).unwrap_or_default(),
        status: fields.text(STATUS).and_then(|text| text.parse().ok()),
    })
}

/// What a wait's schedule says, and when it is due by that; none: it is no wait.
pub fn schedule(headers: &[(String, String)]) -> Option<(&str, Timestamp)> {
    let text = Fields(headers).text(SCHEDULE)?;
    Some((text, Timestamp::parse(text.strip_prefix("@at ")?)?))
}

/// The task key of a stored task, without decoding the rest.
pub fn key(headers: &[(String, String)]) -> Option<String> {
    let fields = Fields(headers);
    TaskKey::from_stored(fields.text(KEY)?).map(|key| key.to_string())
}

/// How far a stored task has come, without decoding the rest; none: it is no task.
pub fn progress(headers: &[(String, String)]) -> Option<Progress> {
    let fields = Fields(headers);
    let (generation, attempt) = (fields.number(GENERATION).ok()?, fields.number(ATTEMPT).ok()?);
    Some(Progress { generation, attempt, stores: fields.count(STORES).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Data;

    fn task(work: Work) -> Task {
        let pipeline = Name::new("orders").unwrap();
        let source =
            SourceRef { stream: "S".into(), sequence: 7, time: Timestamp::from_unix_nanos(1_000_000_001) };
        let path = SplitPath::root().child(3);
        Task {
            key: TaskKey::derive(&source, &pipeline, "a", &path),
            delivery_id: DeliveryId::derive("/s", "1", &pipeline, "a", &path),
            subscription: Some(Name::new("a").unwrap()),
            pipeline,
            work,
            source,
            event: Arc::new(EventRef {
                id: "ä \"1%".into(),
                source: "/s".into(),
                ty: "t".into(),
                time: Some(Timestamp::from_unix_nanos(1_795_489_075_123_456_789)),
                unverified: true,
            }),
            mends: Mends::parse("name_case,header_undecoded"),
            subject: Some("events.ä b".into()),
            path,
            steps: "abc".into(),
            generation: 2,
            stores: 4,
            attempt: 3,
            first_attempt: Some(Timestamp::from_unix_nanos(5)),
            left: Some(Duration::from_millis(1500)),
            http: Vec::new(),
            modules: vec!["redact@abc".into(), "b@d".into()],
            traceparent: Some("00-1-2-01".into()),
            hops: 1,
            fits: None,
            last: Some(LastFault { error: "answered 500".into(), status: Some(500) }),
        }
    }

    fn back(task: &Task) -> Task {
        let (headers, body) = encode(task);
        for (name, value) in &headers {
            assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{name}: {value}");
            assert!(!name.to_ascii_lowercase().starts_with("nats-"), "{name}");
        }
        let back = decode(&task.pipeline, task.subscription.as_ref(), &headers, &body).unwrap();
        assert_eq!(
            back.fits.is_some(),
            matches!(task.work, Work::Step(..)),
            "what came from storage fits there"
        );
        assert_eq!(back.stores, task.stores + 1, "each store counts");
        Task { fits: None, stores: task.stores, ..back }
    }

    #[test]
    fn what_is_stored_reads_back_the_same() {
        let body = Bytes::from_static(
            b"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"data\":1e400}",
        );
        let event = Event::from_structured(&body).unwrap();
        assert_eq!(event.data, Some(Data::Json(Bytes::from_static(b"1e400"))));
        let mut step = task(Work::Step(2, Arc::new(event)));
        step.http = vec![("x-a".into(), "ü".into())];
        assert_eq!(back(&step), step);

        let finished = Finished {
            content_type: Some("application/cloudevents+json".into()),
            headers: vec![("ce-id".into(), "a b".into())],
            body: Bytes::from_static(b"{}"),
        };
        let deliver = task(Work::Deliver(Arc::new(finished)));
        assert_eq!(back(&deliver), deliver);
    }

    #[test]
    fn headers_of_the_source_message_are_kept_but_never_as_they_are() {
        let message = SourceMessage {
            headers: vec![("Nats-Schedule-Next".into(), "purge".into()), ("Nats-Msg-Id".into(), "1".into())],
            body: Bytes::from_static(b"x"),
        };
        let stored = task(Work::Source(message));
        assert_eq!(back(&stored), stored);
    }

    #[test]
    fn a_newer_format_is_told_from_what_is_no_task() {
        let (mut headers, body) =
            encode(&task(Work::Source(SourceMessage { headers: vec![], body: Bytes::new() })));
        headers[0].1 = "2".to_owned();
        let name = Name::new("p").unwrap();
        let newer = decode(&name, None, &headers, &body).unwrap_err();
        assert_eq!((newer.is_foreign(), newer), (false, DecodeError::Format("2".into())));
        let other = decode(&name, None, &headers[1..], &body).unwrap_err();
        assert_eq!((other.is_foreign(), other), (true, DecodeError::NoTask));
        headers[0].1 = FORMAT.to_owned();
        headers.retain(|(name, _)| name != KEY);
        assert!(decode(&name, None, &headers, &body).unwrap_err().is_foreign());
    }
}
