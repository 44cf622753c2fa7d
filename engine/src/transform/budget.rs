//! Who may go on. A call runs where it is for [`FREE_SLICES`], and lets others go first after each; from then on, or from
//! its beginning where its step has worked much lately, it needs a core of the few that all such calls share
//! ([`super::cores`]), and asks for it anew after each slice, behind every step that has worked less.
//!
//! Waiting counts for the call's own time-out: nobody waits here for longer than that.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wasmtime::UpdateDeadline;

use super::cores::{Account, Core, Cores, Place};
use super::stretch::Stretch;
use super::ticker::Ticker;

/// How long a call runs before it lets others go first, in ticks of a millisecond. Short, because what waits for the same
/// thread is mostly done in a hundredth of that.
const SLICE_TICKS: u64 = 2;

/// How long a shared core rests after a slice where the thread has other work: a quarter of it is enough for calls that are
/// long, and without that they would take half of a small machine from all who are not.
const REST: Duration = Duration::from_millis(3 * SLICE_TICKS);

/// A turn of all that waits for the same thread takes this long where there is other work.
const CROWDED: Duration = Duration::from_micros(100);

/// Slices that a call has for free.
const FREE_SLICES: u32 = 5;

/// Slices after which a call lets the next one of its own step go first: if all took turns, none would be in time.
const TURN_SLICES: u32 = 50;

/// The place of one step in the queue for the shared cores.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    cores: Arc<Cores>,
    account: Arc<Account>,
    ticker: Arc<Ticker>,
}

impl Queue {
    /// The queue of a step. `cores` is shared by all steps.
    pub(super) fn new(cores: Arc<Cores>, ticker: Arc<Ticker>) -> Self {
        Self { cores, account: Arc::default(), ticker }
    }

    fn wait(&self, place: Place) -> oneshot::Receiver<Core> {
        self.cores.wait(&self.account, place)
    }

    /// Does what belongs to a call and can't be interrupted, on the step's account.
    pub(super) fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        let stretch = Stretch::begin();
        let done = work();
        self.cores.charge(&self.account, stretch.worked(), true);
        done
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
    core: Option<Core>,
    /// Whether it has had a core since this was asked last.
    had_core: bool,
    /// Slices of this call so far.
    slices: u32,
    /// Whether the call waits in the queue, and not for something else.
    queued: bool,
}

impl Meter {
    pub(super) fn new(queue: Queue) -> Arc<Self> {
        Arc::new(Self { queue, held: Mutex::new(Held::default()) })
    }

    /// Ticks until [`Self::next_slice`] is asked for the first time.
    pub(super) fn first_ticks() -> u64 {
        SLICE_TICKS
    }

    /// The answer to a deadline that has passed: let others go first, then go on for a slice.
    pub(super) fn next_slice(self: &Arc<Self>) -> UpdateDeadline {
        let meter = Arc::clone(self);
        meter.held().queued = true;
        UpdateDeadline::YieldCustom(SLICE_TICKS, Box::pin(async move { meter.next().await }))
    }

    /// Runs `call`, gives back what it holds when it waits for anything but the queue, and when it ends.
    pub(super) async fn run<F: Future>(&self, call: F) -> F::Output {
        Run { meter: self, call: std::pin::pin!(call), entry: None }.await
    }

    async fn next(&self) {
        let (slices, core) = {
            let mut held = self.held();
            held.slices = held.slices.saturating_add(1);
            (held.slices, held.core.take())
        };
        let goes_on = core.is_some() && !slices.is_multiple_of(TURN_SLICES);
        let rests = core.is_some();
        let began = Instant::now();
        loop {
            let turn = Instant::now();
            tokio::task::yield_now().await;
            if !rests || turn.elapsed() < CROWDED || began.elapsed() >= REST {
                break;
            }
        }
        // Only now: the next call in line would not rest.
        drop(core);
        if slices >= FREE_SLICES || !self.queue.cores.is_free(&self.queue.account) {
            let place = if goes_on { Place::Front } else { Place::Back };
            let core = match self.queue.cores.take() {
                Some(core) => core,
                None => self.queue.wait(place).await.expect(SERVED),
            };
            self.take(core);
        }
        self.held().queued = false;
    }

    fn take(&self, core: Core) {
        let mut held = self.held();
        held.core = Some(core);
        held.had_core = true;
    }

    /// Puts what the call has just worked on its step's account.
    fn charge(&self, stretch: Stretch) {
        let for_free = {
            let mut held = self.held();
            let has_core = held.core.is_some();
            !std::mem::replace(&mut held.had_core, has_core)
        };
        let Queue { cores, account, .. } = &self.queue;
        cores.charge(account, stretch.worked(), for_free);
    }

    fn release(&self) {
        *self.held() = Held::default();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SERVED: &str = "a call that waits is only taken out of its line with a core for it";

struct Run<'a, F> {
    meter: &'a Meter,
    call: Pin<&'a mut F>,
    /// The place in the queue of a call that isn't free to begin.
    entry: Option<oneshot::Receiver<Core>>,
}

impl<F> Run<'_, F> {
    /// Waits for a core where the call can't go on without.
    fn poll_entry(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Queue { cores, account, .. } = &self.meter.queue;
        let waits_or_has = {
            let held = self.meter.held();
            held.queued || held.core.is_some()
        };
        if waits_or_has || (self.entry.is_none() && cores.is_free(account)) {
            return Poll::Ready(());
        }
        let at_once = if self.entry.is_none() { cores.take() } else { None };
        let core = if let Some(core) = at_once {
            core
        } else {
            let entry = self.entry.get_or_insert_with(|| self.meter.queue.wait(Place::Back));
            ready!(Pin::new(entry).poll(cx)).expect(SERVED)
        };
        self.entry = None;
        self.meter.take(core);
        Poll::Ready(())
    }
}

impl<F: Future> Future for Run<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        ready!(self.poll_entry(cx));
        self.meter.queue.ticker.note_call();
        let stretch = Stretch::begin();
        let polled = self.call.as_mut().poll(cx);
        self.meter.charge(stretch);
        if polled.is_ready() || !self.meter.held().queued {
            self.meter.release();
        }
        polled
    }
}
