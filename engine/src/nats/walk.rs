//! Walking through dead letters, and how one is shown.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Map, Value, json};

use super::letters::{Letter, Selection, letter};
use super::streams::StreamsError;
use super::{ApiError, Nats, Reader};
use crate::model::Timestamp;
use crate::model::fault::chain;

/// Why a walk can't go on.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The stream of dead letters can't be looked at.
    #[error(transparent)]
    Stream(#[from] StreamsError),
    /// A dead letter can't be read.
    #[error(transparent)]
    Read(#[from] ApiError),
}

/// Walks through the dead letters that are meant, oldest first, and holds a batch of them at a time.
pub struct Walk {
    nats: Nats,
    selection: Selection,
    before: Option<Timestamp>,
    way: Way,
    from: u64,
    /// What comes after the walk has begun (a redriven one that dies again) is none of its business.
    until: u64,
}

/// How those that are meant are found.
enum Way {
    /// By their subjects.
    Filter(Box<Reader>),
    /// By their sequences, smallest first.
    Picked(VecDeque<u64>),
}

/// A dead letter on the way, and whether it is one of those that are meant.
pub enum Looked {
    /// It is.
    Meant(Box<Letter>),
    /// It is not; there may be others behind it.
    Other,
}

impl Walk {
    /// Begins one. `before`: those stored then or earlier.
    pub async fn new(
        nats: &Nats,
        selection: Selection,
        before: Option<Timestamp>,
    ) -> Result<Self, WalkError> {
        let until = nats.last_sequence(&nats.prefix().dlq()).await?;
        let way = Way::of(nats, &selection, 1);
        Ok(Self { nats: nats.clone(), selection, before, way, from: 1, until })
    }

    /// The same from this sequence on.
    #[must_use]
    pub fn from(self, sequence: u64) -> Self {
        let from = sequence.max(1);
        Self { way: Way::of(&self.nats, &self.selection, from), from, ..self }
    }

    /// The same from its beginning on, and to the same end: none that has come since it began.
    #[must_use]
    pub fn again(&self) -> Self {
        let Self { nats, selection, before, until, .. } = self;
        let way = Way::of(nats, selection, 1);
        Self {
            nats: nats.clone(),
            selection: selection.clone(),
            before: *before,
            way,
            from: 1,
            until: *until,
        }
    }

    /// With at most so many dead letters held.
    #[must_use]
    pub fn at_once(mut self, most: usize) -> Self {
        if let Way::Filter(reader) = self.way {
            self.way = Way::Filter(Box::new(reader.at_once(most)));
        }
        self
    }

    /// The sequence from which it goes on.
    pub fn position(&self) -> u64 {
        self.from
    }

    /// How many there are at most, as the server counts subjects: ages are not looked at.
    pub async fn count_max(&self) -> Result<u64, WalkError> {
        if let Way::Picked(sequences) = &self.way {
            return Ok(sequences.len() as u64);
        }
        let counts = self.nats.counts(&self.nats.prefix().dlq(), &self.selection.subject(&self.nats)).await?;
        Ok(counts.values().sum())
    }

    /// The next one that is meant.
    pub async fn next(&mut self) -> Result<Option<Letter>, WalkError> {
        loop {
            match self.look().await? {
                None => return Ok(None),
                Some(Looked::Meant(letter)) => return Ok(Some(*letter)),
                Some(Looked::Other) => {}
            }
        }
    }

    /// The next one, meant or not.
    pub async fn look(&mut self) -> Result<Option<Looked>, WalkError> {
        let stored = match &mut self.way {
            Way::Filter(reader) => reader.next().await?,
            Way::Picked(sequences) => {
                let Some(sequence) = sequences.pop_front() else { return Ok(None) };
                self.from = sequence + 1;
                let stored = self.nats.at(&self.nats.prefix().dlq(), sequence).await?;
                let Some(stored) = stored else { return Ok(Some(Looked::Other)) };
                Some(stored)
            }
        };
        let Some(stored) = stored.filter(|stored| stored.sequence <= self.until) else { return Ok(None) };
        self.from = stored.sequence + 1;
        let letter = letter(&self.nats, stored).filter(|letter| self.matches(letter));
        Ok(Some(letter.map_or(Looked::Other, |letter| Looked::Meant(Box::new(letter)))))
    }

    /// Picked by sequence, a dead letter still has to fulfil what else was asked for.
    fn matches(&self, letter: &Letter) -> bool {
        self.selection.takes(letter) && self.before.is_none_or(|before| letter.stored.time <= before)
    }
}

impl Way {
    fn of(nats: &Nats, selection: &Selection, from: u64) -> Self {
        if selection.sequences.is_empty() {
            let reader = Reader::new(nats, nats.prefix().dlq(), selection.subject(nats), from);
            return Self::Filter(Box::new(reader));
        }
        let picked: BTreeSet<u64> =
            selection.sequences.iter().copied().filter(|picked| *picked >= from).collect();
        Self::Picked(picked.into_iter().collect())
    }
}

impl Letter {
    /// What it is, without what is in it.
    pub fn summary(&self) -> Value {
        let task = self.task.as_ref().ok();
        json!({
            "sequence": self.stored.sequence,
            "time": self.stored.time.to_string(),
            "pipeline": self.pipeline,
            "subscription": self.subscription,
            "reason": self.death.reason.as_str(),
            "error": self.death.error,
            "status": self.death.status,
            "attempts": task.map(|task| task.attempt),
            "first_attempt": task.and_then(|task| task.first_attempt).map(|time| time.to_string()),
            "delivery_id": task.map(|task| task.delivery_id.as_str()),
            "event": task.map(|task| json!({
                "id": task.event.id, "source": task.event.source, "type": task.event.ty,
                "unverified": task.event.unverified
            })),
            "mends": task.map(|task| task.mends.names()),
            "source": task.map(|task| json!({
                "stream": &*task.source.stream, "sequence": task.source.sequence,
                "subject": task.subject.as_deref()
            })),
            // Where what is kept in parts goes on is said by what they are put together to.
            "resume": task.filter(|_| self.parts.is_none()).map(|task| task.work.resume()),
            "modules": task.map(|task| &task.modules),
            "bytes": self.parts.as_ref().map_or(self.stored.body.len(), |parts| parts.bytes),
        })
    }

    /// All of it, put together where it is kept in parts; where these can't be, why (`parts_error`).
    pub async fn put_together(&self, nats: &Nats) -> Value {
        match nats.put_together(self).await {
            Ok(letter) => letter.whole(),
            Err(error) => {
                let mut value = self.whole();
                value["parts_error"] = json!(chain(&error));
                value
            }
        }
    }

    /// All of it: headers and body as well.
    pub fn whole(&self) -> Value {
        let mut value = self.summary();
        let headers: Map<_, _> =
            self.stored.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        value["headers"] = json!(headers);
        value["body"] = match std::str::from_utf8(&self.stored.body) {
            Ok(text) => json!(text),
            Err(_) => json!({ "base64": data_encoding::BASE64.encode(&self.stored.body) }),
        };
        value
    }
}
