//! Tasks of a lane that this process has taken and not settled: what a reader of the lane passes over, and where it has to
//! look again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Sequences of a lane's tasks that are under way. Shared by all versions of a lane.
#[derive(Default)]
pub(super) struct UnderWay {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    sequences: BTreeSet<u64>,
    /// The lowest that was let go of without an outcome: it lies there still.
    abandoned: Option<u64>,
    /// The highest that was ever taken: what comes at or below it may have been begun before.
    highest: u64,
}

/// One task under way. Dropped without [`Taken::settled`], it is abandoned.
pub(super) struct Taken {
    under_way: Arc<UnderWay>,
    /// Its sequence in the stream of lanes.
    pub(super) sequence: u64,
    /// Whether it may have been begun before.
    pub(super) again: bool,
}

impl UnderWay {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a task; none: it is under way already.
    pub(super) fn take(self: &Arc<Self>, sequence: u64) -> Option<Taken> {
        let mut inner = self.inner();
        if !inner.sequences.insert(sequence) {
            return None;
        }
        let again = sequence <= inner.highest;
        inner.highest = inner.highest.max(sequence);
        Some(Taken { under_way: Arc::clone(self), sequence, again })
    }

    /// Tasks under way.
    pub(super) fn count(&self) -> usize {
        self.inner().sequences.len()
    }

    /// The lowest sequence that is under way.
    pub(super) fn lowest(&self) -> Option<u64> {
        self.inner().sequences.first().copied()
    }

    /// Where to look again for what was abandoned, if something was; told once.
    pub(super) fn take_abandoned(&self) -> Option<u64> {
        self.inner().abandoned.take()
    }

    /// Waits until a task comes to its end.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Taken {
    /// It is removed from the lane.
    pub(super) fn settled(self) {
        self.under_way.inner().sequences.remove(&self.sequence);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut inner = self.under_way.inner();
        if inner.sequences.remove(&self.sequence) {
            inner.abandoned = Some(inner.abandoned.map_or(self.sequence, |lowest| lowest.min(self.sequence)));
        }
        drop(inner);
        // One waits: the lane's drain. A permit is kept for it if it is not waiting just now.
        self.under_way.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_not_taken_twice_and_what_is_abandoned_is_looked_for_again() {
        let under_way = Arc::<UnderWay>::default();
        let (first, second) = (under_way.take(5).unwrap(), under_way.take(9).unwrap());
        assert!(!first.again && !second.again && under_way.take(5).is_none());
        drop(second);
        drop(first);
        assert_eq!((under_way.count(), under_way.take_abandoned()), (0, Some(5)));
        assert_eq!(under_way.take_abandoned(), None);
        let repeated = under_way.take(5).unwrap();
        assert!(repeated.again, "it may have been begun before");
        repeated.settled();
        assert_eq!((under_way.lowest(), under_way.take_abandoned()), (None, None));
    }

    #[tokio::test]
    async fn an_end_between_two_looks_is_not_missed() {
        let under_way = Arc::<UnderWay>::default();
        under_way.take(1).unwrap().settled();
        under_way.changed().await;
    }
}
