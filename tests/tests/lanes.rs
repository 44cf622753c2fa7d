//! Lanes and refusals: what waits because of an endpoint, what is done when a lane is full, what happens when a stream
//! refuses to store.

use std::time::Duration;

use hookmill_tests::{
    Endpoint, Engine, NatsServer, PipelineFolder, behaviour, events, eventually, hookmill, http,
};

use hookmill_tests::judge::{at_rest, config, dead_letters, ends, holds, reasons, source, subscription};

const SOON: Duration = Duration::from_secs(30);
const LATER: Duration = Duration::from_mins(1);

/// A server with its source stream.
async fn server() -> (NatsServer, async_nats::jetstream::Context) {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    (server, jetstream)
}

/// A folder with pipeline `orders` and with settings that let a lane hold `lane` tasks.
fn folder(lane: u64, pipeline: &str) -> PipelineFolder {
    let folder = PipelineFolder::with("pipelines/orders", pipeline);
    folder.write("hookmill.toml", format!("[limits]\nlane = {lane}\n"));
    folder
}

async fn start(server: &NatsServer, folder: &PipelineFolder) -> Engine {
    let settings = folder.path().join("hookmill.toml");
    let options = Engine::run(server).arg(folder.path().join("pipelines"));
    options.arg("--config").arg(settings).start().await
}

async fn not_ready(engine: &Engine, because: &str) {
    let url = engine.url("/readyz");
    eventually(SOON, "the engine says why it is not ready", || async {
        match http::get(&url).await? {
            (503, body) if body.contains(because) => Ok(()),
            (status, body) => Err(format!("{status} {body}")),
        }
    })
    .await;
}

async fn is_direct(engine: &Engine) {
    eventually(SOON, "the lane is direct again", || async {
        let state = engine.metric("hookmill_lane_state", &["subscription=\"a\""]).await;
        if state < 0.5 { Ok(()) } else { Err(format!("state {state}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_opens_its_circuit_fills_its_lane_and_is_sent_the_backlog_when_it_is_mended() {
    const LANE: u64 = 200;
    let (server, jetstream) = server().await;
    let endpoint = Endpoint::start(behaviour::always(503)).await;
    let retry = format!("schedule = [{}]\njitter = 0.0", ["\"1s\""; 60].join(", "));
    let text = [source(""), subscription("a", &endpoint.url(), "concurrency = 8", &retry)].concat();
    let folder = folder(LANE, &text);
    let engine = start(&server, &folder).await;
    let mut sequences = events::publish_all(&jetstream, (0..24).map(events::structured)).await;
    engine
        .wait_for_line("its circuit opens", LATER, |line| line.message().starts_with("circuit opened"))
        .await;
    let open_from = endpoint.received();
    assert!(open_from >= 20, "{open_from} attempts before it opened");
    sequences.extend(events::publish_all(&jetstream, (24..424).map(events::structured)).await);
    holds(&jetstream, "HOOKMILL_DLQ", LATER, |count| count > 200).await;
    holds(&jetstream, "HOOKMILL_RETRIES", LATER, |count| count == 0).await;
    let probes = endpoint.received() - open_from;
    assert!(probes <= 16, "{probes} attempts while the circuit was open");

    endpoint.behave(behaviour::always(200));
    engine.wait_for_line("its circuit closes", LATER, |line| line.message() == "circuit closed").await;
    at_rest(&jetstream, LATER).await;
    let letters = dead_letters(&jetstream).await;
    let ends = ends("a", &endpoint, &letters, &sequences);
    println!("{probes} probes, {ends:?}, {:?}", reasons(&letters));
    assert!(letters.iter().all(|letter| letter.reason == "lane_full"), "{:?}", reasons(&letters));
    assert_eq!((ends.missing.len(), ends.extra, ends.delivered + ends.dead), (0, 0, 424));
    assert!(ends.delivered >= 200, "what was in the lane is delivered");
    is_direct(&engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_found_by_another_engine_after_the_first_was_killed() {
    let (server, jetstream) = server().await;
    let endpoint = Endpoint::start(behaviour::hang()).await;
    let deliver = "concurrency = 2\ntimeout = \"3s\"";
    let text =
        [source(""), subscription("a", &endpoint.url(), deliver, "schedule = [\"1s\", \"1s\"]")].concat();
    let folder = folder(1_000, &text);
    let first = start(&server, &folder).await;
    let sequences = events::publish_all(&jetstream, (0..100).map(events::structured)).await;
    holds(&jetstream, "HOOKMILL_LANES", SOON, |count| count >= 90).await;
    first.kill().await;
    endpoint.behave(behaviour::always(200));
    let second = start(&server, &folder).await;
    endpoint.wait_for_delivered(100, LATER).await;
    at_rest(&jetstream, LATER).await;
    let ends = ends("a", &endpoint, &dead_letters(&jetstream).await, &sequences);
    println!("{ends:?}");
    assert_eq!((ends.missing.len(), ends.dead), (0, 0));
    is_direct(&second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_lane_of_a_slow_endpoint_slows_the_source_and_loses_nothing() {
    let (server, jetstream) = server().await;
    let endpoint = Endpoint::start(behaviour::slow(Duration::from_millis(100))).await;
    let pipeline = source("max_in_flight = 64");
    let text = [pipeline, subscription("a", &endpoint.url(), "concurrency = 4", "")].concat();
    let folder = folder(20, &text);
    let engine = start(&server, &folder).await;
    let sequences = events::publish_all(&jetstream, (0..300).map(events::structured)).await;
    holds(&jetstream, "HOOKMILL_LANES", SOON, |count| count >= 19).await;
    endpoint.wait_for_delivered(300, LATER).await;
    at_rest(&jetstream, LATER).await;
    let ends = ends("a", &endpoint, &dead_letters(&jetstream).await, &sequences);
    assert_eq!((ends.missing.len(), ends.dead, ends.extra), (0, 0, 0));
    is_direct(&engine).await;
    // Nothing of it lingers: the next event does not go through the lane.
    events::publish_all(&jetstream, [events::structured(300)]).await;
    endpoint.wait_for_delivered(301, SOON).await;
    at_rest(&jetstream, SOON).await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_stops_its_lane_until_somebody_resumes_it() {
    let (server, jetstream) = server().await;
    let endpoint = Endpoint::start(behaviour::gone()).await;
    let text = [source(""), subscription("a", &endpoint.url(), "", "")].concat();
    let folder = folder(50, &text);
    let engine = start(&server, &folder).await;
    let mut sequences = events::publish_all(&jetstream, [events::structured(0)]).await;
    holds(&jetstream, "HOOKMILL_DLQ", SOON, |count| count == 1).await;
    engine.wait_for_line("the lane is disabled", SOON, |line| line.message().contains("lane disabled")).await;
    sequences.extend(events::publish_all(&jetstream, (1..121).map(events::structured)).await);
    holds(&jetstream, "HOOKMILL_DLQ", SOON, |count| count == 71).await;
    assert_eq!(endpoint.received(), 1, "nothing is sent to an endpoint that is gone");
    endpoint.behave(behaviour::always(200));
    let said = hookmill(&["--nats", &server.url(), "lane", "resume", "orders/a"]).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    endpoint.wait_for_delivered(50, SOON).await;
    at_rest(&jetstream, SOON).await;
    let letters = dead_letters(&jetstream).await;
    assert_eq!(reasons(&letters), [("gone", 1), ("lane_full", 70)].into());
    let ends = ends("a", &endpoint, &letters, &sequences);
    assert_eq!((ends.missing.len(), ends.extra), (0, 0));
}

#[tokio::test]
async fn a_dead_letter_that_is_refused_keeps_its_message_held_and_stops_intake_until_it_is_stored() {
    let (server, jetstream) = server().await;
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let text = [source("max_in_flight = 16"), subscription("a", &endpoint.url(), "", "")].concat();
    let folder = folder(1_000, &text);
    let engine = start(&server, &folder).await;
    let open = config(&jetstream, "HOOKMILL_DLQ").await;
    let full = async_nats::jetstream::stream::Config { max_messages: 1, ..open.clone() };
    jetstream.update_stream(&full).await.expect("can be limited");
    events::publish_all(&jetstream, (0..5).map(|_| events::structured_message("no event"))).await;
    not_ready(&engine, "a dead letter can't be stored").await;
    let sequences = events::publish_all(&jetstream, (0..100).map(events::structured)).await;
    not_ready(&engine, "a dead letter can't be stored").await;
    // Only what was asked for before it stopped may still come.
    assert!(endpoint.received() <= 16, "{} requests", endpoint.received());
    jetstream.update_stream(&open).await.expect("can be mended");
    endpoint.wait_for_delivered(100, LATER).await;
    at_rest(&jetstream, LATER).await;
    let letters = dead_letters(&jetstream).await;
    assert_eq!(reasons(&letters), [("not_cloudevent", 5)].into());
    let ends = ends("a", &endpoint, &letters, &sequences);
    assert_eq!((ends.missing.len(), ends.extra), (0, 0));
    assert_eq!(http::get(&engine.url("/readyz")).await.expect("answers").0, 200);
}

#[tokio::test]
async fn a_wait_that_no_stream_takes_keeps_its_message_held_and_stops_intake_until_there_is_one() {
    let (server, jetstream) = server().await;
    let endpoint = Endpoint::start(behaviour::fail_first(1, 500)).await;
    let retry = "schedule = [\"200ms\", \"200ms\", \"200ms\"]";
    let text = [source(""), subscription("a", &endpoint.url(), "", retry)].concat();
    let folder = folder(1_000, &text);
    let engine = start(&server, &folder).await;
    let retries = config(&jetstream, "HOOKMILL_RETRIES").await;
    jetstream.delete_stream("HOOKMILL_RETRIES").await.expect("can be deleted");
    events::publish_all(&jetstream, (0..10).map(events::structured)).await;
    not_ready(&engine, "a wait can't be stored").await;
    assert_eq!(endpoint.log().delivered_ids(), 0);
    jetstream.create_stream(retries).await.expect("can be made again");
    endpoint.wait_for_delivered(10, LATER).await;
    at_rest(&jetstream, LATER).await;
    assert_eq!(dead_letters(&jetstream).await, []);
    assert_eq!(http::get(&engine.url("/readyz")).await.expect("answers").0, 200);
}
