//! How long a thread has worked without a break, by its own clock: on a busy machine the clock on the wall goes on while
//! the thread stands still, and nobody must be charged for that.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Asking for the thread's own clock costs a system call, so it is asked this seldom, and what is shorter is measured on
/// the wall.
const MARK_EVERY: Duration = Duration::from_millis(1);

thread_local! {
    /// Both clocks, no longer than [`MARK_EVERY`] before a stretch begins.
    static MARK: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// Work that one thread does without letting go of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    began: Instant,
}

impl Stretch {
    pub(super) fn begin() -> Self {
        let began = Instant::now();
        let fresh = MARK.get().is_some_and(|(marked, _)| began.duration_since(marked) < MARK_EVERY);
        if !fresh {
            MARK.set(Some((began, thread_time())));
        }
        Self { began }
    }

    /// What the thread has worked since, too much by [`MARK_EVERY`] at most. To be asked on the same thread.
    pub(super) fn worked(self) -> Duration {
        let wall = self.began.elapsed();
        match MARK.get() {
            Some((_, marked)) if wall >= MARK_EVERY => thread_time().saturating_sub(marked).min(wall),
            _ => wall,
        }
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = Duration::from_secs(time.tv_sec.try_into().unwrap_or_default());
    seconds + Duration::from_nanos(time.tv_nsec.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_counts_and_standing_still_does_not() {
        let stretch = Stretch::begin();
        std::thread::sleep(Duration::from_millis(60));
        assert!(stretch.worked() < Duration::from_millis(30), "{:?}", stretch.worked());
        let mut sum = 0_u64;
        while thread_time() < MARK.get().unwrap().1 + Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(stretch.worked() >= Duration::from_millis(20), "{:?}", stretch.worked());
    }
}
