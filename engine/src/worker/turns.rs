//! How many questions about lanes are out at once: as many as JetStream answers in good time. The others wait in line, so
//! that lanes take turns where the server can't serve all of them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// An answer that took longer says that too much is asked at once.
const GOOD_TIME: Duration = Duration::from_millis(200);
/// Questions at once to begin with.
const FIRST: usize = 8;
/// Most questions at once.
const MOST: usize = 64;
/// Fewest: answers may be late because something else keeps the machine busy, and fewer questions would not mend that.
const FEWEST: usize = 2;

/// The line of those that ask.
pub(super) struct Turns {
    permits: Semaphore,
    state: Mutex<State>,
}

/// Additive increase, multiplicative decrease (Chiu and Jain 1989), by the time that answers take.
struct State {
    /// Questions that may be out at once.
    allowed: usize,
    /// Permits that are still out and have to go.
    owed: usize,
    /// Quick answers since `allowed` changed.
    quick: usize,
    /// When it was lowered last: answers to what was asked before say nothing new.
    lowered: Option<Instant>,
}

/// The right to ask one question, or a few in a row.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    permit: Option<SemaphorePermit<'t>>,
    began: Instant,
    /// How long it was waited for.
    pub(super) waited: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        let state = State { allowed: FIRST, owed: 0, quick: 0, lowered: None };
        Self { permits: Semaphore::new(FIRST), state: Mutex::new(state) }
    }
}

impl Turns {
    /// Waits in line.
    pub(super) async fn take(&self) -> Turn<'_> {
        let asked = Instant::now();
        // Never closed.
        let permit = self.permits.acquire().await.ok();
        let began = Instant::now();
        Turn { turns: self, permit, began, waited: began.duration_since(asked) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer came to what was asked at `began`.
    fn answered(&self, began: Instant, now: Instant) {
        let mut state = self.state();
        if now.duration_since(began) > GOOD_TIME {
            if state.lowered.is_none_or(|lowered| began >= lowered) {
                let fewer = (state.allowed * 3 / 4).max(FEWEST);
                state.owed += state.allowed - fewer;
                (state.allowed, state.quick, state.lowered) = (fewer, 0, Some(now));
            }
            return;
        }
        state.quick += 1;
        if state.quick >= state.allowed && state.allowed < MOST && self.permits.available_permits() == 0 {
            (state.allowed, state.quick) = (state.allowed + 1, 0);
            if state.owed > 0 {
                state.owed -= 1;
            } else {
                self.permits.add_permits(1);
            }
        }
    }
}

impl Turn<'_> {
    /// The answer is there: says how long it took.
    pub(super) fn answered(self) {
        self.turns.answered(self.began, Instant::now());
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        if state.owed > 0
            && let Some(permit) = self.permit.take()
        {
            state.owed -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(turns: &Turns, takes: Duration) {
        let turn = turns.take().await;
        tokio::time::sleep(takes).await;
        turn.answered();
    }

    async fn ask_all(turns: &Turns, questions: usize, takes: Duration) {
        futures_util::future::join_all((0..questions).map(|_| ask(turns, takes))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_ask_as_are_answered_in_good_time() {
        let turns = Turns::default();
        ask_all(&turns, 10_000, Duration::from_millis(5)).await;
        assert_eq!(turns.state().allowed, MOST, "more and more while answers are quick");
        ask_all(&turns, 64, Duration::from_secs(1)).await;
        assert_eq!(turns.state().allowed, 48, "those that were asked together count once");
        ask_all(&turns, 500, Duration::from_secs(1)).await;
        assert!(turns.state().allowed <= 8, "{}", turns.state().allowed);
        ask_all(&turns, 20_000, Duration::from_millis(5)).await;
        assert_eq!(turns.state().allowed, MOST, "and back again");
        assert_eq!(turns.permits.available_permits(), MOST, "none was lost, none is owed");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_longest_goes_first_and_one_always_goes() {
        let turns = Turns::default();
        for _ in 0..40 {
            ask(&turns, Duration::from_secs(1)).await;
        }
        assert_eq!((turns.state().allowed, turns.permits.available_permits()), (FEWEST, FEWEST));
        let _other = turns.take().await;
        let order = Mutex::new(Vec::new());
        let asks = (0..5).map(|number| {
            let (turns, order) = (&turns, &order);
            async move {
                let turn = turns.take().await;
                order.lock().unwrap().push(number);
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop(turn);
            }
        });
        futures_util::future::join_all(asks).await;
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
    }
}
