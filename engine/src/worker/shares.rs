//! The part that each draining lane has of what the process may have under way: equal shares, so that neither one large
//! backlog nor a thousand of them take the room of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

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

    /// Lanes that drain now.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.load(Ordering::Relaxed)
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

/// What the lanes of one pipeline have of its `max_in_flight` by attempts that hold a message of the source, or a due task.
/// A lane may have as many as it leaves free (dynamic thresholds, Choudhury and Hahne 1998): alone a half, two together
/// a third each. So a slow endpoint never holds the room that its neighbours' events need to be taken at all.
#[derive(Debug, Default)]
pub(super) struct DirectRoom {
    used: AtomicUsize,
}

/// What one lane has of it. Shared by all versions of the lane.
#[derive(Debug, Default)]
pub(super) struct DirectUse {
    count: AtomicUsize,
    freed: Notify,
}

/// The room of one attempt.
#[derive(Debug)]
pub(super) struct DirectShare {
    room: Arc<DirectRoom>,
    lane: Arc<DirectUse>,
}

impl DirectShare {
    /// Room for one more attempt of a lane, out of `most`; none: the lane has its share.
    pub(super) fn take(room: &Arc<DirectRoom>, lane: &Arc<DirectUse>, most: usize) -> Option<Self> {
        // Many at once may pass by a few; one always does.
        let free = most.saturating_sub(room.used.load(Ordering::Relaxed));
        if lane.count.load(Ordering::Relaxed) >= free.max(1) {
            return None;
        }
        room.used.fetch_add(1, Ordering::Relaxed);
        lane.count.fetch_add(1, Ordering::Relaxed);
        Some(Self { room: Arc::clone(room), lane: Arc::clone(lane) })
    }

    /// The same, waiting until an attempt of the lane ends.
    pub(super) async fn wait(room: &Arc<DirectRoom>, lane: &Arc<DirectUse>, most: usize) -> Self {
        loop {
            let freed = lane.freed.notified();
            if let Some(share) = Self::take(room, lane, most) {
                return share;
            }
            freed.await;
        }
    }
}

impl Drop for DirectShare {
    fn drop(&mut self) {
        self.room.used.fetch_sub(1, Ordering::Relaxed);
        self.lane.count.fetch_sub(1, Ordering::Relaxed);
        self.lane.freed.notify_one();
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

    fn taken(room: &Arc<DirectRoom>, lane: &Arc<DirectUse>) -> Vec<DirectShare> {
        std::iter::from_fn(|| DirectShare::take(room, lane, 64)).collect()
    }

    #[test]
    fn a_lane_leaves_others_as_much_room_as_it_has_itself() {
        let (room, slow, other) = <(Arc<DirectRoom>, Arc<DirectUse>, Arc<DirectUse>)>::default();
        let slows = taken(&room, &slow);
        assert_eq!(slows.len(), 32, "alone it leaves a half");
        let others = taken(&room, &other);
        assert_eq!(others.len(), 16, "a newcomer leaves a half of what is left");
        drop(slows);
        assert_eq!(taken(&room, &slow).len(), 24, "and then both have the same");
        let full: Vec<_> = (0..60).filter_map(|_| DirectShare::take(&room, &other, 10)).collect();
        assert!(full.is_empty() && others.len() == 16, "none is taken away");
        let third = Arc::default();
        assert!(DirectShare::take(&room, &third, 10).is_some(), "one always goes");
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_an_attempt_of_its_lane_ends() {
        let (room, lane) = <(Arc<DirectRoom>, Arc<DirectUse>)>::default();
        let mut shares = taken(&room, &lane);
        let mut waiting = std::pin::pin!(DirectShare::wait(&room, &lane, 64));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(shares.pop());
        drop(waiting.await);
        assert_eq!(room.used.load(Ordering::Relaxed), shares.len());
    }
}
