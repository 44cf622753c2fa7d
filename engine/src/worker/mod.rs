//! Stores, acknowledges and spawns: the only place that does.
//!
//! An [`Engine`] takes messages from the sources of its pipelines and from what is due, carries their tasks on with
//! [`crate::pipeline::Pipeline::advance`], and makes each outcome durable before it lets go of what it came from.

mod again;
mod answered;
mod attempt;
mod clock;
mod counters;
mod cursor;
mod drain;
mod ends;
mod expiry;
mod gate;
mod health;
mod held;
mod housekeeping;
mod intake;
#[cfg(test)]
mod interleavings;
mod lane;
mod lane_owner;
mod lane_record;
mod lane_word;
mod loops;
mod misconfigured;
mod modules;
mod overdue;
mod reused_ids;
mod revision;
mod running;
mod shares;
mod stalled;
mod storing;
mod succession;
mod supervised;
mod suspects;
mod taking;
mod turns;
mod under_way;
mod unreadable;
mod unstorable;
mod whole;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answered::Answered;
use self::gate::Gate;
use self::health::{Health, Part};
use self::held::Holds;
use self::lane::Lane;
use self::lane_owner::Process;
pub use self::modules::TRIES_MAX;
use self::reused_ids::ReusedIds;
use self::revision::Force;
use self::running::Running;
use self::shares::{DirectRoom, Shares};
use self::storing::Storing;
pub use self::succession::Successor;
use self::suspects::Suspects;
use self::taking::{Left, Origin};
use self::turns::Turns;
use crate::model::{Name, Next, Task, Timestamp};
use crate::nats::registry::RegistryError;
use crate::nats::streams::StreamsError;
use crate::nats::{Modules, Nats, Registry, StoreError};
use crate::pipeline::Pipeline;
use crate::telemetry::metrics as names;

/// What of a shutdown's deadline is left for saying goodbye.
const TIDY_MAX: Duration = Duration::from_secs(2);

/// How often floors are kept and lanes looked for.
const FLOOR_EVERY: Duration = Duration::from_secs(5);

/// What bounds an engine's storage.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tasks in one lane.
    pub lane: u64,
    /// Tasks that wait, in all; beyond that failed ones go to their lanes.
    pub waiting: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lane: 1_000_000, waiting: 1_000_000 }
    }
}

/// One outcome of one attempt, for onlookers.
pub struct Seen<'s> {
    /// The task as the attempt began with it.
    pub task: &'s Task,
    /// What became of it.
    pub next: &'s Next,
    /// When.
    pub at: Timestamp,
}

/// Is told of every outcome as it happens. Must not block.
pub type Onlooker = Arc<dyn Fn(&Seen<'_>) + Send + Sync>;

/// Why an engine can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The streams.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// The bucket.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The record of what this engine uses.
    #[error("what modules this engine uses can't be kept")]
    Uses(#[source] StoreError),
    /// A pipeline has no name for the moment.
    #[error(
        "pipeline {pipeline} can't be run: {from} is being renamed to {to}, and that was not finished; run `hookmill pipeline rename {from} {to}`"
    )]
    Renaming {
        /// The pipeline.
        pipeline: Name,
        /// Its old name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// Pipelines take their own output.
    #[error(
        "pipelines take their own output: {0}; publish to a subject that none of these sources takes, or let one of them take fewer"
    )]
    Loop(String),
    /// A source.
    #[error(transparent)]
    Source(#[from] crate::source::SourceError),
}

impl StartError {
    /// Whether it may be otherwise in a moment: JetStream does not answer yet.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Streams(error) => error.is_passing(),
            Self::Registry(error) => error.is_passing(),
            Self::Uses(error) => error.is_passing(),
            Self::Renaming { .. } | Self::Loop(_) => false,
            Self::Source(error) => error.is_passing(),
        }
    }
}

/// A running engine.
pub struct Engine {
    /// Tells this engine from others, also from its own earlier runs.
    id: String,
    nats: Nats,
    registry: Registry,
    modules: Modules,
    pipelines: Vec<Arc<Pipeline>>,
    lanes: Lanes,
    storing: Arc<Storing>,
    holds: Arc<Holds>,
    running: Running,
    /// What draining lanes have of the room of all sources together.
    shares: Shares,
    /// This process, as the owner of lanes.
    process: Arc<Process>,
    /// The line of those that ask about lanes.
    turns: Arc<Turns>,
    answered: Arc<Answered>,
    reused_ids: Arc<ReusedIds>,
    suspects: Suspects,
    health: Health,
    limits: Limits,
    waiting: AtomicU64,
    /// Pipelines whose own lane is being drained.
    draining_whole: Mutex<HashSet<Name>>,
    /// Pipelines whose own lane holds what this engine can't read.
    unreadable_whole: Mutex<HashSet<Name>>,
    /// Whether it was said that dead letters age out soon.
    ages_out: AtomicBool,
    clock_said: clock::ClockSaid,
    onlooker: Option<Onlooker>,
    /// Whether each pipeline's file, as this engine has it, is in force.
    forces: HashMap<Name, watch::Sender<Force>>,
    tracker: TaskTracker,
    /// What takes messages.
    intake: TaskTracker,
    /// What has to go on until the very end.
    house: TaskTracker,
    /// Whether what takes messages leaves its pulls to another engine.
    hands_over: AtomicBool,
    left: Mutex<Left>,
    /// The engine that has taken over.
    successor: OnceLock<Weak<Self>>,
    /// Ends intake.
    stop: CancellationToken,
    /// Ends every wait for a store.
    cut_off: CancellationToken,
}

/// What an engine knows by itself, and what goes on in another one when the files are loaded again.
struct Kept {
    nats: Nats,
    registry: Registry,
    limits: Limits,
    onlooker: Option<Onlooker>,
    gate: Arc<Gate>,
    holds: Arc<Holds>,
    running: Running,
    process: Arc<Process>,
    turns: Arc<Turns>,
    answered: Arc<Answered>,
    reused_ids: Arc<ReusedIds>,
    suspects: Suspects,
    waiting: u64,
    ages_out: bool,
}

type Lanes = HashMap<Name, HashMap<Name, Arc<Lane>>>;

impl Engine {
    /// Verifies streams and sources, then starts taking.
    pub async fn start(
        nats: Nats,
        pipelines: Vec<Arc<Pipeline>>,
        limits: Limits,
        onlooker: Option<Onlooker>,
    ) -> Result<Arc<Self>, StartError> {
        nats.ensure_streams(limits.lane).await?;
        let registry = Registry::open(&nats).await?;
        let mut lanes = Lanes::new();
        let takes = sources_examined(&nats, &registry, &pipelines).await?;
        loops::refuse(&pipelines, &takes)?;
        for pipeline in &pipelines {
            let names = pipeline.subscriptions().iter().map(|subscription| &subscription.name);
            let anew = lanes_anew(&registry, pipeline, names, &Arc::default()).await?;
            lanes.insert(pipeline.name.clone(), anew);
        }
        let kept = Kept {
            nats,
            registry,
            limits,
            onlooker,
            gate: Arc::default(),
            holds: Arc::default(),
            running: Running::default(),
            process: Arc::new(Process::new()),
            turns: Arc::default(),
            answered: Arc::default(),
            reused_ids: Arc::default(),
            suspects: Suspects::default(),
            waiting: 0,
            ages_out: false,
        };
        let engine = Self::of(kept, pipelines, lanes);
        for pipeline in &engine.pipelines {
            engine.put_into_force(pipeline).await?;
        }
        engine.look_at_references().await;
        engine.keep_house();
        engine.begin(Left::new());
        Ok(engine)
    }

    fn of(kept: Kept, pipelines: Vec<Arc<Pipeline>>, lanes: Lanes) -> Arc<Self> {
        let Kept { nats, registry, limits, onlooker, holds, running, process, turns, .. } = kept;
        let (answered, reused_ids, suspects) = (kept.answered, kept.reused_ids, kept.suspects);
        let health = Health::default();
        let mut forces = HashMap::new();
        for pipeline in &pipelines {
            health.expect(Part::Source(&pipeline.name));
            health.expect(Part::Due(&pipeline.name));
            forces.insert(pipeline.name.clone(), watch::Sender::new(Force::Ours));
        }
        let cut_off = CancellationToken::new();
        Arc::new(Self {
            id: format!("{:016x}", rand::random::<u64>()),
            storing: Arc::new(Storing::new(nats.clone(), kept.gate, cut_off.clone())),
            modules: Modules::look(&nats),
            nats,
            registry,
            shares: Shares::of(pipelines.iter().map(|pipeline| pipeline.source.max_in_flight).sum()),
            pipelines,
            lanes,
            holds,
            running,
            process,
            turns,
            answered,
            reused_ids,
            suspects,
            health,
            limits,
            waiting: AtomicU64::new(kept.waiting),
            draining_whole: Mutex::default(),
            unreadable_whole: Mutex::default(),
            ages_out: AtomicBool::new(kept.ages_out),
            clock_said: clock::ClockSaid::default(),
            onlooker,
            forces,
            tracker: TaskTracker::new(),
            intake: TaskTracker::new(),
            house: TaskTracker::new(),
            hands_over: AtomicBool::new(false),
            left: Mutex::default(),
            successor: OnceLock::new(),
            stop: CancellationToken::new(),
            cut_off,
        })
    }

    /// Starts to follow and to take; `left` are pulls that go on from an earlier engine.
    fn begin(self: &Arc<Self>, mut left: Left) {
        self.keep_going("modules", Self::follow_modules);
        for pipeline in &self.pipelines {
            let revision = pipeline.revision.to_string();
            let labels = [("pipeline", pipeline.name.to_string()), ("revision", revision)];
            metrics::gauge!(names::CONFIG_INFO, &labels).set(1.0);
            let of_revision = pipeline.clone();
            self.keep_going("files in force", move |engine| engine.follow_revision(of_revision.clone()));
            let mut left = |origin| left.remove(&(pipeline.name.clone(), origin));
            // A pull that panicked is none to go on with: only the first turn has what is left of another engine.
            let (mut source, mut due) = (left(Origin::Source), left(Origin::Due));
            let (of_source, of_due) = (pipeline.clone(), pipeline.clone());
            let source = self
                .clone()
                .turn_after_turn("source", move |engine| engine.run_source(of_source.clone(), source.take()));
            self.intake.spawn(self.tracker.track_future(source));
            let due = self
                .clone()
                .turn_after_turn("due tasks", move |engine| engine.run_due(of_due.clone(), due.take()));
            self.intake.spawn(self.tracker.track_future(due));
        }
    }

    /// Stops intake, lets running attempts end, keeps the floors; all of it within the deadline, whether NATS answers or not.
    pub async fn shut_down(&self, deadline: Duration) {
        let until = Instant::now() + deadline;
        self.stop.cancel();
        self.tracker.close();
        let attempts = deadline.saturating_sub(TIDY_MAX.min(deadline / 4));
        if tokio::time::timeout(attempts, self.tracker.wait()).await.is_err() {
            tracing::warn!(
                running = self.running.count(),
                "attempts still run at the deadline; they will be repeated"
            );
        }
        self.cut_off.cancel();
        if tokio::time::timeout_at(until, self.tidy_up()).await.is_err() {
            tracing::warn!("NATS does not answer; signs of life and floors stay as they were kept last");
        }
    }

    async fn tidy_up(&self) {
        self.retire().await;
        self.retire_process().await;
        self.nats.flush().await;
        for pipeline in &self.pipelines {
            self.keep_floor(pipeline).await;
        }
        self.nats.flush().await;
    }

    /// Takes the signs of life away.
    async fn retire(&self) {
        for pipeline in &self.pipelines {
            if let Err(error) = self.registry.retire(&pipeline.name, &self.id).await {
                tracing::debug!(%error, "sign of life stays behind");
            }
        }
    }

    /// What is wrong, a line each; none: ready.
    pub fn troubles(&self) -> Vec<String> {
        if self.stop.is_cancelled() {
            return vec!["stopping: nothing new is taken, attempts come to their end".to_owned()];
        }
        let mut troubles = self.health.troubles();
        if !self.nats.is_connected() {
            troubles.push("no connection to NATS".to_owned());
        }
        troubles.extend(self.storing.gate.why());
        troubles.extend(self.process.trouble(Instant::now()));
        troubles
    }

    /// Waits until every source is pulled from.
    pub async fn ready(&self) {
        self.health.ready().await;
    }

    /// Pipeline and subscription of every lane that this engine knows; `_`: a pipeline as a whole.
    pub fn lane_names(&self) -> BTreeSet<(String, String)> {
        let lanes = self.all_lanes();
        let lanes = lanes.map(|lane| (lane.pipeline.name.to_string(), lane.subscription.name.to_string()));
        let wholes = self.pipelines.iter().map(|pipeline| (pipeline.name.to_string(), "_".to_owned()));
        lanes.chain(wholes).collect()
    }

    /// Messages held now.
    pub fn held(&self) -> usize {
        self.holds.count()
    }

    /// Runs what carries one message or task. In a box of its own: the runtime's cells are aligned to 128 bytes, and the
    /// allocator is slow at that where they hold kilobytes.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(Box::pin(work));
    }

    fn lane_of(&self, task: &Task) -> Option<Arc<Lane>> {
        self.lane_named(&task.pipeline, task.subscription.as_ref()?)
    }

    fn lane_named(&self, pipeline: &Name, subscription: &Name) -> Option<Arc<Lane>> {
        self.lanes.get(pipeline)?.get(subscription).cloned()
    }

    fn all_lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.lanes.values().flat_map(HashMap::values)
    }

    /// Whether no more may wait; failed tasks then go to their lanes.
    fn waiting_is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= self.limits.waiting
    }
}

/// Asks NATS whether the pipelines may take from their sources; the subjects that each takes.
async fn sources_examined(
    nats: &Nats,
    registry: &Registry,
    pipelines: &[Arc<Pipeline>],
) -> Result<Vec<Vec<String>>, StartError> {
    let mut takes = Vec::new();
    for pipeline in pipelines {
        revision::has_a_name(registry, &pipeline.name).await?;
        takes.push(crate::source::examine(nats, registry, &pipeline.name, &pipeline.source).await?);
    }
    Ok(takes)
}

/// Lanes of a pipeline as the registry has kept them.
async fn lanes_anew(
    registry: &Registry,
    pipeline: &Arc<Pipeline>,
    subscriptions: impl Iterator<Item = &Name>,
    room: &Arc<DirectRoom>,
) -> Result<HashMap<Name, Arc<Lane>>, RegistryError> {
    let mut lanes = HashMap::new();
    for subscription in subscriptions.filter_map(|name| pipeline.subscription(name)) {
        let lane = Lane::new(pipeline.clone(), subscription.clone()).in_room(Arc::clone(room));
        let kept = registry.lane(pipeline.name.as_str(), subscription.name.as_str()).await?;
        if let Some(record) = kept {
            lane.restore(&record, Timestamp::now(), Timestamp::steady());
            unreadable::forget(registry, &pipeline.name, subscription.name.as_str(), &record).await?;
        }
        lanes.insert(subscription.name.clone(), Arc::new(lane));
    }
    if let Some(record) = registry.lane(pipeline.name.as_str(), "_").await? {
        unreadable::forget(registry, &pipeline.name, "_", &record).await?;
    }
    Ok(lanes)
}
