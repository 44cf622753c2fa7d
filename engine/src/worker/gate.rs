//! Whether the engine may take more: closed while something can't be stored.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// Stops intake while stores are refused, and says why.
pub struct Gate {
    stuck: Mutex<BTreeMap<u64, String>>,
    next: Mutex<u64>,
    open: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { stuck: Mutex::default(), next: Mutex::new(0), open: watch::Sender::new(true) }
    }
}

/// A store that is stuck; intake goes on when the last one is dropped.
pub struct Stuck<'g> {
    gate: &'g Gate,
    id: u64,
}

impl Gate {
    /// Notes a store that is refused.
    pub fn stick(&self, why: String) -> Stuck<'_> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).insert(*next, why);
        self.open.send_replace(false);
        Stuck { gate: self, id: *next }
    }

    /// Why intake is stopped, if it is.
    pub fn why(&self) -> Option<String> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }

    /// Whether intake may go on.
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Waits until intake may go on.
    pub async fn opened(&self) {
        // The sender lives as long as `self`, so this can't fail.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        let mut stuck = self.gate.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.remove(&self.id);
        if stuck.is_empty() {
            self.gate.open.send_replace(true);
        }
    }
}
