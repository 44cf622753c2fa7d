//! What `/readyz` says while nothing can come, or nothing is taken any more.

use std::time::{Duration, Instant};

use hookmill_tests::{Engine, NatsServer, PipelineFolder, behaviour, events, eventually, http};
use serde_json::{Value, json};

use crate::mill::{LATER, Mill, unready};
use hookmill_tests::judge::at_rest;

/// The whole time that a stop may take, and room for a busy machine.
const STOP_MAX: Duration = Duration::from_secs(23);

async fn ask(mill: &Mill, subject: &str, request: &Value) -> Value {
    let client = mill.server.client().await;
    let payload = request.to_string().into();
    let answer = client.request(format!("$JS.API.{subject}"), payload).await.expect("the server answers");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!(answer["error"], Value::Null, "{answer}");
    answer
}

async fn pause_durable(mill: &Mill, until: &str) {
    ask(mill, "CONSUMER.PAUSE.HOOKMILL_EVENTS.hookmill-orders", &json!({ "pause_until": until })).await;
}

/// Changes the durable as somebody might with `nats consumer edit`.
async fn edit_durable(mill: &Mill, stream: &str, name: &str, field: &str, value: Value) {
    let mut info = ask(mill, &format!("CONSUMER.INFO.{stream}.{name}"), &json!({})).await;
    info["config"][field] = value;
    let request = json!({ "stream_name": stream, "config": info["config"], "action": "update" });
    ask(mill, &format!("CONSUMER.DURABLE.CREATE.{stream}.{name}"), &request).await;
}

async fn is_brought_back(mill: &Mill, stream: &str, name: &str, field: &str, wanted: Value) {
    eventually(LATER, "the durable is as it was", || async {
        let info = ask(mill, &format!("CONSUMER.INFO.{stream}.{name}"), &json!({})).await;
        let is = &info["config"][field];
        if *is == wanted { Ok(()) } else { Err(is.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_durable_that_a_person_has_paused_is_no_ready_source_and_stays_paused() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let mut engine = mill.engine().start().await;
    pause_durable(&mill, "2099-01-01T00:00:00Z").await;
    let why = "pipeline orders: source stands still: its consumer is paused until 2099-01-01T00:00:00Z; \
               `nats consumer resume HOOKMILL_EVENTS hookmill-orders` lets it go on";
    unready(&engine, why).await;
    mill.publish(1..=3).await;
    engine.restart_unready().await;
    unready(&engine, why).await;
    assert_eq!(mill.endpoint.received(), 0, "a start does not undo it");
    pause_durable(&mill, "0001-01-01T00:00:00Z").await;
    mill.delivered(1..=3).await;
    engine.ready().await;
}

#[tokio::test]
async fn a_durable_that_was_made_to_give_headers_only_loses_no_event_and_is_brought_back() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let mut engine = mill.engine().start().await;
    edit_durable(&mill, "HOOKMILL_EVENTS", "hookmill-orders", "headers_only", json!(true)).await;
    mill.publish(1..=20).await;
    events::publish_all(&mill.jetstream, (21..=40).map(events::binary)).await;
    mill.delivered(1..=40).await;
    for request in mill.endpoint.requests() {
        assert!(!request.json()["data"].is_null(), "an event without its data was sent");
    }
    is_brought_back(&mill, "HOOKMILL_EVENTS", "hookmill-orders", "headers_only", Value::Null).await;
    engine.ready().await;
    at_rest(&mill.jetstream, LATER).await;
}

#[tokio::test]
async fn durables_that_refuse_what_the_engine_asks_for_are_said_and_brought_back() {
    let mill = Mill::new(behaviour::fail_first(1, 503), "", &crate::mill::retry(3)).await;
    let mut engine = mill.engine().start().await;
    for (stream, name, what) in [
        (
            "HOOKMILL_EVENTS",
            "hookmill-orders",
            "source stands still: its consumer refuses to give more than 5 messages",
        ),
        (
            "HOOKMILL_RETRIES",
            "orders",
            "retries stand still: its consumer refuses to give more than 5 messages",
        ),
    ] {
        edit_durable(&mill, stream, name, "max_batch", json!(5)).await;
        unready(&engine, what).await;
        is_brought_back(&mill, stream, name, "max_batch", Value::Null).await;
        engine.ready().await;
    }
    mill.publish(1..=10).await;
    mill.delivered(1..=10).await;
}

#[tokio::test]
async fn subjects_that_the_stream_does_not_take_are_no_ready_source() {
    let mill = Mill::new(behaviour::always(200), "subjects = [\"events.com.>\"]", "").await;
    let mut engine = mill.engine().start().await;
    let subjects = async |subjects: &str| {
        let stream = mill.jetstream.get_stream("HOOKMILL_EVENTS").await.expect("it is there");
        let mut config = stream.cached_info().config.clone();
        config.subjects = vec![subjects.to_owned()];
        mill.jetstream.update_stream(config).await.expect("it can be changed");
    };
    subjects("invoices.>").await;
    unready(
        &engine,
        "nothing can come: source.subjects names events.com.>, and stream HOOKMILL_EVENTS takes invoices.>; change one of them",
    )
    .await;
    subjects("events.>").await;
    engine.ready().await;
    mill.publish(1..=3).await;
    mill.delivered(1..=3).await;
}

#[tokio::test]
async fn an_engine_that_is_told_to_end_is_not_ready_while_its_attempts_come_to_their_end() {
    let mill = Mill::new(behaviour::slow(Duration::from_secs(4)), "", "").await;
    let engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    mill.endpoint.wait_for("it is attempted", LATER, |log| log.received() == 1).await;
    let (ready, alive) = (engine.url("/readyz"), engine.url("/healthz"));
    let stopping = async {
        unready(&engine, "stopping").await;
        (http::get(&ready).await, http::get(&alive).await)
    };
    let (code, (ready, alive)) = futures_util::join!(engine.terminate(), stopping);
    let said = "stopping: nothing new is taken, attempts come to their end\n".to_owned();
    assert_eq!((code, ready, alive), (0, Ok((503, said)), Ok((200, "alive\n".to_owned()))));
    mill.delivered(1..=1).await;
}

#[tokio::test]
async fn an_engine_whose_nats_is_gone_ends_within_its_deadline() {
    let server = NatsServer::start().await;
    let mut mill = Mill::on(server, behaviour::hang(), "", "timeout = \"60s\"").await;
    let engine = mill.engine().start().await;
    mill.publish(1..=10).await;
    mill.endpoint.wait_for("they are attempted", LATER, |log| log.received() == 10).await;
    mill.server.kill().await;
    let told = Instant::now();
    assert_eq!(engine.terminate().await, 0);
    assert!(told.elapsed() < STOP_MAX, "{:?}", told.elapsed());
}

/// Waits until the engine answers at all: what it says at `path`.
async fn says(engine: &Engine, path: &str, status: u16, part: &str) {
    let url = engine.url(path);
    eventually(LATER, &format!("{path} says {status} and {part:?}"), || async {
        match http::get(&url).await? {
            (code, text) if code == status && text.contains(part) => Ok(()),
            (code, text) => Err(format!("{code} {text}")),
        }
    })
    .await;
}

#[tokio::test]
async fn health_is_served_while_nats_is_waited_for_and_says_so() {
    let mut server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    server.kill().await;
    let folder = PipelineFolder::with("orders", &orders_to_nowhere());
    let mut engine = Engine::run(&server).arg(folder.path()).spawn();
    engine.listens().await;
    says(&engine, "/healthz", 200, "alive").await;
    says(&engine, "/readyz", 503, "starting: no connection to NATS at nats://127.0.0.1:").await;
    says(&engine, "/startupz", 503, "starting: no connection to NATS").await;
    says(&engine, "/metrics", 200, "").await;
    says(&engine, "/v1/lanes", 503, "the admin API is not open yet: starting: no connection to NATS").await;
    server.restart().await;
    engine.ready().await;
    says(&engine, "/startupz", 200, "started").await;
    says(&engine, "/v1/lanes", 200, "hook").await;
    server.kill().await;
    unready(&engine, "no connection to NATS").await;
    says(&engine, "/startupz", 200, "started").await;
}

fn orders_to_nowhere() -> String {
    "[[subscription]]\nname = \"hook\"\n[subscription.deliver]\nurl = \"http://127.0.0.1:9/\"\n".to_owned()
}

#[tokio::test]
async fn a_part_that_panics_is_started_again_and_shown_until_it_has_run_for_a_while() {
    for part in ["records of lanes", "source", "sign of life"] {
        let mill = Mill::new(behaviour::always(200), "", "").await;
        let mut engine = mill.engine().env("HOOKMILL_TEST_PANIC_LOOP", part).spawn();
        engine.listens().await;
        unready(&engine, &format!("part \"{part}\": it failed (a panic) and was started again")).await;
        mill.publish(1..=3).await;
        mill.delivered(1..=3).await;
        let labels = [&*format!("loop=\"{part}\"")];
        assert!((engine.metric("hookmill_loop_restarts_total", &labels).await - 1.0).abs() < 0.1);
        eventually(LATER, "it is ready once the part has run for a while", || async {
            match http::get(&engine.url("/readyz")).await? {
                (200, _) => Ok(()),
                (status, text) => Err(format!("{status} {text}")),
            }
        })
        .await;
    }
}
