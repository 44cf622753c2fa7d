//! A server with the default source stream, an endpoint, and a folder with one pipeline, `orders`, whose one
//! subscription, `hook`, sends everything from the stream to the endpoint.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use hookmill::model::{DeliveryId, Name, SplitPath};
use hookmill_tests::endpoint::behaviour::Behaviour;
use hookmill_tests::engine::Said;
use hookmill_tests::{
    Endpoint, Engine, EngineOptions, NatsServer, PipelineFolder, events, eventually, hookmill, http,
};

/// Longest wait for what takes a moment.
pub const SOON: Duration = Duration::from_secs(20);
/// Longest wait for what may need an `ack_wait` (10 s) or a lost connection to be noticed.
pub const LATER: Duration = Duration::from_secs(60);

/// What most tests need.
pub struct Mill {
    /// With `HOOKMILL_EVENTS`.
    pub server: NatsServer,
    /// On a connection of its own.
    pub jetstream: Context,
    /// Where everything goes.
    pub endpoint: Endpoint,
    /// With `orders.toml`.
    pub folder: PipelineFolder,
}

/// The pipeline `orders`: `source` are lines of `[source]`, `deliver` of `[subscription.deliver]` and what follows.
pub fn orders(endpoint: &Endpoint, source: &str, deliver: &str) -> String {
    let url = endpoint.url();
    format!(
        "[source]\n{source}\n[[subscription]]\nname = \"hook\"\n[subscription.deliver]\nurl = \"{url}\"\n{deliver}\n"
    )
}

/// A short schedule of one-second waits.
pub fn retry(waits: usize) -> String {
    let waits = vec!["\"1s\""; waits].join(", ");
    format!("[subscription.retry]\nschedule = [{waits}]\njitter = 0.0")
}

impl Mill {
    /// With these lines in the pipeline file.
    pub async fn new(behaviour: Behaviour, source: &str, deliver: &str) -> Self {
        Self::on(NatsServer::start().await, behaviour, source, deliver).await
    }

    /// The same with a server of one's own.
    pub async fn on(server: NatsServer, behaviour: Behaviour, source: &str, deliver: &str) -> Self {
        let jetstream = server.jetstream().await;
        events::make_source_stream(&jetstream).await;
        let endpoint = Endpoint::start(behaviour).await;
        let folder = PipelineFolder::with("orders", &orders(&endpoint, source, deliver));
        Self { server, jetstream, endpoint, folder }
    }

    /// `hookmill run` on the folder.
    pub fn engine(&self) -> EngineOptions {
        Engine::run(&self.server).arg(self.folder.path())
    }

    /// The same through a cable or with other credentials.
    pub fn engine_at(&self, nats_url: &str) -> EngineOptions {
        Engine::run_at(nats_url).arg(self.folder.path())
    }

    /// Publishes orders of these numbers.
    pub async fn publish(&self, numbers: RangeInclusive<usize>) {
        events::publish_all(&self.jetstream, numbers.map(events::structured)).await;
    }

    /// Waits until exactly these orders, each at least once, were delivered.
    pub async fn delivered(&self, numbers: RangeInclusive<usize>) {
        let wanted = delivery_ids(numbers);
        let what = format!("{} orders are delivered", wanted.len());
        self.endpoint.wait_for(&what, LATER, |log| wanted.is_subset(log.delivered())).await;
        assert_eq!(*self.endpoint.log().delivered(), wanted);
    }

    /// `hookmill` with `arguments` and this server.
    pub async fn command(&self, arguments: &[&str]) -> Said {
        command(&self.server, arguments).await
    }

    /// A command whose every line on stdout is a JSON object.
    pub async fn json(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let said = self.command(&[arguments, &["--json"]].concat()).await;
        assert_eq!(said.code, 0, "{said:?}");
        json_lines(&said)
    }

    /// Waits until a stream holds so many messages.
    pub async fn holds(&self, stream: &str, count: u64) {
        let what = format!("{stream} holds {count} messages");
        eventually(LATER, &what, || async {
            let state = self.stream_state(stream).await?;
            if state.messages == count { Ok(()) } else { Err(state.messages.to_string()) }
        })
        .await;
    }

    /// What a stream holds now.
    pub async fn stream_state(&self, stream: &str) -> Result<jetstream::stream::State, String> {
        let stream = self.jetstream.get_stream(stream).await.map_err(|error| error.to_string())?;
        Ok(stream.cached_info().state.clone())
    }

    /// What the server says of the pipeline's durable.
    pub async fn durable(&self) -> Result<jetstream::consumer::Info, String> {
        let stream = self.jetstream.get_stream("HOOKMILL_EVENTS").await.map_err(|error| error.to_string())?;
        stream.consumer_info("hookmill-orders").await.map_err(|error| error.to_string())
    }

    /// Deletes the pipeline's durable, as somebody might.
    pub async fn delete_durable(&self) {
        let stream = self.jetstream.get_stream("HOOKMILL_EVENTS").await.expect("the stream is there");
        stream.delete_consumer("hookmill-orders").await.expect("the durable can be deleted");
    }
}

/// The ids of the deliveries of these orders to `orders/hook`.
pub fn delivery_ids(numbers: RangeInclusive<usize>) -> HashSet<String> {
    delivery_ids_of("orders", "hook", numbers)
}

/// The same for any lane.
pub fn delivery_ids_of(
    pipeline: &str,
    subscription: &str,
    numbers: impl IntoIterator<Item = usize>,
) -> HashSet<String> {
    let pipeline = Name::new(pipeline).expect("a name");
    let id = |number| {
        let (id, path) = (events::order_id(number), SplitPath::root());
        DeliveryId::derive(events::ORDER_SOURCE, &id, &pipeline, subscription, &path).to_string()
    };
    numbers.into_iter().map(id).collect()
}

/// `hookmill` with `arguments` and this server.
pub async fn command(server: &NatsServer, arguments: &[&str]) -> Said {
    hookmill(&[arguments, &["--nats", &server.url()]].concat()).await
}

/// The lines of stdout as JSON.
pub fn json_lines(said: &Said) -> Vec<serde_json::Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    said.stdout.lines().map(parse).collect()
}

/// Waits until `/readyz` says 503 with `reason` in its text.
pub async fn unready(engine: &Engine, reason: &str) {
    let url = engine.url("/readyz");
    eventually(LATER, &format!("not ready because of {reason:?}"), || async {
        match http::get(&url).await? {
            (503, text) if text.contains(reason) => Ok(()),
            (status, text) => Err(format!("{status} {text}")),
        }
    })
    .await;
}
