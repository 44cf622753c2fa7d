//! Everything is killed, cut, stalled and filled up again and again while events flow; then the books are opened.
//!
//! The judge is independent: what has to end is read from the source stream, what has ended from the receivers' own
//! counts and from the dead-letter stream. The engine's counters are only looked at in the end, when nothing is killed
//! any more, to see whether they agree.

mod faults;
mod ledger;
mod publisher;
mod receivers;
mod report;

use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::time::Instant;

use crate::judge::{self, Left};
use crate::{Cable, Engine, EngineOptions, NatsServer, PipelineFolder, hookmill};

use faults::Fault;
use ledger::Ledger;
use publisher::Publisher;
use receivers::{Receivers, SECRET, SECRET_FILE, Script};
use report::Besides;
pub use report::Report;

/// How long everything may take to come to its end once the faults have stopped.
const REST_MAX: Duration = Duration::from_mins(4);
/// Events of the last, undisturbed part, by which the engine's counters are checked.
const CALM_EVENTS: usize = 200;
/// What one of the two engines lets wait in all: hardly anything, so that what fails there goes to its lane.
const WAITING_MAX: u64 = 5;
/// How often a lane that a 410 has disabled is resumed.
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
    /// Whether the file of the signing secret is never away.
    pub keep_secret: bool,
    /// Runs a build for tests that acknowledges before it stores: the judge must see the losses.
    pub ack_first: bool,
}

/// Two engines, each on a cable of its own, a server, and what belongs to them.
struct Stage {
    server: NatsServer,
    cables: Vec<Cable>,
    engines: Vec<Engine>,
    secret: Secret,
}

/// The file of the signing secret, and the folder of the pipeline around it.
struct Secret {
    folder: PipelineFolder,
    stays: bool,
}

impl Secret {
    fn show(&self) {
        self.folder.write(SECRET_FILE, SECRET);
    }

    fn hide(&self) {
        if !self.stays {
            std::fs::remove_file(self.folder.path().join(SECRET_FILE)).expect("it was there");
        }
    }
}

impl Stage {
    async fn build(settings: &Settings, receivers: &Receivers) -> Self {
        let server = NatsServer::start().await;
        crate::events::make_source_stream(&server.jetstream().await).await;
        let folder = PipelineFolder::with("orders", &receivers.pipeline());
        let secret = Secret { folder, stays: settings.keep_secret };
        secret.show();
        let few = format!("[limits]\nwaiting = {WAITING_MAX}\n");
        let few = secret.folder.write("settings/hookmill.toml", few);
        let (mut cables, mut engines) = (Vec::new(), Vec::new());
        for number in 0..2 {
            let cable = Cable::to_nats(server.address(), settings.seed ^ (number << 48)).await;
            let mut options = options(settings, &cable).arg(secret.folder.path());
            if number == 1 {
                options = options.arg("--config").arg(&few);
            }
            engines.push(options.start().await);
            cables.push(cable);
        }
        Self { server, cables, engines, secret }
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
    let options = Engine::run_at(&cable.nats_url());
    if settings.ack_first { options.env("HOOKMILL_TEST_ACK_FIRST", "1") } else { options }
}

/// Runs and judges.
pub async fn run(settings: &Settings) -> Report {
    let mut rng = StdRng::seed_from_u64(settings.seed);
    let receivers = Receivers::start(settings.seed).await;
    let mut stage = Stage::build(settings, &receivers).await;
    let publisher = Publisher::start(&stage.server, settings.rate).await;
    let jetstream = stage.server.jetstream().await;
    let until = Instant::now() + settings.time;
    let (mut happened, mut besides) = (Vec::new(), Besides::default());
    let mut first = Fault::FIRST.into_iter();
    let disturb = async {
        while Instant::now() < until {
            let fault = first.next().unwrap_or_else(|| Fault::draw(&mut rng));
            happened.push(faults::inflict(fault, &mut stage, &publisher, &receivers, &mut rng).await);
            besides.looks += 1;
            // What can't be asked now is not counted.
            let waiting = judge::messages(&jetstream, "HOOKMILL_RETRIES").await;
            besides.full += usize::from(waiting.is_ok_and(|waiting| waiting >= WAITING_MAX));
        }
    };
    tokio::select! {
        () = disturb => {}
        never = receivers.tend() => match never {},
    }
    stage.heal().await;
    receivers.end_410();
    let published = publisher.stop().await;
    let jetstream = stage.server.jetstream().await;
    besides.held = stage.cables.iter().map(Cable::held).sum();
    let rest = async {
        let left = come_to_rest(&jetstream, &stage).await;
        let agree = counters_agree(&jetstream, &stage, &receivers, published).await;
        (left, agree)
    };
    let (left, counters) = tokio::select! {
        ended = rest => ended,
        never = receivers.tend() => match never {},
    };
    let ledger = Ledger::read(&jetstream, &receivers).await;
    besides.forged = receivers.forged();
    Report::new(settings, ledger, happened, besides, (left, counters))
}

/// Waits until nothing is left, and says what is when the time is over.
async fn come_to_rest(jetstream: &async_nats::jetstream::Context, stage: &Stage) -> Left {
    let until = Instant::now() + REST_MAX;
    let (mut calm, mut resumed) = (0, Instant::now());
    let mut last = Left::default();
    resume(stage).await;
    while Instant::now() < until {
        if let Ok(left) = judge::left(jetstream).await {
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
    let lane = format!("orders/{}", Script::Gone.name());
    hookmill(&["lane", "resume", &lane, "--nats", &stage.server.url()]).await;
}

/// Publishes some more events in peace, and compares what the engines count with what the receivers do.
async fn counters_agree(
    jetstream: &async_nats::jetstream::Context,
    stage: &Stage,
    receivers: &Receivers,
    first: usize,
) -> Result<(), String> {
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
    let events = (first..first + CALM_EVENTS).map(publisher::event);
    crate::events::publish_all(jetstream, events).await;
    if !come_to_rest(jetstream, stage).await.is_nothing() {
        return Err("not at rest, so they can't be compared".to_owned());
    }
    let engines = counted().await - engines_before;
    let receiver = receivers.answered(Script::Healthy) - receiver_before;
    let wanted = f64::from(u32::try_from(CALM_EVENTS).unwrap_or(u32::MAX));
    if (engines - wanted).abs() < 0.5 && receiver == CALM_EVENTS as u64 {
        return Ok(());
    }
    Err(format!("of {CALM_EVENTS} events the engines count {engines} delivered, the receiver {receiver}"))
}
