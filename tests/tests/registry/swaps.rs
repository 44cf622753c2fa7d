//! Fifty uploads under load: nothing is lost, nothing fails, each event is made by exactly one version.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use hookmill_tests::stamp::stamp;
use hookmill_tests::{Endpoint, NatsServer, PipelineFolder, behaviour, events, eventually};

use super::support::{open, pipeline, put};
use crate::scene::{Scene, event_id, messages_in};

/// How many uploads there are.
const UPLOADS: u32 = 50;
/// Events a second, steadily: the development build is slow.
const RATE: usize = 200;
/// How often a batch of them is published.
const BATCH_EVERY: Duration = Duration::from_millis(50);
/// Longest wait for the last event.
const LATER: Duration = Duration::from_mins(2);

/// What version `number` says.
fn says(number: u32) -> String {
    // Two builds by turns, as a rollout and a rollback would: their bytes come back.
    if number.is_multiple_of(2) { "even".to_owned() } else { "odd".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_swaps_under_load_lose_nothing_and_each_event_is_made_by_one_version() {
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    put(&modules, "stamp", "1.0.0", stamp(&says(0))).await;
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = Scene::open(server, PipelineFolder::with("p", &pipeline(&endpoint, "stamp@1", ""))).await;

    let done = AtomicBool::new(false);
    let uploads = async {
        for number in 1..=UPLOADS {
            put(&modules, "stamp", &format!("1.0.{number}"), stamp(&says(number))).await;
            swapped(&scene, number).await;
        }
        done.store(true, Ordering::Relaxed);
    };
    let (published, ()) = tokio::join!(load(&scene.jetstream, &done), uploads);
    endpoint.wait_for_delivered(published, LATER).await;
    scene.quiet().await;

    let mut made: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in endpoint.requests() {
        let version = request.header("x-version").to_owned();
        made.entry(event_id(&request)).or_default().insert(version);
    }
    assert_eq!(made.len(), published, "every event was delivered");
    let versions: BTreeSet<_> = made.values().cloned().collect();
    let one = |version: &str| BTreeSet::from([version.to_owned()]);
    assert_eq!(versions, BTreeSet::from([one("even"), one("odd")]), "each by exactly one version");
    assert_eq!(endpoint.log().repeats(), 0, "nothing was made twice");
    for stream in ["HOOKMILL_DLQ", "HOOKMILL_RETRIES", "HOOKMILL_LANES"] {
        assert_eq!(messages_in(&scene.jetstream, stream).await, 0, "{stream}");
    }
    let failed = scene.engine.metric("hookmill_step_failures_total", &[]).await;
    assert!(failed < 0.5, "{failed} calls failed");
}

/// Waits until the engine has swapped so often.
async fn swapped(scene: &Scene, times: u32) {
    eventually(LATER, &format!("swap {times}"), || async {
        let found = scene.engine.metric("hookmill_module_swaps_total", &["result=\"swapped\""]).await;
        if found > f64::from(times) - 0.5 { Ok(()) } else { Err(format!("{found} swaps")) }
    })
    .await;
}

/// Publishes orders at a steady rate until it is done; how many.
async fn load(jetstream: &Context, done: &AtomicBool) -> usize {
    let batch = RATE * usize::try_from(BATCH_EVERY.as_millis()).expect("a number") / 1000;
    let mut ticks = tokio::time::interval(BATCH_EVERY);
    let mut published = 0;
    while !done.load(Ordering::Relaxed) {
        ticks.tick().await;
        events::publish_all(jetstream, (published..published + batch).map(events::structured)).await;
        published += batch;
    }
    published
}
