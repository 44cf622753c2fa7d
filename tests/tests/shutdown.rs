//! How the engine starts and ends.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream;
use hookmill_tests::engine::LogLine;
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, events, eventually, http};
use nix::sys::signal::Signal;

use crate::mill::{Mill, SOON, retry};

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

#[tokio::test]
async fn a_slow_delivery_comes_to_its_end_before_the_engine_does_and_is_not_repeated() {
    let mill = Mill::new(behaviour::slow(Duration::from_secs(3)), "", "").await;
    let engine = mill.engine().start().await;
    mill.publish(1..=3).await;
    mill.endpoint.wait_for("three deliveries have begun", SOON, |log| log.received() == 3).await;
    assert_eq!(engine.terminate().await, 0);
    mill.delivered(1..=3).await;
    assert_eq!(engine.lines().last().map(|line| line.message().to_owned()).as_deref(), Some("stopped"));

    // Nothing is left of them: no lease that fires, no message that comes again.
    assert_eq!(mill.stream_state("HOOKMILL_RETRIES").await.expect("is there").messages, 0);
    let durable = mill.durable().await.expect("the durable outlives the engine");
    assert_eq!((durable.num_ack_pending, durable.ack_floor.stream_sequence), (0, 3));
    mill.endpoint.behave(behaviour::always(200));
    let _engine = mill.engine().start().await;
    mill.publish(4..=4).await;
    mill.delivered(1..=4).await;
    assert_eq!(mill.endpoint.log().repeats(), 0);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_with_130_and_loses_nothing() {
    let mill = Mill::new(behaviour::hang(), "", &format!("timeout = \"2s\"\n{}", retry(2))).await;
    let engine = mill.engine().start().await;
    mill.publish(1..=3).await;
    mill.endpoint.wait_for("three deliveries have begun", SOON, |log| log.received() == 3).await;
    engine.signal(Signal::SIGTERM);
    let stopping = |line: &LogLine| line.message().starts_with("stopping: ");
    engine.wait_for_line("the first is heard", SOON, stopping).await;
    engine.signal(Signal::SIGINT);
    let begun = Instant::now();
    assert_eq!(engine.wait().await, 130);
    assert!(begun.elapsed() < Duration::from_secs(1), "it took {:?}", begun.elapsed());
    mill.endpoint.behave(behaviour::always(200));
    let _engine = mill.engine().start().await;
    mill.delivered(1..=3).await;
}

#[tokio::test]
async fn an_engine_that_can_not_become_ready_says_why_and_can_be_stopped() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let config = stream::Config {
        name: "HOOKMILL_RETRIES".into(),
        subjects: vec!["hookmill.wait.>".into(), "hookmill.due.>".into()],
        retention: stream::RetentionPolicy::WorkQueue,
        allow_message_schedules: true,
        max_consumers: 1,
        ..stream::Config::default()
    };
    let retries = mill.jetstream.create_stream(config).await.expect("the stream can be made");
    let other = pull::Config { filter_subject: "hookmill.due.other.>".into(), ..pull::Config::default() };
    retries.create_consumer(other).await.expect("one consumer has room");
    let engine = mill.engine().spawn();
    let served = |line: &LogLine| line.message() == "health, metrics and admin API are served";
    let line = engine.wait_for_line("its address", SOON, served).await;
    let address = line.field("address").and_then(|address| address.as_str()).expect("it says so").to_owned();
    eventually(SOON, "/readyz says why not", || async {
        match http::get(&format!("http://{address}/readyz")).await? {
            (503, text) if text.contains("pipeline orders: retries: ") && text.contains("consumers") => {
                Ok(())
            }
            (status, text) => Err(format!("{status} {text}")),
        }
    })
    .await;
    let alive = http::get(&format!("http://{address}/healthz")).await;
    assert_eq!(alive, Ok((200, "alive\n".to_owned())));
    assert_eq!(engine.terminate().await, 0);
}

/// A pipeline in which every metric has something to count.
fn measured(good: &Endpoint, bad: &Endpoint) -> String {
    format!(
        r#"
[[subscription]]
name = "hook"
types = ["com.shop.order.created"]
[[subscription.step]]
transform = "./redact.wasm"
settings = {{ remove = ["/email"] }}
[subscription.deliver]
url = "{}"

[[subscription]]
name = "trap"
types = ["com.shop.order.created"]
[[subscription.step]]
transform = "./hostile.wasm"
settings = {{ mode = "trap" }}
[subscription.deliver]
url = "{}"

[[subscription]]
name = "picky"
types = ["com.shop.order.created"]
match = {{ required = ["nothing-has-this"] }}
[subscription.deliver]
url = "{}"
"#,
        good.url(),
        bad.url(),
        bad.url()
    )
}

#[tokio::test]
async fn every_metric_is_there_under_its_name() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    for module in ["redact", "hostile"] {
        let dist = concat!(env!("CARGO_MANIFEST_DIR"), "/../transforms/dist");
        let bytes = std::fs::read(format!("{dist}/{module}.wasm")).expect("make modules was run");
        mill.folder.write(&format!("{module}.wasm"), bytes);
    }
    mill.folder.write("orders.toml", measured(&mill.endpoint, &mill.endpoint));
    let engine = mill.engine().start().await;
    mill.publish(1..=3).await;
    let other = r#"{"specversion":"1.0","id":"1","source":"/s","type":"com.shop.other"}"#;
    let odd = [events::structured_message(other), events::structured_message("no event")];
    events::publish_all(&mill.jetstream, odd).await;
    let expected = [
        ("hookmill_events_received_total", "pipeline=\"orders\"", 5.0),
        ("hookmill_events_rejected_total", "reason=\"not_cloudevent\"", 1.0),
        ("hookmill_events_unmatched_total", "pipeline=\"orders\"", 1.0),
        ("hookmill_deliveries_total", "subscription=\"hook\",outcome=\"delivered\"", 3.0),
        ("hookmill_deliveries_total", "subscription=\"picky\",outcome=\"filtered\"", 3.0),
        ("hookmill_deliveries_total", "subscription=\"trap\",outcome=\"dead_lettered\"", 3.0),
        ("hookmill_delivery_attempts_total", "subscription=\"hook\",result=\"ok\"", 3.0),
        ("hookmill_delivery_attempts_total", "subscription=\"trap\",result=\"failed\"", 3.0),
        ("hookmill_delivery_duration_seconds_count", "subscription=\"hook\"", 3.0),
        ("hookmill_event_age_seconds_count", "subscription=\"hook\"", 3.0),
        ("hookmill_step_duration_seconds_count", "subscription=\"hook\",step=\"0\"", 3.0),
        ("hookmill_step_failures_total", "subscription=\"trap\",step=\"0\",kind=\"guest_trap\"", 3.0),
        // Counted every few seconds.
        ("hookmill_dead_letters", "", 4.0),
    ];
    for (name, labels, value) in expected {
        eventually(SOON, &format!("{name}{{{labels}}} is {value}"), || async {
            let found = engine.metric(name, &[labels]).await;
            if (found - value).abs() < f64::EPSILON { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
    }
    let text = engine.metrics().await;
    let gauges = ["lane_backlog{", "lane_state{", "in_flight ", "waiting "];
    for name in gauges.map(|name| format!("\nhookmill_{name}")) {
        assert!(text.contains(&name), "{name}");
    }
    for line in text.lines().filter(|line| line.starts_with("# TYPE hookmill_")) {
        let name = line.split(' ').nth(2).unwrap_or_default();
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}

#[tokio::test]
async fn what_a_killed_engine_leaves_in_tmpdir_is_removed_by_the_next_start() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let passing = PipelineFolder::new();
    let somebodys = passing.path().join("hookmill-notes");
    std::fs::create_dir(&somebodys).expect("can be made");
    let folders = || {
        let entries = std::fs::read_dir(passing.path()).expect("can be read");
        let paths = entries.map(|entry| entry.expect("can be read").path());
        paths.filter(|path| *path != somebodys).collect::<Vec<_>>()
    };
    let options = mill.engine().env("TMPDIR", passing.path().to_str().expect("a path of text"));
    let (mut first, mut second) = (options.clone().start().await, options.start().await);
    assert_eq!(folders().len(), 2, "each has its own, and lets that of the other be");
    first.kill().await;
    assert_eq!(folders().len(), 2, "nobody was there to remove it");
    let before = folders();
    second.restart().await;
    let after = folders();
    assert_eq!(after.len(), 1, "{after:?}");
    assert!(!before.contains(&after[0]) && somebodys.exists(), "{before:?} {after:?}");
    first.restart().await;
    assert_eq!((first.terminate().await, second.terminate().await), (0, 0));
    assert_eq!(folders(), Vec::<std::path::PathBuf>::new());
}
