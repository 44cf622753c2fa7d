//! Attempts that run (or wait for a slot) in this engine, by task key and generation. A copy of such a task that comes
//! meanwhile is not started: it is settled by that attempt's outcome.
//!
//! An attempt is closed before its task is stored as something that goes on (a wait, a place in a lane): what comes from
//! then on may be that very thing, fired or drained at once, and to settle it with the old attempt would lose the task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::held::Hold;
use crate::model::{Task, TaskKey};

type Id = (TaskKey, u64);

/// The attempts of one engine.
#[derive(Clone, Default)]
pub struct Running {
    inner: Arc<Mutex<HashMap<Id, Vec<Hold>>>>,
}

/// One attempt: collects the holds that wait for its outcome.
pub struct Ticket {
    running: Running,
    id: Option<Id>,
    /// What was held when it was closed.
    closed: Vec<Hold>,
}

impl Running {
    /// Begins an attempt with its first hold, or hands the hold to the one that runs already.
    pub fn begin(&self, task: &Task, hold: Hold) -> Option<Ticket> {
        let id = (task.key.clone(), task.generation);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holds) = inner.get_mut(&id) {
            holds.push(hold);
            return None;
        }
        inner.insert(id.clone(), vec![hold]);
        Some(Ticket { running: self.clone(), id: Some(id), closed: Vec::new() })
    }

    /// Attempts now.
    pub fn count(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Ticket {
    /// Settles what is held so far; the attempt goes on (its lease is stored).
    pub async fn settle_so_far(&self) {
        let holds = {
            let mut inner = self.running.inner.lock().unwrap_or_else(PoisonError::into_inner);
            self.id.as_ref().and_then(|id| inner.get_mut(id)).map(std::mem::take)
        };
        for hold in holds.unwrap_or_default() {
            hold.settle().await;
        }
    }

    /// The task is about to be stored as something that goes on: a copy that comes from now on is an attempt of its own.
    pub fn close(&mut self) {
        let holds = self.take();
        self.closed = holds;
    }

    /// The attempt has its outcome, stored: settles everything.
    pub async fn settle(mut self) {
        for hold in self.take() {
            hold.settle().await;
        }
    }

    /// Ends the attempt and hands out its holds, for the tasks that it became.
    pub fn into_holds(mut self) -> Vec<Hold> {
        self.take()
    }

    fn take(&mut self) -> Vec<Hold> {
        let Some(id) = self.id.take() else { return std::mem::take(&mut self.closed) };
        self.running.inner.lock().unwrap_or_else(PoisonError::into_inner).remove(&id).unwrap_or_default()
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
            generation: 0,
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
}
