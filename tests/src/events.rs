//! Events for the tests: the same order of 1 KiB everywhere, and a way to publish many of them.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::eventually;

/// `type` of the orders.
pub const ORDER_TYPE: &str = "com.shop.order.created";
/// `source` of the orders.
pub const ORDER_SOURCE: &str = "/shop/eu/checkout";
/// Subject on which orders are published.
pub const ORDER_SUBJECT: &str = "events.com.shop.order.created";
/// Size of an order in structured mode, in bytes.
pub const ORDER_BYTES: usize = 1024;
/// Publishes that wait for their acks at the same time.
const IN_FLIGHT_MAX: usize = 1000;
/// Longest time until the folder of a deleted stream is gone.
const FOLDER_GONE_MAX: Duration = Duration::from_secs(10);

/// A message for NATS.
#[derive(Clone, Debug)]
pub struct Message {
    /// The subject.
    pub subject: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Bytes,
}

impl Message {
    /// The same message with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name, value);
        self
    }

    /// The same message on another subject.
    #[must_use]
    pub fn on(mut self, subject: &str) -> Self {
        subject.clone_into(&mut self.subject);
        self
    }
}

/// `id` of order `number`.
pub fn order_id(number: usize) -> String {
    format!("order-{number:09}")
}

/// The data of order `number`: JSON of always the same size for numbers below 10⁹.
pub fn order_data(number: usize) -> String {
    let items = r#"{"sku":"TEA-0417","name":"Earl Grey, loose, 250 g","quantity":2,"unit_price":7.40},{"sku":"POT-0023","name":"Cast-iron pot, 1.2 l","quantity":1,"unit_price":48.90}"#;
    format!(
        r#"{{"order":"ord_{number:09}","placed":"2026-05-04T10:15:00Z","currency":"EUR","total":63.70,"customer":{{"name":"Ada Example","email":"ada@example.com","phone":"+49 30 5550123"}},"card":{{"number":"4111111111111111","expires":"12/29"}},"ship_to":{{"street":"Beispielweg 7","city":"Berlin","zip":"10115","country":"DE"}},"items":[{items}]}}"#
    )
}

/// The attributes of order `number` but for `specversion` and `datacontenttype`, in the order of the JSON.
fn attributes(number: usize) -> [(&'static str, String); 6] {
    [
        ("id", order_id(number)),
        ("source", ORDER_SOURCE.into()),
        ("type", ORDER_TYPE.into()),
        ("subject", format!("ord_{number:09}")),
        ("time", "2026-05-04T10:15:00.123456Z".into()),
        ("region", "eu".into()),
    ]
}

/// Order `number` in structured mode: 1,024 bytes of JSON.
pub fn order_json(number: usize) -> String {
    let begin = r#"{"specversion":"1.0","datacontenttype":"application/json""#;
    let attributes = attributes(number).map(|(name, value)| format!(r#","{name}":"{value}""#)).concat();
    let rest = format!(r#","data":{}}}"#, order_data(number));
    let filler =
        ORDER_BYTES.saturating_sub(begin.len() + attributes.len() + rest.len() + r#","note":"""#.len());
    format!(r#"{begin}{attributes},"note":"{}"{rest}"#, "n".repeat(filler))
}

/// Order `number` as a message in structured mode.
pub fn structured(number: usize) -> Message {
    structured_message(order_json(number))
}

/// Any text as a message that says it is a structured event.
pub fn structured_message(payload: impl Into<Bytes>) -> Message {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/cloudevents+json");
    Message { subject: ORDER_SUBJECT.into(), headers, payload: payload.into() }
}

/// Order `number` as a message in binary mode (CloudEvents NATS binding, section 3.1).
pub fn binary(number: usize) -> Message {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/json");
    headers.insert("ce-specversion", "1.0");
    for (name, value) in attributes(number) {
        headers.insert(format!("ce-{name}"), value);
    }
    Message { subject: ORDER_SUBJECT.into(), headers, payload: order_data(number).into() }
}

/// Makes the stream that pipelines read by default: `HOOKMILL_EVENTS` on `events.>`.
pub async fn make_source_stream(jetstream: &Context) -> jetstream::stream::Stream {
    make_source_stream_like(jetstream, jetstream::stream::Config::default()).await
}

/// The same with other settings than the server's own. Tried again for a while: where a stream of this name was deleted a moment
/// ago, the server may still be removing its folder.
pub async fn make_source_stream_like(
    jetstream: &Context,
    config: jetstream::stream::Config,
) -> jetstream::stream::Stream {
    let (name, subjects) = ("HOOKMILL_EVENTS".into(), vec!["events.>".into()]);
    let config = jetstream::stream::Config { name, subjects, ..config };
    eventually(FOLDER_GONE_MAX, "the source stream can be made", || async {
        jetstream.create_stream(config.clone()).await.map_err(|error| error.to_string())
    })
    .await
}

/// Publishes all of them, many in flight, and waits for every ack. The stream's sequences, in the order of the messages.
pub async fn publish_all(jetstream: &Context, messages: impl IntoIterator<Item = Message>) -> Vec<u64> {
    // Sent one after the other, so that they are stored in this order; only the acks are waited for side by side.
    let sent = futures_util::stream::iter(messages).then(|message| async move {
        let sent = jetstream.publish_with_headers(message.subject, message.headers, message.payload).await;
        sent.expect("the publish is sent")
    });
    let acks = sent.map(|ack| async { ack.await.expect("the publish is acknowledged").sequence });
    acks.buffered(IN_FLIGHT_MAX).collect().await
}

/// The same one message after the other, for a task of its own: what it returns can be sent between threads.
pub async fn publish_each(jetstream: Context, messages: Vec<Message>) {
    let mut acks = Vec::with_capacity(messages.len());
    for message in messages {
        let sent = jetstream.publish_with_headers(message.subject, message.headers, message.payload).await;
        acks.push(sent.expect("the publish is sent"));
    }
    for ack in acks {
        ack.await.expect("the publish is acknowledged");
    }
}
