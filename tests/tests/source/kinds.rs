use std::time::Duration;

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use hookmill_tests::engine::LogLine;
use hookmill_tests::{Engine, behaviour, events};

use crate::mill::{Mill, SOON};

/// A mill whose source stream is like this.
async fn mill_on(config: Config) -> Mill {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    mill.jetstream.delete_stream("HOOKMILL_EVENTS").await.expect("the stream can be deleted");
    events::make_source_stream_like(&mill.jetstream, config).await;
    mill
}

async fn says(engine: &Engine, text: &str) {
    let about = |line: &LogLine| {
        let of = |field| line.field(field).and_then(|value| value.as_str()).unwrap_or_default();
        line.message().starts_with(text) && of("pipeline") == "orders" && of("stream") == "HOOKMILL_EVENTS"
    };
    engine.wait_for_line(text, SOON, about).await;
}

#[tokio::test]
async fn a_work_queue_is_named_and_emptied() {
    let mill = mill_on(Config { retention: RetentionPolicy::WorkQueue, ..Config::default() }).await;
    // A work queue has no past that would be of no interest.
    mill.publish(1..=10).await;
    let engine = mill.engine().start().await;
    says(&engine, "source is a work queue: what is settled is deleted from it").await;
    mill.publish(11..=20).await;
    mill.delivered(1..=20).await;
    mill.holds("HOOKMILL_EVENTS", 0).await;
    mill.delete_durable().await;
    mill.publish(21..=30).await;
    mill.delivered(1..=30).await;
}

#[tokio::test]
async fn an_interest_stream_is_named_and_delivered_from() {
    let mill = mill_on(Config { retention: RetentionPolicy::Interest, ..Config::default() }).await;
    let engine = mill.engine().start().await;
    says(&engine, "source keeps messages only while a consumer is interested").await;
    mill.publish(1..=10).await;
    mill.delivered(1..=10).await;
    mill.holds("HOOKMILL_EVENTS", 0).await;
    // The durable is the interest: what is published while no engine runs is kept.
    assert_eq!(engine.terminate().await, 0);
    mill.publish(11..=20).await;
    let _engine = mill.engine().start().await;
    mill.delivered(1..=20).await;
}

#[tokio::test]
async fn a_stream_that_forgets_soon_is_named_and_delivered_from() {
    let mill =
        mill_on(Config { max_age: Duration::from_secs(120), max_messages: 1000, ..Config::default() }).await;
    let engine = mill.engine().start().await;
    says(&engine, "source forgets messages soon").await;
    says(&engine, "source drops its oldest messages when it is full").await;
    mill.publish(1..=10).await;
    mill.delivered(1..=10).await;
}
