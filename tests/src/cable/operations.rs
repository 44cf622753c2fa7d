//! The protocol between NATS clients and servers, as far as single messages are told apart in it, and the choice of those that
//! are held up.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::RngExt as _;
use rand::rngs::StdRng;

/// Longest operation that is taken apart, in bytes; of what is longer the bytes are carried as they come.
const OPERATION_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Answers that are waited for to be held up.
const ANSWERS_MAX: usize = 1024;
/// Subjects of requests to JetStream, and of what an engine stores.
const PICKED: [&str; 6] =
    ["$JS.API.", "$KV.HOOKMILL_", "hookmill.wait.", "hookmill.lane.", "hookmill.dlq.", "hookmill.due."];

/// Which requests, or answers to them, are held up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Holding {
    /// One in so many.
    pub(super) one_in: u32,
    /// For up to this time.
    pub(super) most: Duration,
}

/// One operation of the protocol.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Operation {
    /// All of it.
    pub(super) bytes: Bytes,
    /// Of a message: its subject.
    pub(super) subject: Option<String>,
    /// Of a message: where its answer goes.
    pub(super) reply: Option<String>,
}

/// Takes the first whole operation from the front; none: more has to come.
pub(super) fn next(buffer: &mut BytesMut) -> Option<Operation> {
    let Some(end) = buffer.windows(2).position(|two| two == b"\r\n") else {
        let is_endless = buffer.len() > OPERATION_BYTES_MAX;
        return is_endless.then(|| Operation { bytes: buffer.split().freeze(), subject: None, reply: None });
    };
    let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    // Words before the subject and behind the reply: sid of what a server sends; sizes.
    let verb = words.first().map(|verb| verb.to_ascii_uppercase()).unwrap_or_default();
    let (least, reply) = match verb.as_str() {
        "PUB" => (3, 2),
        "HPUB" => (4, 2),
        "MSG" => (4, 3),
        "HMSG" => (5, 3),
        _ => return Some(Operation { bytes: buffer.split_to(end + 2).freeze(), subject: None, reply: None }),
    };
    let size: usize = words.last().and_then(|size| size.parse().ok()).unwrap_or_default();
    let whole = end + 2 + size + 2;
    if buffer.len() < whole {
        return None;
    }
    let subject = words.get(1).map(|&subject| subject.to_owned());
    let reply = (words.len() > least).then(|| words[reply].to_owned());
    Some(Operation { bytes: buffer.split_to(whole).freeze(), subject, reply })
}

/// Chooses what is held up on one connection.
#[derive(Debug)]
pub(super) struct Picker {
    rng: StdRng,
    /// Where answers go that are to be held up, the oldest first.
    answers: VecDeque<String>,
}

impl Picker {
    pub(super) fn new(rng: StdRng) -> Self {
        Self { rng, answers: VecDeque::new() }
    }

    /// For how long what a client sends is held up, if it is. Of those that are chosen every second one goes on at once, and its
    /// answer is held up.
    pub(super) fn sent(&mut self, operation: &Operation, holding: Holding) -> Option<Duration> {
        let subject = operation.subject.as_ref()?;
        let is_picked = PICKED.iter().any(|start| subject.starts_with(start));
        if !is_picked || !self.rng.random_ratio(1, holding.one_in) {
            return None;
        }
        match &operation.reply {
            Some(reply) if self.rng.random_bool(0.5) => {
                if self.answers.len() == ANSWERS_MAX {
                    self.answers.pop_front();
                }
                self.answers.push_back(reply.clone());
                None
            }
            _ => Some(self.draw(holding)),
        }
    }

    /// For how long what a server sends is held up, if it is such an answer.
    pub(super) fn answered(&mut self, operation: &Operation, holding: Holding) -> Option<Duration> {
        let subject = operation.subject.as_ref()?;
        let place = self.answers.iter().position(|answer| answer == subject)?;
        self.answers.remove(place);
        Some(self.draw(holding))
    }

    fn draw(&mut self, holding: Holding) -> Duration {
        self.rng.random_range(Duration::ZERO..=holding.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_taken_whole_however_their_bytes_come() {
        let text = "PING\r\nPUB $JS.API.INFO _INBOX.1 2\r\n{}\r\nHPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPUB b 0\r\n\r\n\
                    MSG _INBOX.1 7 4\r\n\r\n\r\n\r\nMSG c 7 d.e 1\r\nx\r\nHMSG f 8 g 12 13\r\nNATS/1.0\r\n\r\n!\r\n+OK\r\n";
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for byte in text.bytes() {
            buffer.extend_from_slice(&[byte]);
            found.extend(next(&mut buffer));
        }
        assert!(buffer.is_empty());
        let bytes: Vec<u8> = found.iter().flat_map(|operation| operation.bytes.to_vec()).collect();
        assert_eq!(bytes, text.as_bytes());
        let messages: Vec<_> = found
            .iter()
            .map(|operation| (operation.subject.as_deref(), operation.reply.as_deref()))
            .collect();
        let expected = [
            (None, None),
            (Some("$JS.API.INFO"), Some("_INBOX.1")),
            (Some("a"), None),
            (Some("b"), None),
            (Some("_INBOX.1"), None),
            (Some("c"), Some("d.e")),
            (Some("f"), Some("g")),
            (None, None),
        ];
        assert_eq!(messages, expected);
    }
}
