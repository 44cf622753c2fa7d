//! The books: for every event of the source stream and every subscription, how it has ended.

use std::collections::HashMap;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures_util::StreamExt as _;

use super::receivers::{Receivers, Script};
use crate::judge;

/// One subscription's ends.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) script: Script,
    pub(super) delivered: usize,
    pub(super) dead: usize,
    /// Ends beyond the first of each event.
    pub(super) extra: usize,
    /// Numbers of events without any end.
    pub(super) missing: Vec<usize>,
    pub(super) requests: u64,
}

/// All ends.
pub(super) struct Ledger {
    pub(super) events: usize,
    pub(super) rows: Vec<Row>,
    /// Dead letters by reason.
    pub(super) reasons: Vec<(String, usize)>,
}

impl Ledger {
    /// Reads the source stream, the dead letters, and the receivers' books.
    pub(super) async fn read(jetstream: &Context, receivers: &Receivers) -> Self {
        let numbers = numbers(jetstream).await;
        let letters = judge::dead_letters(jetstream).await;
        let reasons = judge::reasons(&letters);
        let reasons = reasons.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect();
        let mut dead: HashMap<(&str, usize), usize> = HashMap::new();
        for letter in &letters {
            let number =
                numbers.get(&letter.sequence).copied().expect("it came from a message of the source");
            *dead.entry((letter.subscription.as_str(), number)).or_default() += 1;
        }
        let rows = Script::ALL.map(|script| {
            let (times, requests) = receivers.book(script);
            let mut row = Row { script, delivered: 0, dead: 0, extra: 0, missing: Vec::new(), requests };
            for number in numbers.values().copied() {
                let taken = times.get(number).copied().map_or(0, usize::from);
                // What ended for the pipeline as a whole has ended for each of its subscriptions.
                let own = dead.get(&(script.name(), number)).copied().unwrap_or_default();
                let whole = dead.get(&("_", number)).copied().unwrap_or_default();
                row.delivered += taken.min(1);
                row.dead += own + whole;
                match taken + own + whole {
                    0 => row.missing.push(number),
                    ends => row.extra += ends - 1,
                }
            }
            row
        });
        Self { events: numbers.len(), rows: rows.into(), reasons }
    }
}

/// The number of each event by its sequence in the source stream.
async fn numbers(jetstream: &Context) -> HashMap<u64, usize> {
    let mut stream = jetstream.get_stream("HOOKMILL_EVENTS").await.expect("the stream is there");
    let count = stream.info().await.expect("is told").state.messages;
    let settings = pull::Config { ack_policy: AckPolicy::None, headers_only: true, ..Default::default() };
    let consumer = stream.create_consumer(settings).await.expect("a consumer");
    let messages = consumer.messages().await.expect("messages").take(usize::try_from(count).expect("fits"));
    let number = |message: Result<async_nats::jetstream::Message, _>| async {
        let message = message.expect("a message");
        let headers = message.headers.as_ref().expect("an event has headers");
        let number = headers.get("Nats-Msg-Id").expect("an event has a number").as_str().parse();
        (message.info().expect("an ack subject").stream_sequence, number.expect("a number"))
    };
    messages.then(number).collect().await
}
