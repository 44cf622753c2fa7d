//! How many connections all endpoints may have together, so that the process keeps file descriptors for everything else. An
//! endpoint leaves as many as it has itself: one that hangs doesn't take them all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Longest wait for a place.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The connections that the process has room for.
pub(super) struct Room {
    places: usize,
    taken: Mutex<usize>,
    freed: Notify,
}

/// The connections of one endpoint. Changed only while [`Room::taken`] is locked.
#[derive(Clone, Default)]
pub(super) struct Own(Arc<AtomicUsize>);

/// A place for one connection; given back when dropped.
pub(super) struct Place {
    room: Arc<Room>,
    own: Own,
}

impl Room {
    /// Room for so many; none: as many as there may be.
    pub(super) fn of(places: Option<usize>) -> Arc<Self> {
        let places = places.unwrap_or(usize::MAX);
        Arc::new(Self { places, taken: Mutex::new(0), freed: Notify::new() })
    }

    /// How many there are at most.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// A place for an endpoint that has `own`, waiting for it up to half of `timeout`: the rest is for the endpoint.
    pub(super) async fn place(self: &Arc<Self>, own: &Own, timeout: Duration) -> Option<Place> {
        let until = Instant::now() + WAIT_MAX.min(timeout / 2);
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // Before the look: what is freed between the look and the wait would be missed otherwise.
            freed.as_mut().enable();
            if let Some(place) = self.take(own) {
                return Some(place);
            }
            timeout_at(until, freed).await.ok()?;
        }
    }

    /// Whether so few are left that none should be kept idle.
    pub(super) fn is_scarce(&self) -> bool {
        self.places - *self.taken() < self.places / 4
    }

    fn take(self: &Arc<Self>, own: &Own) -> Option<Place> {
        let mut taken = self.taken();
        let (free, has) = (self.places - *taken, own.0.load(Ordering::Relaxed));
        if free <= has {
            return None;
        }
        *taken += 1;
        own.0.store(has + 1, Ordering::Relaxed);
        Some(Place { room: self.clone(), own: own.clone() })
    }

    fn taken(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        *taken -= 1;
        self.own.0.fetch_sub(1, Ordering::Relaxed);
        drop(taken);
        self.room.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_leaves_as_many_as_it_has() {
        let room = Room::of(Some(64));
        let (greedy, other, third) = (Own::default(), Own::default(), Own::default());
        let all = |own: &Own| std::iter::from_fn(|| room.take(own)).collect::<Vec<_>>();
        let (hoard, rest) = (all(&greedy), all(&other));
        assert_eq!((hoard.len(), rest.len()), (32, 16));
        assert!(!room.is_scarce());
        let few = all(&third);
        assert_eq!(few.len(), 8);
        assert!(room.is_scarce());
        drop((hoard, rest, few));
        assert_eq!((*room.taken(), greedy.0.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(all(&other).len(), 32);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_what_is_given_back_and_gives_up_in_time() {
        let room = Room::of(Some(1));
        let (one, two) = (Own::default(), Own::default());
        let held = room.place(&one, Duration::from_secs(10)).await.unwrap();
        let began = Instant::now();
        assert!(room.place(&two, Duration::from_secs(1)).await.is_none());
        assert_eq!(began.elapsed(), Duration::from_millis(500));
        assert!(room.place(&two, Duration::from_mins(1)).await.is_none());
        assert_eq!(began.elapsed(), Duration::from_millis(2500));
        let (waiting, ()) = tokio::join!(room.place(&two, Duration::from_mins(1)), async { drop(held) });
        assert!(waiting.is_some());
        assert_eq!(began.elapsed(), Duration::from_millis(2500));
    }

    #[test]
    fn without_a_limit_there_is_always_room() {
        let room = Room::of(None);
        let own = Own::default();
        let places: Vec<_> = (0..1000).map_while(|_| room.take(&own)).collect();
        assert_eq!((places.len(), room.is_scarce()), (1000, false));
    }
}
