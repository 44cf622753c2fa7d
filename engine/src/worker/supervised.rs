//! Standing loops: each has a name, is started again when it panics, and shows that in health. The only place that spawns one.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Engine;
use super::health::Part;
use super::intake::PAUSE;
use crate::telemetry::metrics as names;

/// A loop that has run for so long since it was started again works.
const CALM_AFTER: Duration = Duration::from_secs(30);

impl Engine {
    /// Runs a loop until the engine takes nothing more.
    pub(super) fn keep_going<F>(
        self: &Arc<Self>,
        name: &'static str,
        turn: impl FnMut(Arc<Self>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.supervise(&self.tracker, &self.stop, name, turn);
    }

    /// The same until the very end, while attempts come to theirs.
    pub(super) fn keep_going_to_the_end<F>(
        self: &Arc<Self>,
        name: &'static str,
        turn: impl FnMut(Arc<Self>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.supervise(&self.house, &self.cut_off, name, turn);
    }

    fn supervise<F>(
        self: &Arc<Self>,
        tracker: &TaskTracker,
        end: &CancellationToken,
        name: &'static str,
        turn: impl FnMut(Arc<Self>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let supervised = self.clone().turn_after_turn(name, turn);
        tracker.spawn(end.clone().run_until_cancelled_owned(supervised));
    }

    /// One turn after the other, a panic between two of them or not. A loop that has to end sees to that by itself.
    pub(super) async fn turn_after_turn<F>(
        self: Arc<Self>,
        name: &'static str,
        mut turn: impl FnMut(Arc<Self>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut pause = PAUSE.0;
        let mut failed = false;
        loop {
            let work = AssertUnwindSafe(panicking_once(name, turn(self.clone()))).catch_unwind();
            let mut work = std::pin::pin!(work);
            let soon = tokio::time::timeout(CALM_AFTER, &mut work).await;
            let ended = if let Ok(ended) = soon {
                ended
            } else {
                if std::mem::take(&mut failed) {
                    self.health.set(Part::Loop(name), None);
                }
                pause = PAUSE.0;
                work.await
            };
            if ended.is_ok() {
                return;
            }
            failed = true;
            metrics::counter!(names::LOOP_RESTARTS, "loop" => name).increment(1);
            tracing::error!(
                name,
                "a part of the engine failed (a panic) and is started again; please report it"
            );
            let trouble = "it failed (a panic) and was started again a moment ago; please report it with the engine's log";
            self.health.set(Part::Loop(name), Some(trouble.to_owned()));
            // Not the engine's own pause: what runs to the very end goes on while it stops.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}

/// In builds for tests, the loop that `HOOKMILL_TEST_PANIC_LOOP` names panics at its first turn.
#[cfg(debug_assertions)]
async fn panicking_once(name: &'static str, turn: impl Future<Output = ()>) {
    use std::sync::atomic::{AtomicBool, Ordering};
    static DONE: AtomicBool = AtomicBool::new(false);
    let meant = std::env::var("HOOKMILL_TEST_PANIC_LOOP").is_ok_and(|named| named == name);
    if meant && !DONE.swap(true, Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        panic!("asked for by a test");
    }
    turn.await;
}

#[cfg(not(debug_assertions))]
async fn panicking_once(_name: &'static str, turn: impl Future<Output = ()>) {
    turn.await;
}
