//! Looking through a stream for messages that no subject names, in several stretches at the same time. Without a consumer: a
//! work queue has none to spare.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{ApiError, Nats, Reader, Stored};
use crate::model::Timestamp;

/// Stretches of a stream that are looked through at the same time.
const STRETCHES: u8 = 32;

impl Nats {
    /// The messages from `first` to `last` (sequences, both included) of which `picked` makes something, oldest first.
    pub(super) async fn scan<T>(
        &self,
        stream: &str,
        first: u64,
        last: u64,
        picked: impl Fn(Stored) -> Option<T> + Copy,
    ) -> Result<Vec<T>, ApiError> {
        if first > last {
            return Ok(Vec::new());
        }
        let length = (last - first) / u64::from(STRETCHES) + 1;
        let stretch = |number: u8| {
            let from = first + u64::from(number) * length;
            self.stretch(stream, from, last.min(from + length - 1), picked)
        };
        let found: Vec<Vec<T>> =
            stream::iter(0..STRETCHES).map(stretch).buffered(STRETCHES.into()).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn stretch<T>(
        &self,
        stream: &str,
        first: u64,
        last: u64,
        picked: impl Fn(Stored) -> Option<T>,
    ) -> Result<Vec<T>, ApiError> {
        // Not by direct gets: a header block that can't be read would end the connection that it comes over.
        let mut reader = Reader::of_leader(self, stream.to_owned(), ">".to_owned(), first);
        let mut found = Vec::new();
        while let Some(stored) = reader.next().await?.filter(|stored| stored.sequence <= last) {
            found.extend(picked(stored));
        }
        Ok(found)
    }

    /// The first sequence between `first` and `last` at which something stored at or after `time` can be: by halves, as times
    /// grow with sequences.
    pub(super) async fn sequence_at(
        &self,
        stream: &str,
        first: u64,
        last: u64,
        time: Timestamp,
    ) -> Result<u64, ApiError> {
        let (mut low, mut high) = (first, last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next_on(stream, ">", middle).await? {
                Some(stored) if stored.time < time => low = stored.sequence + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}
