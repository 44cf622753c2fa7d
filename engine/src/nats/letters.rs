//! Reading, redriving and discarding dead letters.

use bytes::Bytes;
use serde_json::json;

use super::bucket::if_there;
use super::parts::{Parts, PartsError};
use super::tasks::{self, Death, DecodeError};
use super::unreadable::{Unreadable, readable};
use super::{ApiError, Nats, Prefix, StoreError, Stored};
use crate::model::{Name, Reason, SourceMessage, SourceRef, Task, Work, subject};

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
    /// Where what it holds is, if it fitted into no message; `task` says no more then than whose it is.
    pub parts: Option<Parts>,
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
    /// About an event of this id.
    pub event: Option<String>,
    /// About an event of this source.
    pub source: Option<String>,
    /// About an event of this type.
    pub ty: Option<String>,
    /// Of the pipeline as a whole, from a subject that this pattern takes.
    pub subject: Option<String>,
    /// With these stream sequences; none: all.
    pub sequences: Vec<u64>,
}

impl Selection {
    /// The subjects of those that are meant, but for what the sequences say.
    pub(super) fn subject(&self, nats: &Nats) -> String {
        let token = |text: &Option<String>| text.clone().unwrap_or_else(|| "*".to_owned());
        let reason = self.reason.map_or("*", Reason::as_str);
        nats.prefix().dead_letter(&token(&self.pipeline), &token(&self.subscription), reason)
    }

    /// Whether a letter is one of those that are meant.
    pub(super) fn takes(&self, letter: &Letter) -> bool {
        let is = |asked: &Option<String>, found: &str| asked.as_deref().is_none_or(|asked| asked == found);
        is(&self.pipeline, &letter.pipeline)
            && is(&self.subscription, &letter.subscription)
            && self.reason.is_none_or(|reason| reason == letter.death.reason)
            && self.takes_event(letter.task.as_ref().ok())
    }

    /// Whether a letter's task is about the event that is meant. It keeps no more than the beginning of long texts.
    fn takes_event(&self, task: Option<&Task>) -> bool {
        let asked = [&self.event, &self.source, &self.ty, &self.subject];
        let Some(task) = task else { return asked.into_iter().all(Option::is_none) };
        let is = |asked: &Option<String>, found: &str| {
            asked.as_deref().is_none_or(|asked| tasks::cut(asked) == tasks::cut(found))
        };
        let subject = task.subject.as_deref();
        let takes = |pattern: &String| subject.is_some_and(|subject| subject::takes(pattern, subject));
        is(&self.event, &task.event.id)
            && is(&self.source, &task.event.source)
            && is(&self.ty, &task.event.ty)
            && self.subject.as_ref().is_none_or(takes)
    }
}

/// Why a dead letter was not redriven.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// There is nothing to redrive.
    #[error(
        "only a reference to it is stored, because an earlier version found it too large: publish it again"
    )]
    NoBody,
    /// It is kept in parts, and they are not all there.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// It is kept in parts, and they can't be read.
    #[error("its parts can't be read")]
    ReadParts(#[source] ApiError),
    /// It can't be read.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// The message that it came from is there no more.
    #[error(
        "its event is not in {stream} any more (sequence {sequence}): removed for its age or a limit, or settled in a work queue; \
         redrive it without --rerun, or publish the event again"
    )]
    Aged {
        /// The source stream.
        stream: String,
        /// The sequence that it had there.
        sequence: u64,
    },
    /// The message that it came from has headers that can't be read.
    #[error("its event can't be taken again: {0}")]
    Headers(#[from] Unreadable),
    /// The source stream can't be asked.
    #[error("its source stream can't be read")]
    Original(#[source] ApiError),
    /// Its lane takes no more.
    #[error("its lane can't take it: {0}")]
    Store(#[from] StoreError),
    /// It is in its lane now, but still in the dead letters too.
    #[error("it was redriven, but the dead letter could not be removed")]
    NotRemoved(#[source] ApiError),
}

/// What a dead letter goes on with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Take {
    /// With what is stored in it.
    Stored,
    /// With the message that it came from, from the beginning.
    Original,
}

impl RedriveError {
    /// Whether it is about this dead letter alone, so that others may well be redriven.
    pub fn is_of_this_one(&self) -> bool {
        match self {
            Self::NoBody | Self::Parts(_) | Self::Unreadable(_) | Self::Aged { .. } | Self::Headers(_) => {
                true
            }
            Self::Store(error) => error.is_of_this_message(),
            Self::ReadParts(_) | Self::Original(_) | Self::NotRemoved(_) => false,
        }
    }
}

impl Nats {
    /// The dead letter with this sequence.
    pub async fn letter(&self, sequence: u64) -> Result<Option<Letter>, ApiError> {
        let stored = self.at(&self.prefix().dlq(), sequence).await?;
        Ok(stored.and_then(|stored| letter(self, stored)))
    }

    /// The task that a dead letter goes on as: in a new generation, with no attempts made. Changes nothing.
    pub async fn revived(&self, letter: &Letter, take: Take) -> Result<Task, RedriveError> {
        let task = match (take, &letter.parts) {
            (Take::Stored, Some(_)) => self.put_together(letter).await?.task?,
            (Take::Stored, None) | (Take::Original, _) => letter.task.clone()?,
        };
        let task = match (take, &task.work) {
            (Take::Stored, Work::Source(message))
                if message.body.is_empty() && message.headers.is_empty() =>
            {
                return Err(RedriveError::NoBody);
            }
            (Take::Stored, _) => task,
            (Take::Original, _) => {
                let work = Work::Source(self.original(&task.source).await?);
                Task { work, http: Vec::new(), modules: Vec::new(), ..task }
            }
        };
        let generation = task.generation + 1;
        Ok(Task { generation, attempt: 0, first_attempt: None, left: None, last: None, ..task })
    }

    /// A message as its stream still has it.
    async fn original(&self, source: &SourceRef) -> Result<SourceMessage, RedriveError> {
        let found = self.raw_message(&source.stream, &json!({ "seq": source.sequence })).await;
        // A stream that was made anew counts from 1 again: only the time tells whether it is the same message.
        let found = if_there(found).map_err(RedriveError::Original)?.flatten();
        let Some(raw) = found.filter(|raw| raw.time == source.time) else {
            let (stream, sequence) = (source.stream.to_string(), source.sequence);
            return Err(RedriveError::Aged { stream, sequence });
        };
        readable(&raw.header_block)?;
        let Stored { headers, body, .. } = raw.into();
        Ok(SourceMessage { headers, body })
    }

    /// Puts a dead letter back into its lane; removes it once that is stored.
    pub async fn redrive(&self, letter: &Letter, take: Take) -> Result<(), RedriveError> {
        let task = self.revived(letter, take).await?;
        let (headers, body): (_, Bytes) = tasks::encode(&task);
        let subject = self.prefix().lane(&letter.pipeline, &letter.subscription);
        self.store(subject, headers, body).await?;
        self.discard(letter).await.map_err(RedriveError::NotRemoved)
    }

    /// A letter that is kept in parts, with all that it holds; any other as it is.
    pub async fn put_together(&self, letter: &Letter) -> Result<Letter, RedriveError> {
        let Some(parts) = &letter.parts else { return Ok(letter.clone()) };
        let dlq = self.prefix().dlq();
        let mut bytes = Vec::new();
        for part in 0..parts.count {
            let subject = Prefix::part(&letter.stored.subject, &parts.id, part);
            let stored = self.last_on(&dlq, &subject).await.map_err(RedriveError::ReadParts)?;
            let missing = PartsError::Missing { part: part + 1, count: parts.count };
            bytes.push(stored.ok_or(missing)?.body);
        }
        let (mut headers, body) = parts.join(&bytes)?;
        tasks::push_death(&mut headers, &letter.death);
        let (pipeline, subscription) =
            (Name::new(&letter.pipeline).ok(), Name::new(&letter.subscription).ok());
        let task = match pipeline {
            Some(pipeline) => tasks::decode(&pipeline, subscription.as_ref(), &headers, &body),
            None => letter.task.clone(),
        };
        let stored = Stored { headers, body, ..letter.stored.clone() };
        Ok(Letter { stored, task, ..letter.clone() })
    }

    /// Tells the engines that a lane of this pipeline has got something. One that doesn't hear it looks every few seconds.
    pub async fn nudge_pipeline(&self, pipeline: &Name) {
        let _ = self.nudge(self.prefix().nudge(pipeline)).await;
    }

    /// Removes a dead letter for good, and then its parts.
    pub async fn discard(&self, letter: &Letter) -> Result<(), ApiError> {
        let dlq = self.prefix().dlq();
        self.delete(&dlq, letter.stored.sequence).await?;
        let Some(parts) = &letter.parts else { return Ok(()) };
        for part in 0..parts.count {
            let subject = Prefix::part(&letter.stored.subject, &parts.id, part);
            if let Some(part) = self.last_on(&dlq, &subject).await? {
                self.delete(&dlq, part.sequence).await?;
            }
        }
        Ok(())
    }
}

/// A dead letter as a message holds it; none: it is no dead letter.
pub(super) fn letter(nats: &Nats, stored: Stored) -> Option<Letter> {
    let (pipeline, subscription) = nats.prefix().parts(&stored.subject)?;
    let (pipeline, subscription) = (pipeline.to_owned(), subscription.to_owned());
    let death = tasks::death(&stored.headers)?;
    let name = Name::new(&pipeline).ok()?;
    let task = tasks::decode(&name, Name::new(&subscription).ok().as_ref(), &stored.headers, &stored.body);
    let parts = Parts::of(&stored.headers);
    Some(Letter { stored, pipeline, subscription, death, parts, task })
}
