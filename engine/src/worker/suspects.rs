//! Messages that may be what kills the engine: one is attempted at a time, beside all other work, in random order.
//!
//! The delivery count alone proves nothing: it rises for everything that is held when an engine dies.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::held::Hold;

/// From this delivery on a message is a suspect.
pub const SUSPECT_DELIVERIES: u64 = 4;
/// What was started this often as a suspect is dead-lettered.
pub const SUSPECT_STARTS_MAX: u32 = 3;

/// Suspects that wait in line without room in `max_in_flight`; those behind them keep theirs, so that what is held is bounded.
const LINE_MAX: usize = 2_048;

/// The longest turn, for the sake of those behind it.
pub const TURN_MAX: Duration = Duration::from_secs(30);

/// The queue of suspects of one engine.
#[derive(Clone, Default)]
pub struct Suspects {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    busy: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

/// The right to be the one suspect that is attempted.
pub struct Turn {
    inner: Arc<Mutex<Inner>>,
}

impl Suspects {
    /// Waits for a turn. Intake goes on meanwhile: room that a suspect had would be held for as long as all those before it
    /// take.
    pub async fn turn(&self, hold: &Hold) -> Turn {
        loop {
            let receiver = {
                let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                if !inner.busy {
                    inner.busy = true;
                    return Turn { inner: self.inner.clone() };
                }
                if inner.waiting.len() < LINE_MAX {
                    hold.give_back_room();
                }
                let (sender, receiver) = oneshot::channel();
                inner.waiting.push(sender);
                receiver
            };
            // Woken or forgotten: ask again.
            let _ = receiver.await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.busy = false;
        while !inner.waiting.is_empty() {
            let chosen = rand::random_range(0..inner.waiting.len());
            if inner.waiting.swap_remove(chosen).send(()).is_ok() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::super::held::Holds;
    use super::*;

    #[tokio::test]
    async fn one_suspect_has_its_turn_at_a_time_and_all_come_to_it_without_holding_room() {
        let suspects = Arc::new(Suspects::default());
        let (holds, room) = (Arc::<Holds>::default(), Arc::new(Semaphore::new(21)));
        let held = || Hold::in_room(&holds, room.clone().try_acquire_owned().unwrap());
        let first_held = held();
        let first = suspects.turn(&first_held).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (suspects, hold) = (suspects.clone(), held());
            tasks.spawn(async move {
                let turn = suspects.turn(&hold).await;
                assert!(suspects.inner.lock().unwrap().busy);
                drop(turn);
            });
        }
        // Only the one whose turn it is keeps its room.
        while room.available_permits() < 20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(room.available_permits(), 20);
        drop(first);
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert!(!suspects.inner.lock().unwrap().busy);
    }
}
