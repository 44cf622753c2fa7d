//! An engine that is started before its server, or JetStream in it, can answer.

use std::time::{Duration, Instant};

use hookmill_tests::engine::LogLine;
use hookmill_tests::{
    Endpoint, Engine, EngineOptions, NatsCluster, NatsServer, PipelineFolder, behaviour, events,
};

use super::quorum::make_source_stream;
use super::stage::SOON;
use crate::scene::webhook;

/// A cluster that has its source stream, with one server running: it has no leader.
pub async fn leaderless() -> NatsCluster {
    let mut cluster = NatsCluster::start(3).await;
    make_source_stream(&cluster).await;
    for server in 0..3 {
        cluster.kill(server).await;
    }
    cluster.launch(0).await;
    cluster
}

fn waits(line: &LogLine) -> bool {
    line.message() == "waiting for JetStream"
}

/// An engine whose one pipeline delivers to `endpoint`, with these settings.
fn engine(nats_url: &str, folder: &PipelineFolder, endpoint: &Endpoint, settings: &str) -> EngineOptions {
    folder.write("pipelines/p.toml", webhook("all", &endpoint.url(), ""));
    let config = folder.write("hookmill.toml", settings);
    Engine::run_at(nats_url).arg(folder.path().join("pipelines")).arg("--config").arg(config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_waits_for_a_cluster_that_has_no_leader_yet() {
    let mut cluster = leaderless().await;
    let (folder, endpoint) = (PipelineFolder::new(), Endpoint::start(behaviour::always(200)).await);
    let mut engine = engine(&cluster.url(), &folder, &endpoint, "[nats]\nreplicas = 3\n").spawn();
    let line = engine.wait_for_line("what it waits for", SOON, waits).await;
    let why = line.field("why").and_then(|why| why.as_str()).expect("it says why").to_owned();
    assert!(why.contains("JetStream"), "{why}");
    cluster.launch(1).await;
    cluster.launch(2).await;
    engine.ready().await;
    let jetstream = cluster.server(0).jetstream().await;
    events::publish_all(&jetstream, (0..5).map(events::structured)).await;
    endpoint.wait_for_delivered(5, SOON).await;
    assert_eq!(engine.terminate().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_ends_when_its_cluster_has_no_leader_for_connect_timeout() {
    let cluster = leaderless().await;
    let (folder, endpoint) = (PipelineFolder::new(), Endpoint::start(behaviour::always(200)).await);
    let begun = Instant::now();
    let engine = engine(&cluster.url(), &folder, &endpoint, "[nats]\nconnect_timeout = \"8s\"\n").spawn();
    let last = engine.wait_for_line("why it ends", SOON, |line| line.text.starts_with("error: ")).await;
    assert_eq!(engine.wait().await, 1);
    let took = begun.elapsed();
    assert!(last.text.starts_with("error: JetStream is not ready (waited 8s): "), "{}", last.text);
    assert!(took > Duration::from_secs(8) && took < Duration::from_secs(14), "{took:?}");
    assert!(engine.lines().iter().any(waits), "it says what it waits for");
    assert!(engine.lines().iter().any(|line| line.text.starts_with("hint: ")), "and what to do");
}

/// A module of the registry is asked for before anything else; nobody's answer is not "there is none".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_waits_for_the_registry_of_modules_too() {
    let mut cluster = leaderless().await;
    let (folder, endpoint) = (PipelineFolder::new(), Endpoint::start(behaviour::always(200)).await);
    let options = engine(&cluster.url(), &folder, &endpoint, "");
    let step = "[[subscription.step]]\ntransform = \"nobody-has-pushed-it@1\"\n";
    folder.write("pipelines/p.toml", webhook("all", &endpoint.url(), "") + step);
    let engine = options.spawn();
    engine.wait_for_line("what it waits for", SOON, waits).await;
    cluster.launch(1).await;
    cluster.launch(2).await;
    let unknown = |line: &LogLine| line.text.contains("nobody-has-pushed-it") && line.text.contains("error[");
    engine.wait_for_line("the registry has answered", SOON, unknown).await;
    assert_eq!(engine.wait().await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_waits_for_a_server_that_hangs_or_is_not_there_yet() {
    let mut server = NatsServer::start().await;
    events::make_source_stream(&server.jetstream().await).await;
    let (folder, endpoint) = (PipelineFolder::new(), Endpoint::start(behaviour::always(200)).await);
    let options = engine(&server.url(), &folder, &endpoint, "");
    let waits = |line: &LogLine| line.message() == "waiting for a NATS server";

    server.pause().await;
    let mut hanging = options.clone().spawn();
    hanging.wait_for_line("that nobody answers", SOON, waits).await;
    server.resume();
    hanging.ready().await;
    assert_eq!(hanging.terminate().await, 0);

    server.kill().await;
    let mut early = options.spawn();
    early.wait_for_line("that nobody is there", SOON, waits).await;
    server.restart().await;
    early.ready().await;
    events::publish_all(&server.jetstream().await, (0..5).map(events::structured)).await;
    endpoint.wait_for_delivered(5, SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_may_not_ask_ends_at_once_and_names_the_subject() {
    let denied = super::permission::server_denying(&["$JS.API.STREAM.INFO.>"]).await;
    events::make_source_stream(&denied.jetstream().await).await;
    let (folder, endpoint) = (PipelineFolder::new(), Endpoint::start(behaviour::always(200)).await);
    let begun = Instant::now();
    let engine = engine(&super::permission::engine_url(&denied), &folder, &endpoint, "").spawn();
    let said = engine.wait_for_line("why it ends", SOON, |line| line.text.starts_with("error: ")).await;
    assert_eq!(engine.wait().await, 1);
    let expected = "no permission to publish to $JS.API.STREAM.INFO.HOOKMILL_RETRIES; grant it";
    assert!(said.text.contains(expected), "{}", said.text);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
