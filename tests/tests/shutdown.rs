//! How the engine starts and ends.

use std::time::{Duration, Instant};

use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, events};

const SOON: Duration = Duration::from_secs(20);

fn pipeline(endpoint: &Endpoint) -> String {
    format!(
        "[source]\nstream = \"HOOKMILL_EVENTS\"\nstart = \"all\"\n\n[[subscription]]\nname = \"shop\"\n\n\
         [subscription.deliver]\nurl = \"{}\"\n",
        endpoint.url()
    )
}

#[tokio::test]
async fn an_idle_engine_ends_at_once_with_0_when_it_is_told_to() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let folder = PipelineFolder::with("orders", &pipeline(&endpoint));
    let engine = Engine::run(&server).arg(folder.path()).start().await;
    events::publish_all(&jetstream, (0..10).map(events::structured)).await;
    endpoint.wait_for_delivered(10, SOON).await;
    let begun = Instant::now();
    assert_eq!(engine.terminate().await, 0);
    // The drain's deadline is 20 s; nothing was left to be drained.
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn without_a_source_stream_the_engine_ends_and_names_the_stream() {
    let server = NatsServer::start().await;
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let folder = PipelineFolder::with("orders", &pipeline(&endpoint));
    let engine = Engine::run(&server).arg(folder.path()).spawn();
    let line = engine.wait_for_line("the stream's name", SOON, |line| line.text.starts_with("error: "));
    assert!(line.await.text.contains("HOOKMILL_EVENTS"));
    assert_eq!(engine.wait().await, 1);
}
