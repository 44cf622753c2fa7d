//! Storing the next state of a task: waits, lanes, dead letters. Every store is tried until it is done or the engine
//! stops; while one is refused, intake is closed.

use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use crate::model::{Fault, Reason, Task, Timestamp};
use crate::nats::tasks::{self, Death};
use crate::nats::{Nats, StoreError};

/// Stores tasks for one engine.
pub struct Storing {
    pub(super) nats: Nats,
    pub(super) gate: Gate,
    pub(super) cut_off: CancellationToken,
}

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

/// What an attempt at storing says about the next one.
enum Once {
    Done(Put),
    /// Nothing is wrong, but ask again.
    Soon,
    /// Refused or unreachable: intake stops meanwhile.
    Again(String),
}

impl Storing {
    /// Over this connection; `cut_off` ends every wait.
    pub fn new(nats: Nats, cut_off: CancellationToken) -> Self {
        Self { nats, gate: Gate::default(), cut_off }
    }

    /// Repeats until done, with growing pauses; closes the gate after the first refusal.
    async fn until_done<F>(&self, what: &str, mut once: F) -> Put
    where
        F: AsyncFnMut() -> Once,
    {
        let mut stuck = None;
        let mut pause = Duration::from_millis(50);
        loop {
            let result = tokio::select! {
                result = once() => result,
                () = self.cut_off.cancelled() => return Put::Stopped,
            };
            let why = match result {
                Once::Done(put) => return put,
                Once::Soon => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Once::Again(why) => why,
            };
            if stuck.is_none() {
                tracing::warn!(what, why, "can't store, intake stops until it is mended");
                stuck = Some(self.gate.stick(format!("{what}: {why}")));
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.cut_off.cancelled() => return Put::Stopped,
            }
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }

    /// Stores a wait for `task`, due at `due`; `replaces` is the sequence of an own wait (a lease) that it replaces.
    pub async fn wait(&self, task: &Task, due: Timestamp, replaces: Option<u64>) -> Put {
        let prefix = self.nats.prefix();
        let (subject, target) = (prefix.wait(task), prefix.due(task));
        let (mut headers, body) = tasks::encode(task);
        headers.push(("Nats-Schedule".to_owned(), format!("@at {due}")));
        headers.push(("Nats-Schedule-Target".to_owned(), target));
        let mut expected = replaces.unwrap_or(0);
        self.until_done("a wait can't be stored", async || {
            let mut headers = headers.clone();
            headers.push(("Nats-Expected-Last-Subject-Sequence".to_owned(), expected.to_string()));
            match self.nats.store(subject.clone(), headers, body.clone()).await {
                Ok(sequence) => return Once::Done(Put::Stored(sequence)),
                Err(StoreError::TooLarge) => return Once::Done(Put::TooLarge),
                // Another message is there, or nobody knows: the leader says which.
                Err(StoreError::WrongLast | StoreError::Unknown) => {}
                Err(error @ (StoreError::NoStream | StoreError::Refused(_))) => {
                    return Once::Again(error.to_string());
                }
            }
            match self.nats.last_on(&prefix.retries(), &subject).await {
                Ok(None) => {
                    // It fired or was never there. Once more, on an empty subject.
                    expected = 0;
                    Once::Soon
                }
                Ok(Some(there)) => {
                    let standing = tasks::standing(&there.headers);
                    let own = there.sequence == replaces.unwrap_or(0);
                    let older = standing.is_none_or(|(generation, _)| generation < task.generation);
                    if own || older {
                        expected = there.sequence;
                        return Once::Soon;
                    }
                    let same = standing == Some((task.generation, task.attempt));
                    Once::Done(if same { Put::Stored(there.sequence) } else { Put::Elsewhere })
                }
                Err(error) => Once::Again(error.to_string()),
            }
        })
        .await
    }

    /// Stores bytes in a lane. `Full` when the lane's own limit refuses.
    pub async fn lane(&self, pipeline: &str, subscription: &str, message: tasks::Encoded) -> Put {
        let prefix = self.nats.prefix();
        let subject = prefix.lane(pipeline, subscription);
        let (headers, body) = message;
        self.until_done("a lane can't be written", async || {
            match self.nats.store(subject.clone(), headers.clone(), body.clone()).await {
                Ok(sequence) => Once::Done(Put::Stored(sequence)),
                Err(StoreError::TooLarge) => Once::Done(Put::TooLarge),
                Err(StoreError::Refused(why)) => {
                    if self.lane_is_full(&subject).await { Once::Done(Put::Full) } else { Once::Again(why) }
                }
                Err(error) => Once::Again(error.to_string()),
            }
        })
        .await
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
            let (headers, body) = tasks::encode_dead_letter(task, &death);
            match self.put_dead_letter(subject(reason), headers, body).await {
                Put::TooLarge => {}
                put => return put,
            }
            if let Some(smaller) = smaller(task) {
                let (headers, body) = tasks::encode_dead_letter(&smaller, &death);
                match self.put_dead_letter(subject(reason), headers, body).await {
                    Put::TooLarge => {}
                    put => return put,
                }
            }
        }
        let death = Death { reason: Reason::TooLarge, ..death };
        let (headers, body) = tasks::encode_reference(task, &death);
        self.put_dead_letter(subject(Reason::TooLarge), headers, body).await
    }

    async fn put_dead_letter(&self, subject: String, headers: Vec<(String, String)>, body: Bytes) -> Put {
        self.until_done("a dead letter can't be stored", async || {
            match self.nats.store(subject.clone(), headers.clone(), body.clone()).await {
                Ok(sequence) => Once::Done(Put::Stored(sequence)),
                Err(StoreError::TooLarge) => Once::Done(Put::TooLarge),
                Err(error) => Once::Again(error.to_string()),
            }
        })
        .await
    }

    /// Whether a wait of this task's own generation is there: it goes on elsewhere. `None`: the engine stops.
    pub async fn waits_already(&self, task: &Task) -> Option<bool> {
        let prefix = self.nats.prefix();
        let subject = prefix.wait(task);
        let mut answer = false;
        let put = self
            .until_done("a wait can't be read", async || match self.nats.last_on(&prefix.retries(), &subject).await {
                Ok(there) => {
                    let standing = there.and_then(|there| tasks::standing(&there.headers));
                    answer = standing.is_some_and(|(generation, _)| generation >= task.generation);
                    Once::Done(Put::Elsewhere)
                }
                Err(error) => Once::Again(error.to_string()),
            })
            .await;
        (put != Put::Stopped).then_some(answer)
    }
}

/// The task at the earliest point that is known to fit: the event as it was admitted, before its first step.
pub fn smaller(task: &Task) -> Option<Task> {
    let origin = task.origin.as_ref()?;
    let work = crate::model::Work::Step(0, origin.clone());
    if task.work == work {
        return None;
    }
    Some(Task { work, http: Vec::new(), ..task.clone() })
}

/// Deletes a lease, again and again until the server says that it is gone. If it fires first, that is a repeat.
pub async fn delete_lease(nats: &Nats, stream: &str, sequence: u64) {
    let mut pause = Duration::from_millis(50);
    while let Err(error) = nats.delete(stream, sequence).await {
        tracing::debug!(%error, "a lease can't be deleted yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}
