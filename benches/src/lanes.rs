//! Thousands of lanes: what they cost while they are empty, how evenly they flow with a backlog in each at once, and how long it
//! takes until all of them flow again after nats-server was killed.

#![expect(clippy::cast_precision_loss, reason = "counts are far below 2⁵²")]

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use futures_util::StreamExt as _;
use hookmill::telemetry::output;
use hookmill_tests::judge::unsettled_of;
use hookmill_tests::{Engine, NatsServer, PipelineFolder, events, eventually};
use hyper::HeaderMap;
use tokio::time::sleep;

use crate::cost::{cpu, held};
use crate::gaps::{Arrivals, Gaps};
use crate::pipelines::{SECRET, SECRET_VARIABLE};
use crate::prober::{Latency, Prober};
use crate::server::Server;

/// The header by which the endpoint knows the lane.
const LANE_HEADER: &str = "x-lane";
/// Longest wait for anything.
const WAIT_MAX: Duration = Duration::from_mins(10);
/// Longest wait until all events of a portion lie in their lanes.
const SPILLED_MAX: Duration = Duration::from_mins(20);
/// Most that is published, as a multiple of what has to be left when all lies in the lanes.
const PUBLISHED_MAX: usize = 4;
/// How often it is said how far that is.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// Tasks that are spilled at the same time: their events are published in portions, which keeps the engine's memory bounded.
const SPILLING_MAX: usize = 100_000;
/// How long requests to JetStream are counted, and how long costs are measured where nothing happens.
const COUNTED: Duration = Duration::from_secs(20);
/// Length of the windows in which deliveries are counted.
const WINDOW: Duration = Duration::from_secs(5);
/// What no engine here delivers in all, by which backlogs are bounded.
const DELIVERIES_MAX: f64 = 2_000.0;
/// The durable of the pipeline.
const DURABLE: &str = "hookmill-lanes";

/// What engine and server take.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// CPU time of the engine, in cores.
    pub engine_cores: f64,
    /// Of nats-server.
    pub server_cores: f64,
    /// Of this process: the receiver, and what asks and counts.
    pub receiver_cores: f64,
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

/// What is to be measured of lanes with a backlog in each.
#[derive(Clone, Debug)]
pub struct Load {
    /// Lanes.
    pub lanes: usize,
    /// Attempts a second of each.
    pub rate: u32,
    /// How long it is measured.
    pub time: Duration,
    /// Events that have to lie in each when it begins; none: as many as last for that time.
    pub events: Option<usize>,
    /// Whether nats-server is killed in the end.
    pub kill: bool,
    /// The engine.
    pub program: PathBuf,
}

impl Load {
    /// Events of each lane: what it may send, or its share of all that is ever sent, and a reserve.
    pub fn events(&self) -> usize {
        let share = f64::from(self.rate).min(DELIVERIES_MAX / self.lanes as f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2³²")]
        let lasting = (share * self.time.as_secs_f64()).ceil() as usize;
        self.events.unwrap_or(lasting + lasting / 5 + 20 * self.rate as usize)
    }

    /// What an engine has to reach. One of a development build has a third of the speed.
    pub fn demand(&self) -> Demand {
        let wanted = self.lanes as f64 * f64::from(self.rate);
        let most = if self.lanes <= 2_000 { 1_500.0 } else { 1_200.0 };
        let thirds = if is_development(&self.program) { 3.0 } else { 1.0 };
        let gap = (wanted <= 1_000.0).then(|| Duration::from_secs_f64(thirds * 3.0 / f64::from(self.rate)));
        Demand { deliveries: (0.95 * wanted).min(most) / thirds, gap }
    }
}

/// Whether a program lies where development builds do.
fn is_development(program: &Path) -> bool {
    program.components().any(|part| part.as_os_str() == "debug")
}

/// What an engine has to reach.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Demand {
    /// Deliveries a second of all lanes.
    pub deliveries: f64,
    /// Longest time without a delivery of any lane; none: three times its fair share.
    pub gap: Option<Duration>,
}

/// Lanes with a backlog in each.
#[derive(Clone, Debug)]
pub struct Busy {
    /// How many there are.
    pub lanes: usize,
    /// Events that each had in all.
    pub events: usize,
    /// From the start of the engine until it is ready.
    pub start: Duration,
    /// From the first event until each lane has delivered something.
    pub all_flow: Duration,
    /// From the first event until all lie in their lanes; from then on it is measured.
    pub spilled: Duration,
    /// What they cost while their backlog is worked off.
    pub cost: Cost,
    /// Deliveries a second, window by window.
    pub windows: Vec<f64>,
    /// The longest time without a delivery of each lane.
    pub gaps: Gaps,
    /// How fast JetStream answered meanwhile.
    pub api: Latency,
    /// How fast it did until all lay in their lanes.
    pub api_before: Latency,
    /// Lanes that had nothing left in the end: their gaps say nothing.
    pub exhausted: usize,
    /// From the start of a killed nats-server until each lane has delivered something again.
    pub all_flow_again: Option<Duration>,
}

impl Busy {
    /// The time in which each lane has a turn if all have as many.
    pub fn fair_share(&self) -> Duration {
        let lanes = self.lanes as f64;
        Duration::try_from_secs_f64(lanes / self.cost.deliveries).unwrap_or(Duration::MAX)
    }
}

/// Deliveries, by lane.
struct Counted {
    server: Server,
    arrivals: Arc<Arrivals>,
}

impl Counted {
    fn start(lanes: usize) -> Self {
        let arrivals = Arc::new(Arrivals::new(lanes));
        let taking = Arc::clone(&arrivals);
        let take = move |headers: &HeaderMap| {
            let lane = headers.get(LANE_HEADER).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
            if let Some(lane) = lane {
                taking.take(lane);
            }
        };
        Self { server: Server::start(take), arrivals }
    }

    fn all(&self) -> u64 {
        self.arrivals.counts().iter().sum()
    }

    /// Waits until each lane has more than it had.
    async fn more_than(&self, before: &[u64]) {
        eventually(WAIT_MAX, "each lane has delivered something", || async {
            let counts = self.arrivals.counts();
            let still = counts.iter().zip(before).filter(|(now, before)| now <= before).count();
            if still == 0 { Ok(()) } else { Err(format!("{still} of {} stand still", before.len())) }
        })
        .await;
    }
}

/// So many subscriptions without an event.
pub async fn idle(lanes: usize, program: &Path) -> Idle {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let counted = Counted::start(lanes);
    let (engine, start) = engine(&server, &folder(lanes, &counted.server.url(), ""), program).await;
    let usage = Usage::begin(&server, &engine, &counted);
    let requests = requests(&server).await;
    let cost = usage.end(&counted, requests);
    let mut consumers = 0;
    for stream in ["HOOKMILL_EVENTS", "HOOKMILL_RETRIES", "HOOKMILL_LANES"] {
        let stream = jetstream.get_stream(stream).await.expect("the stream is there");
        consumers += stream.consumer_names().count().await;
    }
    Idle { start, consumers: consumers - 2, cost }
}

/// So many subscriptions that each have more events than they may send.
pub async fn busy(load: &Load) -> Busy {
    let mut server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let counted = Counted::start(load.lanes);
    let rate = format!("rate = \"{}/s\"\n", load.rate);
    let folder = folder(load.lanes, &counted.server.url(), &rate);
    let (engine, start) = engine(&server, &folder, &load.program).await;
    let published = Instant::now();
    let none = vec![0; load.lanes];
    let all_flow = async {
        counted.more_than(&none).await;
        let time = published.elapsed();
        output::say(format_args!("each of {} lanes has delivered something after {time:.1?}", load.lanes));
        time
    };
    let prober = Prober::start(&server.url()).await;
    let spilling = async { tokio::join!(all_flow, spill(&jetstream, load, &counted)) };
    let (all_flow, events) = tokio::select! {
        spilled = spilling => spilled,
        never = progress(&counted, &prober) => match never {},
    };
    let (spilled, api_before) = (published.elapsed(), prober.latency());

    let prober = Prober::start(&server.url()).await;
    counted.arrivals.begin();
    let usage = Usage::begin(&server, &engine, &counted);
    let (windows, requests) = tokio::join!(windows(&counted, load.time), requests(&server));
    let (gaps, cost, api) = (counted.arrivals.end(), usage.end(&counted, requests), prober.latency());
    drop(prober);
    let delivered = counted.arrivals.counts();
    let exhausted = delivered.iter().filter(|count| **count >= events as u64).count();
    let all_flow_again = if load.kill { Some(killed(&mut server, &counted).await) } else { None };
    Busy {
        lanes: load.lanes,
        events,
        start,
        all_flow,
        spilled,
        cost,
        windows,
        gaps,
        api,
        api_before,
        exhausted,
        all_flow_again,
    }
}

/// Says now and then how far the lanes are. Never ends.
async fn progress(counted: &Counted, prober: &Prober) -> Infallible {
    loop {
        sleep(PROGRESS_EVERY).await;
        let (Latency { asked, timed_out, most_of, .. }, count) = (prober.latency(), counted.all());
        let api = format!("JetStream's API p99 {most_of:.1?}, {timed_out} of {asked} not answered");
        output::say(format_args!("{count} deliveries while events are put into lanes; {api}"));
    }
}

/// From the start of a killed nats-server until all lanes flow.
async fn killed(server: &mut NatsServer, counted: &Counted) -> Duration {
    server.kill().await;
    let before = counted.arrivals.counts();
    let restarted = Instant::now();
    server.restart().await;
    counted.more_than(&before).await;
    restarted.elapsed()
}

/// Publishes, and waits until the engine has put everything into the lanes; how many events. More than each lane has to have, for
/// they are delivered meanwhile, but no more than [`PUBLISHED_MAX`] times as many.
async fn spill(jetstream: &Context, load: &Load, counted: &Counted) -> usize {
    let (began, needed) = (Instant::now(), load.events());
    let (portion_max, mut published) = ((SPILLING_MAX / load.lanes).max(1), 0);
    while published < PUBLISHED_MAX * needed {
        let lacking = needed.saturating_sub(least_left(published, &counted.arrivals.counts()));
        if lacking == 0 {
            break;
        }
        let portion = published..published + lacking.min(portion_max);
        published = portion.end;
        events::publish_all(jetstream, portion.map(events::structured)).await;
        eventually(SPILLED_MAX, "all lies in the lanes", || async {
            match unsettled_of(jetstream, DURABLE).await? {
                (0, 0) => Ok(()),
                (pending, held) => Err(format!("{pending} events not taken, {held} held")),
            }
        })
        .await;
        let time = began.elapsed();
        output::say(format_args!(
            "{published} events lie in every lane after {time:.1?}, {needed} have to be left"
        ));
    }
    published
}

/// What the lane has left that has delivered most.
fn least_left(published: usize, delivered: &[u64]) -> usize {
    let most = delivered.iter().max().copied().unwrap_or_default();
    published.saturating_sub(usize::try_from(most).unwrap_or(usize::MAX))
}

/// Deliveries a second in each window.
async fn windows(counted: &Counted, time: Duration) -> Vec<f64> {
    let (began, mut windows) = (Instant::now(), Vec::new());
    let (mut then, mut before) = (began, counted.all());
    while began.elapsed() < time {
        sleep(WINDOW.min(time.saturating_sub(began.elapsed()))).await;
        let (now, count) = (Instant::now(), counted.all());
        windows.push((count - before) as f64 / (now - then).as_secs_f64());
        (then, before) = (now, count);
    }
    windows
}

/// Requests to JetStream a second. Counted for a while only, since that costs as well.
async fn requests(server: &NatsServer) -> f64 {
    let client = server.client().await;
    let mut requests = client.subscribe("$JS.API.>").await.expect("connected");
    client.flush().await.expect("connected");
    let began = Instant::now();
    let end = tokio::time::Instant::now() + COUNTED;
    let mut asked = 0_u64;
    while let Ok(Some(_)) = tokio::time::timeout_at(end, requests.next()).await {
        asked += 1;
    }
    asked as f64 / began.elapsed().as_secs_f64()
}

/// What the three processes have used by a moment: engine, nats-server, and this one.
struct Usage {
    processes: [i32; 3],
    used: [Option<Duration>; 3],
    delivered: u64,
    began: Instant,
}

impl Usage {
    fn begin(server: &NatsServer, engine: &Engine, counted: &Counted) -> Self {
        let this = i32::try_from(std::process::id()).expect("a process id fits into an i32");
        let processes = [engine.process_id(), server.process_id(), this];
        Self { processes, used: processes.map(cpu), delivered: counted.all(), began: Instant::now() }
    }

    fn end(&self, counted: &Counted, requests: f64) -> Cost {
        let seconds = self.began.elapsed().as_secs_f64();
        let cores = |process: usize| {
            let used = self.used[process].zip(cpu(self.processes[process]));
            used.map_or(f64::NAN, |(before, after)| after.saturating_sub(before).as_secs_f64() / seconds)
        };
        let mebibytes = |process: usize| held(self.processes[process]).anonymous;
        Cost {
            engine_cores: cores(0),
            server_cores: cores(1),
            receiver_cores: cores(2),
            engine_mebibytes: mebibytes(0),
            server_mebibytes: mebibytes(1),
            requests,
            deliveries: (counted.all() - self.delivered) as f64 / seconds,
        }
    }
}

async fn engine(server: &NatsServer, folder: &PipelineFolder, program: &Path) -> (Engine, Duration) {
    let began = Instant::now();
    let options = Engine::run(server).program(program).env(SECRET_VARIABLE, SECRET).arg(folder.path());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn load(lanes: usize, seconds: u64, program: &str) -> Load {
        let time = Duration::from_secs(seconds);
        Load { lanes, rate: 1, time, events: None, kill: false, program: program.into() }
    }

    #[test]
    fn what_is_demanded_follows_from_the_number_of_lanes() {
        let demand = |lanes| load(lanes, 60, "target/release/hookmill").demand();
        assert_eq!(demand(1_000), Demand { deliveries: 950.0, gap: Some(Duration::from_secs(3)) });
        assert_eq!(demand(2_000), Demand { deliveries: 1_500.0, gap: None });
        assert_eq!(demand(10_000), Demand { deliveries: 1_200.0, gap: None });
        let third = load(10_000, 60, "target/debug/hookmill").demand();
        assert_eq!(third, Demand { deliveries: 400.0, gap: None });
    }

    #[test]
    fn a_backlog_lasts_for_the_whole_time() {
        assert!(load(1_000, 60, "hookmill").events() >= 60);
        let events = load(10_000, 600, "hookmill").events();
        assert!((1_200 * 600 / 10_000..200).contains(&events), "{events}");
        assert_eq!(least_left(10, &[2, 7, 0]), 3);
        assert_eq!(least_left(10, &[2, 11]), 0);
    }
}
