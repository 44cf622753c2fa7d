//! The part that each draining lane has of what the process may have under way: equal shares, so that neither one large
//! backlog nor a thousand of them take the room of the others.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Attempts that all lanes together may drain at once, and how many lanes share them.
#[derive(Debug)]
pub(super) struct Shares {
    budget: usize,
    lanes: AtomicUsize,
}

/// A lane's share for as long as it is drained.
#[derive(Debug)]
pub(super) struct Share<'s>(&'s Shares);

impl Shares {
    pub(super) fn of(budget: usize) -> Self {
        Self { budget, lanes: AtomicUsize::new(0) }
    }

    /// One more lane drains.
    pub(super) fn take(&self) -> Share<'_> {
        self.lanes.fetch_add(1, Ordering::Relaxed);
        Share(self)
    }
}

impl Share<'_> {
    /// Attempts that this lane may have under way now; one at the least, so that each moves.
    pub(super) fn most(&self) -> usize {
        (self.0.budget / self.0.lanes.load(Ordering::Relaxed).max(1)).max(1)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.0.lanes.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_equally_and_each_has_one_at_the_least() {
        let shares = Shares::of(10);
        let first = shares.take();
        assert_eq!(first.most(), 10);
        let others: Vec<Share<'_>> = (0..3).map(|_| shares.take()).collect();
        assert_eq!(first.most(), 2);
        let many: Vec<Share<'_>> = (0..100).map(|_| shares.take()).collect();
        assert_eq!(first.most(), 1);
        drop((others, many));
        assert_eq!(first.most(), 10);
    }
}
