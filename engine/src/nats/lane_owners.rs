//! Records of which process drains which lane, and the signs of life of these processes.
//!
//! A lane has no consumer: its owner alone reads it, and deletes from it what is settled. An owner without a sign of life is
//! gone; another process takes the lane over by compare-and-set.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use super::registry::{RegistryError, written};
use super::{Registry, StoreError};
use crate::model::{Name, Timestamp};

/// The record of a lane's owner.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LaneOwner {
    /// The process.
    pub process: String,
    /// Owners in a row that died with tasks of the lane under way.
    #[serde(default)]
    pub deaths: u32,
    /// Most tasks of the lane that the owner has under way at once: what a dead one may have begun is among the first
    /// so many.
    #[serde(default)]
    pub window: u64,
}

/// A lane's owner as it was read; `revision` is what a change of it expects.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnerEntry {
    /// The owner; none: nobody drains the lane.
    pub owner: Option<LaneOwner>,
    /// Sequence of the last that was said of it, 0 if nothing ever was.
    pub revision: u64,
}

/// A change of a lane's owner.
#[derive(Clone, Debug)]
pub struct OwnerChange {
    /// The pipeline.
    pub pipeline: String,
    /// The subscription.
    pub subscription: String,
    /// What holds now.
    pub entry: OwnerEntry,
}

fn owner_key(pipeline: &str, subscription: &str) -> String {
    format!("drain.{pipeline}.{subscription}")
}

impl Registry {
    /// Renews a process's sign of life.
    pub async fn renew_process(&self, process: &str) -> Result<(), RegistryError> {
        self.put(&format!("drainer.{process}"), &process).await
    }

    /// Takes a process's sign of life away: what it owned is free.
    pub async fn retire_process(&self, process: &str) -> Result<(), RegistryError> {
        // A marker for each process that has gone would stay for ever.
        self.forget(&format!("drainer.{process}")).await
    }

    /// The signs of life of all processes: a number that grows when one is renewed, and when that was by the server's clock.
    pub async fn processes(&self) -> Result<HashMap<String, (u64, Timestamp)>, RegistryError> {
        let entries = self.bucket().read_all("drainer.*").await.map_err(RegistryError::unread)?;
        let named = entries.into_iter().filter_map(|entry| {
            Some((entry.key.strip_prefix("drainer.")?.to_owned(), (entry.sequence, entry.time)))
        });
        Ok(named.collect())
    }

    /// What the server's clock says.
    pub async fn server_time(&self) -> Result<Timestamp, RegistryError> {
        self.nats().server_time(self.bucket().stream()).await.map_err(RegistryError::unread)
    }

    /// The owner of a lane, from the leader.
    pub async fn lane_owner(&self, pipeline: &str, subscription: &str) -> Result<OwnerEntry, RegistryError> {
        let found = self.bucket().read(&owner_key(pipeline, subscription)).await;
        let (entry, revision) = found.map_err(RegistryError::unread)?;
        // What can't be read is of another version: nobody's as far as this one knows, and written over.
        let owner = entry.and_then(|entry| serde_json::from_slice(&entry.body).ok());
        Ok(OwnerEntry { owner, revision })
    }

    /// Makes a process the owner of a lane if nobody has changed that since `revision`; its new revision. None: somebody has.
    pub async fn own_lane(
        &self,
        (pipeline, subscription): (&str, &str),
        owner: &LaneOwner,
        revision: u64,
    ) -> Result<Option<u64>, RegistryError> {
        let body = Bytes::from(serde_json::to_vec(owner).map_err(written)?);
        swapped(self.bucket().write(&owner_key(pipeline, subscription), body, revision).await)
    }

    /// Makes a lane nobody's, unless somebody else owns it by now.
    pub async fn free_lane(
        &self,
        (pipeline, subscription): (&str, &str),
        revision: u64,
    ) -> Result<Option<u64>, RegistryError> {
        swapped(self.bucket().remove(&owner_key(pipeline, subscription), revision).await)
    }

    /// Forgets who has drained the lanes of a pipeline that nobody runs.
    pub async fn forget_owners(&self, pipeline: &Name) -> Result<(), RegistryError> {
        self.forget(&owner_key(pipeline.as_str(), "*")).await
    }

    /// The owners of all lanes, then every change.
    pub async fn watch_owners(
        &self,
    ) -> Result<impl Stream<Item = OwnerChange> + Send + use<>, RegistryError> {
        let watch = self.watch("drain.>").await?;
        Ok(watch.filter_map(|entry| async move {
            let entry = entry.ok()?;
            let mut tokens = entry.key.split('.').skip(1);
            let (pipeline, subscription) = (tokens.next()?.to_owned(), tokens.next()?.to_owned());
            let owner = serde_json::from_slice(&entry.value).ok();
            Some(OwnerChange {
                pipeline,
                subscription,
                entry: OwnerEntry { owner, revision: entry.revision },
            })
        }))
    }
}

/// The new sequence; none: the record was changed by somebody else.
fn swapped(stored: Result<u64, StoreError>) -> Result<Option<u64>, RegistryError> {
    match stored {
        Ok(sequence) => Ok(Some(sequence)),
        Err(StoreError::WrongLast) => Ok(None),
        Err(error) => Err(RegistryError::Stored(error)),
    }
}
