//! The thread that moves the engine's epoch on, one tick a millisecond, so that no guest runs without an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use wasmtime::{Engine, EngineWeak};

/// Length of a tick.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// Ticks without a call after which the thread sleeps until there is one.
const IDLE_TICKS: u32 = 200;

/// Handle of the thread. The thread ends when the engine is gone.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicU64,
    asleep: AtomicBool,
    stop: AtomicBool,
}

impl Ticker {
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let weak = engine.weak();
        let seen = Arc::clone(&shared);
        let run = move || run(&weak, &seen);
        let handle = thread::Builder::new().name("transform-ticks".to_owned()).spawn(run)?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Says that a guest is about to run. To be called before each stretch of at most [`IDLE_TICKS`].
    pub(super) fn note_call(&self) {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) && self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

fn run(engine: &EngineWeak, shared: &Shared) {
    let mut clock = Clock::new(Instant::now());
    let mut calls_seen = 0;
    let mut idle_ticks = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        thread::sleep(TICK);
        let Some(engine) = engine.upgrade() else { return };
        for _ in 0..clock.ticks_until(Instant::now()) {
            engine.increment_epoch();
        }
        let calls = shared.calls.load(Ordering::SeqCst);
        idle_ticks = if calls == calls_seen { idle_ticks + 1 } else { 0 };
        calls_seen = calls;
        drop(engine);
        if idle_ticks >= IDLE_TICKS && !busy(shared, calls_seen) {
            idle_ticks = 0;
            clock = Clock::new(Instant::now());
        }
    }
}

/// Sleeps until the next call. True if one came in the moment of falling asleep.
fn busy(shared: &Shared, calls_seen: u64) -> bool {
    shared.asleep.store(true, Ordering::SeqCst);
    if shared.calls.load(Ordering::SeqCst) != calls_seen {
        shared.asleep.store(false, Ordering::SeqCst);
        return true;
    }
    while shared.asleep.load(Ordering::SeqCst) && !shared.stop.load(Ordering::SeqCst) {
        thread::park();
    }
    false
}

/// Counts ticks from the clock: on a busy machine a sleep of 1 ms lasts longer, and the ticks that it missed count.
struct Clock {
    counted_until: Instant,
}

impl Clock {
    fn new(now: Instant) -> Self {
        Self { counted_until: now }
    }

    fn ticks_until(&mut self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.counted_until);
        let ticks = u32::try_from(passed.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX);
        self.counted_until += TICK * ticks;
        // A machine that slept for hours needs no millions of increments: any deadline has passed by then.
        ticks.min(60_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_tick_counts_for_all_that_passed() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        assert_eq!(clock.ticks_until(start + Duration::from_micros(900)), 0);
        assert_eq!(clock.ticks_until(start + Duration::from_micros(1100)), 1);
        assert_eq!(clock.ticks_until(start + Duration::from_micros(51_900)), 50);
        assert_eq!(clock.ticks_until(start + Duration::from_millis(52)), 1);
        assert_eq!(clock.ticks_until(start), 0);
    }
}
