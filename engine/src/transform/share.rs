//! What one subscription has of everything that all share. All its steps count together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::budget::Queue;

/// One subscription's part.
#[derive(Debug)]
pub(super) struct Share {
    /// Its turn in the queue for the shared cores.
    pub(super) queue: Queue,
    /// Instances that work for it. Changed under the lock of `Places`.
    pub(super) working: AtomicU32,
    /// Linear memory of its instances, idle ones included, in bytes. Grows under the lock of `MemoryBudget`.
    pub(super) memory_bytes: AtomicU64,
}

impl Share {
    pub(super) fn new(queue: Queue) -> Arc<Self> {
        Arc::new(Self { queue, working: AtomicU32::new(0), memory_bytes: AtomicU64::new(0) })
    }

    pub(super) fn working(&self) -> u32 {
        self.working.load(Ordering::Relaxed)
    }
}

/// The shares by their owners.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<Arc<str>, Weak<Share>>>);

impl Shares {
    /// The share of `owner`, made by `new` if there is none; one of its own for nobody.
    pub(super) fn of(&self, owner: &Arc<str>, new: impl FnOnce() -> Arc<Share>) -> Arc<Share> {
        if owner.is_empty() {
            return new();
        }
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(owner).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = new();
        shares.insert(Arc::clone(owner), Arc::downgrade(&share));
        share
    }
}
