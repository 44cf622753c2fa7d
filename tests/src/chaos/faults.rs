//! What is done to engines, server, connections and files, and when events flow again.

use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::sleep;

use super::Stage;
use super::clock::Clock;
use super::publisher::Publisher;
use super::receivers::{Receivers, Script};
use super::silence::Span;
use super::watch::ApiWatch;

/// Longest wait for the healthy receiver to get an event that was published after the fault.
const RECOVERY_MAX: Duration = Duration::from_mins(2);
/// Longest time for which a request, or the answer to it, is held up.
const HELD_MAX: Duration = Duration::from_secs(15);
/// One in so many is.
const HELD_ONE_IN: u32 = 8;
/// What a full disk leaves.
const STORE_ROOM_BYTES: u64 = 256 * 1024;

/// One thing that is done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Fault {
    /// SIGKILL, started again at once or after a while.
    KillEngine,
    /// SIGKILL of both engines at the same time.
    KillBothEngines,
    /// SIGKILL, started again at once or after a while.
    KillServer,
    /// SIGSTOP beyond `ack_wait`.
    PauseEngine,
    /// SIGSTOP for some seconds.
    PauseServer,
    /// An engine's connections to the server are reset, for a while.
    Cut,
    /// The same, and made again at once, several times.
    Blink,
    /// The server's side is closed.
    HalfClose,
    /// Connections stay open and nothing moves.
    Stall,
    /// The server's store takes nothing more.
    FullStore,
    /// Single requests of both engines, or the answers to them, come late by up to 15 s.
    SlowRequests,
    /// The file of a signing secret is away, and an engine is killed and started again meanwhile.
    SecretGone,
    /// The pipeline file is changed, and both engines load it again.
    Reload,
    /// The same, and one of them is killed while it does.
    ReloadAndKill,
}

impl Fault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KillEngine => "engine killed",
            Self::KillBothEngines => "both engines killed",
            Self::KillServer => "nats-server killed",
            Self::PauseEngine => "engine stopped (SIGSTOP)",
            Self::PauseServer => "nats-server stopped (SIGSTOP)",
            Self::Cut => "connection cut",
            Self::Blink => "connections reset",
            Self::HalfClose => "connection half closed",
            Self::Stall => "connection stalled",
            Self::FullStore => "store full",
            Self::SlowRequests => "requests held up",
            Self::SecretGone => "secret gone, engine killed",
            Self::Reload => "file loaded again",
            Self::ReloadAndKill => "file loaded again, engine killed",
        }
    }

    /// Whether an engine may not hear meanwhile what people say. One that is started reads it first.
    pub(super) fn deafens(self) -> bool {
        match self {
            Self::KillServer
            | Self::PauseEngine
            | Self::PauseServer
            | Self::Cut
            | Self::Blink
            | Self::HalfClose
            | Self::Stall
            | Self::FullStore => true,
            Self::KillEngine
            | Self::KillBothEngines
            | Self::SlowRequests
            | Self::SecretGone
            | Self::Reload
            | Self::ReloadAndKill => false,
        }
    }

    /// How many processes are killed.
    pub(super) fn kills(self) -> usize {
        match self {
            Self::KillEngine | Self::KillServer | Self::SecretGone | Self::ReloadAndKill => 1,
            Self::KillBothEngines | Self::FullStore => 2,
            Self::PauseEngine
            | Self::PauseServer
            | Self::Cut
            | Self::Blink
            | Self::HalfClose
            | Self::Stall
            | Self::SlowRequests
            | Self::Reload => 0,
        }
    }

    /// What every run begins with, however short it is.
    pub(super) const FIRST: [Self; 3] = [Self::SlowRequests, Self::SecretGone, Self::Reload];

    /// The next one: kills more often than the rest.
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        const BAG: [Fault; 21] = [
            Fault::KillEngine,
            Fault::KillEngine,
            Fault::KillEngine,
            Fault::KillEngine,
            Fault::KillBothEngines,
            Fault::KillBothEngines,
            Fault::KillServer,
            Fault::KillServer,
            Fault::KillServer,
            Fault::PauseEngine,
            Fault::PauseServer,
            Fault::Cut,
            Fault::Blink,
            Fault::HalfClose,
            Fault::Stall,
            Fault::FullStore,
            Fault::SlowRequests,
            Fault::SecretGone,
            Fault::Reload,
            Fault::Reload,
            Fault::ReloadAndKill,
        ];
        BAG[rng.random_range(0..BAG.len())]
    }
}

/// A fault and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Happened {
    pub(super) fault: Fault,
    /// From its beginning until what was done is undone: the process is started again, JetStream answers its API, …
    pub(super) span: Span,
    /// Whether an event that was published after it has arrived within two minutes.
    pub(super) recovered: bool,
}

/// Who plays a part in a fault beside the [`Stage`].
pub(super) struct Onlookers<'o> {
    pub(super) publisher: &'o Publisher,
    pub(super) receivers: &'o Receivers,
    pub(super) api: &'o ApiWatch,
    pub(super) clock: Clock,
}

/// Does it, undoes it, waits until events flow again, and then for a moment.
pub(super) async fn inflict(
    fault: Fault,
    stage: &mut Stage,
    onlookers: &Onlookers<'_>,
    rng: &mut StdRng,
) -> Happened {
    let from = onlookers.clock.now();
    let to = do_and_undo(fault, stage, onlookers, rng).await;
    let recovered = recovery(onlookers, to).await;
    sleep(Duration::from_millis(500) + a_while(rng, 3_500)).await;
    Happened { fault, span: Span { from, to }, recovered }
}

fn a_while(rng: &mut StdRng, most_millis: u64) -> Duration {
    Duration::from_millis(rng.random_range(0..most_millis))
}

/// When it was over. An engine that was killed is over it when it is started again, not when it is ready.
async fn do_and_undo(
    fault: Fault,
    stage: &mut Stage,
    onlookers: &Onlookers<'_>,
    rng: &mut StdRng,
) -> Duration {
    let one = rng.random_range(0..stage.engines.len());
    let clock = onlookers.clock;
    match fault {
        Fault::KillEngine => {
            stage.engines[one].kill().await;
            sleep(a_while(rng, 6_000)).await;
            return start_again(stage, one, clock).await;
        }
        Fault::KillBothEngines => {
            let time = a_while(rng, 3_000);
            return kill_both(stage, time, clock).await;
        }
        Fault::KillServer => {
            let time = a_while(rng, 4_000);
            return kill_server(stage, time, onlookers).await;
        }
        Fault::PauseEngine => {
            stage.engines[one].pause().await;
            sleep(Duration::from_secs(11) + a_while(rng, 4_000)).await;
            stage.engines[one].resume();
        }
        Fault::PauseServer => {
            let time = Duration::from_secs(2) + a_while(rng, 5_000);
            return pause_server(stage, time, onlookers).await;
        }
        Fault::Cut => {
            stage.cables[one].cut();
            sleep(Duration::from_secs(1) + a_while(rng, 6_000)).await;
            stage.cables[one].heal();
        }
        Fault::Blink => {
            for _ in 0..5 {
                stage.cables.iter().for_each(crate::Cable::blink);
                sleep(a_while(rng, 800)).await;
            }
        }
        Fault::HalfClose => stage.cables[one].half_close(),
        Fault::Stall => {
            stage.cables[one].stall();
            sleep(Duration::from_secs(1) + a_while(rng, 11_000)).await;
            stage.cables[one].heal();
        }
        Fault::FullStore => {
            let time = Duration::from_secs(3) + a_while(rng, 5_000);
            return fill_up(stage, time, onlookers).await;
        }
        Fault::SlowRequests => {
            stage.cables.iter().for_each(|cable| cable.hold_requests(HELD_ONE_IN, HELD_MAX));
            sleep(Duration::from_secs(3) + a_while(rng, 5_000)).await;
            stage.cables.iter().for_each(crate::Cable::heal);
        }
        Fault::SecretGone => {
            stage.files.hide_secret();
            sleep(a_while(rng, 2_000)).await;
            stage.engines[one].kill().await;
            stage.engines[one].restart_supervised(RECOVERY_MAX).await;
            sleep(Duration::from_secs(1) + a_while(rng, 3_000)).await;
            stage.files.show_secret();
        }
        Fault::Reload => stage.change_file(),
        Fault::ReloadAndKill => {
            stage.change_file();
            sleep(a_while(rng, 1_500)).await;
            stage.engines[one].kill().await;
            return start_again(stage, one, clock).await;
        }
    }
    clock.now()
}

async fn start_again(stage: &mut Stage, one: usize, clock: Clock) -> Duration {
    let over = clock.now();
    stage.engines[one].restart_supervised(RECOVERY_MAX).await;
    over
}

async fn kill_both(stage: &mut Stage, time: Duration, clock: Clock) -> Duration {
    for engine in &stage.engines {
        engine.kill().await;
    }
    sleep(time).await;
    let over = clock.now();
    join_all(stage.engines.iter_mut().map(|engine| engine.restart_supervised(RECOVERY_MAX))).await;
    over
}

async fn kill_server(stage: &mut Stage, time: Duration, onlookers: &Onlookers<'_>) -> Duration {
    stage.server.kill().await;
    sleep(time).await;
    let started = onlookers.clock.now();
    stage.server.restart().await;
    onlookers.api.answered_since(started).await
}

async fn pause_server(stage: &mut Stage, time: Duration, onlookers: &Onlookers<'_>) -> Duration {
    stage.server.pause().await;
    sleep(time).await;
    let resumed = onlookers.clock.now();
    stage.server.resume();
    onlookers.api.answered_since(resumed).await
}

/// The server comes back with a store that is nearly full, and later with room again.
async fn fill_up(stage: &mut Stage, time: Duration, onlookers: &Onlookers<'_>) -> Duration {
    let account = stage.server.jetstream().await.query_account().await;
    let used = account.expect("the server answers").storage;
    stage.server.restart_with_store(Some(used + STORE_ROOM_BYTES)).await;
    sleep(time).await;
    let started = onlookers.clock.now();
    stage.server.restart_with_store(None).await;
    onlookers.api.answered_since(started).await
}

/// Waits until the healthy receiver has an event that was published from now on, and says whether that came.
async fn recovery(onlookers: &Onlookers<'_>, ended: Duration) -> bool {
    let Onlookers { publisher, receivers, clock, .. } = onlookers;
    let first = publisher.next();
    while clock.now() < ended + RECOVERY_MAX {
        if receivers.newest(Script::Healthy).is_some_and(|newest| newest > first) {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}
