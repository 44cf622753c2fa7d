//! A pipeline's way through its source stream: where it began, and which subjects it took when. By this it can be told long
//! afterwards what became of a message that its consumer has passed.
//!
//! What it doesn't know it calls unknown. A change is noted before the server is asked to make it, so that a process that dies in
//! between leaves a change of unknown place behind, never one that is missing.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::consumers::Consumer;
use super::registry::{Floor, RegistryError, written};
use super::streams::SourceStream;
use super::{Nats, Registry};
use crate::model::{Name, subject};

/// Changes of subjects that are kept; what was before them is unknown.
const CHANGES_MAX: usize = 64;
/// Bytes of a record as it is stored, well below what a server has to take.
const BYTES_MAX: usize = 64 * 1024;

/// The record of a pipeline.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct History {
    /// The stream's name.
    pub stream: String,
    /// When the stream was made: a stream made anew starts its sequences again.
    pub created: String,
    /// The first sequence that the pipeline takes; none: it began before anything was kept.
    pub first: Option<u64>,
    /// Its subjects one after the other, the oldest first.
    spans: Vec<Span>,
}

/// Subjects, and the messages that they were held against.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Span {
    /// None up to this sequence.
    after: u64,
    /// All from this sequence on, until the next subjects; none: it is not known yet whether these hold.
    from: Option<u64>,
    /// The subjects; empty: all. None: not known.
    subjects: Option<Vec<String>>,
}

/// What the record says of a message that the consumer has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    /// The pipeline took it.
    Taken,
    /// It was there before the pipeline began.
    BeforeStart,
    /// Its subject was none of the pipeline's.
    OtherSubject,
    /// It was passed about when the subjects were changed, and those before and after differ on it.
    AtAChange,
    /// Nothing is kept of that time.
    NotKept,
}

impl Span {
    fn takes(&self, subject: &str) -> Option<bool> {
        self.subjects.as_deref().map(|subjects| takes(subjects, subject))
    }
}

/// Whether a consumer with these subjects takes a message; without any it takes all.
pub fn takes(subjects: &[String], subject: &str) -> bool {
    subjects.is_empty() || subjects.iter().any(|filter| subject::takes(filter, subject))
}

/// Whether two lists of subjects are the same, in whatever order.
pub fn are_same(one: &[String], two: &[String]) -> bool {
    let sorted = |subjects: &[String]| {
        let mut subjects = subjects.to_vec();
        subjects.sort();
        subjects
    };
    sorted(one) == sorted(two)
}

impl History {
    /// The record of a durable that was made just now and takes from `first` on. `kept` and `floor` are what was kept before: a
    /// pipeline that has taken from another stream may have taken from this one earlier still.
    pub fn begun(
        stream: &SourceStream,
        kept: Option<&Self>,
        floor: Option<&Floor>,
        first: u64,
        subjects: &[String],
    ) -> Self {
        let other = |name: &str, created: &str| name == stream.name && created != stream.created;
        let is_new = kept.is_none_or(|kept| other(&kept.stream, &kept.created))
            && floor.is_none_or(|floor| other(&floor.stream, &floor.created));
        if !is_new {
            return Self::from_now(stream, 0, first, subjects);
        }
        let subjects = Some(subjects.to_vec());
        let spans = vec![Span { after: first.saturating_sub(1), from: Some(first), subjects }];
        Self { stream: stream.name.clone(), created: stream.created.clone(), first: Some(first), spans }
    }

    /// The record of a durable of which nothing is kept: these subjects are held against messages behind `after`, and they
    /// alone from `from` on.
    pub fn from_now(stream: &SourceStream, after: u64, from: u64, subjects: &[String]) -> Self {
        let unknown = Span { after: 0, from: Some(0), subjects: None };
        let now = Span { after, from: Some(from), subjects: Some(subjects.to_vec()) };
        let spans = vec![unknown, now];
        Self { stream: stream.name.clone(), created: stream.created.clone(), first: None, spans }.bounded()
    }

    /// Whether it is about this very stream.
    pub fn is_of(&self, stream: &SourceStream) -> bool {
        self.stream == stream.name && self.created == stream.created
    }

    /// The record after a look at the consumer: a change that has happened gets its place, one that nobody has noted leaves
    /// unknown what was since the last one, and a server that has forgotten how far the consumer was looks at messages again.
    pub fn seen(mut self, there: &Consumer) -> Self {
        let next = there.delivered.saturating_add(1);
        if self.first.is_some_and(|first| next < first) {
            self.first = Some(next);
        }
        let Some(last) = self.spans.last_mut() else { return self };
        if last.subjects.as_deref().is_some_and(|subjects| are_same(subjects, &there.filters)) {
            last.from = last.from.or(Some(next));
            last.after = last.after.min(there.delivered);
            return self;
        }
        let after = last.after.min(there.delivered);
        match last.from {
            Some(_) => last.subjects = None,
            None => last.from = Some(next),
        }
        self.spans.push(Span { after, from: Some(next), subjects: Some(there.filters.clone()) });
        self.bounded()
    }

    /// The record before the subjects of a consumer are changed.
    pub fn to_be_changed(self, there: &Consumer, subjects: &[String]) -> Self {
        let mut history = self.seen(there);
        if !are_same(&there.filters, subjects) {
            let subjects = Some(subjects.to_vec());
            history.spans.push(Span { after: there.delivered, from: None, subjects });
        }
        history.bounded()
    }

    /// The record before a lost consumer is made again: it looks again at what lies behind `after`, and the one that is gone has
    /// looked at nothing behind `last`.
    pub fn made_again(mut self, after: u64, last: u64, subjects: &[String]) -> Self {
        let from = Some(last.saturating_add(1));
        match self.spans.last_mut() {
            Some(span) if span.subjects.as_deref().is_some_and(|kept| are_same(kept, subjects)) => {
                span.after = span.after.min(after);
                span.from = span.from.or(from);
            }
            other => {
                if let Some(span) = other {
                    span.from = span.from.or(from);
                }
                self.spans.push(Span { after, from, subjects: Some(subjects.to_vec()) });
            }
        }
        self.bounded()
    }

    /// What became of a message that the consumer has passed.
    pub fn judge(&self, sequence: u64, subject: &str) -> Passed {
        if self.first.is_some_and(|first| sequence < first) {
            let began_with = self.spans.first().and_then(|span| span.takes(subject));
            return if began_with == Some(false) { Passed::OtherSubject } else { Passed::BeforeStart };
        }
        let mut said = None;
        for (number, span) in self.spans.iter().enumerate() {
            let next = self.spans.get(number + 1).and_then(|next| next.from);
            if sequence <= span.after || next.is_some_and(|next| next <= sequence) {
                continue;
            }
            match (span.takes(subject), said) {
                (None, _) => return Passed::NotKept,
                (Some(takes), Some(before)) if takes != before => return Passed::AtAChange,
                (takes, _) => said = takes,
            }
        }
        match said {
            Some(true) => Passed::Taken,
            Some(false) => Passed::OtherSubject,
            None => Passed::NotKept,
        }
    }

    /// Without the oldest changes, if there are too many.
    fn bounded(mut self) -> Self {
        let is_large = |history: &Self| {
            let bytes = serde_json::to_vec(history).map_or(usize::MAX, |bytes| bytes.len());
            history.spans.len() > CHANGES_MAX + 1 || bytes > BYTES_MAX
        };
        while is_large(&self) {
            if self.spans.len() > 1 {
                self.spans.remove(0);
            }
            let Some(oldest) = self.spans.first_mut() else { break };
            *oldest = Span { after: 0, from: Some(0), subjects: None };
            if self.spans.len() == 1 {
                break;
            }
        }
        self
    }
}

impl Registry {
    /// The record of a pipeline's way, and the revision by which it is changed. One that can't be read is none.
    pub async fn history(&self, pipeline: &Name) -> Result<(Option<History>, u64), RegistryError> {
        let read_now = self.bucket().read(&key(pipeline)).await;
        let (entry, revision) = read_now.map_err(RegistryError::Asked)?;
        Ok((entry.and_then(|entry| serde_json::from_slice(&entry.body).ok()), revision))
    }

    /// Keeps it, if nobody else has changed it since `revision`.
    pub async fn put_history(
        &self,
        pipeline: &Name,
        history: &History,
        revision: u64,
    ) -> Result<(), RegistryError> {
        let bytes = Bytes::from(serde_json::to_vec(history).map_err(written)?);
        self.bucket().write(&key(pipeline), bytes, revision).await.map(|_| ()).map_err(RegistryError::Stored)
    }

    /// Forgets it.
    pub async fn clear_history(&self, pipeline: &Name) -> Result<(), RegistryError> {
        self.clear(key(pipeline)).await
    }

    /// The records of all pipelines that have one which can be read.
    pub async fn histories(&self, nats: &Nats) -> Result<BTreeMap<String, History>, RegistryError> {
        let records: BTreeMap<String, serde_json::Value> = self.all(nats, "history.").await?;
        let parsed = records.into_iter().map(|(name, record)| Some((name, serde_json::from_value(record).ok()?)));
        Ok(parsed.flatten().collect())
    }

    /// Changes the record of a pipeline, as often as somebody else does so at the same time; nothing where the change leaves it as
    /// it is.
    pub async fn note(
        &self,
        pipeline: &Name,
        change: impl Fn(Option<History>) -> History,
    ) -> Result<(), RegistryError> {
        let mut tries = 1;
        loop {
            let (kept, revision) = self.history(pipeline).await?;
            let next = change(kept.clone());
            if kept.as_ref() == Some(&next) {
                return Ok(());
            }
            match self.put_history(pipeline, &next, revision).await {
                Err(error) if tries < NOTES_MAX && is_to_be_tried(&error) => tries += 1,
                done => return done,
            }
        }
    }
}

/// How often it is tried to change a record that others change too.
const NOTES_MAX: u32 = 5;

fn is_to_be_tried(error: &RegistryError) -> bool {
    use super::StoreError::{Unknown, WrongLast};
    matches!(error.refusal(), Some(WrongLast | Unknown))
}

fn key(pipeline: &Name) -> String {
    format!("history.{pipeline}")
}
