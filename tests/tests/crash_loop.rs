//! An event at which the engine itself dies, with many others held beside it: it is found out and put aside, and none of
//! the others suffers for it. The debug build aborts on purpose when the environment asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hookmill_tests::{
    Endpoint, Engine, EngineOptions, NatsServer, PipelineFolder, Reply, behaviour, events, eventually,
    hookmill,
};
use serde_json::{Value, json};

use hookmill_tests::judge::{at_rest, dead_letters, delivered, messages, source, subscription};

const EVENTS: usize = 201;
const KILLER: usize = 100;
const SIGABRT_CODE: i32 = 128 + 6;

/// Starts the engine again each time it dies, until there is a dead letter and all others are delivered. How often it died.
async fn until_the_killer_is_put_aside(
    options: EngineOptions,
    jetstream: &async_nats::jetstream::Context,
    endpoint: &Endpoint,
    deaths: &AtomicUsize,
) {
    let done = eventually(Duration::from_mins(3), "one dead letter, all others delivered", || async {
        let (dead, delivered) = (messages(jetstream, "HOOKMILL_DLQ").await?, endpoint.log().delivered_ids());
        if (dead, delivered) == (1, EVENTS - 1) {
            Ok(())
        } else {
            Err(format!("{dead} dead, {delivered} delivered"))
        }
    });
    let lives = async {
        let engine = options.clone().spawn();
        let mut engine = engine;
        loop {
            assert_eq!(engine.wait().await, SIGABRT_CODE);
            deaths.fetch_add(1, Ordering::Relaxed);
            engine = options.clone().spawn();
        }
    };
    tokio::select! {
        () = done => {}
        () = lives => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_kills_the_engine_ends_as_a_crash_loop_and_the_others_are_delivered() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let deaths = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&deaths);
    // Answers only once the engine has died three times, so that all others are held beside the killer until then.
    let patient =
        move |_: &_| if seen.load(Ordering::Relaxed) < 3 { Reply::Hang } else { Reply::Status(200) };
    let endpoint = Endpoint::start(behaviour::custom(patient)).await;
    let text = [source(""), subscription("all", &endpoint.url(), "concurrency = 256", "")].concat();
    let folder = PipelineFolder::with("orders", &text);
    let sequences = events::publish_all(&jetstream, (0..EVENTS).map(events::structured)).await;
    let options = Engine::run(&server).arg(folder.path());
    let options = options.env("HOOKMILL_TEST_ABORT", &events::order_id(KILLER));
    until_the_killer_is_put_aside(options.clone(), &jetstream, &endpoint, &deaths).await;

    let letters = dead_letters(&jetstream).await;
    assert_eq!((&*letters[0].reason, letters[0].sequence), ("crash_loop", sequences[KILLER]));
    assert_eq!(delivered(&endpoint).get(&KILLER), None);
    let shown = hookmill(&["dlq", "show", "--json", "--nats", &server.url()]).await.stdout;
    let shown: Value = serde_json::from_str(&shown).expect("one letter");
    assert_eq!(shown["source"]["subject"], events::ORDER_SUBJECT);
    let nothing = json!({ "id": "", "source": "", "type": "", "unverified": true });
    assert_eq!(shown["event"], nothing, "the body of what kills is not looked into");
    println!("{} deaths, {} repeats", deaths.load(Ordering::Relaxed), endpoint.log().repeats());
    assert_eq!(deaths.load(Ordering::Relaxed), 6, "three times unsuspected, three times as a suspect");
    let _engine = options.start().await;
    at_rest(&jetstream, Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_kills_in_the_middle_of_its_attempts_uses_up_its_schedule() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let deaths = AtomicUsize::new(0);
    let marked = events::order_id(KILLER);
    let hangs = {
        let marked = marked.clone();
        move |request: &hookmill_tests::Request| {
            let hangs = request.json()["id"] == *marked;
            if hangs { Reply::Hang } else { Reply::Status(200) }
        }
    };
    let endpoint = Endpoint::start(behaviour::custom(hangs)).await;
    let retry = r#"schedule = ["500ms"]"#;
    let text = [source(""), subscription("all", &endpoint.url(), "timeout = \"3s\"", retry)].concat();
    let folder = PipelineFolder::with("orders", &text);
    let sequences = events::publish_all(&jetstream, (0..EVENTS).map(events::structured)).await;
    let options = Engine::run(&server).arg(folder.path()).env("HOOKMILL_TEST_ABORT_LATE", &marked);
    until_the_killer_is_put_aside(options.clone(), &jetstream, &endpoint, &deaths).await;

    let letters = dead_letters(&jetstream).await;
    assert_eq!((&*letters[0].reason, letters[0].sequence), ("exhausted", sequences[KILLER]));
    assert_eq!(delivered(&endpoint).get(&KILLER), None);
    println!("{} deaths, {} repeats", deaths.load(Ordering::Relaxed), endpoint.log().repeats());
    assert_eq!(deaths.load(Ordering::Relaxed), 2, "once for each attempt of the schedule");
    let _engine = options.start().await;
    at_rest(&jetstream, Duration::from_secs(30)).await;
}
