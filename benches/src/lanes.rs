//! Thousands of lanes: what they cost while they are empty, with a backlog in each at once, and how long it takes until all
//! of them flow again after nats-server was killed.

#![expect(clippy::cast_precision_loss, reason = "counts are far below 2⁵²")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hookmill_tests::{Engine, NatsServer, PipelineFolder, events, eventually};
use hyper::HeaderMap;

use crate::contest::program;
use crate::cost::{cpu, held};
use crate::pipelines::{SECRET, SECRET_VARIABLE};
use crate::server::Server;

/// The header by which the endpoint knows the lane.
const LANE_HEADER: &str = "x-lane";
/// Longest wait for anything.
const WAIT_MAX: Duration = Duration::from_mins(10);
/// How long costs are measured.
const MEASURED: Duration = Duration::from_secs(20);
/// Attempts a second of each lane that has a backlog.
const RATE: &str = "1/s";

/// What engine and server take over [`MEASURED`].
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// CPU time of the engine, in cores.
    pub engine_cores: f64,
    /// Of nats-server.
    pub server_cores: f64,
    /// Memory of the engine, in MiB.
    pub engine_mebibytes: f64,
    /// Of nats-server.
    pub server_mebibytes: f64,
    /// Requests to JetStream, a second.
    pub requests: f64,
    /// Deliveries a second.
    pub deliveries: f64,
}

/// Lanes that have nothing to do.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// From the start of the engine until it is ready.
    pub start: Duration,
    /// Consumers beside the pipeline's own two.
    pub consumers: usize,
    /// What they cost.
    pub cost: Cost,
}

/// Lanes with a backlog in each.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    /// From the start of the engine until it is ready.
    pub start: Duration,
    /// From the first event until each lane has delivered something.
    pub all_flow: Duration,
    /// What they cost while their backlog is worked off.
    pub cost: Cost,
    /// From the start of a killed nats-server until each lane has delivered something again.
    pub all_flow_again: Duration,
}

/// Deliveries, by lane.
struct Counted {
    server: Server,
    lanes: Arc<Vec<AtomicU64>>,
}

impl Counted {
    fn start(lanes: usize) -> Self {
        let lanes: Arc<Vec<AtomicU64>> = Arc::new((0..lanes).map(|_| AtomicU64::new(0)).collect());
        let counting = Arc::clone(&lanes);
        let take = move |headers: &HeaderMap| {
            let lane = headers.get(LANE_HEADER).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
            if let Some(count) = lane.and_then(|lane| counting.get(lane)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        Self { server: Server::start(take), lanes }
    }

    fn counts(&self) -> Vec<u64> {
        self.lanes.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Waits until each lane has more than it had.
    async fn more_than(&self, before: &[u64]) {
        eventually(WAIT_MAX, "each lane has delivered something", || async {
            let counts = self.counts();
            let still = counts.iter().zip(before).filter(|(now, before)| now <= before).count();
            if still == 0 { Ok(()) } else { Err(format!("{still} of {} stand still", before.len())) }
        })
        .await;
    }
}

/// So many subscriptions without an event.
pub async fn idle(lanes: usize) -> Idle {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let counted = Counted::start(lanes);
    let (engine, start) = engine(&server, &folder(lanes, &counted.server.url(), "")).await;
    let cost = cost(&server, &engine, &counted).await;
    let mut consumers = 0;
    for stream in ["HOOKMILL_EVENTS", "HOOKMILL_RETRIES", "HOOKMILL_LANES"] {
        let stream = jetstream.get_stream(stream).await.expect("the stream is there");
        consumers += stream.consumer_names().count().await;
    }
    Idle { start, consumers: consumers - 2, cost }
}

/// So many subscriptions that each have more events than they may send.
pub async fn busy(lanes: usize, events_each: usize) -> Busy {
    let mut server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let counted = Counted::start(lanes);
    let rate = format!("rate = \"{RATE}\"\n");
    let (engine, start) = engine(&server, &folder(lanes, &counted.server.url(), &rate)).await;
    let published = Instant::now();
    events::publish_all(&jetstream, (0..events_each).map(events::structured)).await;
    counted.more_than(&vec![0; lanes]).await;
    let all_flow = published.elapsed();
    let cost = cost(&server, &engine, &counted).await;
    server.kill().await;
    let before = counted.counts();
    let restarted = Instant::now();
    server.restart().await;
    counted.more_than(&before).await;
    Busy { start, all_flow, cost, all_flow_again: restarted.elapsed() }
}

async fn cost(server: &NatsServer, engine: &Engine, counted: &Counted) -> Cost {
    let client = server.client().await;
    let mut requests = client.subscribe("$JS.API.>").await.expect("connected");
    client.flush().await.expect("connected");
    let processes = [engine.process_id(), server.process_id()];
    let (used, delivered) = (processes.map(cpu), counted.counts());
    let began = Instant::now();
    let end = tokio::time::Instant::now() + MEASURED;
    let mut asked = 0_u64;
    while let Ok(Some(_)) = tokio::time::timeout_at(end, requests.next()).await {
        asked += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    let cores = |process: usize| {
        let used = used[process].zip(cpu(processes[process]));
        used.map_or(f64::NAN, |(before, after)| after.saturating_sub(before).as_secs_f64() / seconds)
    };
    let mebibytes = |process: usize| held(processes[process]).anonymous;
    let deliveries = counted.counts().iter().sum::<u64>() - delivered.iter().sum::<u64>();
    Cost {
        engine_cores: cores(0),
        server_cores: cores(1),
        engine_mebibytes: mebibytes(0),
        server_mebibytes: mebibytes(1),
        requests: asked as f64 / seconds,
        deliveries: deliveries as f64 / seconds,
    }
}

async fn engine(server: &NatsServer, folder: &PipelineFolder) -> (Engine, Duration) {
    let began = Instant::now();
    let options = Engine::run(server).program(program()).env(SECRET_VARIABLE, SECRET).arg(folder.path());
    let engine = options.patience(WAIT_MAX).start().await;
    (engine, began.elapsed())
}

fn folder(lanes: usize, url: &str, more: &str) -> PipelineFolder {
    let subscription = |lane: usize| {
        format!(
            "[[subscription]]\nname = \"s{lane}\"\n[subscription.deliver]\nurl = \"{url}\"\n\
             headers = {{ {LANE_HEADER} = \"{lane}\" }}\nsign = [{{ env = \"{SECRET_VARIABLE}\" }}]\n{more}"
        )
    };
    let subscriptions: String = (0..lanes).map(subscription).collect();
    PipelineFolder::with("lanes", &format!("[source]\nstart = \"all\"\n{subscriptions}"))
}
