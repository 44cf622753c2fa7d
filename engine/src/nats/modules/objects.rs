//! Modules' bytes in an object store, in NATS's own format, so that `nats object` can read and write them.
//!
//! Written and removed in a way that no crash and no other writer can take an object away that somebody has just
//! referred to: see [`Objects::keep`] and [`Objects::remove`]. An object is never changed, it has the same name as its
//! bytes.

use std::time::Duration;

use async_nats::jetstream::consumer::push::OrderedConfig;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use bytes::{Bytes, BytesMut};
use data_encoding::BASE64URL;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::model::Timestamp;
use crate::nats::bucket::{expected_sequence, if_there, rollup};
use crate::nats::streams::StreamsError;
use crate::nats::{ApiError, Nats, StoreError, api};

/// Largest object, in bytes.
pub const OBJECT_BYTES_MAX: usize = 256 << 20;
/// Size of the messages that an object is stored in, in bytes.
const CHUNK_BYTES: usize = 128 << 10;
/// Longest wait for the next part of an object.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a write begins again because somebody else was quicker.
const ROUNDS_MAX: usize = 8;

/// Why an object can't be stored, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// JetStream gives no answer, or not this one.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It is not stored, or not known to be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More than [`OBJECT_BYTES_MAX`].
    #[error("it has {bytes} bytes, the most that an object can have is {OBJECT_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Its description is none.
    #[error("the description of the object can't be read")]
    Description(#[source] serde_json::Error),
    /// Its parts don't come.
    #[error("the parts of the object can't be read")]
    Parts(#[source] async_nats::Error),
    /// Not all of its parts come.
    #[error("of {size} bytes only {found} came within {READ_TIMEOUT:?}")]
    Cut {
        /// How many it should have.
        size: usize,
        /// How many there were.
        found: usize,
    },
    /// Others write the same object all the time.
    #[error("others write and remove the same object all the time")]
    Busy,
}

/// An object's description, as NATS writes it.
#[derive(Clone, Serialize, Deserialize)]
struct Description {
    name: String,
    bucket: String,
    /// Names the parts.
    nuid: String,
    size: usize,
    chunks: usize,
    mtime: Timestamp,
    #[serde(default)]
    digest: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

/// What [`Objects::look`] has seen of an object; while this holds it can be removed.
pub(super) struct Seen {
    description: Description,
    sequence: u64,
}

/// An object store.
pub(super) struct Objects {
    nats: Nats,
    bucket: String,
    stream: String,
}

impl Objects {
    /// The store of this name. Asks nothing of the server.
    pub(super) fn new(nats: &Nats, bucket: String) -> Self {
        Self { nats: nats.clone(), stream: format!("OBJ_{bucket}"), bucket }
    }

    /// Makes the store if it is missing.
    pub(super) async fn ensure(&self) -> Result<(), StreamsError> {
        let Self { nats, bucket, stream } = self;
        let config = Config {
            name: stream.clone(),
            subjects: vec![format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")],
            storage: StorageType::File,
            num_replicas: nats.replicas(),
            discard: DiscardPolicy::New,
            allow_rollup: true,
            allow_direct: true,
            ..Default::default()
        };
        nats.ensure(config).await.map(|_| ())
    }

    fn parts(&self, nuid: &str) -> String {
        format!("$O.{}.C.{nuid}", self.bucket)
    }

    fn described(&self, name: &str) -> String {
        format!("$O.{}.M.{}", self.bucket, BASE64URL.encode(name.as_bytes()))
    }

    /// The object's description and its sequence; the latter is 0 if there never was one.
    async fn describe(&self, name: &str) -> Result<(Option<Description>, u64), ObjectError> {
        let stored = self.nats.last_on(&self.stream, &self.described(name)).await;
        let Some(stored) = if_there(stored)?.flatten() else { return Ok((None, 0)) };
        let description: Description =
            serde_json::from_slice(&stored.body).map_err(ObjectError::Description)?;
        let sequence = stored.sequence;
        Ok((Some(description).filter(|description| !description.deleted), sequence))
    }

    /// The object as it is now, for [`Objects::remove`]; none if there is none.
    pub(super) async fn look(&self, name: &str) -> Result<Option<Seen>, ObjectError> {
        let (description, sequence) = self.describe(name).await?;
        Ok(description.map(|description| Seen { description, sequence }))
    }

    /// Stores an object unless it is there, whole. The parts come first, the description last: a crash leaves nothing
    /// that looks like an object.
    pub(super) async fn put(&self, name: &str, bytes: &Bytes) -> Result<(), ObjectError> {
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(ObjectError::TooLarge { bytes: bytes.len() });
        }
        for _ in 0..ROUNDS_MAX {
            let (there, sequence) = self.describe(name).await?;
            if let Some(there) = &there
                && there.size == bytes.len()
                && self.is_whole(there).await?
            {
                return Ok(());
            }
            let nuid = format!("{:032x}", rand::random::<u128>());
            match self.write(name, &nuid, bytes, sequence).await {
                Ok(()) => {
                    if let Some(there) = there {
                        self.purge(&there.nuid).await;
                    }
                    return Ok(());
                }
                Err(error) => {
                    // Without a description nobody finds them.
                    self.purge(&nuid).await;
                    match error {
                        StoreError::WrongLast => {}
                        error => return Err(error.into()),
                    }
                }
            }
        }
        Err(ObjectError::Busy)
    }

    async fn write(&self, name: &str, nuid: &str, bytes: &Bytes, expected: u64) -> Result<(), StoreError> {
        // Room for what the server counts beside the body.
        let part = CHUNK_BYTES.min(self.nats.max_payload().saturating_sub(1024)).max(1);
        let parts = bytes.len().div_ceil(part);
        for start in (0..bytes.len()).step_by(part) {
            let chunk = bytes.slice(start..bytes.len().min(start + part));
            self.nats.store(self.parts(nuid), Vec::new(), chunk).await?;
        }
        let description = Description {
            name: name.to_owned(),
            bucket: self.bucket.clone(),
            nuid: nuid.to_owned(),
            size: bytes.len(),
            chunks: parts,
            mtime: Timestamp::now(),
            digest: format!("SHA-256={}", BASE64URL.encode(&Sha256::digest(bytes))),
            deleted: false,
        };
        self.write_description(&description, expected).await.map(|_| ())
    }

    async fn write_description(&self, description: &Description, expected: u64) -> Result<u64, StoreError> {
        let headers = vec![rollup(), (expected_sequence(), expected.to_string())];
        let body = serde_json::to_vec(description).map_err(|error| StoreError::Refused(error.to_string()))?;
        self.nats.store(self.described(&description.name), headers, body.into()).await
    }

    async fn is_whole(&self, description: &Description) -> Result<bool, ObjectError> {
        let parts = self.nats.counts(&self.stream, &self.parts(&description.nuid)).await?;
        Ok(parts.values().sum::<u64>() == description.chunks as u64)
    }

    /// Makes sure that whoever is about to remove the object, having looked at it before now, doesn't: its description
    /// gets a new sequence. False if there is no such object.
    pub(super) async fn keep(&self, name: &str) -> Result<bool, ObjectError> {
        for _ in 0..ROUNDS_MAX {
            let (Some(description), sequence) = self.describe(name).await? else { return Ok(false) };
            match self.write_description(&description, sequence).await {
                Ok(_) => return Ok(true),
                Err(StoreError::WrongLast | StoreError::Unknown) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ObjectError::Busy)
    }

    /// Removes an object if nobody has kept it since it was looked at; false if somebody has.
    pub(super) async fn remove(&self, seen: Seen) -> Result<bool, ObjectError> {
        let Seen { description, sequence } = seen;
        let nuid = description.nuid.clone();
        let gone = Description { size: 0, chunks: 0, deleted: true, mtime: Timestamp::now(), ..description };
        match self.write_description(&gone, sequence).await {
            Ok(_) => {
                self.purge(&nuid).await;
                Ok(true)
            }
            Err(StoreError::WrongLast) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes parts that no description names any more. What stays behind after a failure only takes room.
    async fn purge(&self, nuid: &str) {
        let query = json!({ "filter": self.parts(nuid) });
        let purged: Result<serde_json::Value, ApiError> =
            api(&self.nats, format!("STREAM.PURGE.{}", self.stream), &query).await;
        if let Err(error) = purged {
            tracing::debug!(%error, "parts of an object stay behind");
        }
    }

    /// The bytes of an object; none if there is none.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>, ObjectError> {
        let (Some(description), _) = self.describe(name).await? else { return Ok(None) };
        let size = description.size;
        if size > OBJECT_BYTES_MAX {
            return Err(ObjectError::TooLarge { bytes: size });
        }
        let failed = |error: async_nats::Error| ObjectError::Parts(error);
        let stream = self.nats.jetstream().get_stream_no_info(&self.stream).await;
        let config = OrderedConfig {
            deliver_subject: self.nats.client().new_inbox(),
            filter_subject: self.parts(&description.nuid),
            ..Default::default()
        };
        let consumer = stream.map_err(|error| failed(error.into()))?.create_consumer(config).await;
        let parts = consumer.map_err(|error| failed(error.into()))?.messages().await;
        let mut parts = parts.map_err(|error| failed(error.into()))?;
        let mut bytes = BytesMut::new();
        while bytes.len() < size {
            match tokio::time::timeout(READ_TIMEOUT, parts.next()).await {
                Ok(Some(Ok(part))) => bytes.extend_from_slice(&part.payload),
                Ok(Some(Err(error))) => return Err(failed(error.into())),
                Ok(None) | Err(_) => return Err(ObjectError::Cut { size, found: bytes.len() }),
            }
        }
        Ok(Some(bytes.freeze()))
    }
}
