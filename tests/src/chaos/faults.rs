//! What is done to engines, server and connections, and how long it takes until events flow again.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};

use super::Stage;
use super::publisher::Publisher;
use super::receivers::{Receivers, Script};

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
        }
    }

    /// How many processes are killed.
    pub(super) fn kills(self) -> usize {
        match self {
            Self::KillEngine | Self::KillServer | Self::SecretGone => 1,
            Self::KillBothEngines | Self::FullStore => 2,
            Self::PauseEngine
            | Self::PauseServer
            | Self::Cut
            | Self::Blink
            | Self::HalfClose
            | Self::Stall
            | Self::SlowRequests => 0,
        }
    }

    /// What every run begins with, however short it is.
    pub(super) const FIRST: [Self; 2] = [Self::SlowRequests, Self::SecretGone];

    /// The next one: kills more often than the rest.
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        const BAG: [Fault; 18] = [
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
        ];
        BAG[rng.random_range(0..BAG.len())]
    }
}

/// A fault and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Happened {
    pub(super) fault: Fault,
    /// From its end until an event that was published after that has arrived; none: not within two minutes.
    pub(super) recovered: Option<Duration>,
}

/// Does it, undoes it, waits until events flow again, and then for a moment.
pub(super) async fn inflict(
    fault: Fault,
    stage: &mut Stage,
    publisher: &Publisher,
    receivers: &Receivers,
    rng: &mut StdRng,
) -> Happened {
    let one = rng.random_range(0..stage.engines.len());
    let mut a_while = |most: u64| Duration::from_millis(rng.random_range(0..most));
    match fault {
        Fault::KillEngine => {
            stage.engines[one].kill().await;
            sleep(a_while(6_000)).await;
            stage.engines[one].restart_supervised(RECOVERY_MAX).await;
        }
        Fault::KillBothEngines => {
            for engine in &stage.engines {
                engine.kill().await;
            }
            sleep(a_while(3_000)).await;
            for engine in &mut stage.engines {
                engine.restart_supervised(RECOVERY_MAX).await;
            }
        }
        Fault::KillServer => {
            stage.server.kill().await;
            sleep(a_while(4_000)).await;
            stage.server.restart().await;
        }
        Fault::PauseEngine => {
            stage.engines[one].pause().await;
            sleep(Duration::from_secs(11) + a_while(4_000)).await;
            stage.engines[one].resume();
        }
        Fault::PauseServer => {
            stage.server.pause().await;
            sleep(Duration::from_secs(2) + a_while(5_000)).await;
            stage.server.resume();
        }
        Fault::Cut => {
            stage.cables[one].cut();
            sleep(Duration::from_secs(1) + a_while(6_000)).await;
            stage.cables[one].heal();
        }
        Fault::Blink => {
            for _ in 0..5 {
                stage.cables.iter().for_each(crate::Cable::blink);
                sleep(a_while(800)).await;
            }
        }
        Fault::HalfClose => stage.cables[one].half_close(),
        Fault::Stall => {
            stage.cables[one].stall();
            sleep(Duration::from_secs(1) + a_while(11_000)).await;
            stage.cables[one].heal();
        }
        Fault::FullStore => fill_up(stage, Duration::from_secs(3) + a_while(5_000)).await,
        Fault::SlowRequests => {
            stage.cables.iter().for_each(|cable| cable.hold_requests(HELD_ONE_IN, HELD_MAX));
            sleep(Duration::from_secs(3) + a_while(5_000)).await;
            stage.cables.iter().for_each(crate::Cable::heal);
        }
        Fault::SecretGone => {
            stage.secret.hide();
            sleep(a_while(2_000)).await;
            stage.engines[one].kill().await;
            stage.engines[one].restart_supervised(RECOVERY_MAX).await;
            sleep(Duration::from_secs(1) + a_while(3_000)).await;
            stage.secret.show();
        }
    }
    let recovered = recovery(publisher, receivers).await;
    sleep(Duration::from_millis(500) + a_while(3_500)).await;
    Happened { fault, recovered }
}

/// The server comes back with a store that is nearly full, and later with room again.
async fn fill_up(stage: &mut Stage, time: Duration) {
    let account = stage.server.jetstream().await.query_account().await;
    let used = account.expect("the server answers").storage;
    stage.server.restart_with_store(Some(used + STORE_ROOM_BYTES)).await;
    sleep(time).await;
    stage.server.restart_with_store(None).await;
}

async fn recovery(publisher: &Publisher, receivers: &Receivers) -> Option<Duration> {
    let (begun, first) = (Instant::now(), publisher.next());
    while begun.elapsed() < RECOVERY_MAX {
        if receivers.newest(Script::Healthy).is_some_and(|newest| newest > first) {
            return Some(begun.elapsed());
        }
        sleep(Duration::from_millis(20)).await;
    }
    None
}
