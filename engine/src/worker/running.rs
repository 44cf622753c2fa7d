//! Attempts that run (or wait for a slot) in this engine, by task key and generation. A copy of such a task that comes
//! meanwhile is not started: it is settled by that attempt's outcome.
//!
//! An attempt is closed before its task is stored as something that goes on (a wait, a place in a lane): what comes from
//! then on may be that very thing, fired or drained at once, and to settle it with the old attempt would lose the task.
//!
//! A copy that joins may be a later state than the one that runs. What is stored from then on counts on from the furthest
//! of them, and a lease settles only what is behind it: a state is never let go of for one that others may take for older.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::held::Hold;
use crate::model::progress::{is_settled_by, joined};
use crate::model::{Task, TaskKey};

type Id = (TaskKey, u64);

/// The attempts of one engine.
#[derive(Clone, Default)]
pub struct Running {
    inner: Arc<Mutex<HashMap<Id, Entry>>>,
}

/// What waits for the outcome of one attempt.
#[derive(Default)]
struct Entry {
    /// Each with the stores of the state that it holds.
    holds: Vec<(u64, Hold)>,
    /// The most stores of any state of the task that this attempt has met or stored.
    stores: u64,
}

/// One attempt: collects the holds that wait for its outcome.
pub struct Ticket {
    running: Running,
    id: Option<Id>,
    /// What was there when it was closed.
    closed: Entry,
}

impl Running {
    /// Begins an attempt with its first hold, or hands the hold to the one that runs already.
    pub fn begin(&self, task: &Task, hold: Hold) -> Option<Ticket> {
        let id = (task.key.clone(), task.generation);
        let mut inner = self.entries();
        if let Some(entry) = inner.get_mut(&id) {
            entry.stores = joined(entry.stores, task.stores);
            entry.holds.push((task.stores, hold));
            return None;
        }
        inner.insert(id.clone(), Entry { holds: vec![(task.stores, hold)], stores: task.stores });
        Some(Ticket { running: self.clone(), id: Some(id), closed: Entry::default() })
    }

    /// Attempts now.
    pub fn count(&self) -> usize {
        self.entries().len()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Id, Entry>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The most stores of any state of the task that this attempt knows of: what it stores next has one more.
    pub fn stores(&self) -> u64 {
        let Some(id) = &self.id else { return self.closed.stores };
        self.running.entries().get(id).map_or(0, |entry| entry.stores)
    }

    /// A state with so many stores is there, and the attempt goes on (its lease): settles what is behind it.
    pub async fn settle_behind(&self, stores: u64) {
        let Some(id) = &self.id else { return };
        let behind = {
            let mut inner = self.running.entries();
            let Some(entry) = inner.get_mut(id) else { return };
            entry.stores = joined(entry.stores, stores);
            let all = std::mem::take(&mut entry.holds);
            let (behind, kept): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|(held, _)| is_settled_by(*held, stores));
            entry.holds = kept;
            behind
        };
        for (_, hold) in behind {
            hold.settle().await;
        }
    }

    /// The task is about to be stored as something that goes on: a copy that comes from now on is an attempt of its own.
    pub fn close(&mut self) {
        self.closed = self.take();
    }

    /// The attempt has its outcome, stored: settles everything.
    pub async fn settle(mut self) {
        for (_, hold) in self.take().holds {
            hold.settle().await;
        }
    }

    /// Ends the attempt and hands out its holds, for the tasks that it became.
    pub fn into_holds(mut self) -> Vec<Hold> {
        self.take().holds.into_iter().map(|(_, hold)| hold).collect()
    }

    fn take(&mut self) -> Entry {
        let Some(id) = self.id.take() else { return std::mem::take(&mut self.closed) };
        self.running.entries().remove(&id).unwrap_or_default()
    }
}

impl Drop for Ticket {
    /// Without an outcome the holds are dropped unsettled, and their messages come again.
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{Name, SourceMessage, SourceRef, SplitPath, Timestamp, Work};
    use crate::worker::held::Holds;

    pub(in crate::worker) fn task() -> Task {
        let pipeline = Name::new("p").unwrap();
        let source = SourceRef { stream: "S".into(), sequence: 1, time: Timestamp::from_unix_nanos(1) };
        let path = SplitPath::root();
        Task {
            key: TaskKey::derive(&source, &pipeline, "s", &path),
            delivery_id: crate::model::DeliveryId::derive("/s", "1", &pipeline, "s", &path),
            subscription: Some(Name::new("s").unwrap()),
            pipeline,
            work: Work::Source(SourceMessage { headers: Vec::new(), body: bytes::Bytes::new() }),
            source,
            event: Arc::default(),
            path,
            steps: "".into(),
            subject: None,
            mends: crate::model::event::Mends::NONE,
            generation: 0,
            stores: 0,
            attempt: 0,
            first_attempt: None,
            left: None,
            http: Vec::new(),
            modules: Vec::new(),
            traceparent: None,
            hops: 0,
            last: None,
            fits: None,
        }
    }

    #[test]
    fn a_copy_joins_a_running_attempt() {
        let (running, holds) = (Running::default(), Arc::<Holds>::default());
        let first = running.begin(&task(), Hold::nothing(&holds)).unwrap();
        assert!(running.begin(&task(), Hold::nothing(&holds)).is_none());
        assert_eq!(first.into_holds().len(), 2);
        assert_eq!(running.count(), 0);
    }

    #[test]
    fn what_was_stored_and_comes_at_once_is_an_attempt_of_its_own() {
        let (running, holds) = (Running::default(), Arc::<Holds>::default());
        let mut first = running.begin(&task(), Hold::nothing(&holds)).unwrap();
        first.close();
        // The wait or the place in the lane is stored and comes back before the first attempt is settled.
        let second = running.begin(&task(), Hold::nothing(&holds)).unwrap();
        assert_eq!(first.into_holds().len(), 1, "the second is not settled with the first");
        assert_eq!((running.count(), second.into_holds().len()), (1, 1));
    }

    #[tokio::test]
    async fn a_later_state_that_joins_is_settled_by_nothing_older() {
        let (running, holds) = (Running::default(), Arc::<Holds>::default());
        let first = running.begin(&task(), Hold::nothing(&holds)).unwrap();
        let later = Task { stores: 2, ..task() };
        assert!(running.begin(&later, Hold::nothing(&holds)).is_none());
        assert_eq!(first.stores(), 2, "what is stored next is further on than both");
        // A lease of the state that the attempt began with, as another engine has stored it.
        first.settle_behind(1).await;
        assert_eq!(first.into_holds().len(), 1, "the later one is still held");
    }

    #[tokio::test]
    async fn a_lease_counts_and_settles_what_it_came_from() {
        let (running, holds) = (Running::default(), Arc::<Holds>::default());
        let mut first = running.begin(&task(), Hold::nothing(&holds)).unwrap();
        first.settle_behind(1).await;
        assert_eq!(first.stores(), 1);
        first.close();
        assert_eq!(first.stores(), 1, "a closed attempt counts on");
        assert_eq!(first.into_holds().len(), 0);
    }
}
