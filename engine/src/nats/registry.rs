//! Records in the key-value bucket: source floors, lane states, signs of life.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::kv;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use super::bucket::Bucket;
use super::history::History;
use super::{ApiError, Nats, StoreError};
use crate::model::{Name, Timestamp};

pub use super::lane_records::{LaneChange, LaneMode, LaneRecord, RecordChange};
pub use super::revisions::Revision;

/// Longest wait for records that are read all at once.
const READ_ALL_MAX: Duration = Duration::from_secs(30);

/// An engine whose sign of life is older than this is gone. It renews it every few seconds.
pub const GONE_AFTER: Duration = Duration::from_secs(300);

/// How far a pipeline's source consumer has got, kept so that a lost consumer can be made again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Floor {
    /// The stream's name.
    pub stream: String,
    /// When the stream was made: a stream made anew starts its sequences again.
    pub created: String,
    /// Everything up to this stream sequence is settled.
    pub sequence: u64,
}

/// A pipeline that is being given another name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Renaming {
    /// The old one.
    pub from: String,
    /// The new one.
    pub to: String,
    /// Where its new name goes on in the source; none: not found out yet, or it has never taken from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// Its way through the source so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// An engine's sign of life for one pipeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sign {
    /// The engine.
    pub engine: String,
    /// The hash of the file that it has loaded.
    pub hash: String,
    /// Grows with each renewal.
    pub renewal: u64,
    /// When it was renewed, by the server's clock.
    pub at: Timestamp,
}

/// Who writes a kind of record, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Writers {
    /// Engines, each a record of its own or the last word counting.
    Engines,
    /// Engines, one another's: by compare-and-set (a command only while none runs).
    EnginesInTurn,
    /// A person's command, while no engine runs.
    Person,
    /// Persons and engines: by compare-and-set alone, so that neither undoes what the other has just said.
    PersonsAndEngines,
}

/// All kinds of records, by the first token of their keys.
pub(super) const KINDS: [(&str, Writers); 12] = [
    ("floor", Writers::Engines),
    ("history", Writers::EnginesInTurn),
    ("lane", Writers::PersonsAndEngines),
    ("suspect", Writers::Engines),
    ("revision", Writers::Engines),
    ("engine", Writers::Engines),
    ("yielded", Writers::Engines),
    ("rename", Writers::Person),
    ("module", Writers::PersonsAndEngines),
    ("uses", Writers::Engines),
    ("drain", Writers::EnginesInTurn),
    ("drainer", Writers::Engines),
];

/// Whether a record may be written or removed without a look at what is there.
fn may_be_overwritten(key: &str) -> bool {
    let kind = key.split('.').next().unwrap_or_default();
    KINDS.iter().any(|(known, writers)| *known == kind && *writers != Writers::PersonsAndEngines)
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It was asked for in vain.
    #[error("the key-value bucket can't be read")]
    Asked(#[source] ApiError),
    /// It was not stored, or is not known to be.
    #[error("the key-value bucket can't be written")]
    Stored(#[source] StoreError),
    /// Anything else, of which the client doesn't tell enough.
    #[error("the key-value bucket can't be {verb}")]
    Client {
        /// What was tried.
        verb: &'static str,
        /// Why not.
        #[source]
        source: async_nats::Error,
    },
}

impl RegistryError {
    /// What belongs to the bucket can't be read.
    pub fn unread(source: ApiError) -> Self {
        Self::Asked(source)
    }

    /// Why it was not stored, if that is what went wrong.
    pub fn refusal(&self) -> Option<StoreError> {
        match self {
            Self::Stored(error) => Some(error.clone()),
            Self::Asked(_) | Self::Client { .. } => None,
        }
    }

    /// Whether it may be otherwise in a moment. Of what the client says that can't be known: it may.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Asked(error) => error.is_passing(),
            Self::Stored(error) => error.is_passing(),
            Self::Client { .. } => true,
        }
    }
}

pub(super) fn read(source: impl Into<async_nats::Error>) -> RegistryError {
    RegistryError::Client { verb: "read", source: source.into() }
}

pub(super) fn written(source: impl Into<async_nats::Error>) -> RegistryError {
    RegistryError::Client { verb: "written", source: source.into() }
}

/// The bucket.
#[derive(Clone)]
pub struct Registry {
    nats: Nats,
    store: kv::Store,
}

impl Registry {
    /// Opens the bucket; `streams::ensure` has made it.
    pub async fn open(nats: &Nats) -> Result<Self, RegistryError> {
        let bucket = nats.prefix().registry();
        let store = nats.jetstream().get_key_value(bucket).await.map_err(read)?;
        Ok(Self { nats: nats.clone(), store })
    }

    pub(super) fn nats(&self) -> &Nats {
        &self.nats
    }

    pub(super) fn bucket(&self) -> Bucket {
        Bucket::new(&self.nats, &self.nats.prefix().registry())
    }

    pub(super) async fn get<T: for<'de> Deserialize<'de>>(
        &self,
        key: &str,
    ) -> Result<Option<T>, RegistryError> {
        let entry = self.bucket().get(key).await.map_err(RegistryError::Asked)?;
        entry.map(|entry| serde_json::from_slice(&entry.body).map_err(read)).transpose()
    }

    pub(super) async fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<(), RegistryError> {
        debug_assert!(may_be_overwritten(key), "{key} is written by compare-and-set alone");
        let bytes = Bytes::from(serde_json::to_vec(value).map_err(written)?);
        self.bucket().put(key, bytes).await.map(|_| ()).map_err(RegistryError::Stored)
    }

    pub(super) async fn clear(&self, key: String) -> Result<(), RegistryError> {
        debug_assert!(may_be_overwritten(&key), "{key} is removed by compare-and-set alone");
        self.store.purge(key).await.map_err(written)
    }

    /// The floor of a pipeline, if one is kept.
    pub async fn floor(&self, pipeline: &Name) -> Result<Option<Floor>, RegistryError> {
        self.get(&format!("floor.{pipeline}")).await
    }

    /// Keeps a floor.
    pub async fn put_floor(&self, pipeline: &Name, floor: &Floor) -> Result<(), RegistryError> {
        self.put(&format!("floor.{pipeline}"), floor).await
    }

    /// Forgets a floor.
    pub async fn clear_floor(&self, pipeline: &Name) -> Result<(), RegistryError> {
        self.clear(format!("floor.{pipeline}")).await
    }

    /// The rename that a pipeline is part of, under its old or its new name. No engine may run it until that is finished.
    pub async fn renaming(&self, pipeline: &Name) -> Result<Option<Renaming>, RegistryError> {
        self.get(&format!("rename.{pipeline}")).await
    }

    /// Notes that a pipeline is being renamed: first under its new name, then under its old one.
    pub async fn put_renaming(&self, renaming: &Renaming) -> Result<(), RegistryError> {
        for name in [&renaming.to, &renaming.from] {
            self.put(&format!("rename.{name}"), renaming).await?;
        }
        Ok(())
    }

    /// Removes that note under one of the names.
    pub async fn clear_renaming(&self, name: &Name) -> Result<(), RegistryError> {
        self.clear(format!("rename.{name}")).await
    }

    /// Forgets which file is in force.
    pub async fn clear_revision(&self, pipeline: &Name) -> Result<(), RegistryError> {
        self.clear(format!("revision.{pipeline}")).await
    }

    /// Puts a pipeline's file into force: the last writer is.
    pub async fn put_revision(&self, pipeline: &Name, revision: &Revision) -> Result<(), RegistryError> {
        self.put(&format!("revision.{pipeline}"), revision).await
    }

    /// The file that is in force, and the number of the record that says so: it grows each time that one is put into force.
    pub async fn revision(&self, pipeline: &Name) -> Result<Option<(Revision, u64)>, RegistryError> {
        let key = format!("revision.{pipeline}");
        let Some(entry) = self.bucket().get(&key).await.map_err(RegistryError::Asked)? else {
            return Ok(None);
        };
        let revision = serde_json::from_slice(&entry.body).map_err(read)?;
        Ok(Some((revision, entry.sequence)))
    }

    /// Says that an engine doesn't take from the source any more because of the file that this record has put into force.
    pub async fn put_yielded(&self, pipeline: &Name, engine: &str, record: u64) -> Result<(), RegistryError> {
        self.put(&format!("yielded.{pipeline}.{engine}"), &record).await
    }

    /// The newest record that an engine has yielded to.
    pub async fn yielded(&self, pipeline: &Name, engine: &str) -> Result<Option<u64>, RegistryError> {
        self.get(&format!("yielded.{pipeline}.{engine}")).await
    }

    /// Told whenever another file may have been put into force.
    pub async fn watch_revision(
        &self,
        pipeline: &Name,
    ) -> Result<impl Stream<Item = ()> + Send + use<>, RegistryError> {
        let watch = self.store.watch_with_history(format!("revision.{pipeline}")).await.map_err(read)?;
        Ok(watch.map(|_| ()))
    }

    /// Renews an engine's sign of life.
    pub async fn renew(&self, pipeline: &Name, engine: &str, hash: &str) -> Result<(), RegistryError> {
        self.put(&format!("engine.{pipeline}.{engine}"), &hash).await
    }

    /// Takes an engine's sign of life away, and what it said about its modules.
    pub async fn retire(&self, pipeline: &Name, engine: &str) -> Result<(), RegistryError> {
        let engines = ["engine", "yielded"].map(|what| format!("{what}.{pipeline}.{engine}"));
        for key in engines.into_iter().chain([format!("uses.{pipeline}.{engine}.>")]) {
            // Engines come and go: a marker for each that has gone would stay for ever, and nobody looks at it.
            let subject = format!("{}{key}", self.store.prefix);
            self.store.stream.purge().filter(subject).await.map_err(written)?;
        }
        Ok(())
    }

    /// The signs of life of all engines that run a pipeline.
    pub async fn signs(&self, pipeline: &Name) -> Result<Vec<Sign>, RegistryError> {
        let start = format!("engine.{pipeline}.");
        let mut keys = self.store.keys().await.map_err(read)?;
        let mut signs = Vec::new();
        while let Some(key) = keys.next().await {
            let key = key.map_err(read)?;
            let Some(engine) = key.strip_prefix(&start) else { continue };
            let Some(entry) = self.store.entry(key.clone()).await.map_err(read)? else { continue };
            if let (kv::Operation::Put, Ok(hash)) = (entry.operation, serde_json::from_slice(&entry.value)) {
                let at = entry.created.unix_timestamp_nanos();
                let at = Timestamp::from_unix_nanos(u64::try_from(at).unwrap_or_default());
                signs.push(Sign { engine: engine.to_owned(), hash, renewal: entry.revision, at });
            }
        }
        Ok(signs)
    }

    /// The records of all keys that begin with `start`, by what follows, through one consumer: asking for each key takes a
    /// question a key.
    pub(super) async fn all<T: for<'de> Deserialize<'de>>(
        &self,
        nats: &Nats,
        start: &str,
    ) -> Result<BTreeMap<String, T>, RegistryError> {
        let records = self.all_raw(nats, start).await?.into_iter();
        records.map(|(key, record)| Ok((key, serde_json::from_slice(&record).map_err(read)?))).collect()
    }

    pub(super) async fn all_raw(
        &self,
        nats: &Nats,
        start: &str,
    ) -> Result<BTreeMap<String, Bytes>, RegistryError> {
        let filter = format!("{start}>");
        let subjects = format!("{}{filter}", self.store.prefix);
        let mut records = BTreeMap::new();
        // A watch of nothing would never say that it is at its end.
        if nats.counts(&nats.prefix().registry_stream(), &subjects).await.map_err(read)?.is_empty() {
            return Ok(records);
        }
        let mut entries = self.store.watch_with_history(filter).await.map_err(read)?;
        let all = async {
            while let Some(entry) = entries.next().await {
                let entry = entry.map_err(read)?;
                if let (kv::Operation::Put, Some(key)) = (entry.operation, entry.key.strip_prefix(start)) {
                    records.insert(key.to_owned(), entry.value.clone());
                }
                if entry.delta == 0 {
                    break;
                }
            }
            Ok(())
        };
        tokio::time::timeout(READ_ALL_MAX, all).await.map_err(read)??;
        Ok(records)
    }

    /// The files in force, by pipeline.
    pub async fn revisions(&self, nats: &Nats) -> Result<BTreeMap<String, Revision>, RegistryError> {
        self.all(nats, "revision.").await
    }

    /// The floors of all pipelines that have ever taken from a source.
    pub async fn floors(&self, nats: &Nats) -> Result<BTreeMap<String, Floor>, RegistryError> {
        self.all(nats, "floor.").await
    }

    /// Removes a record without leaving a marker behind.
    pub(super) async fn forget(&self, key: &str) -> Result<(), RegistryError> {
        debug_assert!(may_be_overwritten(key), "{key} is removed by compare-and-set alone");
        let subject = format!("{}{key}", self.store.prefix);
        self.store.stream.purge().filter(subject).await.map(|_| ()).map_err(written)
    }

    /// The records of these keys, then every change.
    pub(super) async fn watch(&self, keys: &str) -> Result<kv::Watch, RegistryError> {
        self.store.watch_with_history(keys).await.map_err(read)
    }

    /// Told of every change of a module's record.
    pub(super) async fn watch_modules(&self) -> Result<impl Stream<Item = ()> + Send + use<>, RegistryError> {
        let watch = self.store.watch("module.>").await.map_err(read)?;
        Ok(watch.take_while(|entry| std::future::ready(entry.is_ok())).map(|_| ()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// First tokens of the keys that the sources below `folder` make.
    fn kinds_named(folder: &Path, kinds: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                kinds_named(&entry, kinds);
                continue;
            }
            let text = std::fs::read_to_string(entry).unwrap();
            for made in text.split("format!(\"").skip(1) {
                let Some((kind, _)) = made.split_once(".{") else { continue };
                if !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase()) {
                    kinds.insert(kind.to_owned());
                }
            }
        }
    }

    #[test]
    fn every_kind_of_record_says_who_writes_it_and_what_persons_write_is_never_written_over() {
        let mut named = BTreeSet::new();
        kinds_named(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nats"), &mut named);
        // Made in other ways: a hash behind a fixed start.
        named.insert("suspect".to_owned());
        let known: BTreeSet<String> = KINDS.iter().map(|(kind, _)| (*kind).to_owned()).collect();
        assert_eq!(named, known);
        let shared: Vec<&str> =
            KINDS.iter().map(|(kind, _)| *kind).filter(|kind| !may_be_overwritten(kind)).collect();
        assert_eq!(shared, ["lane", "module"]);
    }
}
