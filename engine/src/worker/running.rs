//! Attempts that run (or wait for a slot) in this engine, by task key and generation. A copy of such a task that comes
//! meanwhile is not started: it is settled by that attempt's outcome.

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
        Some(Ticket { running: self.clone(), id: Some(id) })
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
        let Some(id) = self.id.take() else { return Vec::new() };
        self.running.inner.lock().unwrap_or_else(PoisonError::into_inner).remove(&id).unwrap_or_default()
    }
}

impl Drop for Ticket {
    /// Without an outcome the holds are dropped unsettled, and their messages come again.
    fn drop(&mut self) {
        drop(self.take());
    }
}
