//! Storing the next state of a task: waits, lanes, dead letters. Every store is tried until it is done or the engine
//! stops; while one is refused, intake is closed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::gate::{Gate, Stuck, Trouble};
use crate::model::{Fault, Reason, SourceRef, Task, Timestamp, Work};
use crate::nats::tasks::{self, Death};
use crate::nats::{ApiError, NO_STREAM, Nats, Prefix, StoreError, Stored};

/// Pause after a refusal, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

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
    /// The task goes on elsewhere: a wait of its own generation is there already.
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
        Patience { storing: self, what, stream, subject, stuck: None, pause: PAUSE_MIN }
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
                        // It fired or was never there. Once more, on an empty subject.
                        Ok(None) if expected != 0 => {
                            expected = 0;
                            continue;
                        }
                        Ok(None) => StoreError::Unknown.into(),
                        Ok(Some(there)) => match compare(&there, task, replaces) {
                            Found::Replaceable if expected != there.sequence => {
                                expected = there.sequence;
                                continue;
                            }
                            Found::Replaceable => StoreError::Unknown.into(),
                            Found::Same => return Put::Stored(there.sequence),
                            Found::Other => return Put::Elsewhere,
                        },
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

    /// Stores a dead letter; by reference if it does not fit.
    pub async fn dead_letter(&self, task: &Task, reason: Reason, fault: &Fault) -> Put {
        let death = Death { reason, error: fault.detail.clone(), status: fault.status };
        let subject = |reason: Reason| {
            self.nats.prefix().dead_letter(task.pipeline.as_str(), task.subscription_token(), reason.as_str())
        };
        if reason != Reason::TooLarge {
            for form in forms(task) {
                let (headers, body) = tasks::encode_dead_letter(&form, &death);
                match self.put_dead_letter(subject(reason), headers, body, false).await {
                    Put::TooLarge => {}
                    put => return put,
                }
            }
        }
        let death = Death { reason: Reason::TooLarge, ..death };
        let (headers, body) = tasks::encode_reference(task, &death);
        self.put_dead_letter(subject(Reason::TooLarge), headers, body, true).await
    }

    /// `last`: there is no smaller form, so a refusal for its size is one to wait for the end of.
    async fn put_dead_letter(
        &self,
        subject: String,
        headers: Vec<(String, String)>,
        body: Bytes,
        last: bool,
    ) -> Put {
        let stream = self.nats.prefix().dlq();
        let mut patience = self.patience("a dead letter can't be stored", stream, Some(subject.clone()));
        loop {
            let refused = match self.nats.store(subject.clone(), headers.clone(), body.clone()).await {
                Ok(sequence) => return Put::Stored(sequence),
                Err(StoreError::TooLarge) if !last => return Put::TooLarge,
                Err(error) => error,
            };
            if !patience.refused(refused).await {
                return Put::Stopped;
            }
        }
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

    /// Whether a wait of this task's own generation is there: it goes on elsewhere. `None`: the engine stops.
    pub async fn waits_already(&self, task: &Task) -> Option<bool> {
        let prefix = self.nats.prefix();
        let subject = prefix.wait(task);
        let mut patience = self.patience("a wait can't be read", prefix.retries(), None);
        loop {
            match self.nats.last_on(&prefix.retries(), &subject).await {
                Ok(there) => {
                    let standing = there.and_then(|there| tasks::standing(&there.headers));
                    return Some(standing.is_some_and(|(generation, _)| generation >= task.generation));
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

/// What a wait that is there means for the one to be stored.
enum Found {
    /// Our own lease, or an older generation: replace it.
    Replaceable,
    /// What we meant to store is stored.
    Same,
    /// The task goes on elsewhere.
    Other,
}

fn compare(there: &Stored, task: &Task, replaces: Option<u64>) -> Found {
    let standing = tasks::standing(&there.headers);
    if replaces == Some(there.sequence) || standing.is_none_or(|(generation, _)| generation < task.generation)
    {
        Found::Replaceable
    } else if standing == Some((task.generation, task.attempt)) {
        Found::Same
    } else {
        Found::Other
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
