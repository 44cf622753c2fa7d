//! A server, pipelines and an engine, and what became of the events: what the tests of bad input have in common.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::Context;
use hookmill_tests::events::{self, Message};
use hookmill_tests::{Engine, EngineOptions, NatsServer, PipelineFolder, eventually, hookmill};
use serde_json::Value;

/// Longest wait for something that must come.
pub const SOON: Duration = Duration::from_secs(40);

/// A running engine with the pipeline `p`.
pub struct Scene {
    pub server: NatsServer,
    pub jetstream: Context,
    pub folder: PipelineFolder,
    pub engine: Engine,
}

/// A dead letter as `hookmill dlq show --json` prints it.
#[derive(Debug)]
pub struct Letter(pub Value);

impl Letter {
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    pub fn number(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {}", self.0))
    }

    pub fn reason(&self) -> &str {
        self.text("reason")
    }

    pub fn error(&self) -> &str {
        self.text("error")
    }

    pub fn subscription(&self) -> &str {
        self.text("subscription")
    }

    /// A header of the message in the dead-letter stream.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0["headers"].get(name).and_then(Value::as_str)
    }

    /// Reason and subscription, for comparing whole lists.
    pub fn end(&self) -> (&str, &str) {
        (self.subscription(), self.reason())
    }
}

impl Scene {
    /// A fresh server, the pipeline in a folder of its own, the engine ready.
    pub async fn start(pipeline: &str) -> Self {
        Self::open(NatsServer::start().await, PipelineFolder::with("p", pipeline)).await
    }

    /// The same with a server and a folder of one's own.
    pub async fn open(server: NatsServer, folder: PipelineFolder) -> Self {
        let options = Engine::run(&server);
        Self::open_with(server, folder, options).await
    }

    /// The same with options of one's own; the folder's path is added to them.
    pub async fn open_with(server: NatsServer, folder: PipelineFolder, options: EngineOptions) -> Self {
        let jetstream = server.jetstream().await;
        events::make_source_stream(&jetstream).await;
        let engine = options.arg(folder.path()).start().await;
        Self { server, jetstream, folder, engine }
    }

    pub async fn publish(&self, messages: impl IntoIterator<Item = Message>) -> Vec<u64> {
        events::publish_all(&self.jetstream, messages).await
    }

    /// Waits until the dead-letter stream holds `count` messages, and shows them all.
    pub async fn letters(&self, count: u64) -> Vec<Letter> {
        eventually(SOON, &format!("{count} dead letters"), || async {
            let found = messages_in(&self.jetstream, "HOOKMILL_DLQ").await;
            if found >= count { Ok(()) } else { Err(format!("{found} dead letters")) }
        })
        .await;
        let said = hookmill(&["dlq", "show", "--json", "--nats", &self.server.url()]).await;
        let letters: Vec<_> = said
            .stdout
            .lines()
            .map(|line| Letter(serde_json::from_str(line).expect("each line is JSON")))
            .collect();
        assert_eq!(letters.len() as u64, count, "{letters:#?}");
        letters
    }

    /// Waits until there are `count` dead letters, and shows them: what is kept in parts counts as one.
    pub async fn letters_among(&self, count: usize) -> Vec<Letter> {
        let url = self.server.url();
        let show = || async {
            let said = hookmill(&["dlq", "show", "--json", "--nats", &url]).await;
            let letters = said
                .stdout
                .lines()
                .map(|line| Letter(serde_json::from_str(line).expect("each line is JSON")));
            letters.collect::<Vec<_>>()
        };
        eventually(SOON, &format!("{count} dead letters"), || async {
            let found = show().await.len();
            if found == count { Ok(()) } else { Err(format!("{found} dead letters")) }
        })
        .await;
        show().await
    }

    /// Waits until the metric that counts ends of tasks shows `count`.
    pub async fn ends(&self, subscription: &str, outcome: &str, count: u32) {
        let labels = [format!("subscription=\"{subscription}\""), format!("outcome=\"{outcome}\"")];
        let labels = labels.each_ref().map(String::as_str);
        eventually(SOON, &format!("{count} events of {subscription} are {outcome}"), || async {
            let found = self.engine.metric("hookmill_deliveries_total", &labels).await;
            if (found - f64::from(count)).abs() < 0.5 { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
    }

    /// Waits until nothing is under way and nothing waits: every event has come to its end.
    pub async fn quiet(&self) {
        eventually(SOON, "all events have come to their ends", || async {
            let waiting = messages_in(&self.jetstream, "HOOKMILL_RETRIES").await;
            let held = self.engine.metric("hookmill_in_flight", &[]).await;
            if waiting == 0 && held < 0.5 { Ok(()) } else { Err(format!("{waiting} wait, {held} are held")) }
        })
        .await;
    }
}

/// How many messages a stream holds; none if it isn't there.
pub async fn messages_in(jetstream: &Context, stream: &str) -> u64 {
    match jetstream.get_stream(stream).await {
        Ok(stream) => stream.cached_info().state.messages,
        Err(_) => 0,
    }
}

/// A subscription `name` that delivers to `url`, with further lines for `deliver`.
pub fn webhook(name: &str, url: &str, more: &str) -> String {
    format!("[[subscription]]\nname = \"{name}\"\n[subscription.deliver]\nurl = \"{url}\"\n{more}\n")
}

/// Retries after these waits, without chance.
pub fn retry(schedule: &[&str], more: &str) -> String {
    format!("[subscription.retry]\nschedule = {schedule:?}\njitter = 0.0\n{more}\n")
}

/// A step with a module of [`folder_with_modules`]; `settings` is the inside of a TOML inline table.
pub fn step(module: &str, settings: &str, more: &str) -> String {
    format!("[[subscription.step]]\ntransform = \"./{module}.wasm\"\nsettings = {{ {settings} }}\n{more}\n")
}

/// A folder with the pipeline `p` and the built guests beside it.
pub fn folder_with_modules(pipeline: &str) -> PipelineFolder {
    let folder = PipelineFolder::with("p", pipeline);
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout");
    for module in ["hostile", "redact", "reshape", "route"] {
        let built = checkout.join(format!("transforms/dist/{module}.wasm"));
        let bytes = std::fs::read(&built);
        let bytes = bytes.unwrap_or_else(|_| panic!("no {}: run make modules first", built.display()));
        folder.write(&format!("{module}.wasm"), bytes);
    }
    folder
}

/// An event in structured mode; `more` is further members, each with a comma before it.
pub fn event(id: &str, ty: &str, more: &str) -> Message {
    events::structured_message(format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/tests","type":"{ty}"{more}}}"#
    ))
}

/// An event that nothing is wrong with.
pub fn good(id: &str) -> Message {
    event(id, "good", r#","data":{"fine":true}"#)
}

/// An event in binary mode with these further headers.
pub fn binary(id: &str, ty: &str, headers: &[(&str, &str)], data: impl Into<bytes::Bytes>) -> Message {
    let mut message = events::binary(0);
    message.headers = async_nats::HeaderMap::new();
    let attributes = [("ce-specversion", "1.0"), ("ce-id", id), ("ce-source", "/tests"), ("ce-type", ty)];
    for (name, value) in attributes.iter().chain(headers) {
        message.headers.append(*name, *value);
    }
    message.payload = data.into();
    message
}

/// The `id` of the event that a request in structured mode carries, without reading the rest of it.
pub fn event_id(request: &hookmill_tests::Request) -> String {
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    let named: Named = serde_json::from_slice(&request.body).expect("the request's body is an event");
    named.id
}
