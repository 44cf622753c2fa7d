//! What an instance may grow to, and a note of what was refused: a guest that is out of memory traps like one that
//! panics, and only this note tells them apart.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::ResourceLimiter;

use super::idle::Idles;
use super::share::Share;

/// Most elements of one table.
pub(super) const TABLE_ELEMENTS_MAX: usize = 20_000;

/// Which limit was met last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    Memory,
    HostMemory,
    Table,
}

/// Linear memory of all instances together.
pub(super) struct MemoryBudget {
    state: Mutex<State>,
    max_bytes: u64,
    idles: Arc<Idles>,
}

#[derive(Default)]
struct State {
    used_bytes: u64,
    /// What idle instances have of it. Counts as free: they are ended when somebody needs it.
    idle_bytes: u64,
}

/// What became of a wish for more memory.
enum Taken {
    Yes,
    /// First some idle instance has to go.
    Full,
    No,
}

impl MemoryBudget {
    pub(super) fn new(max_bytes: u64, idles: Arc<Idles>) -> Self {
        Self { state: Mutex::default(), max_bytes, idles }
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> u64 {
        self.lock().used_bytes
    }

    /// Takes more memory for an instance of `share` that may have `own_max` in all.
    fn take(&self, share: &Share, own_max: u64, bytes: u64) -> bool {
        loop {
            match self.take_free(share, own_max, bytes) {
                Taken::Yes => return true,
                Taken::No => return false,
                // Dropped without the lock: it gives its memory back.
                Taken::Full => match self.idles.take_oldest() {
                    Some(instance) => drop(instance),
                    None => return false,
                },
            }
        }
    }

    fn take_free(&self, share: &Share, own_max: u64, bytes: u64) -> Taken {
        let mut state = self.lock();
        let used = state.used_bytes.saturating_add(bytes);
        let own = share.memory_bytes.load(Ordering::Relaxed).saturating_add(bytes);
        let left = self.max_bytes.saturating_add(state.idle_bytes).checked_sub(used);
        // One instance may have what its step allows. With more of them, a subscription leaves as much as it has.
        if left.is_none_or(|left| own > own_max && own > left) {
            return Taken::No;
        }
        if used > self.max_bytes {
            return Taken::Full;
        }
        state.used_bytes = used;
        share.memory_bytes.store(own, Ordering::Relaxed);
        Taken::Yes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

/// The limits of one instance.
#[derive(Debug)]
pub(super) struct Limiter {
    shared: Arc<MemoryBudget>,
    share: Arc<Share>,
    max_bytes: u64,
    used_bytes: u64,
    idle: bool,
    refused: Option<Refused>,
}

impl Limiter {
    pub(super) fn new(shared: Arc<MemoryBudget>, share: Arc<Share>, max_bytes: u64) -> Self {
        Self { shared, share, max_bytes, used_bytes: 0, idle: false, refused: None }
    }

    /// Linear memory now, in bytes.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Whether its memory counts as free, because it has nothing to do.
    pub(super) fn set_idle(&mut self, idle: bool) {
        if std::mem::replace(&mut self.idle, idle) != idle {
            let mut state = self.shared.lock();
            if idle {
                state.idle_bytes += self.used_bytes;
            } else {
                state.idle_bytes -= self.used_bytes;
            }
        }
    }

    /// What was refused since this was asked last.
    pub(super) fn take_refused(&mut self) -> Option<Refused> {
        self.refused.take()
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.set_idle(false);
        self.shared.lock().used_bytes -= self.used_bytes;
        self.share.memory_bytes.fetch_sub(self.used_bytes, Ordering::Relaxed);
    }
}

impl ResourceLimiter for Limiter {
    /// Growth that is allowed here and fails all the same stays counted: giving it back in `memory_grow_failed` would
    /// let a guest lower its count, as that is called for growth that was never asked for here, too.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if max.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current) as u64;
        if self.used_bytes.saturating_add(more) > self.max_bytes {
            self.refused = Some(Refused::Memory);
            return Ok(false);
        }
        if !self.shared.take(&self.share, self.max_bytes, more) {
            self.refused = Some(Refused::HostMemory);
            return Ok(false);
        }
        self.used_bytes += more;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= TABLE_ELEMENTS_MAX;
        if !fits {
            self.refused = Some(Refused::Table);
        }
        Ok(fits)
    }
}
