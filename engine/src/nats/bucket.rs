//! Records of the key-value bucket with compare-and-set, read from the leader. The format is NATS's own.

use async_nats::jetstream::ErrorCode;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{ApiError, Nats, StoreError, Stored};

/// Records that are read at the same time.
const READS: usize = 16;

/// A record as it was read.
pub(super) struct Entry {
    /// Its key.
    pub(super) key: String,
    /// What it holds.
    pub(super) body: Bytes,
    /// When the server stored it.
    pub(super) time: crate::model::Timestamp,
    /// Its sequence: it grows each time that the record is written.
    pub(super) sequence: u64,
}

/// The bucket.
pub(super) struct Bucket {
    nats: Nats,
    stream: String,
    subjects: String,
}

impl Bucket {
    /// The bucket of this name. Asks nothing of the server.
    pub(super) fn new(nats: &Nats, bucket: &str) -> Self {
        Self { nats: nats.clone(), stream: format!("KV_{bucket}"), subjects: format!("$KV.{bucket}.") }
    }

    /// The stream behind it.
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    /// The record of a key (none if there never was one, or it was removed), and the sequence of the last that was said
    /// of the key, 0 if nothing ever was: to be given to [`Bucket::write`].
    pub(super) async fn read(&self, key: &str) -> Result<(Option<Entry>, u64), ApiError> {
        let stored = self.nats.last_on(&self.stream, &format!("{}{key}", self.subjects)).await;
        let Some(stored) = if_there(stored)?.flatten() else { return Ok((None, 0)) };
        let sequence = stored.sequence;
        Ok((self.entry(stored), sequence))
    }

    /// The record of a key, if there is one. Unlike for [`Bucket::read`], a bucket that is gone is an error.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Entry>, ApiError> {
        let stored = self.nats.last_on(&self.stream, &format!("{}{key}", self.subjects)).await?;
        Ok(stored.and_then(|stored| self.entry(stored)))
    }

    /// The records of all keys that `filter` takes (`module.>`), in no certain order.
    pub(super) async fn read_all(&self, filter: &str) -> Result<Vec<Entry>, ApiError> {
        let subjects = self.nats.counts(&self.stream, &format!("{}{filter}", self.subjects)).await;
        let Some(subjects) = if_there(subjects)? else { return Ok(Vec::new()) };
        let read = |subject: String| async move { self.nats.last_on(&self.stream, &subject).await };
        let stored: Vec<Option<Stored>> =
            stream::iter(subjects.into_keys()).map(read).buffer_unordered(READS).try_collect().await?;
        Ok(stored.into_iter().flatten().filter_map(|stored| self.entry(stored)).collect())
    }

    /// Writes a record if nothing was said of its key since it was read with this sequence.
    pub(super) async fn write(&self, key: &str, body: Bytes, expected: u64) -> Result<u64, StoreError> {
        let headers = vec![(expected_sequence(), expected.to_string())];
        self.nats.store(format!("{}{key}", self.subjects), headers, body).await
    }

    /// Removes a record if nothing was said of its key since it was read with this sequence; the sequence of what says so.
    pub(super) async fn remove(&self, key: &str, expected: u64) -> Result<u64, StoreError> {
        let removed = ("KV-Operation".to_owned(), "PURGE".to_owned());
        let headers = vec![removed, rollup(), (expected_sequence(), expected.to_string())];
        self.nats.store(format!("{}{key}", self.subjects), headers, Bytes::new()).await
    }

    /// Writes a record over whatever is there.
    pub(super) async fn put(&self, key: &str, body: Bytes) -> Result<u64, StoreError> {
        self.nats.store(format!("{}{key}", self.subjects), Vec::new(), body).await
    }

    fn entry(&self, stored: Stored) -> Option<Entry> {
        let removed = stored.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("KV-Operation"));
        let key = stored.subject.strip_prefix(&self.subjects)?.to_owned();
        (!removed).then_some(Entry { key, body: stored.body, time: stored.time, sequence: stored.sequence })
    }
}

/// Nothing, if the stream that was asked isn't there.
pub(super) fn if_there<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The header by which JetStream stores a message only if the last one on its subject has that sequence.
pub(super) fn expected_sequence() -> String {
    async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE.to_string()
}

/// A header by which a message takes the place of all others on its subject.
pub(super) fn rollup() -> (String, String) {
    (async_nats::header::NATS_ROLLUP.to_string(), "sub".to_owned())
}
