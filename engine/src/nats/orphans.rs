//! Lanes whose subscription is gone: whether one is, and moving what it holds to another lane or to the dead letters.
//!
//! Nothing is removed before it is stored, and acknowledged, where it goes. So a move can be broken off anywhere and begun
//! again: what is moved is gone from the old lane, and at worst what was on its way is moved twice, with the same task key
//! and the same delivery id.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{Stream, TryStreamExt, stream};

use super::lanes::{Known, LanesError};
use super::modules::ModulesError;
use super::registry::RegistryError;
use super::tasks::{self, Death};
use super::{ApiError, Modules, Nats, Reader, Registry, StoreError, Stored};
use crate::model::{Name, NameError, Reason, Task};

/// Tasks that are moved at the same time.
pub const MOVES_AT_ONCE: usize = 64;
/// An engine that renewed its sign of life (every 5 s) within this is alive now, not only not known to be gone.
const ALIVE_WITHIN: Duration = Duration::from_secs(15);
/// Characters of a revision that are shown.
const REVISION_SHOWN: usize = 12;

/// The lane of a subscription, or (`_`) of a pipeline as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneName {
    /// The pipeline.
    pub pipeline: Name,
    /// The subscription; none: `_`.
    pub subscription: Option<Name>,
}

impl LaneName {
    /// From the two tokens of its subject.
    pub fn new(pipeline: &str, subscription: &str) -> Result<Self, NameError> {
        let subscription = (subscription != "_").then(|| Name::new(subscription)).transpose()?;
        Ok(Self { pipeline: Name::new(pipeline)?, subscription })
    }

    /// Reads `PIPELINE/SUBSCRIPTION`.
    pub fn parse(text: &str) -> Option<Self> {
        let (pipeline, subscription) = text.split_once('/')?;
        Self::new(pipeline, subscription).ok()
    }

    /// The subscription's token in subjects.
    pub fn token(&self) -> &str {
        self.subscription.as_ref().map_or("_", Name::as_str)
    }

    fn pair(&self) -> (String, String) {
        (self.pipeline.to_string(), self.token().to_owned())
    }
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pipeline, self.token())
    }
}

/// Where what a lane holds goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Into this lane, with a fresh schedule.
    Adopted(LaneName),
    /// To the dead letters, as `config`.
    DeadLettered,
}

/// Why a lane is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum OwnedError {
    /// Somebody works on it.
    #[error(
        "lane {lane} is no orphan: the file in force (revision {revision}, loaded by engine {engine}) has that subscription"
    )]
    InForce {
        /// The lane.
        lane: LaneName,
        /// The file's hash, cut.
        revision: String,
        /// Who loaded it.
        engine: String,
    },
    /// Somebody may work on it.
    #[error(
        "lane {lane} may be no orphan: the file in force (revision {revision}, loaded by engine {engine}) doesn't tell its subscriptions"
    )]
    Untold {
        /// The lane.
        lane: LaneName,
        /// The file's hash, cut.
        revision: String,
        /// Who loaded it.
        engine: String,
    },
    /// An engine that should be gone may work on it.
    #[error(
        "lane {lane} may be no orphan: engine {engine} still runs another file of its pipeline (revision {revision}); stop it first"
    )]
    Outdated {
        /// The lane.
        lane: LaneName,
        /// The hash of its file, cut.
        revision: String,
        /// The engine.
        engine: String,
    },
    /// There is nobody to adopt it.
    #[error("no file in force has the subscription {0}: nobody would take from its lane")]
    NoAdopter(LaneName),
    /// What is for a pipeline as a whole is of no use to a subscription, nor the other way round.
    #[error(
        "{from} can't go into {into}: what is for a pipeline as a whole (_) goes to a pipeline as a whole"
    )]
    OtherKind {
        /// The lane.
        from: LaneName,
        /// Where it was to go.
        into: LaneName,
    },
    /// It can't be found out.
    #[error(transparent)]
    Lanes(#[from] LanesError),
    /// It can't be found out.
    #[error(transparent)]
    Records(#[from] RegistryError),
    /// It can't be found out.
    #[error(transparent)]
    Engines(#[from] ModulesError),
}

impl OwnedError {
    /// How to mend it, where it can be.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::InForce { .. } => {
                Some("pause it; or take the subscription out of its file and start the engine again")
            }
            Self::Untold { .. } | Self::Outdated { .. } => Some("`hookmill status` shows engines and lanes"),
            Self::NoAdopter(_) | Self::OtherKind { .. } => Some("`hookmill lane list` shows what there is"),
            Self::Lanes(_) | Self::Records(_) | Self::Engines(_) => None,
        }
    }
}

/// Whether a lane may be moved: nobody works on it, and who is to adopt it will.
pub async fn may_move(
    nats: &Nats,
    registry: &Registry,
    from: &LaneName,
    fate: &Fate,
) -> Result<(), OwnedError> {
    let known = Known::in_force(nats, registry).await?;
    let cut = |hash: &str| hash.chars().take(REVISION_SHOWN).collect::<String>();
    let in_force = registry.revision(&from.pipeline).await?.map(|(revision, _)| revision);
    if let Some(revision) = &in_force {
        let (lane, hash, engine) = (from.clone(), cut(&revision.hash), revision.engine.clone());
        if known.untold.contains(from.pipeline.as_str()) {
            return Err(OwnedError::Untold { lane, revision: hash, engine });
        }
        if known.lanes.contains(&from.pair()) {
            return Err(OwnedError::InForce { lane, revision: hash, engine });
        }
    }
    let engines = Modules::look(nats).engines().await?;
    let outdated = |hash: &str| in_force.as_ref().is_none_or(|revision| revision.hash != hash);
    let other = engines.into_iter().find(|alive| {
        alive.pipeline == from.pipeline && alive.age < ALIVE_WITHIN && outdated(&alive.revision)
    });
    if let Some(alive) = other {
        let (lane, revision, engine) = (from.clone(), cut(&alive.revision), alive.engine);
        return Err(OwnedError::Outdated { lane, revision, engine });
    }
    match fate {
        Fate::Adopted(into) if into.subscription.is_some() != from.subscription.is_some() => {
            Err(OwnedError::OtherKind { from: from.clone(), into: into.clone() })
        }
        Fate::Adopted(into)
            if !known.lanes.contains(&into.pair()) && !known.untold.contains(into.pipeline.as_str()) =>
        {
            Err(OwnedError::NoAdopter(into.clone()))
        }
        Fate::Adopted(_) | Fate::DeadLettered => Ok(()),
    }
}

/// Why a task stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A newer engine wrote it, or it is broken.
    #[error(transparent)]
    Unreadable(#[from] tasks::DecodeError),
    /// Where it goes nothing can be stored.
    #[error("it can't be stored where it goes: {0}")]
    Store(#[from] StoreError),
    /// It is where it goes, and still in the old lane too.
    #[error("it was stored where it goes, but could not be removed from where it was")]
    NotRemoved(#[source] ApiError),
}

impl MoveError {
    /// Whether it is about this task alone, so that others may well be moved.
    pub fn is_of_this_one(&self) -> bool {
        match self {
            Self::Unreadable(_) => true,
            Self::Store(error) => error.is_of_this_message(),
            Self::NotRemoved(_) => false,
        }
    }
}

/// A message that is to be moved.
pub struct Held {
    /// Its stream.
    pub stream: String,
    /// The message.
    pub stored: Stored,
}

/// What a lane holds, one by one: what lies in it, then what waits for a retry, then what is due; and from the beginning
/// what has come meanwhile (a wait that fires, and is put into the lane by an engine that doesn't know the subscription).
pub struct Holdings {
    places: [(String, Reader); 3],
    at: usize,
}

impl Holdings {
    /// Of this lane. Read from the streams' leaders: what a replica has missed would be moved twice.
    pub fn new(nats: &Nats, lane: &LaneName) -> Self {
        let places = places(nats, lane).map(|(stream, subject)| {
            let reader = Reader::of_leader(nats, stream.clone(), subject, 1);
            (stream, reader)
        });
        Self { places, at: 0 }
    }

    /// The next one; none: that was all.
    pub async fn next(&mut self) -> Result<Option<Held>, ApiError> {
        for _ in 0..self.places.len() {
            let (stream, reader) = &mut self.places[self.at];
            if let Some(stored) = reader.next().await? {
                return Ok(Some(Held { stream: stream.clone(), stored }));
            }
            self.at = (self.at + 1) % self.places.len();
        }
        Ok(None)
    }
}

/// Where what belongs to a lane is, stream and subjects: in it, waiting, due.
fn places(nats: &Nats, lane: &LaneName) -> [(String, String); 3] {
    let (prefix, pipeline, token) = (nats.prefix(), lane.pipeline.as_str(), lane.token());
    [
        (prefix.lanes(), prefix.lane(pipeline, token)),
        (prefix.retries(), prefix.wait_all(pipeline, token)),
        (prefix.retries(), prefix.due_of(pipeline, token)),
    ]
}

/// How much a lane holds now: in it, waiting and due.
pub async fn holds(nats: &Nats, lane: &LaneName) -> Result<u64, ApiError> {
    let mut sum = 0;
    for (stream, filter) in places(nats, lane) {
        sum += nats.counts(&stream, &filter).await?.values().sum::<u64>();
    }
    Ok(sum)
}

/// What is to be stored for a task that is moved: subject, headers and body.
pub type Moved = (String, tasks::Encoded);

/// What becomes of a message of `from`. Asks nothing of the server.
pub fn moved(nats: &Nats, from: &LaneName, fate: &Fate, stored: &Stored) -> Result<Moved, MoveError> {
    let (prefix, pipeline) = (nats.prefix(), &from.pipeline);
    let task = tasks::decode(pipeline, from.subscription.as_ref(), &stored.headers, &stored.body);
    match fate {
        Fate::Adopted(into) => {
            let task = adopted(task?, into);
            Ok((prefix.lane(into.pipeline.as_str(), into.token()), tasks::encode(&task)))
        }
        Fate::DeadLettered => {
            let subject = prefix.dead_letter(pipeline.as_str(), from.token(), Reason::Config.as_str());
            let last = task.as_ref().ok().and_then(|task| task.last.clone());
            let error = match &last {
                Some(last) => format!("its subscription is gone; before that: {}", last.error),
                None => "its subscription is gone".to_owned(),
            };
            let death = Death { reason: Reason::Config, error, status: last.and_then(|last| last.status) };
            let encoded = match task {
                Ok(task) => tasks::encode_dead_letter(&task, &death),
                // Byte for byte: a newer engine can read it, and redrive it.
                Err(_) => tasks::dead_letter_as_it_is(&stored.headers, &stored.body, &death),
            };
            Ok((subject, encoded))
        }
    }
}

/// The task as another subscription takes it over: as after a redrive, with its whole schedule. It keeps its key, because
/// the new owner may have work of its own on the same message, and its delivery id, by which the receiver knows it.
fn adopted(task: Task, into: &LaneName) -> Task {
    Task {
        pipeline: into.pipeline.clone(),
        subscription: into.subscription.clone(),
        generation: task.generation + 1,
        attempt: 0,
        first_attempt: None,
        left: None,
        ..task
    }
}

impl Nats {
    /// Moves one message of a lane: stored where it goes, then removed.
    pub async fn move_held(&self, from: &LaneName, fate: &Fate, held: &Held) -> Result<(), MoveError> {
        let (subject, (headers, body)) = moved(self, from, fate, &held.stored)?;
        self.store(subject, headers, body).await?;
        self.delete(&held.stream, held.stored.sequence).await.map_err(MoveError::NotRemoved)
    }
}

/// Moves all that `from` holds, several at a time, until `go_on` is false or there is no more; says of each what became of
/// it. The first that fails for a reason that others would share clears `go_on`: those behind it stay, and those that were on
/// their way with it and failed like it are not spoken of. `dry_run`: only looks whether it could be moved.
pub fn moves<'a>(
    nats: &'a Nats,
    from: &'a LaneName,
    fate: &'a Fate,
    go_on: &'a AtomicBool,
    dry_run: bool,
) -> impl Stream<Item = Result<(Held, Result<(), MoveError>), ApiError>> + 'a {
    let held = stream::try_unfold(Holdings::new(nats, from), move |mut holdings| async move {
        let next = if go_on.load(Ordering::Relaxed) { holdings.next().await? } else { None };
        Ok::<_, ApiError>(next.map(|held| (held, holdings)))
    });
    let work = move |held: Held| async move {
        let moved = if dry_run {
            moved(nats, from, fate, &held.stored).map(|_| ())
        } else {
            nats.move_held(from, fate, &held).await
        };
        Ok::<_, ApiError>((held, moved))
    };
    let worth_a_word = move |(_, result): &(Held, Result<(), MoveError>)| {
        let hopeless = result.as_ref().is_err_and(|error| !error.is_of_this_one());
        std::future::ready(!hopeless || go_on.swap(false, Ordering::Relaxed))
    };
    held.map_ok(work).try_buffered(MOVES_AT_ONCE).try_filter(worth_a_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_named_by_pipeline_and_subscription_or_underscore() {
        for (text, token) in [("orders/hook", "hook"), ("orders/_", "_")] {
            let lane = LaneName::parse(text).unwrap();
            assert_eq!((lane.to_string(), lane.token()), (text.to_owned(), token));
        }
        for wrong in ["orders", "orders/", "/hook", "Orders/hook", "a/b/c", "_/hook", "*/hook", "orders/>"] {
            assert_eq!(LaneName::parse(wrong), None, "{wrong}");
        }
    }
}
