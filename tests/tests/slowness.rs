//! What waits and what is slow holds nothing up: the healthy subscription of a pipeline does not feel its neighbours.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use hookmill_tests::events::{self, Message};
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, eventually};

use hookmill_tests::judge::{HEAVY, messages, source, subscription};

const WAITING: usize = 20_000;
const HANGING: usize = 64;
/// More for the slow endpoint than it has slots, so that its lane spills from the beginning.
const SPILLED: usize = 8;
const BURST: usize = 6_000;
const SINGLE: usize = 30;
const LONG: Duration = Duration::from_mins(3);
const SINGLE_MAX: Duration = Duration::from_secs(3);

/// Order `number` with another type.
fn of_type(ty: &str, number: usize) -> Message {
    let own = format!(r#""type":"{}""#, events::ORDER_TYPE);
    let text = events::order_json(number).replacen(&own, &format!(r#""type":"{ty}""#), 1);
    events::structured_message(text)
}

/// Publishes `messages`, of which `orders` are for the healthy endpoint; events a second until they are delivered.
async fn rate(
    jetstream: &Context,
    endpoint: &Endpoint,
    orders: usize,
    messages: impl Iterator<Item = Message>,
) -> f64 {
    let before = endpoint.log().delivered_ids();
    let begun = Instant::now();
    events::publish_all(jetstream, messages).await;
    endpoint.wait_for_delivered(before + orders, LONG).await;
    f64::from(u32::try_from(orders).expect("few")) / begun.elapsed().as_secs_f64()
}

/// The longest time from publish to delivery of single events, one after the other.
async fn longest(jetstream: &Context, endpoint: &Endpoint, numbers: std::ops::Range<usize>) -> Duration {
    let mut longest = Duration::ZERO;
    for number in numbers {
        let before = endpoint.log().delivered_ids();
        let begun = Instant::now();
        events::publish_all(jetstream, [events::structured(number)]).await;
        endpoint.wait_for_delivered(before + 1, LONG).await;
        longest = longest.max(begun.elapsed());
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_waiting_tasks_and_64_hanging_requests_do_not_slow_a_healthy_subscription() {
    let _alone = HEAVY.lock().await;
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let healthy = Endpoint::start(behaviour::always(200)).await;
    let slow = Endpoint::start(behaviour::hang()).await;
    // Bound and dropped: nobody listens there.
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let dead = format!("http://{}/hooks", nobody.expect("a free port"));
    let of = |ty: &str, subscription: String| {
        subscription.replacen(
            "[subscription.deliver]",
            &format!("types = [\"{ty}\"]\n[subscription.deliver]"),
            1,
        )
    };
    let hours = "schedule = [\"1h\", \"1h\"]";
    let text = [
        source("max_in_flight = 256"),
        of(events::ORDER_TYPE, subscription("healthy", &healthy.url(), "", "")),
        of("com.shop.dead", subscription("dead", &dead, "", hours)),
        of("com.shop.slow", subscription("slow", &slow.url(), "timeout = \"5m\"\nconcurrency = 64", hours)),
    ]
    .concat();
    let folder = PipelineFolder::with("orders", &text);
    let _engine = Engine::run(&server).arg(folder.path()).start().await;

    // Once to warm up, then the measure.
    rate(&jetstream, &healthy, 500, (0..500).map(events::structured)).await;
    let alone = rate(&jetstream, &healthy, BURST, (10_000..10_000 + BURST).map(events::structured)).await;
    let single_alone = longest(&jetstream, &healthy, 20_000..20_000 + SINGLE).await;

    events::publish_all(&jetstream, (0..HANGING + SPILLED).map(|number| of_type("com.shop.slow", number)))
        .await;
    slow.wait_for("all slots hang", LONG, |log| log.received() == HANGING).await;
    let begun = Instant::now();
    events::publish_all(&jetstream, (0..WAITING).map(|number| of_type("com.shop.dead", number))).await;
    eventually(LONG, "all that can't be delivered waits", || async {
        let (retries, lanes) =
            (messages(&jetstream, "HOOKMILL_RETRIES").await?, messages(&jetstream, "HOOKMILL_LANES").await?);
        let there = usize::try_from(retries + lanes).expect("fits");
        if there >= WAITING + HANGING + SPILLED {
            Ok(())
        } else {
            Err(format!("{retries} wait, {lanes} in lanes"))
        }
    })
    .await;
    println!("{WAITING} tasks put off in {:.1} s", begun.elapsed().as_secs_f64());

    // More trouble on the way: one event in twenty is for the dead endpoint, one for the slow one.
    let mixed = (0..BURST).flat_map(|number| {
        let trouble = match number % 20 {
            0 => Some(of_type("com.shop.dead", 50_000 + number)),
            10 => Some(of_type("com.shop.slow", 50_000 + number)),
            _ => None,
        };
        trouble.into_iter().chain([events::structured(30_000 + number)])
    });
    let troubled = rate(&jetstream, &healthy, BURST, mixed).await;
    let single_troubled = longest(&jetstream, &healthy, 40_000..40_000 + SINGLE).await;
    println!(
        "{alone:.0} events/s alone, {troubled:.0} events/s beside the trouble: ratio {:.2}",
        troubled / alone
    );
    println!("longest single delivery {single_alone:?} alone, {single_troubled:?} beside the trouble");
    assert!(troubled / alone >= 0.5, "{alone:.0} events/s alone, {troubled:.0} beside the trouble");
    assert!(single_troubled <= SINGLE_MAX, "{single_troubled:?}");
}

/// A slow endpoint that may have more attempts than the pipeline takes at once, or just as many, and a neighbour.
async fn neighbour_of_a_slow_one(concurrency: &str) {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let healthy = Endpoint::start(behaviour::always(200)).await;
    let slow = Endpoint::start(behaviour::slow(Duration::from_millis(500))).await;
    let of = |ty: &str, subscription: String| {
        subscription.replacen(
            "[subscription.deliver]",
            &format!("types = [\"{ty}\"]\n[subscription.deliver]"),
            1,
        )
    };
    let text = [
        source("max_in_flight = 64"),
        of(events::ORDER_TYPE, subscription("healthy", &healthy.url(), "", "")),
        of("com.shop.slow", subscription("slow", &slow.url(), concurrency, "")),
    ]
    .concat();
    let folder = PipelineFolder::with("orders", &text);
    let _engine = Engine::run(&server).arg(folder.path()).start().await;
    events::publish_all(&jetstream, (0..4_000).map(|number| of_type("com.shop.slow", number))).await;
    let longest = longest(&jetstream, &healthy, 10_000..10_010).await;
    println!("longest single delivery beside a slow lane that holds its room: {longest:?}");
    assert!(longest <= Duration::from_secs(5), "{longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_lane_that_is_not_spilling_leaves_its_neighbour_room() {
    neighbour_of_a_slow_one("concurrency = 200").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_lane_with_the_default_concurrency_leaves_its_neighbour_room() {
    neighbour_of_a_slow_one("").await;
}
