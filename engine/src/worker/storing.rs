//! Storing the next state of a task: waits, lanes, dead letters. Every store is tried until it is done or the engine
//! stops; while one is refused, intake is closed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gate::{Gate, Stuck, Trouble};
use crate::model::progress::{AfterRefusal, after_refusal};
use crate::model::{Fault, Name, Reason, SourceMessage, SourceRef, Task, Timestamp, Work};
use crate::nats::parts::Parts;
use crate::nats::tasks::{self, Death};
use crate::nats::{ApiError, NO_STREAM, Nats, Prefix, StoreError, Stored};

/// Pause after a refusal, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Room that a part leaves in a message.
const PART_HEADERS_BYTES: usize = 1024;
/// The smallest parts that are tried.
const PART_BYTES_MIN: usize = 1024;

/// How long a task may take to be removed from its lane before intake stops for it.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked into why something is stuck.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Stores tasks for one engine.
pub struct Storing {
    pub(super) nats: Nats,
    pub(super) gate: Arc<Gate>,
    pub(super) cut_off: CancellationToken,
}

/// The engine stops: nothing more can be stored or read, and nothing may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// How a store ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Stored, with this sequence.
    Stored(u64),
    /// The task goes on elsewhere: a wait that is further on is there already.
    Elsewhere,
    /// It does not fit.
    TooLarge,
    /// The lane is full.
    Full,
    /// The engine stops; nothing may be acknowledged.
    Stopped,
}

/// Tries again with growing pauses; from the first refusal on intake is closed.
struct Patience<'s> {
    storing: &'s Storing,
    /// Whose it is; none: nobody can tell.
    pipeline: Option<String>,
    what: &'static str,
    stream: String,
    /// None: it reads.
    subject: Option<String>,
    stuck: Option<Stuck<'s>>,
    pause: Duration,
}

/// Why it has to be tried again.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Asked(#[from] ApiError),
}

impl Patience<'_> {
    /// Something refused: pauses. False: the engine stops.
    async fn refused(&mut self, why: impl Into<Refusal>) -> bool {
        let why = why.into();
        let trouble = Trouble {
            pipeline: self.pipeline.clone(),
            what: self.what,
            stream: self.stream.clone(),
            subject: self.subject.clone(),
            why: why.to_string(),
            store: match why {
                Refusal::Store(error) => Some(error),
                Refusal::Asked(_) => None,
            },
        };
        match &self.stuck {
            Some(stuck) => stuck.still(trouble),
            None => self.stuck = Some(self.storing.gate.stick(trouble)),
        }
        self.pause().await
    }

    /// False: the engine stops.
    async fn pause(&mut self) -> bool {
        tokio::select! {
            () = tokio::time::sleep(self.pause) => {}
            () = self.storing.cut_off.cancelled() => return false,
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

impl Storing {
    /// Over this connection; `gate` is closed while a store is refused, `cut_off` ends every wait.
    pub fn new(nats: Nats, gate: Arc<Gate>, cut_off: CancellationToken) -> Self {
        Self { nats, gate, cut_off }
    }

    fn patience(&self, what: &'static str, stream: String, subject: Option<String>) -> Patience<'_> {
        let of = subject.as_deref().and_then(|subject| self.nats.prefix().parts(subject));
        let pipeline = of.map(|(pipeline, _)| pipeline.to_owned());
        Patience { storing: self, pipeline, what, stream, subject, stuck: None, pause: PAUSE_MIN }
    }

    /// While something is stuck: looks once a second why, so that people are told what to mend.
    pub async fn look_into_it(&self) {
        loop {
            self.gate.closed().await;
            let Some(trouble) = self.gate.first() else { continue };
            let seen = self.nats.diagnose(&trouble.stream, trouble.subject.as_deref()).await;
            self.gate.find(what_to_mend(&trouble, seen, self.nats.prefix()));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Stores a wait for `task`, due at `due`; `replaces` is the sequence of an own wait (a lease) that it replaces.
    pub async fn wait(&self, task: &Task, due: Timestamp, replaces: Option<u64>) -> Put {
        let prefix = self.nats.prefix();
        let (subject, target) = (prefix.wait(task), prefix.due(task));
        let (mut headers, body) = tasks::encode(task);
        headers.push((tasks::SCHEDULE.to_owned(), format!("@at {due}")));
        headers.push((tasks::SCHEDULE_TARGET.to_owned(), target));
        let mut expected = replaces.unwrap_or(0);
        let mut patience = self.patience("a wait can't be stored", prefix.retries(), Some(subject.clone()));
        loop {
            let mut headers = headers.clone();
            headers.push(("Nats-Expected-Last-Subject-Sequence".to_owned(), expected.to_string()));
            let refused: Refusal = match self.nats.store(subject.clone(), headers, body.clone()).await {
                Ok(sequence) => return Put::Stored(sequence),
                Err(StoreError::TooLarge) => return Put::TooLarge,
                // Another message is there, or nobody knows: the leader says which.
                Err(StoreError::WrongLast | StoreError::Unknown) => {
                    match self.nats.last_on(&prefix.retries(), &subject).await {
                        Ok(there) => {
                            let there = there.map(|there| (there.sequence, tasks::progress(&there.headers)));
                            match after_refusal(&task.progress().stored(), expected, there) {
                                AfterRefusal::Expect(sequence) => {
                                    expected = sequence;
                                    continue;
                                }
                                AfterRefusal::Stored(sequence) => return Put::Stored(sequence),
                                AfterRefusal::Elsewhere => return Put::Elsewhere,
                                AfterRefusal::Ask => StoreError::Unknown.into(),
                            }
                        }
                        Err(error) => error.into(),
                    }
                }
                Err(error @ (StoreError::NoStream | StoreError::Forbidden | StoreError::Refused(_))) => {
                    error.into()
                }
            };
            if !patience.refused(refused).await {
                return Put::Stopped;
            }
        }
    }

    /// Stores bytes in a lane. `Full` when the lane's own limit refuses.
    pub async fn lane(&self, pipeline: &str, subscription: &str, message: tasks::Encoded) -> Put {
        let subject = self.nats.prefix().lane(pipeline, subscription);
        let (headers, body) = message;
        let stream = self.nats.prefix().lanes();
        let mut patience = self.patience("a lane can't be written", stream, Some(subject.clone()));
        loop {
            let refused = match self.nats.store(subject.clone(), headers.clone(), body.clone()).await {
                Ok(sequence) => return Put::Stored(sequence),
                Err(StoreError::TooLarge) => return Put::TooLarge,
                Err(StoreError::Refused(_)) if self.lane_is_full(&subject).await => return Put::Full,
                Err(error) => error,
            };
            if !patience.refused(refused).await {
                return Put::Stopped;
            }
        }
    }

    /// Whether the lane holds as much as its stream lets a subject hold.
    async fn lane_is_full(&self, subject: &str) -> bool {
        let stream = self.nats.prefix().lanes();
        let (Ok(Some(limit)), Ok(counts)) =
            (self.nats.messages_per_subject_max(&stream).await, self.nats.counts(&stream, subject).await)
        else {
            return false;
        };
        counts.get(subject).is_some_and(|count| *count >= limit)
    }

    /// Stores a dead letter in the fullest form that fits, whatever its reason; what fits in none is kept in parts.
    /// `TooLarge`: not even these can be stored, and what it came from has to be held.
    pub async fn dead_letter(&self, task: &Task, reason: Reason, fault: &Fault) -> Put {
        let death = Death { reason, error: fault.detail.clone(), status: fault.status };
        let subject = self.nats.prefix().dead_letter(
            task.pipeline.as_str(),
            task.subscription_token(),
            reason.as_str(),
        );
        for form in forms(task) {
            let message = tasks::encode_dead_letter(&form, &death);
            match self.put_dead_letter(&subject, message).await {
                Put::TooLarge => {}
                put => return put,
            }
        }
        let head = |parts: &Parts| tasks::encode_in_parts(task, &death, parts);
        Box::pin(self.in_parts(&subject, &tasks::encode(task), head)).await
    }

    /// Stores what was found on a subject of the engine's and is no task as a dead letter (`foreign`), byte for byte but for
    /// what the server has put onto it.
    pub async fn foreign(
        &self,
        pipeline: &Name,
        subscription: &str,
        message: &SourceMessage,
        why: String,
    ) -> Put {
        let death = Death { reason: Reason::Foreign, error: why, status: None };
        let subject = self.nats.prefix().dead_letter(pipeline.as_str(), subscription, death.reason.as_str());
        let letter = tasks::dead_letter_as_it_is(&message.headers, &message.body, &death);
        match self.put_dead_letter(&subject, letter.clone()).await {
            Put::TooLarge => {
                let head = |parts: &Parts| tasks::foreign_in_parts(&death, parts);
                Box::pin(self.in_parts(&subject, &letter, head)).await
            }
            put => put,
        }
    }

    async fn put_dead_letter(&self, subject: &str, (headers, body): tasks::Encoded) -> Put {
        let stream = self.nats.prefix().dlq();
        let mut patience = self.patience("a dead letter can't be stored", stream, Some(subject.to_owned()));
        loop {
            let refused = match self.nats.store(subject.to_owned(), headers.clone(), body.clone()).await {
                Ok(sequence) => return Put::Stored(sequence),
                Err(StoreError::TooLarge) => return Put::TooLarge,
                Err(error) => error,
            };
            if !patience.refused(refused).await {
                return Put::Stopped;
            }
        }
    }

    /// Stores what fits into no message in parts, and then the letter that names them. Parts that are refused are tried in
    /// smaller ones: the stream may take less than the server.
    async fn in_parts(
        &self,
        letter: &str,
        message: &tasks::Encoded,
        head: impl Fn(&Parts) -> tasks::Encoded,
    ) -> Put {
        let mut room = self.nats.max_payload().saturating_sub(PART_HEADERS_BYTES);
        while room >= PART_BYTES_MIN {
            let id = format!("{:016x}", rand::random::<u64>());
            let (parts, bytes) = Parts::split(message, id, room);
            match self.put_parts(letter, &parts, bytes).await {
                Put::TooLarge => room /= 2,
                Put::Stored(_) => {
                    return self.put_dead_letter(letter, head(&parts)).await;
                }
                put => return put,
            }
        }
        Put::TooLarge
    }

    async fn put_parts(&self, letter: &str, parts: &Parts, bytes: Vec<Bytes>) -> Put {
        let mut put = Put::TooLarge;
        for (part, bytes) in bytes.into_iter().enumerate() {
            let subject = Prefix::part(letter, &parts.id, part);
            put = self.put_dead_letter(&subject, (Vec::new(), bytes)).await;
            if !matches!(put, Put::Stored(_)) {
                break;
            }
        }
        put
    }

    /// Stores a wait in the first form that fits.
    pub async fn wait_in_some_form(&self, task: &Task, due: Timestamp, replaces: Option<u64>) -> Put {
        for form in forms(task) {
            match self.wait(&form, due, replaces).await {
                Put::TooLarge => {}
                put => return put,
            }
        }
        Put::TooLarge
    }

    /// Puts a lease off; its new sequence, if it was still there.
    pub async fn wait_again(&self, task: &Task, due: Timestamp, lease: u64) -> Option<u64> {
        match self.wait_in_some_form(task, due, Some(lease)).await {
            Put::Stored(sequence) => Some(sequence),
            Put::Elsewhere | Put::TooLarge | Put::Full | Put::Stopped => None,
        }
    }

    /// Deletes a lease, again and again until the server says that it is gone, or the engine stops. If it fires first, that
    /// is a repeat.
    pub async fn delete_lease(&self, sequence: u64) {
        let stream = self.nats.prefix().retries();
        let mut patience = self.patience("a lease can't be deleted", stream.clone(), None);
        while let Err(error) = self.nats.delete(&stream, sequence).await {
            if !patience.refused(error).await {
                return;
            }
        }
    }

    /// Deletes a task that is settled from its lane, again and again until the server says that it is gone. False: the engine
    /// stops, and it may lie there still. Nothing is lost by that, so intake goes on; but not for long, or all that a lane
    /// sends would be sent again by its next owner.
    pub async fn remove_from_lane(&self, sequence: u64) -> bool {
        let stream = self.nats.prefix().lanes();
        let began = Instant::now();
        let mut patience = self.patience("a task can't be removed from its lane", stream.clone(), None);
        while let Err(error) = self.nats.delete(&stream, sequence).await {
            let goes_on = if began.elapsed() < REMOVED_WITHIN {
                patience.pause().await
            } else {
                patience.refused(error).await
            };
            if !goes_on {
                return false;
            }
        }
        true
    }

    /// A message as its stream still has it. `Err`: the engine stops.
    pub async fn still_there(&self, source: &SourceRef) -> Result<Option<Stored>, Stopped> {
        let stream = source.stream.to_string();
        let mut patience = self.patience("a source message can't be read", stream, None);
        loop {
            match self.nats.at(&source.stream, source.sequence).await {
                Ok(stored) => return Ok(stored.filter(|stored| stored.time == source.time)),
                Err(error) if error.code().is_some_and(|code| code == NO_STREAM) => return Ok(None),
                Err(error) => {
                    if !patience.refused(error).await {
                        return Err(Stopped);
                    }
                }
            }
        }
    }

    /// Whether a wait is there that is further on than this task: it goes on elsewhere. `None`: the engine stops.
    pub async fn waits_already(&self, task: &Task) -> Option<bool> {
        let prefix = self.nats.prefix();
        let subject = prefix.wait(task);
        let mut patience = self.patience("a wait can't be read", prefix.retries(), None);
        patience.pipeline = Some(task.pipeline.to_string());
        loop {
            match self.nats.last_on(&prefix.retries(), &subject).await {
                Ok(there) => {
                    let there = there.and_then(|there| tasks::progress(&there.headers));
                    return Some(there.is_some_and(|there| task.progress().goes_on_at(&there)));
                }
                Err(error) => {
                    if !patience.refused(error).await {
                        return None;
                    }
                }
            }
        }
    }
}

/// What there is to say where a server neither stores nor refuses.
const SILENT: &str = "its server does not say why: its disk may be full or broken, see its log; once there is room, \
                      start it again (a stream that could not be written stays so until then)";

/// What to mend, by what was refused and what a look at the stream has shown.
fn what_to_mend(trouble: &Trouble, seen: Option<String>, prefix: &Prefix) -> Option<String> {
    match &trouble.store {
        Some(StoreError::Forbidden) => {
            let [wait, _] = prefix.retries_subjects();
            let (lane, dlq, bucket) = (prefix.lanes_subjects(), prefix.dlq_subjects(), prefix.registry());
            Some(format!("an engine has to publish on {wait}, {lane}, {dlq} and $KV.{bucket}.>"))
        }
        Some(StoreError::Unknown) => seen.or_else(|| Some(SILENT.to_owned())),
        Some(
            StoreError::WrongLast | StoreError::NoStream | StoreError::TooLarge | StoreError::Refused(_),
        )
        | None => seen,
    }
}

/// A task as it is, then smaller forms of it: at the last point that is known to fit, and without what is only for people.
pub fn forms(task: &Task) -> impl Iterator<Item = Task> {
    let earlier = task.fits.as_ref().and_then(|fits| {
        let work = Work::Step(fits.step, fits.event.clone());
        (task.work != work).then(|| Task { work, http: fits.http.clone(), ..task.clone() })
    });
    let smallest = earlier.as_ref().unwrap_or(task).clone();
    let modules = smallest.modules.last().cloned().into_iter().collect();
    let bare = Task { last: None, modules, ..smallest };
    std::iter::once(task.clone()).chain(earlier).chain(std::iter::once(bare))
}
