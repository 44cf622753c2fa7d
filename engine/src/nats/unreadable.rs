//! Messages whose header block no client can take from the wire.
//!
//! A server stores header blocks as they come. One that is no list of `name: value` lines in UTF-8 makes our client end
//! its connection when it is delivered, and it would be delivered again and again. So after each cut of the connection
//! what a consumer has delivered and nobody has acknowledged is read through the JetStream API, which carries header
//! blocks in base64, and what could not have arrived is handed out from there.

use std::collections::BTreeMap;
use std::str::FromStr;

use async_nats::StatusCode;
use async_nats::header::HeaderName;
use data_encoding::BASE64;
use serde_json::json;

use super::consumers::Consumer;
use super::pull::{Acker, Delivered};
use super::{ApiError, Nats};
use crate::model::SourceMessage;

/// The header under which such a message keeps its header block, in base64.
pub const HEADER_BLOCK: &str = "unreadable-header-block";

/// Why a header block can't be taken from the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// Some byte is not UTF-8.
    #[error("the header block is not UTF-8")]
    NotUtf8,
    /// The first line is not `NATS/1.0`, alone or with a status of three digits.
    #[error("the header block does not begin with NATS/1.0")]
    Version,
    /// A line without a colon.
    #[error("a line of the header block has no colon")]
    NoColon,
    /// A name with a blank or another byte that names may not have.
    #[error("a header name is not made of printable ASCII")]
    Name,
}

/// Whether the client can take this block from the wire: its rules, which are a little stricter than the protocol's.
pub(super) fn readable(block: &[u8]) -> Result<(), Unreadable> {
    if block.is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(block).map_err(|_| Unreadable::NotUtf8)?;
    let mut lines = text.lines().peekable();
    let status =
        lines.next().and_then(|line| line.strip_prefix("NATS/1.0")).ok_or(Unreadable::Version)?.trim();
    let status = status.split_once(' ').map_or(status, |(status, _)| status.trim());
    if !status.is_empty() && status.parse::<StatusCode>().is_err() {
        return Err(Unreadable::Version);
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, _) = line.split_once(':').ok_or(Unreadable::NoColon)?;
        HeaderName::from_str(name).map_err(|_| Unreadable::Name)?;
        while lines.next_if(|next| next.starts_with(char::is_whitespace)).is_some() {}
    }
    Ok(())
}

/// As many headers of such a message as can be told from its block, for people.
pub fn lines(message: &SourceMessage) -> Vec<(String, String)> {
    let block = message.header(HEADER_BLOCK).and_then(|text| BASE64.decode(text.as_bytes()).ok());
    let text = String::from_utf8_lossy(block.as_deref().unwrap_or_default()).into_owned();
    let line = |line: &str| {
        line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
    };
    text.lines().filter_map(line).collect()
}

impl Nats {
    /// What `consumer` has delivered and nobody could take, with the reason. `filters` are the consumer's own.
    ///
    /// Reads every unacknowledged message once. Those that can be read are held by some engine, or come again.
    pub async fn unreadable(
        &self,
        stream: &str,
        name: &str,
        consumer: &Consumer,
        filters: &[String],
    ) -> Result<Vec<(Delivered, Unreadable)>, ApiError> {
        let mut found = BTreeMap::new();
        let everything = [">".to_owned()];
        for filter in if filters.is_empty() { &everything } else { filters } {
            let mut from = consumer.floor + 1;
            while from <= consumer.delivered {
                let query = json!({ "seq": from, "next_by_subj": filter });
                let Some(raw) = self.raw_message(stream, &query).await? else { break };
                if raw.sequence > consumer.delivered {
                    break;
                }
                from = raw.sequence + 1;
                if let Err(why) = readable(&raw.header_block) {
                    found.insert(raw.sequence, (raw, why));
                }
            }
        }
        let delivered = found.into_values().map(|(raw, why)| {
            // The server looks at stream, consumer and stream sequence; the rest is for clients.
            let (sequence, time) = (raw.sequence, raw.time.unix_nanos());
            let reply = format!("$JS.ACK.{stream}.{name}.1.{sequence}.{sequence}.{time}.0");
            let headers = vec![(HEADER_BLOCK.to_owned(), BASE64.encode(&raw.header_block))];
            let delivered = Delivered {
                subject: raw.subject,
                message: SourceMessage { headers, body: raw.body },
                stream: stream.into(),
                sequence,
                time: raw.time,
                deliveries: 1,
                acker: Acker::new(self.client().clone(), reply.into()),
            };
            (delivered, why)
        });
        Ok(delivered.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_takes_is_readable() {
        for block in [
            "",
            "NATS/1.0\r\n\r\n",
            "NATS/1.0\r\nA: 1\r\nB:2\r\n\r\n",
            "NATS/1.0 503\r\n\r\n",
            "NATS/1.0 100 Idle Heartbeat\r\nA: 1\r\n\r\n",
            "NATS/1.0\r\nA: 1\r\n goes on\r\n\r\n",
            "NATS/1.0\r\nA: \u{fc}\r\n\r\n",
        ] {
            assert_eq!(readable(block.as_bytes()), Ok(()), "{block:?}");
        }
    }

    #[test]
    fn what_ends_a_connection_is_not() {
        let cases: [(&[u8], Unreadable); 7] = [
            (b"NATS/1.0\r\nA: \xe9\r\n\r\n", Unreadable::NotUtf8),
            (b"HTTP/1.1\r\nA: 1\r\n\r\n", Unreadable::Version),
            (b"NATS/1.0 odd\r\n\r\n", Unreadable::Version),
            (b"NATS/1.0 5033\r\n\r\n", Unreadable::Version),
            (b"NATS/1.0\r\nno colon\r\n\r\n", Unreadable::NoColon),
            (b"NATS/1.0\r\na name: 1\r\n\r\n", Unreadable::Name),
            (b"NATS/1.0\r\n\xc3\xbc: 1\r\n\r\n", Unreadable::Name),
        ];
        for (block, why) in cases {
            assert_eq!(readable(block), Err(why), "{}", String::from_utf8_lossy(block));
        }
    }
}
