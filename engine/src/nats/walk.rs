//! Walking through dead letters, and how one is shown.

use serde_json::{Map, Value, json};

use super::letters::{Letter, Selection};
use super::streams::StreamsError;
use super::{ApiError, Nats};
use crate::model::Timestamp;

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

/// Walks through the dead letters that are meant, one at a time, oldest first.
pub struct Walk {
    nats: Nats,
    selection: Selection,
    before: Option<Timestamp>,
    from: u64,
    /// What comes after the walk has begun (a redriven one that dies again) is none of its business.
    until: u64,
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
        Ok(Self { nats: nats.clone(), selection, before, from: 1, until })
    }

    /// The same from this sequence on.
    #[must_use]
    pub fn from(self, sequence: u64) -> Self {
        Self { from: sequence.max(1), ..self }
    }

    /// The sequence from which it goes on.
    pub fn position(&self) -> u64 {
        self.from
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

    /// The next one, meant or not: one question to the server.
    pub async fn look(&mut self) -> Result<Option<Looked>, WalkError> {
        let letter = self.nats.next_letter(&self.selection, self.from).await?;
        let Some(letter) = letter.filter(|letter| letter.stored.sequence <= self.until) else {
            return Ok(None);
        };
        self.from = letter.stored.sequence + 1;
        let picked = self.selection.sequences.is_empty() || self.matches(&letter);
        let meant = picked && self.before.is_none_or(|before| letter.stored.time <= before);
        Ok(Some(if meant { Looked::Meant(Box::new(letter)) } else { Looked::Other }))
    }

    /// Picked by sequence, a dead letter still has to fulfil what else was asked for.
    fn matches(&self, letter: &Letter) -> bool {
        let is = |asked: &Option<String>, found: &str| asked.as_deref().is_none_or(|asked| asked == found);
        is(&self.selection.pipeline, &letter.pipeline)
            && is(&self.selection.subscription, &letter.subscription)
            && self.selection.reason.is_none_or(|reason| reason == letter.death.reason)
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
                "id": task.event.id, "source": task.event.source, "type": task.event.ty
            })),
            "source": task.map(|task| json!({
                "stream": &*task.source.stream, "sequence": task.source.sequence
            })),
            "resume": task.map(|task| task.work.resume()),
            "modules": task.map(|task| &task.modules),
            "bytes": self.stored.body.len(),
        })
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
