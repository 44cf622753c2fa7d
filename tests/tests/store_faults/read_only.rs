//! Streams that take nothing more: one that has lost its subjects, and one that somebody has sealed.

use std::time::Duration;

use hookmill_tests::judge::{config, subscription};
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, events, hookmill, http};

use super::stage::{Expected, LATER, SOON, Stage, not_ready};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_lanes_that_takes_no_messages_stops_intake_until_it_has_its_subjects_back() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let mut stage = Stage::start(&server.url(), &jetstream, "").await;
    stage.fill(&jetstream).await;
    let writable = config(&jetstream, "HOOKMILL_LANES").await;
    let mut read_only = writable.clone();
    read_only.subjects = vec!["nobody.publishes.here".into()];
    jetstream.update_stream(&read_only).await.expect("a stream's subjects can be changed");
    let readyz = [
        "intake is stopped: a lane can't be written: no stream takes messages on this subject",
        "stream HOOKMILL_LANES does not take hookmill.lane.orders.lanes, only nobody.publishes.here",
        "nats stream edit HOOKMILL_LANES",
    ];
    stage.suffer(&Expected { readyz: &readyz, nothing_settled: None, others_go_on: true }).await;
    jetstream.update_stream(&writable).await.expect("and back");
    stage.recover(&jetstream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_dead_letter_stream_stops_intake_until_it_is_made_anew() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let mut stage = Stage::start(&server.url(), &jetstream, "").await;
    stage.fill(&jetstream).await;
    let mut sealed = config(&jetstream, "HOOKMILL_DLQ").await;
    // A sealed stream keeps what it has for ever.
    sealed.max_age = std::time::Duration::ZERO;
    sealed.sealed = true;
    jetstream.update_stream(&sealed).await.expect("a stream can be sealed");
    let readyz = [
        "intake is stopped: a dead letter can't be stored",
        "invalid operation on sealed stream (10109)",
        "`nats stream backup`",
        "`hookmill init`",
    ];
    stage.suffer(&Expected { readyz: &readyz, nothing_settled: Some(&jetstream), others_go_on: true }).await;
    stage.forget_dead_orders();
    jetstream.delete_stream("HOOKMILL_DLQ").await.expect("can be deleted");
    let made = hookmill(&["init", "--nats", &server.url()]).await;
    assert_eq!(made.code, 0, "{made:?}");
    stage.recover(&jetstream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_needs_no_lane_goes_on_while_the_lane_of_another_one_is_refused() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let slow = Endpoint::start(behaviour::slow(Duration::from_millis(400))).await;
    let quick = Endpoint::start(behaviour::always(200)).await;
    let source = |subjects| format!("[source]\nsubjects = [\"{subjects}\"]\nmax_in_flight = 16\n");
    let orders = source("events.com.>") + &subscription("slow", &slow.url(), "concurrency = 1", "");
    let folder = PipelineFolder::with("orders", &orders);
    folder.write("other.toml", source("events.other.>") + &subscription("quick", &quick.url(), "", ""));
    let engine = Engine::run(&server).arg(folder.path()).start().await;
    let writable = config(&jetstream, "HOOKMILL_LANES").await;
    let mut read_only = writable.clone();
    read_only.subjects = vec!["nobody.publishes.here".into()];
    jetstream.update_stream(&read_only).await.expect("a stream's subjects can be changed");

    events::publish_all(&jetstream, (0..20).map(events::structured)).await;
    not_ready(&engine, &["pipeline orders: intake is stopped: a lane can't be written"]).await;
    let others = (0..40).map(|number| events::structured(number).on("events.other.x"));
    events::publish_all(&jetstream, others).await;
    quick.wait_for_delivered(40, SOON).await;
    let (status, text) = http::get(&engine.url("/readyz")).await.expect("it answers");
    assert!(status == 503 && text.contains("pipeline orders: intake is stopped"), "{status}: {text}");
    assert!(!text.contains("pipeline other"), "{text}");

    jetstream.update_stream(&writable).await.expect("and back");
    slow.wait_for_delivered(20, LATER).await;
    assert_eq!(engine.terminate().await, 0);
}
