//! How fast a lane sends, and when it stops trying.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hookmill_tests::endpoint::{Behaviour, Notice};
use hookmill_tests::engine::LogLine;
use hookmill_tests::{Endpoint, Reply, behaviour, eventually, hookmill};

use crate::retries::lanes_hold;
use crate::scene::{SOON, Scene, good, messages_in, retry, webhook};

/// The most requests that began within any `window`.
fn most_within(endpoint: &Endpoint, window: Duration) -> usize {
    let times: Vec<_> = endpoint.requests().iter().map(|request| request.at).collect();
    let within = |from: usize| times[from..].iter().take_while(|at| at.since(times[from]) < window).count();
    (0..times.len()).map(within).max().unwrap_or_default()
}

#[tokio::test]
async fn a_rate_bounds_what_is_sent_over_time_and_loses_nothing() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let free = Endpoint::start(behaviour::always(200)).await;
    let pipeline =
        webhook("slow", &endpoint.url(), "rate = \"20/s\"\nburst = 5") + &webhook("free", &free.url(), "");
    let scene = Scene::start(&pipeline).await;
    scene.publish((0..80).map(|number| good(&number.to_string()))).await;
    free.wait_for_delivered(80, SOON).await;
    endpoint.wait_for_delivered(80, SOON).await;
    scene.quiet().await;
    // A burst and what is earned meanwhile; requests are dated when they have come, so two more may fall into the second.
    let most = most_within(&endpoint, Duration::from_secs(1));
    assert!((15..=27).contains(&most), "{most} requests within a second");
    let log = endpoint.requests();
    let took = log[log.len() - 1].at.since(log[0].at);
    assert!(took >= Duration::from_millis(3_500), "80 events at 20/s took {took:?}");
    assert_eq!((endpoint.received(), messages_in(&scene.jetstream, "HOOKMILL_DLQ").await), (80, 0));
}

async fn lane_state(scene: &Scene) -> Result<(String, String), String> {
    let said = hookmill(&[
        "lane",
        "list",
        "--json",
        "--nats",
        &scene.server.url(),
        scene.folder.path().to_str().expect("UTF-8"),
    ])
    .await;
    let line = said.stdout.lines().next().ok_or(said.stderr)?;
    let lane: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let text = |field: &str| lane[field].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("why")))
}

#[tokio::test]
async fn a_lane_with_nothing_but_failures_is_disabled_until_it_is_resumed() {
    let endpoint = Endpoint::start(behaviour::always(500)).await;
    let circuit =
        "[subscription.circuit]\nfailures = 3\nfor = \"100ms\"\nprobe = \"200ms\"\ndisable_after = \"2s\"\n";
    let pipeline = webhook("all", &endpoint.url(), "") + &retry(&["100ms", "100ms", "1h"], "") + circuit;
    let scene = Scene::start(&pipeline).await;
    scene.publish((0..10).map(|number| good(&number.to_string()))).await;
    eventually(SOON, "the lane is disabled", || async {
        let (state, why) = lane_state(&scene).await?;
        if state == "disabled" && why.contains("nothing but failures") {
            Ok(())
        } else {
            Err(format!("{state}: {why}"))
        }
    })
    .await;
    // What comes now waits, unattempted.
    let before = endpoint.received();
    scene.publish((10..20).map(|number| good(&number.to_string()))).await;
    eventually(SOON, "the lane holds what came", || async {
        let held = messages_in(&scene.jetstream, "HOOKMILL_LANES").await;
        if held >= 10 { Ok(()) } else { Err(format!("{held} in lanes")) }
    })
    .await;
    assert_eq!(endpoint.received(), before);
    endpoint.behave(behaviour::always(200));
    let said = hookmill(&["lane", "resume", "p/all", "--nats", &scene.server.url()]).await;
    assert_eq!(said.code, 0, "{said:?}");
    endpoint.wait_for("the later ten are delivered", SOON, |log| log.delivered_ids() >= 10).await;
}

#[tokio::test]
async fn a_share_of_failures_opens_the_circuit_though_some_succeed() {
    let endpoint = Endpoint::start(behaviour::fail_share(60, 500)).await;
    let circuit = "[subscription.circuit]\nfailures = 10\nratio = 0.5\n";
    let pipeline = webhook("all", &endpoint.url(), "") + &retry(&["200ms"; 20], "") + circuit;
    let scene = Scene::start(&pipeline).await;
    scene.publish((0..100).map(|number| good(&number.to_string()))).await;
    let opened = |line: &hookmill_tests::engine::LogLine| line.message().starts_with("circuit opened");
    scene.engine.wait_for_line("the circuit opens", SOON, opened).await;
    endpoint.behave(behaviour::always(200));
    endpoint.wait_for_delivered(100, SOON).await;
    scene.quiet().await;
}

/// Answers 200 after `time`, and notes with each request how many were under way when it came, itself included.
fn counting(time: Duration) -> (Behaviour, Arc<Mutex<Vec<usize>>>) {
    let (under_way, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let noted = seen.clone();
    let behaviour = behaviour::custom(move |_| {
        noted.lock().expect("nobody panics").push(under_way.fetch_add(1, Ordering::SeqCst) + 1);
        let under_way = under_way.clone();
        let done = Notice::new(move || {
            under_way.fetch_sub(1, Ordering::SeqCst);
        });
        Reply::After(time, Box::new(Reply::Noting(done, Box::new(Reply::Status(200)))))
    });
    (behaviour, seen)
}

/// The lane is empty when its endpoint recovers, and then all that waits falls due at the same moment.
#[tokio::test]
async fn what_falls_due_at_once_after_an_outage_is_ramped_up_from_one() {
    const EVENTS: usize = 40;
    let endpoint = Endpoint::start(behaviour::always(503)).await;
    let circuit = format!(
        "[subscription.circuit]\nfailures = {}\nfor = \"1ms\"\nprobe = \"500ms\"\nprobe_max = \"500ms\"\n",
        EVENTS + 1
    );
    let pipeline = webhook("all", &endpoint.url(), "concurrency = 16") + &retry(&["12s"; 3], "") + &circuit;
    let scene = Scene::start(&pipeline).await;
    scene.publish((0..EVENTS).map(|number| good(&number.to_string()))).await;
    endpoint.wait_for("each was tried", SOON, |log| log.received() == EVENTS).await;
    scene.publish([good("opens")]).await;
    let opened = |line: &LogLine| line.message().starts_with("circuit opened");
    scene.engine.wait_for_line("the circuit opens", SOON, opened).await;
    let (counting, under_way) = counting(Duration::from_millis(300));
    endpoint.behave(counting);
    scene.publish([good("probe")]).await;
    scene.engine.wait_for_line("the circuit closes", SOON, |line| line.message() == "circuit closed").await;
    eventually(SOON, "the lane is direct", || async {
        let state = scene.engine.metric("hookmill_lane_state", &["subscription=\"all\""]).await;
        if state < 0.5 { Ok(()) } else { Err(format!("state {state}")) }
    })
    .await;
    assert_eq!(endpoint.received(), EVENTS + 2, "nothing fell due before the lane was empty");
    endpoint.wait_for_delivered(EVENTS + 2, SOON).await;
    scene.quiet().await;
    let under_way = under_way.lock().expect("nobody panics").clone();
    // The first is the probe; behind it one at a time, two, four, and then as many as there are slots.
    let most = |range: std::ops::Range<usize>| under_way[range].iter().copied().max();
    assert_eq!((most(0..2), most(2..4)), (Some(1), Some(2)), "{under_way:?}");
    assert!(most(0..under_way.len()) <= Some(16), "{under_way:?}");
    assert_eq!(endpoint.received(), 2 * EVENTS + 3, "each was sent once after the outage: {under_way:?}");
}

/// Two backlogs, and a process that may have eight messages under way: neither takes the room of the other.
#[tokio::test]
async fn draining_lanes_share_what_the_process_may_have_under_way() {
    const EACH: usize = 200;
    let endpoints =
        [Endpoint::start(behaviour::always(200)).await, Endpoint::start(behaviour::always(200)).await];
    let seen = endpoints.each_ref().map(|endpoint| {
        let (counting, seen) = counting(Duration::from_millis(100));
        endpoint.behave(counting);
        seen
    });
    let [one, two] = &endpoints;
    let pipeline = "[source]\nmax_in_flight = 8\n".to_owned()
        + &webhook("one", &one.url(), "concurrency = 64")
        + &webhook("two", &two.url(), "concurrency = 64");
    let scene = Scene::start(&pipeline).await;
    let lanes = async |command| {
        let url = scene.server.url();
        let say = async |lane| hookmill(&["lane", command, lane, "--nats", &url]).await;
        let (one, two) = futures_util::join!(say("p/one"), say("p/two"));
        assert_eq!((one.code, two.code), (0, 0), "{one:?} {two:?}");
    };
    lanes("pause").await;
    scene.publish((0..EACH).map(|number| good(&number.to_string()))).await;
    lanes_hold(&scene, 2 * EACH as u64).await;
    lanes("resume").await;
    for endpoint in &endpoints {
        endpoint.wait_for_delivered(EACH, SOON).await;
    }
    scene.quiet().await;
    for seen in seen {
        let under_way = seen.lock().expect("nobody panics").clone();
        let most = under_way.iter().copied().max();
        assert!(most <= Some(8), "one lane alone has all of it at the most: {under_way:?}");
        let shared = &under_way[EACH / 2..EACH * 3 / 4];
        assert!(shared.iter().all(|count| *count <= 4), "each has its half: {under_way:?}");
    }
}
