//! Everything is killed, cut, stalled and filled up again and again while events flow, people pause lanes and files are loaded
//! again; then the books are opened.
//!
//! The judge is independent: what has to end is what the publisher was acknowledged and the source stream holds; what has ended is
//! read from the receivers' own counts and from the dead-letter stream. The engine's counters are only looked at in the end, when
//! nothing is killed any more, to see whether they agree.
//!
//! | file | what it does |
//! | --- | --- |
//! | `clock` | the time of a run |
//! | `faults` | what is done to engines, server, connections and files |
//! | `ledger` | how each event has ended in each subscription |
//! | `many` | many lanes with a rate |
//! | `people` | pauses, resumes, and the endpoint that is gone now and then |
//! | `publisher` | publishes, and notes every ack |
//! | `receivers` | an endpoint for each subscription, and what it has seen |
//! | `report` | the tables, and what is wrong |
//! | `silence` | how long a subscription stood still, and whether a stop held: pure |
//! | `watch` | whether JetStream answers its API |

mod clock;
mod faults;
mod ledger;
mod many;
mod people;
mod publisher;
mod receivers;
mod report;
mod silence;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::Context;
use nix::sys::signal::Signal;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::time::Instant;

use crate::judge::{self, Left};
use crate::{Cable, Engine, EngineOptions, NatsServer, PipelineFolder, hookmill};

use clock::Clock;
use faults::{Fault, Happened, Onlookers};
use ledger::{Ledger, Noted};
use people::People;
use publisher::{Acked, Publisher};
use receivers::{Receivers, SECRET, SECRET_FILE, Script};
use report::Besides;
pub use report::Report;
use watch::ApiWatch;

/// How long everything may take to come to its end once the faults have stopped.
const REST_MAX: Duration = Duration::from_mins(4);
/// Events of the last, undisturbed part, by which the engine's counters are checked.
const CALM_EVENTS: usize = 200;
/// Their numbers: beyond those that any run comes to.
const CALM_FIRST: usize = 800_000_000;
/// What one of the two engines lets wait in all: hardly anything, so that what fails there goes to its lane.
const WAITING_MAX: u64 = 5;
/// How often a lane that a 410 has disabled is resumed in the end.
const RESUME_EVERY: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// All choices follow from it: faults, pauses, answers.
    pub seed: u64,
    /// How long faults go on.
    pub time: Duration,
    /// Events published a second.
    pub rate: u32,
    /// Lanes beside, each with a rate of its own.
    pub lanes: usize,
    /// Whether the file of the signing secret is never away.
    pub keep_secret: bool,
    /// Whether nobody does anything to anybody.
    pub calm: bool,
    /// Runs a build for tests that acknowledges before it stores: the judge must see the losses.
    pub ack_first: bool,
    /// Runs a build for tests in which one subscription stands still for so long: the judge must see that.
    pub stall: Option<Duration>,
}

impl Settings {
    /// A run of so long, with nothing special.
    pub fn new(seed: u64, time: Duration) -> Self {
        Self {
            seed,
            time,
            rate: 100,
            lanes: 50,
            keep_secret: false,
            calm: false,
            ack_first: false,
            stall: None,
        }
    }
}

/// Two engines, each on a cable of its own, a server, and what belongs to them.
struct Stage {
    server: NatsServer,
    cables: Vec<Cable>,
    engines: Vec<Engine>,
    files: Files,
}

/// The folder of the pipelines, with the file of the signing secret.
struct Files {
    folder: PipelineFolder,
    orders: String,
    version: usize,
    secret_stays: bool,
}

impl Files {
    fn new(settings: &Settings, receivers: &Receivers) -> Self {
        let orders = receivers.pipeline();
        let folder = PipelineFolder::with("orders", &orders);
        if settings.lanes > 0 {
            folder.write(&format!("{}.toml", many::PIPELINE), receivers.many().pipeline());
        }
        let files = Self { folder, orders, version: 0, secret_stays: settings.keep_secret };
        files.show_secret();
        files
    }

    /// The settings of an engine that lets hardly anything wait.
    fn few_waits(&self) -> PathBuf {
        self.folder.write("settings/hookmill.toml", format!("[limits]\nwaiting = {WAITING_MAX}\n"))
    }

    fn show_secret(&self) {
        self.folder.write(SECRET_FILE, SECRET);
    }

    fn hide_secret(&self) {
        if !self.secret_stays {
            std::fs::remove_file(self.folder.path().join(SECRET_FILE)).expect("it was there");
        }
    }
}

impl Stage {
    async fn build(settings: &Settings, receivers: &Receivers) -> Self {
        let server = NatsServer::start().await;
        crate::events::make_source_stream(&server.jetstream().await).await;
        let files = Files::new(settings, receivers);
        let (mut cables, mut engines) = (Vec::new(), Vec::new());
        for number in 0..2 {
            let cable = Cable::to_nats(server.address(), settings.seed ^ (number << 48)).await;
            let mut options = options(settings, &cable).arg(files.folder.path());
            if number == 1 {
                options = options.arg("--watch").arg("--config").arg(files.few_waits());
            }
            engines.push(options.start().await);
            cables.push(cable);
        }
        Self { server, cables, engines, files }
    }

    /// Changes the pipeline file. One engine is told by SIGHUP, the other one watches.
    fn change_file(&mut self) {
        let Files { folder, orders, version, .. } = &mut self.files;
        *version += 1;
        folder.write("orders.toml", format!("{orders}\n# version {version}\n"));
        self.engines[0].signal(Signal::SIGHUP);
    }

    /// Puts whole what a fault may have left broken.
    async fn heal(&mut self) {
        for cable in &self.cables {
            cable.heal();
        }
        for engine in &mut self.engines {
            if !engine.is_running() {
                engine.restart_supervised(REST_MAX).await;
            }
        }
    }
}

fn options(settings: &Settings, cable: &Cable) -> EngineOptions {
    let mut options = Engine::run_at(&cable.nats_url());
    if settings.ack_first {
        options = options.env("HOOKMILL_TEST_ACK_FIRST", "1");
    }
    if let Some(time) = settings.stall {
        let told = format!("{}:{}", Script::STALLED.name(), time.as_secs());
        options = options.env("HOOKMILL_TEST_STALL", &told);
    }
    options
}

/// Runs and judges.
pub async fn run(settings: &Settings) -> Report {
    let clock = Clock::start();
    let receivers = Receivers::start(settings, clock).await;
    let mut stage = Stage::build(settings, &receivers).await;
    tokio::select! {
        report = play(settings, &mut stage, &receivers, clock) => report,
        never = receivers.tend() => match never {},
    }
}

async fn play(settings: &Settings, stage: &mut Stage, receivers: &Receivers, clock: Clock) -> Report {
    let url = stage.server.url();
    let publisher = Publisher::start(&stage.server, settings, clock).await;
    let api = ApiWatch::start(&url, clock).await;
    let onlookers = Onlookers { publisher: &publisher, receivers, api: &api, clock };
    let mut besides = Besides::default();
    let (mut happened, mut stops) = (Vec::new(), Vec::new());
    if settings.calm {
        tokio::time::sleep(settings.time).await;
    } else {
        let people = People::start(settings, &url, clock, receivers.switches()).await;
        happened = disturb(settings, stage, &onlookers, &mut besides).await;
        stage.heal().await;
        stops = people.leave().await;
    }
    let acked = publisher.stop().await;
    let jetstream = stage.server.jetstream().await;
    besides.held = stage.cables.iter().map(Cable::held).sum();
    besides.loads = stage.engines.iter().map(loads).sum();
    let left = come_to_rest(&jetstream, stage, settings).await;
    let mut noted = Noted { acked, happened, stops, end: clock.now() };
    let counters = if left.is_nothing() {
        let (agree, acked) = counters_agree(&jetstream, stage, receivers, settings).await;
        noted.acked.extend(acked.into_iter().map(|(number, sequence)| Acked {
            number,
            sequence,
            at: noted.end,
        }));
        noted.end = clock.now();
        agree
    } else {
        Err("the counters of the engines can't be compared".to_owned())
    };
    let ledger = Ledger::read(&jetstream, receivers, &noted).await;
    besides.api_outages = api.outages();
    Report::new(settings, ledger, noted, besides, (left, counters))
}

/// How often an engine says that it has loaded changed files.
fn loads(engine: &Engine) -> usize {
    engine.lines().iter().filter(|line| line.message() == "ready with the files as they are now").count()
}

/// One fault after the other, until the time is over.
async fn disturb(
    settings: &Settings,
    stage: &mut Stage,
    onlookers: &Onlookers<'_>,
    besides: &mut Besides,
) -> Vec<Happened> {
    let jetstream = stage.server.jetstream().await;
    let mut rng = StdRng::seed_from_u64(settings.seed);
    let (mut happened, mut first) = (Vec::new(), Fault::FIRST.into_iter());
    let until = onlookers.clock.now() + settings.time;
    while onlookers.clock.now() < until {
        let fault = first.next().unwrap_or_else(|| Fault::draw(&mut rng));
        happened.push(faults::inflict(fault, stage, onlookers, &mut rng).await);
        besides.looks += 1;
        // What can't be asked now is not counted.
        let waiting = judge::messages(&jetstream, "HOOKMILL_RETRIES").await;
        besides.full += usize::from(waiting.is_ok_and(|waiting| waiting >= WAITING_MAX));
    }
    happened
}

/// What is left to do, of both pipelines.
async fn left(jetstream: &Context, settings: &Settings) -> Result<Left, String> {
    let mut left = judge::left(jetstream).await?;
    if settings.lanes > 0 {
        let durable = format!("hookmill-{}", many::PIPELINE);
        let (pending, held) = judge::unsettled_of(jetstream, &durable).await?;
        left.pending += pending;
        left.held += held;
    }
    Ok(left)
}

/// Waits until nothing is left, and says what is when the time is over.
async fn come_to_rest(jetstream: &Context, stage: &Stage, settings: &Settings) -> Left {
    let until = Instant::now() + REST_MAX;
    let (mut calm, mut resumed) = (0, Instant::now());
    let mut last = Left::default();
    resume(stage).await;
    while Instant::now() < until {
        if let Ok(left) = left(jetstream, settings).await {
            last = left;
            calm = if left.is_nothing() { calm + 1 } else { 0 };
            if calm >= 3 {
                break;
            }
        }
        if resumed.elapsed() > RESUME_EVERY {
            resume(stage).await;
            resumed = Instant::now();
        }
        // Between two looks; nothing tells when a stream has become empty.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    last
}

/// Resumes the lane that a 410 may have disabled.
async fn resume(stage: &Stage) {
    let lane = people::lane(Script::Gone);
    hookmill(&["lane", "resume", &lane, "--nats", &stage.server.url()]).await;
}

/// Publishes some more events in peace, and compares what the engines count with what the receivers do. Also the numbers and
/// sequences of these events.
async fn counters_agree(
    jetstream: &Context,
    stage: &Stage,
    receivers: &Receivers,
    settings: &Settings,
) -> (Result<(), String>, Vec<(usize, u64)>) {
    let label = format!("subscription=\"{}\"", Script::Healthy.name());
    let labels = [label.as_str(), "outcome=\"delivered\""];
    let counted = async || {
        let mut sum = 0.0;
        for engine in &stage.engines {
            sum += engine.metric("hookmill_deliveries_total", &labels).await;
        }
        sum
    };
    let (engines_before, receiver_before) = (counted().await, receivers.answered(Script::Healthy));
    let numbers = CALM_FIRST..CALM_FIRST + CALM_EVENTS;
    let sequences = crate::events::publish_all(jetstream, numbers.clone().map(publisher::event)).await;
    let acked = numbers.zip(sequences).collect();
    if !come_to_rest(jetstream, stage, settings).await.is_nothing() {
        return (Err("not at rest, so they can't be compared".to_owned()), acked);
    }
    let engines = counted().await - engines_before;
    let receiver = receivers.answered(Script::Healthy) - receiver_before;
    let wanted = f64::from(u32::try_from(CALM_EVENTS).unwrap_or(u32::MAX));
    if (engines - wanted).abs() < 0.5 && receiver == CALM_EVENTS as u64 {
        return (Ok(()), acked);
    }
    let differ =
        format!("of {CALM_EVENTS} events the engines count {engines} delivered, the receiver {receiver}");
    (Err(differ), acked)
}
