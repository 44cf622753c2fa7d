//! Who may go on after its free time. A call runs where it is for [`FREE_TICKS`]; from then on it needs a core of the
//! few that all such calls share, and asks for it anew each [`SLICE_TICKS`], behind everybody who waits.
//!
//! Each step has one turn in that queue, so a step with a hundred spinning calls gets no more than one with a single
//! slow one. Waiting counts for the call's own time-out: nobody waits here for longer than that.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::UpdateDeadline;

use super::ticker::Ticker;

/// Free time of a call, in ticks of a millisecond.
const FREE_TICKS: u64 = 10;

/// Free time of a call of a step that has another call beyond it just now: a hundred spinning calls at once would
/// else take a second from the threads that serve everybody.
const FREE_TICKS_CROWDED: u64 = 2;

/// How long a call keeps a core before it asks again, in ticks.
const SLICE_TICKS: u64 = 10;

/// Slices after which a call lets the next one of its own step go first.
const TURN_SLICES: u32 = 10;

/// The place of one step in the queue for the shared cores.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    cores: Arc<Semaphore>,
    turn: Arc<Semaphore>,
    ticker: Arc<Ticker>,
}

impl Queue {
    /// The queue of a step. `cores` is shared by all steps and has one permit for each core.
    pub(super) fn new(cores: Arc<Semaphore>, ticker: Arc<Ticker>) -> Self {
        Self { cores, turn: Arc::new(Semaphore::new(1)), ticker }
    }
}

/// What one instance holds of the shared cores, and what it waits for.
#[derive(Debug)]
pub(super) struct Meter {
    queue: Queue,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    turn: Option<OwnedSemaphorePermit>,
    core: Option<OwnedSemaphorePermit>,
    /// Slices since the turn was taken.
    slices: u32,
    /// Whether the call waits in the queue, and not for something else.
    queued: bool,
}

impl Meter {
    pub(super) fn new(queue: Queue) -> Arc<Self> {
        Arc::new(Self { queue, held: Mutex::new(Held::default()) })
    }

    /// Ticks that a call that begins now runs for free.
    pub(super) fn free_ticks(&self) -> u64 {
        let crowded = self.queue.turn.available_permits() == 0;
        if crowded { FREE_TICKS_CROWDED } else { FREE_TICKS }
    }

    /// The answer to a deadline that has passed: get in line, then go on for a slice.
    pub(super) fn next_slice(self: &Arc<Self>) -> UpdateDeadline {
        let meter = Arc::clone(self);
        meter.held().queued = true;
        UpdateDeadline::YieldCustom(SLICE_TICKS, Box::pin(async move { meter.wait().await }))
    }

    /// Runs `call`, gives back what it holds when it waits for anything but the queue, and when it ends.
    pub(super) async fn run<F: Future>(&self, call: F) -> F::Output {
        Run { meter: self, call: std::pin::pin!(call) }.await
    }

    async fn wait(&self) {
        let turn = {
            let mut held = self.held();
            held.core = None;
            held.slices += 1;
            let turn = held.turn.take();
            if held.slices <= TURN_SLICES { turn } else { None }
        };
        tokio::task::yield_now().await;
        let (turn, slices) = match turn {
            Some(turn) => (turn, None),
            None => (permit(&self.queue.turn).await, Some(0)),
        };
        let core = permit(&self.queue.cores).await;
        let mut held = self.held();
        held.turn = Some(turn);
        held.core = Some(core);
        held.slices = slices.unwrap_or(held.slices);
        held.queued = false;
    }

    fn release(&self) {
        *self.held() = Held::default();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("nothing closes this semaphore")
}

struct Run<'a, F> {
    meter: &'a Meter,
    call: Pin<&'a mut F>,
}

impl<F: Future> Future for Run<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.meter.queue.ticker.note_call();
        let polled = self.call.as_mut().poll(cx);
        if polled.is_ready() || !self.meter.held().queued {
            self.meter.release();
        }
        polled
    }
}
