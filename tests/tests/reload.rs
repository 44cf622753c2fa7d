//! Files that change while an engine runs: loaded again on SIGHUP or by `--watch`, or refused, and nothing is lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hookmill_tests::engine::LogLine;
use hookmill_tests::{Endpoint, Engine, PipelineFolder, Reply, behaviour, events, eventually, http};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use crate::mill::{LATER, Mill, SOON, delivery_ids, delivery_ids_of, orders, retry};

/// What the engine says of its `so many`th load.
async fn loaded(engine: &Engine, times: usize) {
    counted(engine, "ok", times).await;
}

async fn counted(engine: &Engine, result: &str, times: usize) {
    let label = format!("result=\"{result}\"");
    let wanted = f64::from(u32::try_from(times).expect("a handful"));
    eventually(LATER, &format!("the files were loaded {times} times with {result}"), || async {
        let count = engine.metric("hookmill_config_reloads_total", &[&label]).await;
        if (count - wanted).abs() < 0.5 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
}

/// The series of `hookmill_config_info` that say 1, and how many there are in all.
async fn in_use(engine: &Engine) -> (HashSet<String>, usize) {
    let text = engine.metrics().await;
    let series: Vec<&str> = text.lines().filter(|line| line.starts_with("hookmill_config_info{")).collect();
    let ones = series.iter().filter(|line| line.ends_with(" 1")).map(|line| (*line).to_owned());
    (ones.collect(), series.len())
}

/// Waits until `/readyz` says that files were refused, or says it no more.
async fn says(engine: &Engine, refused: bool) {
    eventually(LATER, "/readyz says how the files are", || async {
        match readiness(engine).await {
            (200, text) if text.contains("not loaded again") == refused => Ok(()),
            (status, text) => Err(format!("{status} {text}")),
        }
    })
    .await;
}

async fn readiness(engine: &Engine) -> (u16, String) {
    http::get(&engine.url("/readyz")).await.expect("the engine answers")
}

/// Subscription `name` of everything to an endpoint.
fn subscription(name: &str, endpoint: &Endpoint, deliver: &str) -> String {
    let url = endpoint.url();
    format!("[[subscription]]\nname = \"{name}\"\n[subscription.deliver]\nurl = \"{url}\"\n{deliver}\n")
}

/// Publishes orders from 1 on, a hundred each 50 ms, until it is told to stop.
struct Publisher {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicUsize>,
    task: JoinSet<()>,
}

impl Publisher {
    fn start(mill: &Mill) -> Self {
        let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (jetstream, told, count) = (mill.jetstream.clone(), stop.clone(), published.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_millis(50));
            while !told.load(Ordering::Acquire) {
                pace.tick().await;
                let first = count.load(Ordering::Acquire) + 1;
                let orders = (first..first + 100).map(events::structured).collect();
                events::publish_each(jetstream.clone(), orders).await;
                count.store(first + 99, Ordering::Release);
            }
        });
        Self { stop, published, task }
    }

    async fn reaches(&self, count: usize) {
        eventually(LATER, &format!("{count} orders are published"), || async {
            let published = self.published.load(Ordering::Acquire);
            if published >= count { Ok(()) } else { Err(published.to_string()) }
        })
        .await;
    }

    async fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Release);
        self.task.join_next().await.expect("it was started").expect("every publish is acknowledged");
        self.published.load(Ordering::Acquire)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_subscription_is_loaded_under_load_and_nothing_is_lost_or_repeated() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let (other, added) =
        (Endpoint::start(behaviour::always(200)).await, Endpoint::start(behaviour::always(200)).await);
    let engine = mill.engine().start().await;
    let (before, _) = in_use(&engine).await;
    assert_eq!(before.len(), 1, "{before:?}");
    let publisher = Publisher::start(&mill);
    publisher.reaches(500).await;

    mill.folder.write("orders.toml", orders(&other, "", "") + &subscription("added", &added, ""));
    engine.signal(Signal::SIGHUP);
    loaded(&engine, 1).await;
    let (after, series) = in_use(&engine).await;
    assert!(after.len() == 1 && after != before && series == 2, "{before:?}, then {after:?} of {series}");
    // What is published from now on goes by the new file alone.
    let at = publisher.published.load(Ordering::Acquire) + 101;
    publisher.reaches(at + 500).await;
    // Back again, and once more, with no pause between.
    for (round, endpoint) in [(2, &mill.endpoint), (3, &other)] {
        mill.folder.write("orders.toml", orders(endpoint, "", "") + &subscription("added", &added, ""));
        engine.signal(Signal::SIGHUP);
        loaded(&engine, round).await;
    }
    let last = publisher.stop().await;

    let wanted = delivery_ids(1..=last);
    eventually(LATER, "every order is delivered to one of the two", || async {
        let (one, two) = (mill.endpoint.log().delivered().clone(), other.log().delivered().clone());
        let both: HashSet<String> = one.union(&two).cloned().collect();
        if both == wanted { Ok(()) } else { Err(format!("{} of {last}", both.len())) }
    })
    .await;
    let of_added = delivery_ids_of("orders", "added", at..=last);
    added
        .wait_for("what came after the load is in the new subscription", LATER, |log| {
            of_added.is_subset(log.delivered())
        })
        .await;
    let common = mill.endpoint.log().delivered().intersection(other.log().delivered()).count();
    let repeats = mill.endpoint.log().repeats() + other.log().repeats() + added.log().repeats();
    assert_eq!((common, repeats), (0, 0));
    eventually(SOON, "nothing is held", || async {
        let durable = mill.durable().await?;
        if durable.num_ack_pending == 0 { Ok(()) } else { Err(durable.num_ack_pending.to_string()) }
    })
    .await;
    let durable = mill.durable().await.expect("it is there");
    // What was on its way went to the engine that took over, not back to the server.
    assert_eq!((durable.num_redelivered, durable.delivered.consumer_sequence), (0, last as u64));
    assert_eq!(mill.stream_state("HOOKMILL_DLQ").await.expect("it is there").messages, 0);
    assert_eq!(engine.terminate().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_can_not_be_used_change_nothing_and_say_why() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let engine = mill.engine().start().await;
    mill.publish(1..=5).await;
    mill.delivered(1..=5).await;
    let before = in_use(&engine).await;
    let good = orders(&mill.endpoint, "", "");

    mill.folder.write("orders.toml", format!("{good}\ntimeout = \"0s\"\n"));
    engine.signal(Signal::SIGHUP);
    counted(&engine, "refused", 1).await;
    let problem =
        |line: &LogLine| line.text.starts_with("error[E021]: ") && line.text.contains("orders.toml:");
    engine.wait_for_line("the problem, as check says it", SOON, problem).await;
    let (status, text) = readiness(&engine).await;
    assert!(
        status == 200 && text.contains("not loaded again") && text.contains("E021 at "),
        "{status} {text}"
    );

    // A module that doesn't compile.
    mill.folder.write("broken.wasm", b"\0asm\x0d\0\x01\0 this is no component");
    let step = "\n[[subscription.step]]\ntransform = \"./broken.wasm\"\n";
    mill.folder.write("orders.toml", format!("{good}{step}"));
    engine.signal(Signal::SIGHUP);
    counted(&engine, "refused", 2).await;
    engine.wait_for_line("the module is refused", SOON, |line| line.text.starts_with("error[E052]: ")).await;

    // A source that isn't there: found out with the server's help.
    mill.folder.write("orders.toml", orders(&mill.endpoint, "stream = \"NOWHERE\"", ""));
    engine.signal(Signal::SIGHUP);
    counted(&engine, "refused", 3).await;
    let missing = |line: &LogLine| line.text.starts_with("error: ") && line.text.contains("NOWHERE");
    engine.wait_for_line("the stream is missed", SOON, missing).await;
    assert_eq!(in_use(&engine).await, before);
    mill.publish(6..=10).await;
    mill.delivered(1..=10).await;

    mill.folder.write("orders.toml", format!("{good}concurrency = 2\n"));
    engine.signal(Signal::SIGHUP);
    loaded(&engine, 1).await;
    assert_eq!(readiness(&engine).await, (200, "ready\n".to_owned()));
    assert_ne!(in_use(&engine).await.0, before.0);
    mill.publish(11..=15).await;
    mill.delivered(1..=15).await;
    assert_eq!(mill.endpoint.log().repeats(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_a_schema_and_a_new_file_are_loaded_without_a_signal() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let other = Endpoint::start(behaviour::always(200)).await;
    let schemas = PipelineFolder::new();
    let schema = schemas.write("order.json", "{}");
    let engine = mill.engine().arg("--watch").start().await;
    mill.publish(1..=3).await;
    mill.delivered(1..=3).await;

    // How often a change is noticed depends on how fast it is written: what comes of it is looked at.
    let before = in_use(&engine).await.0;
    let rule = format!("[[validate.schema]]\ntypes = [\"*\"]\nfile = {schema:?}\n");
    let with_schema = orders(&mill.endpoint, "", "") + &rule;
    mill.folder.write("orders.toml", &with_schema);
    eventually(LATER, "the changed file is loaded", || async {
        let now = in_use(&engine).await.0;
        if now.len() == 1 && now != before { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    mill.folder.write("orders.toml", "nonsense = 1\n");
    says(&engine, true).await;
    mill.publish(4..=6).await;
    mill.delivered(1..=6).await;
    mill.folder.write("orders.toml", &with_schema);
    says(&engine, false).await;

    // The pipeline's own file stays as it is.
    schemas.write("order.json", r#"{ "required": ["absent"] }"#);
    let number = AtomicUsize::new(100);
    eventually(LATER, "an order is refused by the changed schema", || async {
        let next = number.fetch_add(1, Ordering::AcqRel);
        mill.publish(next..=next).await;
        let letters = mill.stream_state("HOOKMILL_DLQ").await?.messages;
        if letters > 0 { Ok(()) } else { Err(letters.to_string()) }
    })
    .await;

    mill.folder.write("second.toml", orders(&other, "start = \"all\"", ""));
    other.wait_for_delivered(6 + number.load(Ordering::Acquire) - 100, LATER).await;
    assert_eq!(in_use(&engine).await.0.len(), 2);
    assert_eq!(engine.terminate().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_keeps_its_tasks_until_it_is_back() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let bad = Endpoint::start(behaviour::always(500)).await;
    let both = orders(&mill.endpoint, "", "") + &subscription("bad", &bad, &retry(60));
    mill.folder.write("orders.toml", &both);
    mill.folder.write("second.toml", orders(&mill.endpoint, "start = \"all\"", ""));
    let engine = mill.engine().start().await;
    mill.publish(1..=20).await;
    bad.wait_for("all were attempted", SOON, |log| log.distinct_ids() == 20).await;
    mill.endpoint.wait_for_delivered(40, LATER).await;

    mill.folder.write("orders.toml", orders(&mill.endpoint, "", ""));
    std::fs::remove_file(mill.folder.path().join("second.toml")).expect("it is there");
    engine.signal(Signal::SIGHUP);
    loaded(&engine, 1).await;
    assert_eq!(in_use(&engine).await.0.len(), 1);
    // What falls due is put into the lane of the subscription that isn't there.
    mill.holds("HOOKMILL_LANES", 20).await;
    mill.publish(21..=25).await;
    mill.endpoint.wait_for_delivered(45, LATER).await;

    bad.behave(behaviour::always(200));
    mill.folder.write("orders.toml", &both);
    mill.folder.write("second.toml", orders(&mill.endpoint, "start = \"all\"", ""));
    engine.signal(Signal::SIGHUP);
    loaded(&engine, 2).await;
    bad.wait_for_delivered(20, LATER).await;
    // The pipeline that was away goes on where it was.
    mill.endpoint.wait_for_delivered(50, LATER).await;
    assert_eq!(mill.endpoint.log().repeats(), 0);
    mill.holds("HOOKMILL_LANES", 0).await;
    mill.holds("HOOKMILL_RETRIES", 0).await;
}

/// Answers 200 after `time`, and keeps count of the requests that run at the same time.
fn counting(time: Duration, peak: &Arc<AtomicUsize>) -> behaviour::Behaviour {
    let ends = std::sync::Mutex::new(Vec::<std::time::Instant>::new());
    let peak = peak.clone();
    behaviour::custom(move |_| {
        let now = std::time::Instant::now();
        let mut ends = ends.lock().expect("no holder panics");
        ends.retain(|end| *end > now);
        ends.push(now + time);
        peak.fetch_max(ends.len(), Ordering::AcqRel);
        Reply::After(time, Box::new(Reply::Status(200)))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_spills_is_drained_by_the_next_engine_within_its_concurrency() {
    let peak = Arc::new(AtomicUsize::new(0));
    let slow = counting(Duration::from_millis(400), &peak);
    let mill = Mill::new(slow, "", "concurrency = 4").await;
    let engine = mill.engine().start().await;
    mill.publish(1..=60).await;
    // Some run, some lie in the lane, and the engine is busy storing the rest.
    mill.endpoint.wait_for("the endpoint is busy", SOON, |log| log.received() >= 8).await;
    for round in 1..=3 {
        mill.folder.write("orders.toml", orders(&mill.endpoint, "", "concurrency = 4") + &"\n".repeat(round));
        engine.signal(Signal::SIGHUP);
        loaded(&engine, round).await;
    }
    mill.delivered(1..=60).await;
    assert_eq!(mill.endpoint.log().repeats(), 0);
    assert!(peak.load(Ordering::Acquire) <= 4, "{} at once", peak.load(Ordering::Acquire));

    // More of them at once, and less again.
    for (round, concurrency) in [(4, 8_usize), (5, 2)] {
        let first = round * 100;
        let settings = format!("concurrency = {concurrency}");
        mill.folder.write("orders.toml", orders(&mill.endpoint, "", &settings));
        mill.publish(first..=first + 30).await;
        mill.endpoint.wait_for("it is busy again", SOON, |log| log.received() > 60 + 31 * (round - 4)).await;
        engine.signal(Signal::SIGHUP);
        loaded(&engine, round).await;
        mill.endpoint.wait_for_delivered(60 + 31 * (round - 3), LATER).await;
        // The one before may still run as many as it might.
        let most = concurrency.max([0, 4, 8][round - 3]);
        assert!(peak.swap(0, Ordering::AcqRel) <= most, "more than {most} at once");
    }
    mill.publish(900..=920).await;
    mill.endpoint.wait_for_delivered(60 + 62 + 21, LATER).await;
    assert!(peak.load(Ordering::Acquire) <= 2, "{} at once", peak.load(Ordering::Acquire));
    assert_eq!(mill.endpoint.log().repeats(), 0);
    assert_eq!(engine.terminate().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_when_files_are_loaded_comes_to_its_end_by_the_old_ones() {
    let mill = Mill::new(behaviour::slow(Duration::from_secs(8)), "", "").await;
    let other = Endpoint::start(behaviour::always(200)).await;
    let engine = mill.engine().start().await;
    mill.publish(1..=10).await;
    mill.endpoint.wait_for("all run", SOON, |log| log.received() == 10).await;
    mill.folder.write("orders.toml", orders(&other, "", ""));
    engine.signal(Signal::SIGHUP);
    loaded(&engine, 1).await;
    assert_eq!(mill.endpoint.log().delivered_ids(), 0, "it was not waited for what runs");
    mill.publish(11..=20).await;
    other.wait_for_delivered(10, SOON).await;
    // The end of the engine waits for what the one before it has begun.
    assert_eq!(engine.terminate().await, 0);
    mill.delivered(1..=10).await;
    assert_eq!((mill.endpoint.log().repeats(), other.log().received()), (0, 10));
    assert_eq!(mill.stream_state("HOOKMILL_RETRIES").await.expect("is there").messages, 0);
    assert_eq!(mill.durable().await.expect("is there").ack_floor.stream_sequence, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_circuit_stays_open_where_nothing_about_it_changed_and_is_probed_where_something_did() {
    let mill = Mill::new(behaviour::always(503), "", &dead(30)).await;
    let good = Endpoint::start(behaviour::always(200)).await;
    let engine = mill.engine().start().await;
    mill.publish(1..=5).await;
    let opened = |line: &LogLine| line.message().starts_with("circuit opened");
    engine.wait_for_line("the circuit opens", SOON, opened).await;
    mill.folder.write("orders.toml", format!("{}\n# nothing else\n", orders(&mill.endpoint, "", &dead(30))));
    engine.signal(Signal::SIGHUP);
    loaded(&engine, 1).await;
    let attempts = mill.endpoint.received();
    mill.publish(6..=10).await;
    mill.holds("HOOKMILL_EVENTS", 10).await;
    eventually(SOON, "what is new is stored in the lane of the open circuit", || async {
        let durable = mill.durable().await?;
        let settled = durable.ack_floor.stream_sequence;
        if settled == 10 { Ok(()) } else { Err(settled.to_string()) }
    })
    .await;
    assert_eq!(mill.endpoint.received(), attempts, "an open circuit is not tried before its probe");

    // Another endpoint: whether it answers is to be found out.
    mill.folder.write("orders.toml", orders(&good, "", &dead(30)));
    engine.signal(Signal::SIGHUP);
    loaded(&engine, 2).await;
    good.wait_for_delivered(10, SOON).await;
}

/// Opens at the second failure and is probed after `probe` seconds.
fn dead(probe: u64) -> String {
    let waits = vec!["\"1s\""; 90].join(", ");
    format!(
        "[subscription.retry]\nschedule = [{waits}]\njitter = 0.0\n[subscription.circuit]\nfailures = 2\n\
         for = \"1s\"\nprobe = \"{probe}s\"\nprobe_max = \"{probe}s\""
    )
}
