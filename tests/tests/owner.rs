//! Two pipelines whose durables have the same name: prefix `hookmill` with pipeline `staging-orders` (here: one) and prefix
//! `hookmill-staging` with pipeline `orders` (here: two).

use std::collections::HashMap;

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use hookmill_tests::engine::{LogLine, Said};
use hookmill_tests::{Endpoint, Engine, EngineOptions, PipelineFolder, behaviour, events, eventually, http};
use serde_json::json;

use crate::mill::{LATER, Mill, SOON, orders, unready};

const STREAM: &str = "HOOKMILL_EVENTS";
const DURABLE: &str = "hookmill-staging-orders";

/// A server and both pipelines, each with an endpoint of its own.
struct Two {
    /// Has the file of pipeline two.
    mill: Mill,
    endpoint_of_one: Endpoint,
    folder_of_one: PipelineFolder,
}

impl Two {
    async fn new() -> Self {
        let mill = Mill::new(behaviour::always(200), "", "").await;
        let endpoint_of_one = Endpoint::start(behaviour::always(200)).await;
        let folder_of_one = PipelineFolder::with("staging-orders", &orders(&endpoint_of_one, "", ""));
        Self { mill, endpoint_of_one, folder_of_one }
    }

    fn one(&self) -> EngineOptions {
        Engine::run(&self.mill.server).arg(self.folder_of_one.path())
    }

    fn two(&self) -> EngineOptions {
        self.mill.engine().arg("--prefix").arg("hookmill-staging")
    }

    async fn durable(&self) -> Info {
        let stream = self.mill.jetstream.get_stream(STREAM).await.expect("the stream is there");
        stream.consumer_info(DURABLE).await.expect("the durable is there")
    }

    /// Prefix and pipeline that the durable names.
    async fn owner(&self) -> (Option<String>, Option<String>) {
        let metadata = self.durable().await.config.metadata;
        let said = |key: &str| metadata.get(key).cloned();
        (said("hookmill-prefix"), said("hookmill-pipeline"))
    }

    /// Puts other metadata into the durable; nothing else of it changes.
    async fn say_of_durable(&self, metadata: &[(&str, &str)]) {
        let said = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let mut config = self.durable().await.config;
        config.metadata = said.collect::<HashMap<_, _>>();
        let request = json!({ "stream_name": STREAM, "config": config, "action": "update" });
        let client = self.mill.server.client().await;
        let subject = format!("$JS.API.CONSUMER.CREATE.{STREAM}.{DURABLE}");
        let answer = client.request(subject, request.to_string().into()).await.expect("JetStream answers");
        assert!(!String::from_utf8_lossy(&answer.payload).contains("\"error\""), "{answer:?}");
    }

    /// The error of an engine that ends at once.
    async fn refusal(&self, engine: EngineOptions) -> String {
        let engine = engine.spawn();
        let is_error = |line: &LogLine| line.text.starts_with("error: ");
        let line = engine.wait_for_line("an error", SOON, is_error).await;
        assert_eq!(engine.wait().await, 1);
        line.text
    }

    async fn rename_of_one(&self, old: &str, new: &str) -> Said {
        self.mill.command(&["pipeline", "rename", old, new]).await
    }
}

fn owner(prefix: &str, pipeline: &str) -> (Option<String>, Option<String>) {
    (Some(prefix.to_owned()), Some(pipeline.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pipelines_whose_durables_have_the_same_name_the_second_is_refused() {
    let both = Two::new().await;
    let one = both.one().start().await;
    assert_eq!(both.owner().await, owner("hookmill", "staging-orders"));
    let expected = "error: pipeline orders can't take from its source: consumer hookmill-staging-orders on HOOKMILL_EVENTS \
                    belongs to pipeline staging-orders of prefix hookmill, and each of the two would get a part of the events \
                    only; give this pipeline another name, or this engine another [nats] prefix";
    assert_eq!(both.refusal(both.two()).await, expected);
    both.mill.publish(1..=100).await;
    both.endpoint_of_one.wait_for_delivered(100, LATER).await;
    assert_eq!((both.endpoint_of_one.received(), both.mill.endpoint.received()), (100, 0));

    // With another name it is nobody else's.
    std::fs::remove_file(both.mill.folder.path().join("orders.toml")).expect("it is there");
    both.mill.folder.write("mine.toml", orders(&both.mill.endpoint, "", ""));
    let two = both.two().start().await;
    // Files that are loaded again are held against the same rule.
    both.mill.folder.write("orders.toml", orders(&both.mill.endpoint, "", ""));
    two.signal(nix::sys::signal::Signal::SIGHUP);
    let refused = |line: &LogLine| line.message().starts_with("the files were not loaded again");
    let line = two.wait_for_line("they are refused", SOON, refused).await;
    assert!(line.text.contains("belongs to pipeline staging-orders of prefix hookmill"), "{}", line.text);
    both.mill.publish(101..=110).await;
    both.endpoint_of_one.wait_for_delivered(110, LATER).await;
    both.mill.endpoint.wait_for_delivered(10, LATER).await;
    assert_eq!(one.terminate().await, 0);
    assert_eq!(two.terminate().await, 0);
}

/// A durable of a version that did not yet say whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_durable_is_taken_over_by_the_prefix_that_keeps_a_place_of_it() {
    let both = Two::new().await;
    let one = both.one().start().await;
    both.mill.publish(1..=10).await;
    both.endpoint_of_one.wait_for_delivered(10, LATER).await;
    assert_eq!(one.terminate().await, 0);
    both.say_of_durable(&[("team", "shop")]).await;
    let refusal = both.refusal(both.two()).await;
    let expected = "consumer hookmill-staging-orders on HOOKMILL_EVENTS doesn't say whose it is, and nothing is kept that says \
                    it is this pipeline's; if nobody uses it, delete it with `nats consumer rm HOOKMILL_EVENTS \
                    hookmill-staging-orders`; else give this pipeline another name, or this engine another [nats] prefix";
    assert!(refusal.ends_with(expected), "{refusal}");
    assert_eq!(both.owner().await, (None, None), "who is refused writes nothing");
    both.mill.publish(11..=20).await;
    let _one = both.one().start().await;
    both.endpoint_of_one.wait_for_delivered(20, LATER).await;
    assert_eq!(both.endpoint_of_one.received(), 20, "it goes on where it was");
    assert_eq!(both.owner().await, owner("hookmill", "staging-orders"));
    assert_eq!(both.durable().await.config.metadata.get("team").map(String::as_str), Some("shop"));
}

/// As two engines of that old version have left it: both have a place in it.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_take_over_the_same_old_durable_at_once_one_goes_on() {
    let both = Two::new().await;
    assert_eq!(both.one().start().await.terminate().await, 0);
    let bucket = |name: &str| both.mill.jetstream.get_key_value(format!("{name}_REGISTRY"));
    let floor = bucket("HOOKMILL").await.expect("it is there").get("floor.staging-orders").await;
    both.mill.folder.write("mine.toml", orders(&both.mill.endpoint, "", ""));
    std::fs::remove_file(both.mill.folder.path().join("orders.toml")).expect("it is there");
    assert_eq!(both.two().start().await.terminate().await, 0);
    let floor = floor.expect("it can be read").expect("it is kept");
    bucket("HOOKMILL_STAGING").await.expect("it is there").put("floor.orders", floor).await.expect("stored");
    std::fs::remove_file(both.mill.folder.path().join("mine.toml")).expect("it is there");
    both.mill.folder.write("orders.toml", orders(&both.mill.endpoint, "", ""));
    both.say_of_durable(&[]).await;

    let (one, two) = (both.one().spawn(), both.two().spawn());
    // The other one ends at once, or it is told so when it looks at its place again.
    let gave_up = |engine: &Engine| {
        let mut lines = engine.lines().into_iter();
        lines.any(|line| line.text.contains("each of the two would get a part of the events only"))
    };
    eventually(LATER, "one has given up", || async {
        if gave_up(&one) || gave_up(&two) { Ok(()) } else { Err("neither has".to_owned()) }
    })
    .await;
    assert!(gave_up(&one) != gave_up(&two), "one of them goes on");
    both.mill.publish(1..=50).await;
    let (goes_on, owns, other) = if gave_up(&two) {
        (&both.endpoint_of_one, owner("hookmill", "staging-orders"), &both.mill.endpoint)
    } else {
        (&both.mill.endpoint, owner("hookmill-staging", "orders"), &both.endpoint_of_one)
    };
    goes_on.wait_for_delivered(50, LATER).await;
    assert_eq!(other.received(), 0);
    assert_eq!(both.owner().await, owns);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_durable_has_become_somebody_elses_stops_taking_and_keeps_its_floor() {
    let both = Two::new().await;
    let one = both.one().start().await;
    both.mill.publish(1..=5).await;
    both.endpoint_of_one.wait_for_delivered(5, LATER).await;
    both.say_of_durable(&[("hookmill-prefix", "hookmill-staging"), ("hookmill-pipeline", "orders")]).await;
    unready(&one, "belongs to pipeline orders of prefix hookmill-staging").await;
    both.mill.publish(6..=9).await;
    let status = both.mill.command(&["status"]).await;
    let told = "pipeline staging-orders: consumer hookmill-staging-orders on HOOKMILL_EVENTS belongs to pipeline orders";
    assert!(status.stdout.contains(told), "{status:?}");
    let lines = both.mill.json(&["status"]).await;
    let source = lines.iter().find(|line| line["kind"] == "source").expect("it has a source");
    assert_eq!((&source["state"], &source["owner"]["pipeline"]), (&json!("foreign"), &json!("orders")));
    assert_eq!(both.endpoint_of_one.received(), 5, "nothing more is taken");

    both.say_of_durable(&[("hookmill-prefix", "hookmill"), ("hookmill-pipeline", "staging-orders")]).await;
    both.endpoint_of_one.wait_for_delivered(9, LATER).await;
    let url = one.url("/readyz");
    eventually(LATER, "it is ready again", || async {
        match http::get(&url).await? {
            (200, _) => Ok(()),
            (status, text) => Err(format!("{status} {text}")),
        }
    })
    .await;
    assert_eq!(both.endpoint_of_one.received(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_carries_the_owner_along_and_leaves_durables_of_others_alone() {
    let both = Two::new().await;
    both.mill.jetstream.delete_stream(STREAM).await.expect("the stream can be deleted");
    let config = Config { retention: RetentionPolicy::Interest, ..Config::default() };
    events::make_source_stream_like(&both.mill.jetstream, config).await;
    both.folder_of_one.write("shop.toml", orders(&both.endpoint_of_one, "", ""));
    std::fs::remove_file(both.folder_of_one.path().join("staging-orders.toml")).expect("it is there");
    let two = both.two().start().await;
    assert_eq!(both.owner().await, owner("hookmill-staging", "orders"));
    let one = both.one().start().await;
    both.mill.publish(1..=5).await;
    both.endpoint_of_one.wait_for_delivered(5, LATER).await;
    both.mill.endpoint.wait_for_delivered(5, LATER).await;
    assert_eq!(one.terminate().await, 0);

    let said = both.rename_of_one("shop", "staging-orders").await;
    assert_eq!(said.code, 1, "{said:?}");
    let why = "error: staging-orders can't be its new name: consumer hookmill-staging-orders on HOOKMILL_EVENTS belongs to \
               pipeline orders of prefix hookmill-staging";
    assert!(said.stderr.starts_with(why), "{said:?}");
    assert_eq!(both.owner().await, owner("hookmill-staging", "orders"));

    let said = both.rename_of_one("shop", "store").await;
    assert_eq!(said.code, 0, "{said:?}");
    let stream = both.mill.jetstream.get_stream(STREAM).await.expect("the stream is there");
    let durable = stream.consumer_info("hookmill-store").await.expect("it is made at once");
    assert_eq!(durable.config.metadata.get("hookmill-pipeline").map(String::as_str), Some("store"));
    assert!(stream.consumer_info("hookmill-shop").await.is_err());

    // A place that was kept while both took from one durable: what the other owns now is not touched.
    let bucket = both.mill.jetstream.get_key_value("HOOKMILL_REGISTRY").await.expect("it is there");
    let floor = bucket.get("floor.store").await.expect("it can be read").expect("it is kept");
    bucket.put("floor.staging-orders", floor).await.expect("stored");
    let said = both.rename_of_one("staging-orders", "depot").await;
    assert_eq!(said.code, 0, "{said:?}");
    both.mill.publish(6..=10).await;
    both.mill.endpoint.wait_for_delivered(10, LATER).await;
    assert_eq!(both.owner().await, owner("hookmill-staging", "orders"));
    assert_eq!(two.terminate().await, 0);
}

/// A stream drops what comes again with the same message id: for two installations these are two messages.
#[tokio::test(flavor = "multi_thread")]
async fn what_two_prefixes_publish_for_pipelines_of_the_same_names_are_no_repeats() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let config = Config { name: "OUT".into(), subjects: vec!["out.>".into()], ..Config::default() };
    mill.jetstream.create_stream(config).await.expect("the stream can be made");
    let publish = "[[subscription]]\nname = \"on\"\n[subscription.publish]\nsubject = \"out.{type}\"\n";
    mill.folder.write("orders.toml", publish);
    let _one = mill.engine().start().await;
    let _two = mill.engine().arg("--prefix").arg("staging").start().await;
    mill.publish(1..=3).await;
    mill.holds("OUT", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_names_the_stream_that_has_the_subjects_of_another_prefixs() {
    let both = Two::new().await;
    let said = both.mill.command(&["init", "--prefix", "hookmill-staging"]).await;
    let expected = "error: stream HOOKMILL_STAGING_EVENTS can't be made: HOOKMILL_EVENTS takes events.> already, and each \
                    subject belongs to one stream; name that one in `[source] stream`: an engine makes all else itself when \
                    it starts\n";
    assert_eq!((said.code, said.stderr.as_str()), (1, expected));
}
