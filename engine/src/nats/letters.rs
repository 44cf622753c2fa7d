//! Reading, redriving and discarding dead letters.

use bytes::Bytes;

use super::tasks::{self, Death, DecodeError};
use super::{ApiError, Nats, StoreError, Stored};
use crate::model::{Name, Reason, Task, Work};

/// One dead letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// As the stream holds it.
    pub stored: Stored,
    /// Its pipeline.
    pub pipeline: String,
    /// Its subscription, or `_`.
    pub subscription: String,
    /// Why it is one.
    pub death: Death,
    /// The task, if this version can read it.
    pub task: Result<Task, DecodeError>,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Of this pipeline.
    pub pipeline: Option<String>,
    /// Of this subscription.
    pub subscription: Option<String>,
    /// With this reason.
    pub reason: Option<Reason>,
    /// With these stream sequences; none: all.
    pub sequences: Vec<u64>,
}

impl Selection {
    fn subject(&self, nats: &Nats) -> String {
        let token = |text: &Option<String>| text.clone().unwrap_or_else(|| "*".to_owned());
        let reason = self.reason.map_or("*", Reason::as_str);
        nats.prefix().dead_letter(&token(&self.pipeline), &token(&self.subscription), reason)
    }
}

/// Why a dead letter was not redriven.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// There is nothing to redrive.
    #[error("only a reference to it is stored, because it was too large: publish it again in a smaller form")]
    NoBody,
    /// It can't be read.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// Its lane takes no more.
    #[error("its lane can't take it: {0}")]
    Store(#[from] StoreError),
    /// It is in its lane now, but still in the dead letters too.
    #[error("it was redriven, but the dead letter could not be removed")]
    NotRemoved(#[source] ApiError),
}

impl Nats {
    /// The first dead letter of a selection at or after a sequence.
    pub async fn next_letter(&self, selection: &Selection, from: u64) -> Result<Option<Letter>, ApiError> {
        let (stream, subject) = (self.prefix().dlq(), selection.subject(self));
        let mut from = from;
        loop {
            let stored = if selection.sequences.is_empty() {
                self.next_on(&stream, &subject, from).await?
            } else {
                let Some(next) = selection.sequences.iter().copied().filter(|seq| *seq >= from).min() else {
                    return Ok(None);
                };
                from = next + 1;
                match self.at(&stream, next).await? {
                    Some(stored) => Some(stored),
                    None => continue,
                }
            };
            let Some(stored) = stored else { return Ok(None) };
            from = stored.sequence + 1;
            if let Some(letter) = letter(self, stored) {
                return Ok(Some(letter));
            }
        }
    }

    /// Puts a dead letter back into its lane, in a new generation with no attempts made; removes it once that is stored.
    pub async fn redrive(&self, letter: &Letter) -> Result<(), RedriveError> {
        let task = letter.task.clone()?;
        if let Work::Source(message) = &task.work
            && message.body.is_empty()
            && message.headers.is_empty()
        {
            return Err(RedriveError::NoBody);
        }
        let task = Task {
            generation: task.generation + 1,
            attempt: 0,
            first_attempt: None,
            left: None,
            last: None,
            ..task
        };
        let (headers, body): (_, Bytes) = tasks::encode(&task);
        let subject = self.prefix().lane(&letter.pipeline, &letter.subscription);
        self.store(subject, headers, body).await?;
        self.delete(&self.prefix().dlq(), letter.stored.sequence).await.map_err(RedriveError::NotRemoved)?;
        let _ = self.nudge(self.prefix().nudge(&task.pipeline)).await;
        Ok(())
    }

    /// Removes a dead letter for good.
    pub async fn discard(&self, letter: &Letter) -> Result<(), ApiError> {
        self.delete(&self.prefix().dlq(), letter.stored.sequence).await
    }
}

fn letter(nats: &Nats, stored: Stored) -> Option<Letter> {
    let (pipeline, subscription) = nats.prefix().parts(&stored.subject)?;
    let (pipeline, subscription) = (pipeline.to_owned(), subscription.to_owned());
    let death = tasks::death(&stored.headers)?;
    let name = Name::new(&pipeline).ok()?;
    let task = tasks::decode(&name, Name::new(&subscription).ok().as_ref(), &stored.headers, &stored.body);
    Some(Letter { stored, pipeline, subscription, death, task })
}
