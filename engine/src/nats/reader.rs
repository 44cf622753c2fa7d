//! Reading what a stream holds in batches: many messages for one question, so that a hundred thousand of them are read in
//! seconds and never all held at once.
//!
//! A batch is a direct get (ADR-31), which any replica answers, also one that lags. So the leader has the last word on
//! where the end is. A message that somebody has removed meanwhile may still come; whoever acts on it repeats, and loses
//! nothing. Streams without direct gets are read from their leader, one message at a time.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::{Message, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;

use super::store::header_list;
use super::{ApiError, Nats, Stored};
use crate::model::Timestamp;

/// Most messages of one answer.
pub const BATCH_MAX: usize = 256;
/// Bytes after which an answer ends; it holds one message at least.
const BATCH_BYTES: usize = 4 << 20;
/// Longest wait for the next message of an answer.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Reads the messages of a stream on some subjects, oldest first.
pub struct Reader {
    nats: Nats,
    stream: String,
    subject: String,
    from: u64,
    batch: usize,
    bytes: usize,
    direct: bool,
    read: VecDeque<Stored>,
}

/// An answer to a direct get.
enum Answer {
    Messages(VecDeque<Stored>),
    /// Nobody answers direct gets for this stream.
    Nobody,
}

impl Reader {
    /// From `from` on, in batches.
    pub fn new(nats: &Nats, stream: String, subject: String, from: u64) -> Self {
        let read = VecDeque::new();
        Self {
            nats: nats.clone(),
            stream,
            subject,
            from,
            batch: BATCH_MAX,
            bytes: BATCH_BYTES,
            direct: true,
            read,
        }
    }

    /// The same from the stream's leader alone, one message at a time: for what must not be read stale.
    pub fn of_leader(nats: &Nats, stream: String, subject: String, from: u64) -> Self {
        Self { direct: false, ..Self::new(nats, stream, subject, from) }
    }

    /// With at most so many messages in an answer.
    #[must_use]
    pub fn at_once(self, batch: usize) -> Self {
        Self { batch: batch.clamp(1, BATCH_MAX), ..self }
    }

    /// The same, with at most so many messages and about so many bytes in the next answer.
    pub fn set_answer(&mut self, messages: usize, bytes: usize) {
        self.batch = messages.clamp(1, BATCH_MAX);
        self.bytes = bytes.clamp(1, BATCH_BYTES);
    }

    /// Whether the next message has to be asked for.
    pub fn must_ask(&self) -> bool {
        self.read.is_empty()
    }

    /// The sequence at which it goes on.
    pub fn at(&self) -> u64 {
        self.from
    }

    /// Goes on at another sequence; what was read ahead is forgotten.
    pub fn go_to(&mut self, from: u64) {
        self.from = from;
        self.read.clear();
    }

    /// The next message. None: there is none now; one that is stored later is found when asked again.
    pub async fn next(&mut self) -> Result<Option<Stored>, ApiError> {
        if self.read.is_empty() {
            self.fill().await?;
        }
        let next = self.read.pop_front();
        if let Some(stored) = &next {
            self.from = stored.sequence + 1;
        }
        Ok(next)
    }

    async fn fill(&mut self) -> Result<(), ApiError> {
        if self.direct {
            match self.batch().await {
                Answer::Messages(messages) => self.read = messages,
                Answer::Nobody => self.direct = false,
            }
        }
        if self.read.is_empty() {
            self.read.extend(self.nats.next_on(&self.stream, &self.subject, self.from).await?);
        }
        Ok(())
    }

    /// One direct get. Whatever goes wrong on the way, what came until then is good.
    async fn batch(&self) -> Answer {
        let client = self.nats.client();
        let inbox = client.new_inbox();
        let query = json!({
            "seq": self.from, "next_by_subj": self.subject, "batch": self.batch, "max_bytes": self.bytes
        });
        let Ok(mut answers) = client.subscribe(inbox.clone()).await else { return Answer::Nobody };
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream);
        if client.publish_with_reply(subject, inbox, query.to_string().into()).await.is_err() {
            return Answer::Nobody;
        }
        let mut messages = VecDeque::with_capacity(self.batch);
        let mut from = self.from;
        while let Ok(Some(message)) = tokio::time::timeout(SILENCE_MAX, answers.next()).await {
            let Some(stored) = stored(&message) else {
                let nobody = message.status == Some(StatusCode::NO_RESPONDERS);
                return if nobody { Answer::Nobody } else { Answer::Messages(messages) };
            };
            if stored.sequence < from {
                return Answer::Messages(messages);
            }
            from = stored.sequence + 1;
            messages.push_back(stored);
        }
        // Not even an end: no permission to ask, or nobody who answers in time. The leader may.
        if messages.is_empty() { Answer::Nobody } else { Answer::Messages(messages) }
    }
}

/// What the server says of a message beside its own headers.
const SAID: [&str; 6] = [
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Time-Stamp",
    "Nats-Num-Pending",
    "Nats-Last-Sequence",
];

/// A message of an answer; none: a status.
fn stored(message: &Message) -> Option<Stored> {
    let headers = message.headers.as_ref()?;
    // The server puts its own behind those that the publisher has sent, so the last one is its word.
    let said = |name: &str| headers.get_all(name).last().map(|value| value.as_str().to_owned());
    let (subject, sequence) = (said("Nats-Subject")?, said("Nats-Sequence")?.parse().ok()?);
    let time = said("Nats-Time-Stamp").and_then(|text| Timestamp::parse(&text)).unwrap_or_default();
    let mut headers = header_list(Some(headers));
    headers.retain(|(name, _)| !SAID.contains(&name.as_str()));
    Some(Stored { subject, sequence, time, headers, body: Bytes::clone(&message.payload) })
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::*;

    fn message(headers: &[(&str, &str)]) -> Message {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        Message {
            subject: "_INBOX.1".into(),
            reply: None,
            payload: Bytes::from_static(b"body"),
            headers: Some(map),
            status: None,
            description: None,
            length: 4,
        }
    }

    #[test]
    fn the_servers_word_on_a_message_counts_and_is_no_part_of_it() {
        let found = stored(&message(&[
            ("Nats-Sequence", "99"),
            ("Hookmill-Task", "1"),
            ("Nats-Subject", "elsewhere"),
            ("Nats-Stream", "S"),
            ("Nats-Subject", "hookmill.dlq.p.s.gone"),
            ("Nats-Sequence", "7"),
            ("Nats-Time-Stamp", "2026-11-24T03:00:00.000000001Z"),
            ("Nats-Num-Pending", "3"),
            ("Nats-Last-Sequence", "6"),
        ]));
        let found = found.expect("it is a message");
        assert_eq!((&*found.subject, found.sequence), ("hookmill.dlq.p.s.gone", 7));
        assert_eq!(found.time.unix_nanos() % 1_000_000_000, 1);
        assert_eq!(found.headers, [("Hookmill-Task".to_owned(), "1".to_owned())]);
        assert_eq!(found.body, "body");
    }

    #[test]
    fn the_end_of_a_batch_is_no_message() {
        assert!(stored(&message(&[("Nats-Num-Pending", "0"), ("Nats-Last-Sequence", "6")])).is_none());
    }
}
