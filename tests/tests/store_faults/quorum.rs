//! Three servers, of which two are lost.

use std::time::Duration;

use hookmill_tests::{
    Endpoint, Engine, NatsCluster, PipelineFolder, Reply, behaviour, events, eventually, http,
};

use super::stage::{Expected, LATER, SOON, Stage, not_ready};
use crate::scene::{messages_in, webhook};

/// Makes the source stream on three servers as soon as the cluster has a leader.
pub async fn make_source_stream(cluster: &NatsCluster) -> async_nats::jetstream::Context {
    let jetstream = cluster.server(0).jetstream().await;
    eventually(NatsCluster::LEADER_MAX, "the cluster has a leader", || async {
        let config = async_nats::jetstream::stream::Config {
            name: "HOOKMILL_EVENTS".into(),
            subjects: vec!["events.>".into()],
            num_replicas: 3,
            ..Default::default()
        };
        jetstream.create_stream(config).await.map(|_| ()).map_err(|error| error.to_string())
    })
    .await;
    jetstream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_its_quorum_stops_intake_until_it_has_one_again() {
    let mut cluster = NatsCluster::start(3).await;
    let jetstream = make_source_stream(&cluster).await;
    let mut stage = Stage::start(&cluster.url(), &jetstream, "[nats]\nreplicas = 3\n").await;
    stage.fill(&jetstream).await;
    cluster.kill(1).await;
    cluster.kill(2).await;
    stage
        .suffer(&Expected {
            readyz: &["too few servers of its cluster run"],
            nothing_settled: None,
            others_go_on: false,
        })
        .await;
    cluster.launch(1).await;
    cluster.launch(2).await;
    stage.recover(&jetstream).await;
}

/// An attempt runs while the quorum is lost: its outcome can't be stored, and is when it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_finds_no_leader_is_stored_when_there_is_one_again() {
    let mut cluster = NatsCluster::start(3).await;
    let jetstream = make_source_stream(&cluster).await;
    let late = behaviour::custom(|_| Reply::After(Duration::from_secs(6), Box::new(Reply::Status(503))));
    let endpoint = Endpoint::start(late).await;
    let folder = PipelineFolder::new();
    folder.write("pipelines/p.toml", webhook("all", &endpoint.url(), ""));
    let config = folder.write("hookmill.toml", "[nats]\nreplicas = 3\n");
    let options =
        Engine::run_at(&cluster.url()).arg(folder.path().join("pipelines")).arg("--config").arg(config);
    let engine = options.start().await;
    events::publish_all(&jetstream, [events::structured(0)]).await;
    eventually(SOON, "its attempt has a lease", || async {
        let leases = messages_in(&jetstream, "HOOKMILL_RETRIES").await;
        if leases == 1 { Ok(()) } else { Err(leases.to_string()) }
    })
    .await;
    cluster.kill(1).await;
    cluster.kill(2).await;
    let readyz = [
        "intake is stopped: a wait can't be stored: ",
        "stream HOOKMILL_RETRIES has no leader: 2 of the 3 servers that keep it have to run, start those that are down",
    ];
    not_ready(&engine, &readyz).await;
    endpoint.behave(behaviour::always(200));
    cluster.launch(1).await;
    cluster.launch(2).await;
    endpoint.wait_for_delivered(1, LATER).await;
    let url = engine.url("/readyz");
    eventually(LATER, "the engine is ready and nothing is left", || async {
        let waits = messages_in(&jetstream, "HOOKMILL_RETRIES").await;
        match http::get(&url).await? {
            (200, _) if waits == 0 => Ok(()),
            (status, text) => Err(format!("{status} {text}, {waits} waits")),
        }
    })
    .await;
}
