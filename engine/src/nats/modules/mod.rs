//! The registry of modules: bytes in an object store by digest, names and versions as records of the bucket.
//!
//! A version never changes. What is written is written in an order that survives a crash: the object is there before
//! a record names it, and goes after the last record that does.

mod errors;
mod objects;
mod uses;

pub use errors::{ModulesError, ResolveError, Versions};
pub use objects::{OBJECT_BYTES_MAX, ObjectError};
pub use uses::{Alive, Use};

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};

use self::objects::Objects;
use self::uses::Uses;
use super::bucket::Bucket;
use super::{Nats, Registry, StoreError};
use crate::model::{Digest, Name, Reference, Timestamp, Version};

/// How often a write begins again because somebody else was quicker.
const ROUNDS_MAX: usize = 8;
/// How often the bytes of a module are read again: a server that lags may have only a part of them.
const READS_MAX: usize = 3;

/// One version of a module.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The module's name.
    pub name: Name,
    /// Its version.
    pub version: Version,
    /// Its bytes.
    pub digest: Digest,
    /// How many there are.
    pub bytes: u64,
    /// When it was stored.
    pub stored: Timestamp,
    /// Set if no range may choose it.
    pub yanked: Option<Yanked>,
    /// What is known about it, as the checker made it.
    pub about: serde_json::Value,
}

/// When and why a version was yanked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Yanked {
    /// When.
    pub at: Timestamp,
    /// Why, in the words of whoever did it.
    pub why: String,
}

/// A record as the bucket keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    record: Record,
    /// A deleted version stays known, so that it never comes to mean other bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted: Option<Timestamp>,
}

/// What [`Modules::put`] did.
#[derive(Clone, PartialEq, Debug)]
pub enum Put {
    /// The version is there now.
    Created(Record),
    /// It was there, with the same bytes.
    Same(Record),
}

/// The registry of modules. Cheap to clone.
#[derive(Clone)]
pub struct Modules(Arc<Parts>);

struct Parts {
    nats: Nats,
    bucket: Bucket,
    objects: Objects,
    uses: Uses,
}

impl Modules {
    /// Opens the registry; makes the object store and the bucket if they are missing.
    pub async fn open(nats: &Nats) -> Result<Self, ModulesError> {
        nats.ensure_bucket().await?;
        let modules = Self::look(nats);
        modules.0.objects.ensure().await?;
        Ok(modules)
    }

    /// The registry as it is, for reading: asks nothing of the server and makes nothing. One that isn't there is empty.
    pub fn look(nats: &Nats) -> Self {
        Self(Arc::new(Parts {
            nats: nats.clone(),
            bucket: Bucket::new(nats, &nats.prefix().registry()),
            objects: Objects::new(nats, nats.prefix().modules()),
            uses: Uses::new(nats),
        }))
    }

    /// Stores a version. The same bytes again are fine, also after it was deleted.
    pub async fn put(
        &self,
        name: &Name,
        version: &Version,
        bytes: Bytes,
        about: serde_json::Value,
    ) -> Result<Put, ModulesError> {
        let digest = Digest::of(&bytes);
        // Asked first, so that a refused version leaves nothing behind.
        self.agreeing(name, version, &digest).await?;
        let record = Record {
            name: name.clone(),
            version: version.clone(),
            digest: digest.clone(),
            bytes: bytes.len() as u64,
            stored: Timestamp::now(),
            yanked: None,
            about,
        };
        self.put_object(&digest, &bytes).await?;
        let put = self.put_record(record).await?;
        // Somebody who deleted the last version with these bytes may be about to remove them.
        for _ in 0..ROUNDS_MAX {
            let kept = self.0.objects.keep(digest.hex()).await;
            if kept.map_err(|source| ModulesError::Object { digest: digest.clone(), verb: "kept", source })? {
                return Ok(put);
            }
            self.put_object(&digest, &bytes).await?;
        }
        Err(ModulesError::Busy { name: name.clone(), version: version.clone() })
    }

    async fn put_object(&self, digest: &Digest, bytes: &Bytes) -> Result<(), ModulesError> {
        let stored = self.0.objects.put(digest.hex(), bytes).await;
        stored.map_err(|source| ModulesError::Object { digest: digest.clone(), verb: "stored", source })
    }

    /// What is kept of the version and its sequence (0: nothing ever was); an error if that are other bytes.
    async fn agreeing(
        &self,
        name: &Name,
        version: &Version,
        digest: &Digest,
    ) -> Result<(Option<Kept>, u64), ModulesError> {
        let (kept, sequence) = self.kept(name, version).await?;
        match kept {
            Some(kept) if kept.record.digest != *digest => Err(ModulesError::Conflict {
                name: name.clone(),
                version: version.clone(),
                digest: kept.record.digest,
                deleted: kept.deleted.is_some(),
            }),
            kept => Ok((kept, sequence)),
        }
    }

    async fn put_record(&self, record: Record) -> Result<Put, ModulesError> {
        let Record { name, version, digest, .. } = &record;
        for _ in 0..ROUNDS_MAX {
            let (kept, sequence) = self.agreeing(name, version, digest).await?;
            if let Some(Kept { record, deleted: None }) = kept {
                return Ok(Put::Same(record));
            }
            let kept = Kept { record: record.clone(), deleted: None };
            match self.write(&kept, sequence).await {
                Ok(_) => return Ok(Put::Created(kept.record)),
                // Not known to be stored is found out by reading it.
                Err(StoreError::WrongLast | StoreError::Unknown) => {}
                Err(source) => {
                    return Err(ModulesError::Write { name: name.clone(), version: version.clone(), source });
                }
            }
        }
        Err(ModulesError::Busy { name: name.clone(), version: version.clone() })
    }

    /// All versions of all modules, by name and version.
    pub async fn names(&self) -> Result<Vec<Record>, ModulesError> {
        self.records("module.>").await
    }

    /// All versions of one module, oldest first.
    pub async fn versions(&self, name: &Name) -> Result<Vec<Record>, ModulesError> {
        self.records(&format!("module.{name}.>")).await
    }

    async fn records(&self, filter: &str) -> Result<Vec<Record>, ModulesError> {
        let entries = self.0.bucket.read_all(filter).await.map_err(ModulesError::Read)?;
        let mut records = Vec::with_capacity(entries.len());
        for entry in entries {
            let kept: Kept = serde_json::from_slice(&entry.body)
                .map_err(|source| ModulesError::Record { key: entry.key, source })?;
            if kept.deleted.is_none() {
                records.push(kept.record);
            }
        }
        records.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(records)
    }

    /// One version.
    pub async fn get(&self, name: &Name, version: &Version) -> Result<Option<Record>, ModulesError> {
        let (kept, _) = self.kept(name, version).await?;
        Ok(kept.filter(|kept| kept.deleted.is_none()).map(|kept| kept.record))
    }

    async fn kept(&self, name: &Name, version: &Version) -> Result<(Option<Kept>, u64), ModulesError> {
        let key = key(name, version);
        let (entry, sequence) = self.0.bucket.read(&key).await.map_err(ModulesError::Read)?;
        let kept = entry.map(|entry| serde_json::from_slice(&entry.body)).transpose();
        Ok((kept.map_err(|source| ModulesError::Record { key, source })?, sequence))
    }

    async fn write(&self, kept: &Kept, expected: u64) -> Result<u64, StoreError> {
        let body = serde_json::to_vec(kept).map_err(|error| StoreError::Refused(error.to_string()))?;
        self.0.bucket.write(&key(&kept.record.name, &kept.record.version), body.into(), expected).await
    }

    /// The bytes of a module, checked against their digest; none if they are not there.
    pub async fn bytes(&self, digest: &Digest) -> Result<Option<Bytes>, ModulesError> {
        let mut reads = 0;
        loop {
            reads += 1;
            match self.0.objects.get(digest.hex()).await {
                Ok(None) => return Ok(None),
                Ok(Some(bytes)) => {
                    let found = Digest::of(&bytes);
                    if found == *digest {
                        return Ok(Some(bytes));
                    }
                    if reads >= READS_MAX {
                        return Err(ModulesError::Damaged { digest: digest.clone(), found });
                    }
                }
                Err(source) if reads >= READS_MAX || !matches!(source, ObjectError::Cut { .. }) => {
                    return Err(ModulesError::Object { digest: digest.clone(), verb: "read", source });
                }
                Err(_) => {}
            }
        }
    }

    /// Takes a version out of all ranges. Exact references still load it. What was yanked stays as it was yanked first.
    pub async fn yank(&self, name: &Name, version: &Version, why: &str) -> Result<Record, ModulesError> {
        self.change(name, version, |mut kept| {
            kept.record.yanked.get_or_insert(Yanked { at: Timestamp::now(), why: why.to_owned() });
            kept
        })
        .await
        .map(|(kept, _)| kept.record)
    }

    /// Changes what is kept of a version that is there; the answer has its new sequence.
    async fn change(
        &self,
        name: &Name,
        version: &Version,
        change: impl Fn(Kept) -> Kept,
    ) -> Result<(Kept, u64), ModulesError> {
        let (name, version) = (name.clone(), version.clone());
        for _ in 0..ROUNDS_MAX {
            let (kept, sequence) = self.kept(&name, &version).await?;
            let Some(kept) = kept.filter(|kept| kept.deleted.is_none()) else {
                return Err(ModulesError::NotFound { name, version });
            };
            let kept = change(kept);
            match self.write(&kept, sequence).await {
                Ok(sequence) => return Ok((kept, sequence)),
                Err(StoreError::WrongLast) => {}
                Err(source) => return Err(ModulesError::Write { name, version, source }),
            }
        }
        Err(ModulesError::Busy { name, version })
    }

    /// Deletes a version that no living engine uses, and its bytes if no other version has them.
    pub async fn delete(&self, name: &Name, version: &Version) -> Result<(), ModulesError> {
        let Some(record) = self.get(name, version).await? else {
            return Err(ModulesError::NotFound { name: name.clone(), version: version.clone() });
        };
        self.refuse_used(&record).await?;
        let deleted = |kept: Kept| Kept {
            record: Record { about: serde_json::Value::Null, ..kept.record },
            deleted: Some(Timestamp::now()),
        };
        let (_, sequence) = self.change(name, version, deleted).await?;
        // An engine may have loaded it meanwhile. It looks once more after it has said so, as we do here: at least one
        // of the two sees the other.
        if let Err(error) = self.refuse_used(&record).await {
            let back = Kept { record, deleted: None };
            return match self.write(&back, sequence).await {
                // Lost only if somebody else has stored it again.
                Ok(_) | Err(StoreError::WrongLast) => Err(error),
                Err(source) => {
                    Err(ModulesError::Write { name: name.clone(), version: version.clone(), source })
                }
            };
        }
        self.drop_object(&record.digest).await
    }

    async fn refuse_used(&self, record: &Record) -> Result<(), ModulesError> {
        let same = self.versions(&record.name).await?;
        let alone =
            !same.iter().any(|other| other.digest == record.digest && other.version != record.version);
        let by_digest = format!("{}@{}", record.name, record.digest);
        let uses = self.uses().await?.into_iter().filter(|one| {
            if one.reference == by_digest {
                return alone;
            }
            one.version.as_ref() == Some(&record.version) && one.name().as_ref() == Some(&record.name)
        });
        let uses: Vec<Use> = uses.collect();
        if uses.is_empty() { Ok(()) } else { Err(ModulesError::InUse(uses)) }
    }

    /// Removes the bytes if no version has them. A version that is stored at the same time keeps them: it either has
    /// its record before we look, or it touches the object after we did.
    async fn drop_object(&self, digest: &Digest) -> Result<(), ModulesError> {
        let failed = |source| ModulesError::Object { digest: digest.clone(), verb: "removed", source };
        for _ in 0..ROUNDS_MAX {
            let Some(seen) = self.0.objects.look(digest.hex()).await.map_err(failed)? else { return Ok(()) };
            if self.names().await?.iter().any(|record| record.digest == *digest) {
                return Ok(());
            }
            if self.0.objects.remove(seen).await.map_err(failed)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Which engines that are alive use which modules.
    pub async fn uses(&self) -> Result<Vec<Use>, ModulesError> {
        self.0.uses.read().await.map_err(ModulesError::Read)
    }

    /// The engines that are alive, one for each pipeline that each runs.
    pub async fn engines(&self) -> Result<Vec<Alive>, ModulesError> {
        self.0.uses.alive().await.map_err(ModulesError::Read)
    }

    /// Says what an engine uses in a pipeline. Counts as long as its sign of life does.
    pub async fn say_uses(&self, pipeline: &Name, engine: &str, uses: &[Use]) -> Result<(), StoreError> {
        self.0.uses.write(pipeline, engine, uses).await
    }

    /// What a reference means now.
    pub async fn resolve(&self, reference: &Reference) -> Result<Record, ResolveError> {
        let candidates = self.candidates(reference).await?;
        Ok(candidates.into_iter().next().expect("there is at least one"))
    }

    /// What a reference may mean, the version that it does mean first: for a moving reference, the older ones that fit
    /// follow, newest first. Never empty.
    pub async fn candidates(&self, reference: &Reference) -> Result<Vec<Record>, ResolveError> {
        let Some(name) = reference.name() else { return Err(ResolveError::File(reference.to_string())) };
        let mut versions = self.versions(name).await?;
        versions.reverse();
        let mut fitting: Vec<Record> = match reference {
            Reference::File(_) => Vec::new(),
            Reference::Range { range, .. } => {
                let chosen = |record: &&Record| {
                    range.takes(&record.version) && !(range.is_moving() && record.yanked.is_some())
                };
                versions.iter().filter(chosen).cloned().collect()
            }
            Reference::Digest { digest, .. } => {
                let mut same: Vec<Record> =
                    versions.iter().filter(|record| record.digest == *digest).cloned().collect();
                same.sort_by_key(|record| record.yanked.is_some());
                same
            }
        };
        if !reference.is_moving() {
            fitting.truncate(1);
        }
        if !fitting.is_empty() {
            return Ok(fitting);
        }
        if versions.is_empty() {
            return Err(ResolveError::NoName { name: name.clone(), hint: self.nearest(name).await? });
        }
        let (name, reference) = (name.clone(), reference.clone());
        Err(ResolveError::NoVersion { name, reference, there: Versions(versions) })
    }

    /// Names like this one, as the end of a message.
    async fn nearest(&self, name: &Name) -> Result<String, ModulesError> {
        let distance = |other: &Name| strsim::damerau_levenshtein(name.as_str(), other.as_str());
        let mut names: Vec<Name> = self.names().await?.into_iter().map(|record| record.name).collect();
        names.dedup();
        if names.is_empty() {
            return Ok(", which is empty; `hookmill module push` fills it".to_owned());
        }
        let near = names.into_iter().filter(|other| distance(other) <= 2).min_by_key(distance);
        Ok(near.map_or_else(
            || "; `hookmill module list` shows what there is".to_owned(),
            |near| format!("; did you mean {near}?"),
        ))
    }

    /// Says that something may have changed: at once, then after each upload, yank and deletion. It ends when the
    /// connection loses track of changes.
    pub async fn watch(&self) -> Result<impl Stream<Item = ()> + Send + Unpin + use<>, ModulesError> {
        let registry = Registry::open(&self.0.nats).await.map_err(ModulesError::Watch)?;
        let changes = registry.watch_modules().await.map_err(ModulesError::Watch)?;
        Ok(Box::pin(stream::once(std::future::ready(())).chain(changes)))
    }
}

fn key(name: &Name, version: &Version) -> String {
    format!("module.{name}.{version}")
}
