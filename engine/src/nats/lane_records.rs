//! Records of lanes: what somebody or something has decided about each. Persons and engines write them, by compare-and-set
//! alone.

use std::collections::BTreeMap;

use async_nats::jetstream::kv;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use super::registry::{RegistryError, written};
use super::{Nats, Registry, StoreError};
use crate::model::Timestamp;

/// What somebody or something has decided about a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneMode {
    /// Tasks are attempted.
    Active,
    /// The circuit is open.
    Open,
    /// A person paused it.
    Paused,
    /// The endpoint said 410 Gone.
    Disabled,
    /// An engine that can't read a task in it leaves it alone. Engines that can go on.
    Unreadable,
    /// An engine has no usable value for what its subscription refers to. Engines that have go on.
    Misconfigured,
    /// What a newer version has written, or nobody can read: nothing is attempted against the word of somebody who may know
    /// better.
    #[serde(other)]
    Unknown,
}

impl LaneMode {
    /// As people see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
            Self::Unreadable => "unreadable",
            Self::Misconfigured => "misconfigured",
            Self::Unknown => "unknown",
        }
    }
}

/// The state record of a lane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LaneRecord {
    /// What holds.
    pub state: LaneMode,
    /// Why, for people.
    pub why: String,
    /// Since when (Unix ns).
    pub since: u64,
    /// The failure that the engine met last, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When an open circuit is probed next (Unix ns).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe: Option<u64>,
    /// Until when its endpoint asked to be left alone (Unix ns).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<u64>,
    /// How long attempts have gone on failing since an open circuit opened (ns).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<u64>,
    /// The engine that lacks values for a misconfigured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
}

impl LaneRecord {
    /// What holds, and why, since now.
    pub fn new(state: LaneMode, why: impl Into<String>) -> Self {
        let since = Timestamp::now().unix_nanos();
        let (last_error, next_probe, held_until, failing, engine) = (None, None, None, None, None);
        Self { state, why: why.into(), since, last_error, next_probe, held_until, failing, engine }
    }

    /// Reads a record. One that can't be read stops nobody but its lane, until a person resumes that.
    pub(super) fn read(bytes: &[u8]) -> Self {
        match serde_json::from_slice::<Self>(bytes) {
            Ok(record) if record.state == LaneMode::Unknown => {
                let why =
                    format!("a newer engine has noted a state that this one doesn't know: {}", record.why);
                Self { why, ..record }
            }
            Ok(record) => record,
            Err(error) => {
                let why = format!("its record can't be read: {error}; `hookmill lane resume` removes it");
                Self { since: 0, ..Self::new(LaneMode::Unknown, why) }
            }
        }
    }
}

/// What is to become of a lane's record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordChange {
    /// It is right as it is.
    Leave,
    /// It says this.
    Write(LaneRecord),
    /// There is none: the lane is active.
    Remove,
}

/// Rounds of asking, and being overtaken, before a change is given up.
const CHANGE_ROUNDS: usize = 32;

/// A change of a lane's record; `None`: it was removed, the lane is active.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaneChange {
    /// The pipeline.
    pub pipeline: String,
    /// The subscription.
    pub subscription: String,
    /// The new record.
    pub record: Option<LaneRecord>,
}

impl Registry {
    /// The records of all lanes that have one, by pipeline and subscription.
    pub async fn lanes(&self, nats: &Nats) -> Result<BTreeMap<(String, String), LaneRecord>, RegistryError> {
        let records = self.all_raw(nats, "lane.").await?;
        let lane = |(key, record): (String, Bytes)| {
            let record = LaneRecord::read(&record);
            let (pipeline, subscription) = key.split_once('.')?;
            Some(((pipeline.to_owned(), subscription.to_owned()), record))
        };
        Ok(records.into_iter().filter_map(lane).collect())
    }

    /// Changes the record of a lane by compare-and-set, the only way: persons and engines both write it. `wanted` is asked with
    /// each record that is found there, until it leaves it as it is; what holds then.
    pub async fn change_lane(
        &self,
        pipeline: &str,
        subscription: &str,
        mut wanted: impl FnMut(Option<&LaneRecord>) -> RecordChange + Send,
    ) -> Result<Option<LaneRecord>, RegistryError> {
        for _ in 0..CHANGE_ROUNDS {
            let (there, revision) = self.lane_at(pipeline, subscription).await?;
            let changed = match wanted(there.as_ref()) {
                RecordChange::Leave => return Ok(there),
                RecordChange::Write(record) => {
                    self.swap_lane(pipeline, subscription, Some(&record), revision).await
                }
                RecordChange::Remove => self.swap_lane(pipeline, subscription, None, revision).await,
            };
            match changed {
                // Looked at once more: what was wanted may have changed while it was written.
                Ok(()) | Err(RegistryError::Stored(StoreError::WrongLast | StoreError::Unknown)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(RegistryError::Stored(StoreError::Unknown))
    }

    /// The record of a lane, and the revision by which it is changed.
    async fn lane_at(
        &self,
        pipeline: &str,
        subscription: &str,
    ) -> Result<(Option<LaneRecord>, u64), RegistryError> {
        let read_now = self.bucket().read(&format!("lane.{pipeline}.{subscription}")).await;
        let (entry, revision) = read_now.map_err(RegistryError::Asked)?;
        Ok((entry.map(|entry| LaneRecord::read(&entry.body)), revision))
    }

    /// Writes or removes the record of a lane, if nobody else has changed it since `revision`.
    async fn swap_lane(
        &self,
        pipeline: &str,
        subscription: &str,
        record: Option<&LaneRecord>,
        revision: u64,
    ) -> Result<(), RegistryError> {
        let key = format!("lane.{pipeline}.{subscription}");
        let stored = match record {
            None => self.bucket().remove(&key, revision).await,
            Some(record) => {
                let bytes = Bytes::from(serde_json::to_vec(record).map_err(written)?);
                self.bucket().write(&key, bytes, revision).await
            }
        };
        stored.map(|_| ()).map_err(RegistryError::Stored)
    }

    /// The record of a lane.
    pub async fn lane(
        &self,
        pipeline: &str,
        subscription: &str,
    ) -> Result<Option<LaneRecord>, RegistryError> {
        let entry = self.bucket().get(&format!("lane.{pipeline}.{subscription}")).await;
        Ok(entry.map_err(RegistryError::Asked)?.map(|entry| LaneRecord::read(&entry.body)))
    }

    /// All lane records there are, then every change.
    pub async fn watch_lanes(&self) -> Result<impl Stream<Item = LaneChange> + Send + use<>, RegistryError> {
        let watch = self.watch("lane.>").await?;
        Ok(watch.filter_map(|entry| async move {
            let entry = entry.ok()?;
            let mut tokens = entry.key.split('.').skip(1);
            let (pipeline, subscription) = (tokens.next()?.to_owned(), tokens.next()?.to_owned());
            let record = match entry.operation {
                kv::Operation::Put => Some(LaneRecord::read(&entry.value)),
                kv::Operation::Delete | kv::Operation::Purge => None,
            };
            Some(LaneChange { pipeline, subscription, record })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cant_be_read_stops_its_lane_alone() {
        let newer = LaneRecord::read(br#"{"state":"frozen","why":"x","since":1,"more":{}}"#);
        assert_eq!(newer.state, LaneMode::Unknown);
        assert_eq!(newer.why, "a newer engine has noted a state that this one doesn't know: x");
        assert_eq!(LaneRecord::read(b"no record").state, LaneMode::Unknown);
        assert_eq!(LaneRecord::read(br#"{"state":"paused","why":"x","since":1}"#).state, LaneMode::Paused);
    }
}
