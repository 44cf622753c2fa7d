//! Nothing that was accepted is lost, whoever is killed and however often. The judge reads the endpoints' own logs and
//! the dead-letter stream, never the engine's counters.

use std::time::Duration;

use hookmill_tests::events::{self, Message};
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour};

use hookmill_tests::judge::{HEAVY, at_rest, dead_letters, ends, reasons, source, subscription};

const EVENTS: usize = 10_000;
const PROGRESS: Duration = Duration::from_mins(2);
const REST: Duration = Duration::from_mins(4);

/// Order `number`: the first 500 share one source and id, the next 500 carry NATS headers of their own, and from there on
/// both modes take turns.
fn event(number: usize) -> Message {
    let structured = events::structured(number);
    match number {
        0..500 => {
            let own = format!(r#""id":"{}""#, events::order_id(number));
            let text = events::order_json(number).replacen(&own, r#""id":"order-shared""#, 1);
            events::structured_message(text)
        }
        500..1000 => match number % 3 {
            0 => structured.header("Nats-Msg-Id", &format!("own-{number}")),
            1 => structured.header("Nats-Expected-Stream", "HOOKMILL_EVENTS"),
            // What a message that the server's scheduler has fired looks like.
            _ => structured.header("Nats-Scheduler", "events.schedule").header("Nats-Schedule-Next", "purge"),
        },
        _ if number.is_multiple_of(2) => structured,
        _ => events::binary(number),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_ends_for_every_subscription_though_engine_and_server_are_killed() {
    let _alone = HEAVY.lock().await;
    let mut server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    // With schedules of the publishers' own, or the server would not take their headers.
    let config = async_nats::jetstream::stream::Config {
        name: "HOOKMILL_EVENTS".into(),
        subjects: vec!["events.>".into()],
        allow_message_schedules: true,
        ..Default::default()
    };
    jetstream.create_stream(config).await.expect("the source stream can be made");
    let sequences = events::publish_all(&jetstream, (0..EVENTS).map(event)).await;
    let steady = Endpoint::start(behaviour::always(200)).await;
    let shaky = Endpoint::start(behaviour::fail_share(30, 500)).await;
    let hopeless = Endpoint::start(behaviour::always(500)).await;
    let folder = PipelineFolder::with(
        "orders",
        &[
            source(""),
            subscription("steady", &steady.url(), "", ""),
            subscription(
                "shaky",
                &shaky.url(),
                "",
                r#"schedule = ["200ms", "500ms", "1s", "2s", "4s", "8s", "8s"]"#,
            ),
            subscription("hopeless", &hopeless.url(), "", r#"schedule = ["200ms", "500ms"]"#),
        ]
        .concat(),
    );

    let mut engine = Engine::run(&server).arg(folder.path()).start().await;
    // Each kill comes in the middle of work, after so many more requests at the healthy endpoint.
    for (step, requests) in [800, 2_000, 3_200, 4_600, 6_000, 7_400, 8_800].into_iter().enumerate() {
        let what = format!("{requests} requests before the next kill");
        steady.wait_for(&what, PROGRESS, |log| log.received() >= requests).await;
        if step == 2 || step == 5 {
            server.restart().await;
        } else {
            engine.restart().await;
        }
    }
    at_rest(&jetstream, REST).await;

    let letters = dead_letters(&jetstream).await;
    println!("dead letters: {:?}", reasons(&letters));
    for (name, endpoint) in [("steady", &steady), ("shaky", &shaky), ("hopeless", &hopeless)] {
        let ends = ends(name, endpoint, &letters, &sequences);
        let requests = endpoint.received();
        println!(
            "{name}: {} delivered, {} dead letters, {} extra ends, {} missing, {requests} requests",
            ends.delivered,
            ends.dead,
            ends.extra,
            ends.missing.len(),
        );
        assert_eq!(ends.missing, Vec::<usize>::new(), "{name}");
    }
    let strays = letters.iter().filter(|letter| matches!(&*letter.subscription, "_" | "steady"));
    assert_eq!(strays.collect::<Vec<_>>(), Vec::<&hookmill_tests::judge::Letter>::new());
    assert_eq!(steady.log().distinct_ids(), EVENTS - 499, "500 events share one delivery id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_endpoint_gets_every_event_though_the_engine_is_killed() {
    const EVENTS: usize = 2_000;
    let _alone = HEAVY.lock().await;
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let sequences = events::publish_all(&jetstream, (0..EVENTS).map(events::structured)).await;
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let text = [source(""), subscription("all", &endpoint.url(), "", "")].concat();
    let folder = PipelineFolder::with("orders", &text);
    let mut engine = Engine::run(&server).arg(folder.path()).start().await;
    for requests in [300, 900, 1_500] {
        let what = format!("{requests} requests before the next kill");
        endpoint.wait_for(&what, PROGRESS, |log| log.received() >= requests).await;
        engine.restart().await;
    }
    endpoint.wait_for_delivered(EVENTS, PROGRESS).await;
    at_rest(&jetstream, REST).await;
    let ends = ends("all", &endpoint, &dead_letters(&jetstream).await, &sequences);
    println!("{} delivered, {} extra ends", ends.delivered, ends.extra);
    assert_eq!((ends.missing.len(), ends.dead, ends.delivered), (0, 0, EVENTS));
}

#[tokio::test]
async fn one_event_for_three_subscriptions_has_three_delivery_ids_and_each_stays_the_same() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let mut endpoints = Vec::new();
    let mut text = source("");
    for name in ["a", "b", "c"] {
        let endpoint = Endpoint::start(behaviour::fail_first(2, 500)).await;
        text += &subscription(name, &endpoint.url(), "", r#"schedule = ["50ms", "50ms", "50ms"]"#);
        endpoints.push(endpoint);
    }
    let folder = PipelineFolder::with("orders", &text);
    let _engine = Engine::run(&server).arg(folder.path()).start().await;
    events::publish_all(&jetstream, [events::structured(7)]).await;
    let mut ids = std::collections::HashSet::new();
    for endpoint in &endpoints {
        endpoint.wait_for_delivered(1, Duration::from_secs(30)).await;
        assert_eq!((endpoint.received(), endpoint.distinct_ids()), (3, 1));
        ids.extend(endpoint.log().delivered().clone());
    }
    assert_eq!(ids.len(), 3);
    at_rest(&jetstream, Duration::from_secs(20)).await;
}
