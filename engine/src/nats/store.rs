//! Storing, reading and deleting single messages, with errors that say what to do next.

use std::borrow::Cow;
use std::collections::HashMap;

use async_nats::HeaderMap;
use async_nats::client::RequestErrorKind;
use async_nats::header::{HeaderName, HeaderValue};
use async_nats::jetstream::ErrorCode;
use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::{ApiError, Nats, api};
use crate::model::Timestamp;

/// Why a message was not stored, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The subject's last sequence is not the expected one.
    #[error("the subject holds another message than expected")]
    WrongLast,
    /// It may or may not be stored: ask again.
    #[error("the server did not say whether it stored the message")]
    Unknown,
    /// The account may not publish there.
    #[error("the NATS user has no permission to publish there; grant it, or change the subject")]
    Forbidden,
    /// No stream takes the subject, or nobody answers for it.
    #[error("no stream takes messages on this subject, or its stream has no leader")]
    NoStream,
    /// The message is too large for the server or the stream.
    #[error("the message is larger than the server or the stream takes")]
    TooLarge,
    /// The stream refuses (full disk, a limit, read-only, no quorum).
    #[error("JetStream refuses to store: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether it is about this message alone, so that others may well be stored.
    pub fn is_of_this_message(&self) -> bool {
        match self {
            Self::TooLarge => true,
            Self::WrongLast | Self::Unknown | Self::Forbidden | Self::NoStream | Self::Refused(_) => false,
        }
    }

    /// Whether it may be otherwise in a moment: nobody answers yet.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unknown | Self::NoStream => true,
            Self::WrongLast | Self::Forbidden | Self::TooLarge | Self::Refused(_) => false,
        }
    }
}

/// A message as a stream holds it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its subject.
    pub subject: String,
    /// Its stream sequence.
    pub sequence: u64,
    /// When it was stored.
    pub time: Timestamp,
    /// Headers in no certain order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    seq: u64,
    error: Option<AckError>,
}

#[derive(Deserialize)]
struct AckError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// What JetStream says when it refuses to store, with what mends it where that is known.
fn refusal(code: ErrorCode, description: &str) -> String {
    let mend = match code {
        ErrorCode::INSUFFICIENT_RESOURCES | ErrorCode::STORAGE_RESOURCES_EXCEEDED => {
            "; the server's store is full: raise max_file_store (and see that its disk has room), or take something out of its streams"
        }
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => {
            "; the account's store is full: raise its limit of JetStream, or take something out of its streams"
        }
        ErrorCode::STREAM_STORE_FAILED => {
            "; the stream is full: raise its limits with `nats stream edit`, or take something out of it"
        }
        ErrorCode::STREAM_SEALED => "; the stream is sealed and can't be opened again",
        ErrorCode::CLUSTER_NOT_AVAILABLE => "; too few servers of the cluster run",
        _ => "",
    };
    format!("{description} ({}){mend}", code.0)
}

/// Names and values as a header map.
pub(super) fn header_map(headers: Vec<(String, String)>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        // Names are ours or percent-encoded; a name that is none can't be sent at all.
        if let Ok(name) = name.parse::<HeaderName>() {
            map.append(name, HeaderValue::from(value));
        }
    }
    map
}

/// A header map as names and values.
pub(super) fn header_list(map: Option<&HeaderMap>) -> Vec<(String, String)> {
    let Some(map) = map else { return Vec::new() };
    let mut list = Vec::with_capacity(map.len());
    for (name, values) in map.iter() {
        for value in values {
            list.push((name.to_string(), value.to_string()));
        }
    }
    list
}

impl Nats {
    /// Publishes to a stream and waits for the ack; the result is the stream sequence.
    pub async fn store(
        &self,
        subject: String,
        headers: Vec<(String, String)>,
        body: Bytes,
    ) -> Result<u64, StoreError> {
        let size: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        if size + body.len() + 16 > self.max_payload() {
            return Err(StoreError::TooLarge);
        }
        let request = async_nats::client::Request::new().payload(body).headers(header_map(headers));
        let answer = self.client().send_request(subject.clone(), request);
        let answer = match self.unless_forbidden(&subject, answer).await {
            None => return Err(StoreError::Forbidden),
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                return Err(match error.kind() {
                    RequestErrorKind::NoResponders => StoreError::NoStream,
                    RequestErrorKind::MaxPayloadExceeded => StoreError::TooLarge,
                    _ => StoreError::Unknown,
                });
            }
        };
        let ack: Ack = serde_json::from_slice(&answer.payload).map_err(|_| StoreError::Unknown)?;
        match ack.error {
            None if ack.seq > 0 => Ok(ack.seq),
            None => Err(StoreError::Unknown),
            Some(error) => Err(match ErrorCode(error.err_code) {
                ErrorCode::STREAM_WRONG_LAST_SEQUENCE => StoreError::WrongLast,
                ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => StoreError::Unknown,
                ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
                    StoreError::TooLarge
                }
                code => StoreError::Refused(refusal(code, &error.description)),
            }),
        }
    }

    /// The last message on a subject, read from the stream's leader.
    pub async fn last_on(&self, stream: &str, subject: &str) -> Result<Option<Stored>, ApiError> {
        self.message(stream, &json!({ "last_by_subj": subject })).await
    }

    /// The first message on a subject at or after a sequence, read from the stream's leader.
    pub async fn next_on(&self, stream: &str, subject: &str, from: u64) -> Result<Option<Stored>, ApiError> {
        self.message(stream, &json!({ "seq": from, "next_by_subj": subject })).await
    }

    /// The message with this sequence, read from the stream's leader.
    pub async fn at(&self, stream: &str, sequence: u64) -> Result<Option<Stored>, ApiError> {
        self.message(stream, &json!({ "seq": sequence })).await
    }

    async fn message(&self, stream: &str, query: &serde_json::Value) -> Result<Option<Stored>, ApiError> {
        Ok(self.raw_message(stream, query).await?.map(Stored::from))
    }

    /// The message that a query names, its headers still one block.
    pub(super) async fn raw_message(
        &self,
        stream: &str,
        query: &serde_json::Value,
    ) -> Result<Option<RawStored>, ApiError> {
        let answer: Result<Got, ApiError> = api(self, format!("STREAM.MSG.GET.{stream}"), query).await;
        match answer {
            Ok(got) => Ok(Some(got.message.into())),
            Err(error) if error.is(ErrorCode::NO_MESSAGE_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes one message; one that is gone already is fine.
    pub async fn delete(&self, stream: &str, sequence: u64) -> Result<(), ApiError> {
        let query = json!({ "seq": sequence, "no_erase": true });
        let answer: Result<serde_json::Value, ApiError> =
            api(self, format!("STREAM.MSG.DELETE.{stream}"), &query).await;
        match answer {
            Ok(_) => Ok(()),
            Err(ApiError::Server { .. }) if self.at(stream, sequence).await?.is_none() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How many messages each subject under `filter` holds. Asks page by page.
    pub async fn counts(&self, stream: &str, filter: &str) -> Result<HashMap<String, u64>, ApiError> {
        let mut counts = HashMap::new();
        loop {
            let query = json!({ "subjects_filter": filter, "offset": counts.len() });
            let answer: Counted = api(self, format!("STREAM.INFO.{stream}"), &query).await?;
            let page = answer.state.subjects.unwrap_or_default();
            let (before, empty) = (counts.len(), page.is_empty());
            counts.extend(page);
            if empty || counts.len() >= answer.total || counts.len() == before {
                return Ok(counts);
            }
        }
    }
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    total: usize,
    state: CountedState,
}

#[derive(Deserialize)]
struct CountedState {
    subjects: Option<HashMap<String, u64>>,
}

#[derive(Deserialize)]
struct Got {
    message: GotMessage,
}

#[derive(Deserialize)]
struct GotMessage {
    subject: String,
    seq: u64,
    #[serde(default, deserialize_with = "base64")]
    data: Vec<u8>,
    #[serde(default, deserialize_with = "base64")]
    hdrs: Vec<u8>,
    time: Timestamp,
}

/// Bytes as the API writes them. What can't be read is an error, never an empty message.
fn base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text: Cow<'_, str> = Deserialize::deserialize(deserializer)?;
    BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)
}

/// A message as a stream holds it, its headers as the publisher sent them.
pub(super) struct RawStored {
    pub(super) subject: String,
    pub(super) sequence: u64,
    pub(super) time: Timestamp,
    /// `NATS/1.0`, then a line each; empty: no headers.
    pub(super) header_block: Vec<u8>,
    pub(super) body: Bytes,
}

impl From<GotMessage> for RawStored {
    fn from(got: GotMessage) -> Self {
        let GotMessage { subject, seq: sequence, data, hdrs: header_block, time } = got;
        Self { subject, sequence, time, header_block, body: data.into() }
    }
}

impl From<RawStored> for Stored {
    fn from(raw: RawStored) -> Self {
        let RawStored { subject, sequence, time, header_block, body } = raw;
        Self { subject, sequence, time, headers: header_lines(&header_block), body }
    }
}

/// Reads `NATS/1.0\r\nname: value\r\n…`.
pub(super) fn header_lines(block: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(block);
    let lines = text.split("\r\n").skip(1);
    let pairs = lines.filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_start().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_cant_be_read_is_no_empty_message() {
        let got = |data: &str, time: &str| {
            let text = format!(r#"{{"message":{{"subject":"s","seq":1,"data":"{data}","time":"{time}"}}}}"#);
            serde_json::from_str::<Got>(&text).map(|got| got.message.data)
        };
        let time = "2026-11-24T03:00:00Z";
        assert_eq!(got("eA==", time).unwrap(), b"x");
        assert!(got("eA=", time).is_err());
        assert!(got("eA==", "yesterday").is_err());
    }

    #[test]
    fn header_blocks_are_read_line_by_line() {
        let list = header_lines(b"NATS/1.0\r\nA: 1\r\nce-id:x:y\r\n\r\n");
        assert_eq!(list, [("A".to_owned(), "1".to_owned()), ("ce-id".to_owned(), "x:y".to_owned())]);
    }
}
