//! What the tests of reliability share: pipelines in a few words, looks at the engine's streams that ask the server and
//! never the engine, and the books in which every event's ends are counted.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::{Endpoint, eventually};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::{Context, stream::Config};
use futures_util::{StreamExt as _, TryStreamExt as _};

/// Held by tests that fill the machine: two at once would measure each other.
pub static HEAVY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The durable of pipeline `orders`.
const SOURCE_CONSUMER: &str = "hookmill-orders";

/// The head of a pipeline that takes everything from the beginning.
pub fn source(more: &str) -> String {
    format!("[source]\nstream = \"HOOKMILL_EVENTS\"\nstart = \"all\"\n{more}\n")
}

/// A subscription that delivers to `url`; `deliver` and `retry` are further lines of these tables.
pub fn subscription(name: &str, url: &str, deliver: &str, retry: &str) -> String {
    format!(
        "[[subscription]]\nname = \"{name}\"\n[subscription.deliver]\nurl = \"{url}\"\nallow = [\"127.0.0.0/8\"]\n{deliver}\n\
         [subscription.retry]\n{retry}\n"
    )
}

/// Messages in a stream; none if it is not there (yet).
pub async fn messages(jetstream: &Context, stream: &str) -> Result<u64, String> {
    let mut stream = jetstream.get_stream(stream).await.map_err(|error| error.to_string())?;
    Ok(stream.info().await.map_err(|error| error.to_string())?.state.messages)
}

/// The configuration of a stream.
pub async fn config(jetstream: &Context, stream: &str) -> Config {
    jetstream.get_stream(stream).await.expect("the stream is there").cached_info().config.clone()
}

/// Waits until a stream holds as many messages as `wanted` says.
pub async fn holds(jetstream: &Context, stream: &str, deadline: Duration, wanted: impl Fn(u64) -> bool) {
    eventually(deadline, &format!("{stream} holds what it should"), || async {
        let count = messages(jetstream, stream).await?;
        if wanted(count) { Ok(()) } else { Err(format!("{count} messages")) }
    })
    .await;
}

/// Messages of the source that nobody has acknowledged: not delivered yet, and held.
pub async fn unsettled(jetstream: &Context) -> Result<(u64, usize), String> {
    unsettled_of(jetstream, SOURCE_CONSUMER).await
}

/// The same of another durable.
pub async fn unsettled_of(jetstream: &Context, durable: &str) -> Result<(u64, usize), String> {
    let stream = jetstream.get_stream("HOOKMILL_EVENTS").await.map_err(|error| error.to_string())?;
    let consumer: Result<PullConsumer, _> = stream.get_consumer(durable).await;
    let mut consumer = consumer.map_err(|error| error.to_string())?;
    let info = consumer.info().await.map_err(|error| error.to_string())?;
    Ok((info.num_pending, info.num_ack_pending))
}

/// What is still under way, as the streams say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Left {
    /// Messages of the source that no engine has taken.
    pub pending: u64,
    /// Messages of the source that some engine holds.
    pub held: usize,
    /// Tasks that wait or are due.
    pub retries: u64,
    /// Tasks in lanes.
    pub lanes: u64,
}

impl Left {
    /// Nothing at all.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What is left to do.
pub async fn left(jetstream: &Context) -> Result<Left, String> {
    let (pending, held) = unsettled(jetstream).await?;
    let retries = messages(jetstream, "HOOKMILL_RETRIES").await?;
    let lanes = messages(jetstream, "HOOKMILL_LANES").await?;
    Ok(Left { pending, held, retries, lanes })
}

/// Waits until nothing is left to do: the source is settled, nothing waits, nothing is due, no lane holds anything. Twice
/// in a row, because a task moves from stream to stream.
pub async fn at_rest(jetstream: &Context, deadline: Duration) {
    let calm = std::sync::atomic::AtomicUsize::new(0);
    eventually(deadline, "all is settled", || async {
        let left = left(jetstream).await?;
        let quiet = left.is_nothing();
        let before = if quiet { calm.fetch_add(1, std::sync::atomic::Ordering::Relaxed) } else { 0 };
        if !quiet {
            calm.store(0, std::sync::atomic::Ordering::Relaxed);
        }
        if before >= 1 { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// A dead letter, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// The subscription, or `_`.
    pub subscription: String,
    /// The reason.
    pub reason: String,
    /// The sequence of the message that it came from.
    pub sequence: u64,
}

/// All dead letters. A cluster may need a moment until a new consumer of them can be pulled from.
pub async fn dead_letters(jetstream: &Context) -> Vec<Letter> {
    let read = || read_dead_letters(jetstream);
    eventually(Duration::from_secs(30), "the dead letters can be read", read).await
}

async fn read_dead_letters(jetstream: &Context) -> Result<Vec<Letter>, String> {
    fn text(error: impl std::fmt::Display) -> String {
        error.to_string()
    }
    let mut stream = jetstream.get_stream("HOOKMILL_DLQ").await.map_err(text)?;
    let count = stream.info().await.map_err(text)?.state.messages;
    let settings = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
    let consumer = stream.create_consumer(settings).await.map_err(text)?;
    let stored = consumer.messages().await.map_err(text)?.take(usize::try_from(count).expect("fits"));
    let letter = |message: Result<async_nats::jetstream::Message, _>| async {
        let message = message.map_err(text)?;
        let tokens: Vec<&str> = message.subject.split('.').collect();
        let headers = message.headers.as_ref().expect("a dead letter has headers");
        let sequence = headers.get("Hookmill-Source-Sequence").expect("it says where it came from");
        Ok(Letter {
            subscription: tokens[3].to_owned(),
            reason: tokens[4].to_owned(),
            sequence: sequence.as_str().parse().expect("a number"),
        })
    };
    stored.then(letter).try_collect().await
}

/// Dead letters by reason.
pub fn reasons(letters: &[Letter]) -> BTreeMap<&str, usize> {
    letters.iter().fold(BTreeMap::new(), |mut reasons, letter| {
        *reasons.entry(letter.reason.as_str()).or_default() += 1;
        reasons
    })
}

/// How often each order was answered with 2xx by an endpoint, by the number in its data: ids may be shared.
pub fn delivered(endpoint: &Endpoint) -> HashMap<usize, usize> {
    let mut orders = HashMap::new();
    for request in endpoint.log().requests() {
        if request.answered.is_some_and(|status| (200..300).contains(&status)) {
            let order = request.json()["data"]["order"].as_str().map(str::to_owned);
            let number = order.as_deref().and_then(|order| order.strip_prefix("ord_")?.parse().ok());
            *orders.entry(number.expect("an order has a number")).or_default() += 1;
        }
    }
    orders
}

/// The ends of each event of one subscription.
#[derive(Debug)]
pub struct Ends {
    /// Orders without any end.
    pub missing: Vec<usize>,
    /// Orders delivered at least once.
    pub delivered: usize,
    /// Dead letters.
    pub dead: usize,
    /// Ends beyond the first of each order.
    pub extra: usize,
}

/// Counts the ends of orders `0..sequences.len()`; `sequences` are those of their messages.
pub fn ends(subscription: &str, endpoint: &Endpoint, letters: &[Letter], sequences: &[u64]) -> Ends {
    let delivered = delivered(endpoint);
    let mut dead: HashMap<u64, usize> = HashMap::new();
    for letter in letters.iter().filter(|letter| letter.subscription == subscription) {
        *dead.entry(letter.sequence).or_default() += 1;
    }
    let mut ends = Ends { missing: Vec::new(), delivered: 0, dead: 0, extra: 0 };
    for (number, sequence) in sequences.iter().enumerate() {
        let here = delivered.get(&number).copied().unwrap_or_default();
        let letters = dead.get(sequence).copied().unwrap_or_default();
        ends.delivered += here.min(1);
        ends.dead += letters;
        match here + letters {
            0 => ends.missing.push(number),
            some => ends.extra += some - 1,
        }
    }
    ends
}
