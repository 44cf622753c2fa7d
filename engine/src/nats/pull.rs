//! Pulling from a consumer with exact room: never asks for more than the caller has room for, knows what is still
//! asked for, and notices when the other side has gone quiet.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::Nats;
use super::store::header_list;
use crate::model::{SourceMessage, Timestamp};

/// How long a request for messages stands.
const EXPIRES: Duration = Duration::from_secs(10);
/// How often the server says that it is there while there is nothing.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence after which the pull is given up and built anew.
const SILENCE_MAX: Duration = Duration::from_millis(2_500);

/// One message from a consumer.
#[derive(Debug)]
pub struct Delivered {
    /// Its subject.
    pub subject: String,
    /// Headers and body.
    pub message: SourceMessage,
    /// The stream it lies in.
    pub stream: Arc<str>,
    /// Its stream sequence.
    pub sequence: u64,
    /// When it was stored.
    pub time: Timestamp,
    /// How often the consumer has delivered it, this time included.
    pub deliveries: u64,
    /// By which it is acknowledged.
    pub acker: Acker,
}

/// Acknowledges one message.
#[derive(Clone, Debug)]
pub struct Acker {
    client: async_nats::Client,
    reply: Subject,
}

impl Acker {
    /// By the reply subject of a delivery.
    pub(super) fn new(client: async_nats::Client, reply: Subject) -> Self {
        Self { client, reply }
    }

    /// Done: the server may forget it. Buffered while the connection is away; if it is lost, the message comes again.
    pub async fn ack(&self) {
        self.send(Bytes::from_static(b"+ACK")).await;
    }

    /// Not done, give it to somebody else, or to us again.
    pub async fn nak(&self) {
        self.send(Bytes::from_static(b"-NAK")).await;
    }

    /// Still at it: `ack_wait` starts anew.
    pub async fn progress(&self) {
        self.send(Bytes::from_static(b"+WPI")).await;
    }

    async fn send(&self, payload: Bytes) {
        if self.client.publish(self.reply.clone(), payload).await.is_err() {
            tracing::debug!("an acknowledgement could not be sent, the message will come again");
        }
    }
}

/// Why a pull has to be built anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Nothing heard for longer than two heartbeats.
    Silence,
    /// The consumer or its stream is gone.
    Deleted,
    /// The consumer's leader changed, or its server is shutting down.
    Moved,
    /// Nobody answers for the consumer.
    NoResponders,
    /// The connection was closed for good.
    Closed,
}

/// What a pull says.
#[expect(clippy::large_enum_variant, reason = "taken apart at once, never kept")]
#[derive(Debug)]
pub enum PullEvent {
    /// A message.
    Message(Delivered),
    /// The server is there and has nothing yet.
    Alive,
    /// A request ended; that many messages did not come.
    Ended(usize),
    /// The pull is dead.
    Lost(Lost),
}

/// A standing pull from one consumer.
pub struct Pull {
    nats: Nats,
    subject: String,
    stream: Arc<str>,
    inbox: String,
    subscriber: Subscriber,
    asked: usize,
    heard: Instant,
}

impl Pull {
    /// Subscribes; asks for nothing yet.
    pub async fn open(nats: &Nats, stream: &str, consumer: &str) -> Result<Self, async_nats::SubscribeError> {
        let inbox = nats.client().new_inbox();
        let subscriber = nats.client().subscribe(inbox.clone()).await?;
        let subject = next_subject(stream, consumer);
        let stream = stream.into();
        Ok(Self { nats: nats.clone(), subject, stream, inbox, subscriber, asked: 0, heard: Instant::now() })
    }

    /// Whether it is from this consumer.
    pub fn is_from(&self, stream: &str, consumer: &str) -> bool {
        self.subject == next_subject(stream, consumer)
    }

    /// Messages asked for that have not come.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// Asks for `count` more; the caller keeps room for them until they come or the request ends.
    ///
    /// False: the connection is closed for good.
    pub async fn ask(&mut self, count: usize) -> bool {
        let request = serde_json::json!({
            "batch": count,
            "expires": u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX),
            "idle_heartbeat": u64::try_from(HEARTBEAT.as_nanos()).unwrap_or(u64::MAX),
        });
        self.request(count, &request).await
    }

    /// Asks for `count` of what is there now; the request ends at once if there is nothing.
    pub async fn ask_now(&mut self, count: usize) -> bool {
        self.request(count, &serde_json::json!({ "batch": count, "no_wait": true })).await
    }

    async fn request(&mut self, count: usize, request: &serde_json::Value) -> bool {
        if self.asked == 0 {
            self.heard = Instant::now();
        }
        let payload = Bytes::from(request.to_string());
        let sent =
            self.nats.client().publish_with_reply(self.subject.clone(), self.inbox.clone(), payload).await;
        if sent.is_ok() {
            self.asked += count;
        }
        sent.is_ok()
    }

    /// The next thing that happens. Cancel-safe.
    pub async fn next(&mut self) -> PullEvent {
        loop {
            let silence = self.heard + SILENCE_MAX;
            let message = match tokio::time::timeout_at(silence, self.subscriber.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return PullEvent::Lost(Lost::Closed),
                Err(_) => return PullEvent::Lost(Lost::Silence),
            };
            self.heard = Instant::now();
            if let Some(event) = self.classify(message) {
                return event;
            }
        }
    }

    fn classify(&mut self, message: async_nats::Message) -> Option<PullEvent> {
        // First: a publisher can put a status line on an event, but nobody's word on the pull can be acknowledged.
        if message.reply.as_ref().is_some_and(|reply| ack_subject(reply.as_str()).is_some()) {
            self.asked = self.asked.saturating_sub(1);
            return delivered(self.nats.client(), &self.stream, message).map(PullEvent::Message);
        }
        let status = message.status.unwrap_or(StatusCode::OK);
        match status {
            StatusCode::IDLE_HEARTBEAT => Some(PullEvent::Alive),
            StatusCode::OK => None,
            StatusCode::NO_RESPONDERS => Some(PullEvent::Lost(Lost::NoResponders)),
            // A 409 says which in its description; the pending count is there only when the request merely ended.
            StatusCode::REQUEST_TERMINATED => {
                let text = message.description.as_deref().unwrap_or_default().to_ascii_lowercase();
                if text.contains("deleted") {
                    return Some(PullEvent::Lost(Lost::Deleted));
                }
                if text.contains("leadership") || text.contains("shutdown") {
                    return Some(PullEvent::Lost(Lost::Moved));
                }
                Some(self.ended(&message))
            }
            _ => Some(self.ended(&message)),
        }
    }

    fn ended(&mut self, message: &async_nats::Message) -> PullEvent {
        let pending = message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
        let pending = pending.and_then(|value| value.as_str().parse().ok()).unwrap_or(self.asked);
        let unused = pending.min(self.asked);
        self.asked -= unused;
        PullEvent::Ended(unused)
    }
}

fn next_subject(stream: &str, consumer: &str) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}")
}

/// `stream` is its name where it is known to be that of the message: shared, not made anew.
fn delivered(
    client: &async_nats::Client,
    stream: &Arc<str>,
    message: async_nats::Message,
) -> Option<Delivered> {
    let reply = message.reply.clone()?;
    let (named, sequence, time, deliveries) = ack_subject(reply.as_str())?;
    Some(Delivered {
        subject: message.subject.to_string(),
        stream: if **stream == *named { Arc::clone(stream) } else { named.into() },
        sequence,
        time: Timestamp::from_unix_nanos(time),
        deliveries,
        message: SourceMessage { headers: header_list(message.headers.as_ref()), body: message.payload },
        acker: Acker { client: client.clone(), reply },
    })
}

/// Stream, stream sequence, stored time (Unix ns) and delivery count of
/// `$JS.ACK.[domain.account.]<stream>.<consumer>.<deliveries>.<sequence>.<consumer sequence>.<time>.<pending>[.token]`.
fn ack_subject(reply: &str) -> Option<(&str, u64, u64, u64)> {
    let rest = reply.strip_prefix("$JS.ACK.")?;
    let long = rest.split('.').nth(8).is_some();
    let mut tokens = rest.split('.').skip(if long { 2 } else { 0 });
    let (stream, _consumer, deliveries, sequence) =
        (tokens.next()?, tokens.next()?, tokens.next()?, tokens.next()?);
    let (_consumer_sequence, time) = (tokens.next()?, tokens.next()?);
    Some((stream, sequence.parse().ok()?, time.parse().ok()?, deliveries.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_subjects_of_both_forms_are_read() {
        let short = "$JS.ACK.S.c.2.10.7.1700000000000000001.3";
        assert_eq!(ack_subject(short), Some(("S", 10, 1_700_000_000_000_000_001, 2)));
        let long = "$JS.ACK.hub.ACC.S.c.2.10.7.1700000000000000001.3.tok";
        assert_eq!(ack_subject(long), Some(("S", 10, 1_700_000_000_000_000_001, 2)));
        assert_eq!(ack_subject("$JS.ACK.S.c"), None);
    }
}
