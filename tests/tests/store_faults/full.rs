//! A store that is full: by the server's own limit, and because writes fail.

use hookmill_tests::{NatsServer, events};

use super::stage::{Expected, Stage};

/// What a store takes once there is room again.
const ROOM_BYTES: u64 = 1 << 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_store_is_full_stops_intake_until_it_is_given_more() {
    let mut server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let mut stage = Stage::start(&server.url(), &jetstream, "").await;
    stage.fill(&jetstream).await;
    let used = jetstream.query_account().await.expect("the server answers").storage;
    server.restart_with_store(Some(used)).await;
    let jetstream = server.jetstream().await;
    let readyz = ["intake is stopped: ", "insufficient resources (10023)", "raise max_file_store"];
    stage.suffer(&Expected { readyz: &readyz, nothing_settled: Some(&jetstream), others_go_on: true }).await;
    server.reload_with_store(ROOM_BYTES).await;
    stage.recover(&jetstream).await;
}

/// nats-server does not try again to write to a stream after a write has failed, and lets requests time out: it has to be
/// started again once there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_no_more_stops_intake_until_there_is_room_and_the_server_was_started_again() {
    let mut server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let mut stage = Stage::start(&server.url(), &jetstream, "").await;
    stage.fill(&jetstream).await;
    // Less than the engine's streams hold by now: none of them can grow.
    server.restart_with_files(Some(8 * 1024)).await;
    let readyz =
        ["intake is stopped: ", "did not say whether it stored", "its disk may be full", "start it again"];
    stage.suffer(&Expected { readyz: &readyz, nothing_settled: None, others_go_on: false }).await;
    assert!(server.log().contains("file too large"), "{}", server.log());
    server.restart_with_files(None).await;
    let jetstream = server.jetstream().await;
    stage.recover(&jetstream).await;
}
