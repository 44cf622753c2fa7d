//! What an instance may grow to, and a note of what was refused: a guest that is out of memory traps like one that
//! panics, and only this note tells them apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

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
#[derive(Debug)]
pub(super) struct MemoryBudget {
    used_bytes: AtomicU64,
    max_bytes: u64,
}

impl MemoryBudget {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { used_bytes: AtomicU64::new(0), max_bytes }
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    fn take(&self, bytes: u64) -> bool {
        let sum = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.max_bytes);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The limits of one instance.
#[derive(Debug)]
pub(super) struct Limiter {
    shared: Arc<MemoryBudget>,
    max_bytes: u64,
    used_bytes: u64,
    refused: Option<Refused>,
}

impl Limiter {
    pub(super) fn new(shared: Arc<MemoryBudget>, max_bytes: u64) -> Self {
        Self { shared, max_bytes, used_bytes: 0, refused: None }
    }

    /// Linear memory now, in bytes.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// What was refused since this was asked last.
    pub(super) fn take_refused(&mut self) -> Option<Refused> {
        self.refused.take()
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.shared.give_back(self.used_bytes);
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
        if !self.shared.take(more) {
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
