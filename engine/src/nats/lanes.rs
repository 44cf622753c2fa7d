//! Lanes as people see them: state, backlog and waits of each, pausing and resuming.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::bucket::if_there;
use super::modules::{Alive, ModulesError};
use super::registry::{LaneMode, LaneRecord, RecordChange, RegistryError};
use super::{ApiError, Modules, Nats, Registry, Stored, tasks};
use crate::model::{Name, Timestamp};

/// Lanes whose oldest task is looked up: those that hold most. So the number of questions has a bound.
const OLDEST_MAX: usize = 256;
/// Of these, at the same time.
const LOOKS: usize = 16;

/// The state of a lane that nobody works on.
const ORPHANED: &str = "orphaned";

/// Why lanes can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LanesError {
    /// What waits can't be counted.
    #[error(transparent)]
    Counts(#[from] ApiError),
    /// A record can't be read.
    #[error(transparent)]
    Record(#[from] RegistryError),
    /// It can't be told which engines run.
    #[error(transparent)]
    Engines(#[from] ModulesError),
}

/// One lane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LaneView {
    /// The pipeline.
    pub pipeline: String,
    /// The subscription, or `_` for the pipeline as a whole.
    pub subscription: String,
    /// `active` (nothing is noted that stops it), `open`, `paused`, `disabled`, `unreadable`, `misconfigured` or `orphaned`.
    pub state: &'static str,
    /// Why, for people.
    pub why: String,
    /// Tasks in the lane.
    pub backlog: u64,
    /// Tasks that wait for a retry, or are due, and attempts that have run for more than a second.
    pub waiting: u64,
    /// When the oldest of these was stored there; looked up for the lanes that hold most.
    pub oldest: Option<String>,
    /// What the lane's engine, or its oldest task, met last.
    pub last_error: Option<String>,
    /// When a lane whose circuit is open is probed next.
    pub next_probe: Option<String>,
}

/// Whose files say which lanes there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Files {
    /// Those that engines have put into force.
    #[default]
    InForce,
    /// Those of the engine that is asked.
    OfThisEngine,
    /// Those that were named to the command.
    Named,
}

impl Files {
    const fn lacks(self) -> &'static str {
        match self {
            Self::InForce => "no file in force has it",
            Self::OfThisEngine => "the files of this engine don't have it",
            Self::Named => "the files that were looked at don't have it",
        }
    }
}

/// The lanes that somebody knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// Whose files say so.
    pub files: Files,
    /// Pipeline, and subscription or `_`.
    pub lanes: BTreeSet<(String, String)>,
    /// Pipelines of which it is not told what subscriptions they have.
    pub untold: BTreeSet<String>,
    /// Pipelines that had a file in force, and that no engine runs any more although others run: what lies in their lanes is
    /// nobody's.
    pub idle: BTreeSet<String>,
}

impl Known {
    fn has(&self, lane: &(String, String)) -> bool {
        self.lanes.contains(lane) || self.untold.contains(&lane.0)
    }

    /// A lane's state and why, by its record.
    pub fn state(&self, lane: &(String, String), record: Option<&LaneRecord>) -> (&'static str, String) {
        match record {
            _ if self.idle.contains(&lane.0) => {
                (ORPHANED, "no engine that shows a sign of life runs its pipeline".to_owned())
            }
            _ if !self.has(lane) => (ORPHANED, self.files.lacks().to_owned()),
            None => (LaneMode::Active.as_str(), String::new()),
            Some(record) => (record.state.as_str(), record.why.clone()),
        }
    }

    /// By the files that engines have put into force. A file stays in force while nothing runs at all: engines may be down for
    /// a moment. Where some run and none of them runs this pipeline, nor has for minutes, its file is gone.
    pub async fn in_force(nats: &Nats, registry: &Registry) -> Result<Self, LanesError> {
        let mut known = Self::default();
        let running = Modules::look(nats).engines().await?;
        for (pipeline, revision) in registry.revisions(nats).await? {
            let runs = |alive: &Alive| alive.pipeline.as_str() == pipeline;
            if !running.is_empty() && !running.iter().any(runs) {
                known.idle.insert(pipeline);
                continue;
            }
            let Some(subscriptions) = revision.subscriptions else {
                known.untold.insert(pipeline);
                continue;
            };
            let names = subscriptions.into_iter().chain(["_".to_owned()]);
            known.lanes.extend(names.map(|subscription| (pipeline.clone(), subscription)));
        }
        Ok(known)
    }
}

/// Every lane that `known` names or that something is in.
pub async fn view(nats: &Nats, registry: &Registry, known: &Known) -> Result<Vec<LaneView>, LanesError> {
    let counts = counts(nats, known).await?;
    let mut records = registry.lanes(nats).await?;
    let mut oldest = oldest(nats, &counts).await?;
    let view = |(lane, Counts { backlog, waiting }): (Lane, Counts)| {
        let record = records.remove(&lane);
        let (mut last_error, mut next_probe) = (None, None);
        let (state, why) = known.state(&lane, record.as_ref());
        if let Some(record) = record.filter(|_| state != ORPHANED) {
            last_error = record.last_error;
            next_probe = record.next_probe.filter(|_| record.state == LaneMode::Open);
        }
        let (oldest, met) = oldest.remove(&lane).unzip();
        let (pipeline, subscription) = lane;
        LaneView {
            pipeline,
            subscription,
            state,
            why,
            backlog,
            waiting,
            oldest: oldest.map(|time: Timestamp| time.to_string()),
            last_error: last_error.or(met.flatten()),
            next_probe: next_probe.map(|time| Timestamp::from_unix_nanos(time).to_string()),
        }
    };
    Ok(counts.into_iter().map(view).collect())
}

/// When the oldest task of each lane was stored, and what it met last. Asks for the lanes that hold most.
async fn oldest(
    nats: &Nats,
    counts: &BTreeMap<Lane, Counts>,
) -> Result<BTreeMap<Lane, (Timestamp, Option<String>)>, ApiError> {
    let mut held: Vec<(&Lane, &Counts)> =
        counts.iter().filter(|(_, counts)| counts.backlog + counts.waiting > 0).collect();
    held.sort_by_key(|(_, counts)| Reverse(counts.backlog + counts.waiting));
    held.truncate(OLDEST_MAX);
    let look = |(lane, counts): (&Lane, &Counts)| {
        let (lane, counts) = (lane.clone(), *counts);
        async move {
            let ((pipeline, subscription), prefix) = (&lane, nats.prefix());
            let (in_lane, retries) = (prefix.lane(pipeline, subscription), prefix.retries());
            let waits = [prefix.wait_all(pipeline, subscription), prefix.due_of(pipeline, subscription)];
            let mut found = Vec::new();
            if counts.backlog > 0 {
                found.extend(nats.next_on(&prefix.lanes(), &in_lane, 1).await?);
            }
            for subject in waits.iter().filter(|_| counts.waiting > 0) {
                found.extend(nats.next_on(&retries, subject, 1).await?);
            }
            let oldest = found.into_iter().min_by_key(|stored| stored.time);
            let oldest = oldest.map(|stored| (stored.time, met(&lane, &stored)));
            Ok::<_, ApiError>(oldest.map(|oldest| (lane, oldest)))
        }
    };
    let found: Vec<_> =
        stream::iter(held.into_iter().map(look)).buffer_unordered(LOOKS).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// What a stored task met last.
fn met((pipeline, subscription): &Lane, stored: &Stored) -> Option<String> {
    let (pipeline, subscription) = (Name::new(pipeline).ok()?, Name::new(subscription).ok());
    let task = tasks::decode(&pipeline, subscription.as_ref(), &stored.headers, &stored.body);
    task.ok()?.last.map(|last| last.error)
}

/// Pipeline, and subscription or `_`.
type Lane = (String, String);

/// How much is in a lane, and how much waits for it.
#[derive(Clone, Copy, Default)]
struct Counts {
    backlog: u64,
    waiting: u64,
}

/// Backlog and waits by lane.
async fn counts(nats: &Nats, known: &Known) -> Result<BTreeMap<Lane, Counts>, ApiError> {
    let prefix = nats.prefix();
    let mut counts: BTreeMap<Lane, Counts> = BTreeMap::new();
    for lane in known.lanes.iter().filter(|(_, subscription)| subscription != "_") {
        counts.entry(lane.clone()).or_default();
    }
    let of = |subject: &str| prefix.parts(subject).map(|(one, two)| (one.to_owned(), two.to_owned()));
    let in_lanes = if_there(nats.counts(&prefix.lanes(), &prefix.lane_all("*")).await)?;
    for (subject, count) in in_lanes.into_iter().flatten() {
        let Some(lane) = of(&subject) else { continue };
        counts.entry(lane).or_default().backlog += count;
    }
    // What is due and taken by nobody (its pipeline is gone) waits as well.
    for filter in [prefix.wait_all("*", "*"), prefix.due_of("*", "*")] {
        let waits = if_there(nats.counts(&prefix.retries(), &filter).await)?;
        for (subject, count) in waits.into_iter().flatten() {
            let Some(lane) = of(&subject) else { continue };
            counts.entry(lane).or_default().waiting += count;
        }
    }
    Ok(counts)
}

/// Stops the attempts of a lane; its tasks wait in it.
pub async fn pause(
    registry: &Registry,
    pipeline: &Name,
    subscription: &Name,
    why: &str,
) -> Result<(), RegistryError> {
    let record = LaneRecord::new(LaneMode::Paused, why);
    let wanted = |there: Option<&LaneRecord>| match there {
        Some(there) if there.state == LaneMode::Paused && there.why == why => RecordChange::Leave,
        Some(_) | None => RecordChange::Write(record.clone()),
    };
    registry.change_lane(pipeline.as_str(), subscription.as_str(), wanted).await.map(|_| ())
}

/// Starts the attempts of a lane again, whatever stopped them.
pub async fn resume(registry: &Registry, pipeline: &Name, subscription: &Name) -> Result<(), RegistryError> {
    // Once: what an engine says after that is about the time after that.
    let mut was_there = true;
    let wanted = |there: Option<&LaneRecord>| match there {
        Some(_) if std::mem::take(&mut was_there) => RecordChange::Remove,
        Some(there) if there.state == LaneMode::Paused || there.state == LaneMode::Disabled => {
            RecordChange::Remove
        }
        Some(_) | None => RecordChange::Leave,
    };
    registry.change_lane(pipeline.as_str(), subscription.as_str(), wanted).await.map(|_| ())
}
