//! Lanes as people see them: state, backlog and waits of each, pausing and resuming.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::registry::{LaneMode, LaneRecord, RegistryError};
use super::{ApiError, Nats, Registry};
use crate::model::{Name, Timestamp};

/// Why lanes can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LanesError {
    /// What waits can't be counted.
    #[error(transparent)]
    Counts(#[from] ApiError),
    /// A record can't be read.
    #[error(transparent)]
    Record(#[from] RegistryError),
}

/// One lane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LaneView {
    /// The pipeline.
    pub pipeline: String,
    /// The subscription, or `_` for the pipeline as a whole.
    pub subscription: String,
    /// `active`, `open`, `paused`, `disabled`, `unreadable` or `orphaned`.
    pub state: &'static str,
    /// Why, for people.
    pub why: String,
    /// Tasks in the lane.
    pub backlog: u64,
    /// Tasks that wait for a retry, or are due.
    pub waiting: u64,
}

/// Every lane that `known` names (pipeline, subscription or `_`) or that something is in.
pub async fn view(
    nats: &Nats,
    registry: &Registry,
    known: &BTreeSet<(String, String)>,
) -> Result<Vec<LaneView>, LanesError> {
    let mut views = Vec::new();
    for ((pipeline, subscription), (backlog, waiting)) in counts(nats, known).await? {
        let record = registry.lane(&pipeline, &subscription).await?;
        let orphaned = !known.contains(&(pipeline.clone(), subscription.clone()));
        let (state, why) = match record {
            _ if orphaned => ("orphaned", "no loaded pipeline file has it".to_owned()),
            None => ("active", String::new()),
            Some(record) => (state(record.state), record.why),
        };
        views.push(LaneView { pipeline, subscription, state, why, backlog, waiting });
    }
    Ok(views)
}

fn state(mode: LaneMode) -> &'static str {
    match mode {
        LaneMode::Active => "active",
        LaneMode::Open => "open",
        LaneMode::Paused => "paused",
        LaneMode::Disabled => "disabled",
        LaneMode::Unreadable => "unreadable",
    }
}

/// Backlog and waits by lane.
async fn counts(
    nats: &Nats,
    known: &BTreeSet<(String, String)>,
) -> Result<BTreeMap<(String, String), (u64, u64)>, ApiError> {
    let prefix = nats.prefix();
    let mut counts: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for lane in known.iter().filter(|(_, subscription)| subscription != "_") {
        counts.entry(lane.clone()).or_default();
    }
    let of = |subject: &str| prefix.parts(subject).map(|(one, two)| (one.to_owned(), two.to_owned()));
    for (subject, count) in nats.counts(&prefix.lanes(), &prefix.lane_all("*")).await? {
        let Some(lane) = of(&subject) else { continue };
        counts.entry(lane).or_default().0 += count;
    }
    // What is due and taken by nobody (its pipeline is gone) waits as well.
    for filter in [prefix.wait_all("*", "*"), prefix.due_of("*", "*")] {
        for (subject, count) in nats.counts(&prefix.retries(), &filter).await? {
            let Some(lane) = of(&subject) else { continue };
            counts.entry(lane).or_default().1 += count;
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
    let (why, since) = (why.to_owned(), Timestamp::now().unix_nanos());
    let record = LaneRecord { state: LaneMode::Paused, why, since };
    registry.put_lane(pipeline.as_str(), subscription.as_str(), &record).await
}

/// Starts the attempts of a lane again, whatever stopped them.
pub async fn resume(registry: &Registry, pipeline: &Name, subscription: &Name) -> Result<(), RegistryError> {
    registry.clear_lane(pipeline.as_str(), subscription.as_str()).await
}
