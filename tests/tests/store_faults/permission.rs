//! A permission that is taken away from the running engine.

use std::time::Duration;

use async_nats::jetstream::Context;
use hookmill_tests::endpoint::Behaviour;
use hookmill_tests::nats_server::ClientOptions;
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, events, eventually, http};

use super::stage::{Expected, SOON, Stage, not_ready};
use crate::scene::{messages_in, webhook};

/// Lines of the server's configuration: the engine's user may not publish on `denied`.
fn accounts(denied: &[&str]) -> String {
    let permissions = match denied {
        [] => String::new(),
        denied => format!(", permissions: {{ publish: {{ deny: {denied:?} }} }}"),
    };
    format!(
        "accounts {{ A {{ jetstream: enabled, users: [ {{ user: mill, password: right{permissions} }}, \
         {{ user: root, password: root }} ] }} }}"
    )
}

/// A server whose user `mill` may not publish on `denied`; the harness comes as another user.
pub async fn server_denying(denied: &[&str]) -> NatsServer {
    let login = Some(("root".to_owned(), "root".to_owned()));
    let client = ClientOptions { login, ..ClientOptions::default() };
    NatsServer::options().extra(&accounts(denied)).client(client).start().await
}

/// Where the engine connects.
pub fn engine_url(server: &NatsServer) -> String {
    format!("nats://mill:right@{}", server.address())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_revoked_stops_intake_until_it_is_granted_again() {
    let mut server = server_denying(&[]).await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let mut stage = Stage::start(&engine_url(&server), &jetstream, "").await;
    stage.fill(&jetstream).await;
    server.reload_with(&accounts(&["hookmill.wait.>", "hookmill.lane.>", "hookmill.dlq.>"])).await;
    let readyz = [
        "intake is stopped: ",
        "no permission to publish there; grant it",
        "has to publish on hookmill.wait.>, hookmill.lane.>, hookmill.dlq.> and $KV.HOOKMILL_REGISTRY.>",
    ];
    stage.suffer(&Expected { readyz: &readyz, nothing_settled: Some(&jetstream), others_go_on: true }).await;
    server.reload_with(&accounts(&[])).await;
    stage.recover(&jetstream).await;
}

/// A server, and an engine with one pipeline, `p`, as user `mill`, who may do everything for now.
struct Ground {
    server: NatsServer,
    jetstream: Context,
    endpoint: Endpoint,
    engine: Engine,
    _folder: PipelineFolder,
}

impl Ground {
    async fn start(behaviour: Behaviour, deliver: &str) -> Self {
        let server = server_denying(&[]).await;
        let jetstream = server.jetstream().await;
        events::make_source_stream(&jetstream).await;
        let endpoint = Endpoint::start(behaviour).await;
        let folder = PipelineFolder::with("p", &webhook("all", &endpoint.url(), deliver));
        let engine = Engine::run_at(&engine_url(&server)).arg(folder.path()).start().await;
        Self { server, jetstream, endpoint, engine, _folder: folder }
    }
}

async fn ready(engine: &Engine) {
    let url = engine.url("/readyz");
    eventually(SOON, "the engine is ready again", || async {
        match http::get(&url).await? {
            (200, _) => Ok(()),
            (status, text) => Err(format!("{status} {text}")),
        }
    })
    .await;
}

/// What was delivered keeps its slot until its lease is gone, so an engine that can't delete any comes to a stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_can_not_be_deleted_stop_intake_and_are_no_repeats_once_they_can() {
    let Ground { mut server, jetstream, endpoint, engine, _folder } =
        Ground::start(behaviour::slow(Duration::from_millis(2_500)), "concurrency = 4").await;
    events::publish_all(&jetstream, (0..4).map(events::structured)).await;
    // Their attempts run and have leases.
    eventually(SOON, "four leases", || async {
        let leases = messages_in(&jetstream, "HOOKMILL_RETRIES").await;
        if leases == 4 { Ok(()) } else { Err(leases.to_string()) }
    })
    .await;
    server.reload_with(&accounts(&["$JS.API.STREAM.MSG.DELETE.>"])).await;
    let readyz = [
        "intake is stopped: a lease can't be deleted",
        "$JS.API.STREAM.MSG.DELETE.HOOKMILL_RETRIES; grant it",
    ];
    not_ready(&engine, &readyz).await;
    assert_eq!(endpoint.log().delivered_ids(), 4);
    server.reload_with(&accounts(&[])).await;
    eventually(SOON, "all leases are gone", || async {
        let leases = messages_in(&jetstream, "HOOKMILL_RETRIES").await;
        if leases == 0 { Ok(()) } else { Err(leases.to_string()) }
    })
    .await;
    ready(&engine).await;
    assert_eq!(endpoint.received(), 4, "none of them was sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_is_not_permitted_any_more_is_named_and_taken_up_again() {
    let Ground { mut server, jetstream, endpoint, engine, _folder } =
        Ground::start(behaviour::always(200), "").await;
    server.reload_with(&accounts(&["$JS.API.CONSUMER.>"])).await;
    let readyz = [
        "pipeline p: source: ",
        "no permission to publish to $JS.API.CONSUMER.INFO.HOOKMILL_EVENTS.hookmill-p",
    ];
    not_ready(&engine, &readyz).await;
    events::publish_all(&jetstream, (0..5).map(events::structured)).await;
    server.reload_with(&accounts(&[])).await;
    endpoint.wait_for_delivered(5, SOON).await;
    ready(&engine).await;
}

/// Only the pull itself is refused: that it is out proves nothing until something is heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_whose_pull_was_lost_is_not_ready_before_it_hears_something() {
    let mut ground = Ground::start(behaviour::always(200), "").await;
    ground.server.reload_with(&accounts(&["$JS.API.CONSUMER.MSG.NEXT.>"])).await;
    not_ready(&ground.engine, &["pipeline p: source: pull lost"]).await;
    // Given up after 2.5 s of silence, and built anew at once: twice.
    let losses = || {
        let lines = ground.engine.lines();
        lines.iter().filter(|line| line.message().starts_with("pull from the source lost")).count()
    };
    let before = losses();
    eventually(SOON, "two more pulls were lost", || async {
        let (status, text) = http::get(&ground.engine.url("/readyz")).await?;
        assert_eq!(status, 503, "ready without having heard anything: {text}");
        if losses() >= before + 2 { Ok(()) } else { Err(losses().to_string()) }
    })
    .await;
    ground.server.reload_with(&accounts(&[])).await;
    ready(&ground.engine).await;
}

/// A message that may be what kills the engine is noted before it is attempted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspect_that_can_not_be_noted_stops_intake() {
    let Ground { mut server, jetstream, endpoint, mut engine, _folder } =
        Ground::start(behaviour::always(200), "").await;
    let stream = jetstream.get_stream("HOOKMILL_EVENTS").await.expect("it was made");
    assert_eq!(engine.terminate().await, 0);
    events::publish_all(&jetstream, [events::structured(0)]).await;
    let durable: async_nats::jetstream::consumer::PullConsumer =
        stream.get_consumer("hookmill-p").await.expect("the durable is there");
    let mut messages = durable.messages().await.expect("can be pulled from");
    for _ in 0..3 {
        let message =
            futures_util::StreamExt::next(&mut messages).await.expect("goes on").expect("a message");
        let nak = async_nats::jetstream::AckKind::Nak(None);
        message.ack_with(nak).await.expect("can be given back");
    }
    drop(messages);
    server.reload_with(&accounts(&["$KV.HOOKMILL_REGISTRY.suspect.>"])).await;
    engine.restart_unready().await;
    not_ready(&engine, &["intake is stopped: a suspect can't be noted", "no permission to publish there"])
        .await;
    assert_eq!(endpoint.received(), 0);
    server.reload_with(&accounts(&[])).await;
    endpoint.wait_for_delivered(1, SOON).await;
    ready(&engine).await;
}
