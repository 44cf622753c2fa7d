//! Who may have one more live instance, and one more piece of memory.
//!
//! Both are shared by subscription, each the same way: a subscription gets more as long as it holds no more than what
//! nobody needs just now. One alone can have half, two a third each, and so on: whatever a few of them do, there is
//! always something left for one that comes new. Nothing is taken from a call that runs; what is idle counts as free,
//! and is ended when somebody needs it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::idle::Idles;
use super::share::Share;

/// The places of all live instances.
pub(super) struct Places {
    max: u32,
    state: Mutex<State>,
    idles: Arc<Idles>,
}

#[derive(Default)]
struct State {
    /// Instances that live, idle or not.
    alive: u32,
    /// Those of them that are not idle.
    working: u32,
    /// Calls that wait for a place, by subscription. The one that was served last stands last.
    lines: Vec<Line>,
}

struct Line {
    share: Arc<Share>,
    calls: VecDeque<oneshot::Sender<Place>>,
}

/// The place of one live instance, given back when it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    share: Arc<Share>,
    working: bool,
    /// False for one that nobody took: it is given back by who holds the lock.
    counted: bool,
}

impl Places {
    pub(super) fn new(max: u32, idles: Arc<Idles>) -> Self {
        Self { max, state: Mutex::default(), idles }
    }

    /// A place for an instance that works. Waits as long as `share` has what it may have, or all others work.
    pub(super) async fn take(self: &Arc<Self>, share: &Arc<Share>) -> Place {
        let place = {
            let mut state = self.lock();
            let (call, place) = oneshot::channel();
            state.enqueue(share, call);
            self.serve(&mut state);
            place
        };
        self.make_room();
        place.await.expect("a call that waits is only taken out of its line with a place for it")
    }

    /// Instances that are idle.
    pub(super) fn idle(&self) -> u32 {
        let state = self.lock();
        state.alive - state.working
    }

    /// Ends idle instances for those who wait and may have a place. To be called when an instance has become idle.
    pub(super) fn make_room(self: &Arc<Self>) {
        while self.lock().is_full_for_somebody(self.max) {
            // Dropped without the lock: it gives its own place back, to the one that waits.
            let Some(instance) = self.idles.take_oldest() else { return };
            drop(instance);
        }
    }

    /// Gives places away as long as there are any and somebody may have one.
    fn serve(self: &Arc<Self>, state: &mut State) {
        while state.alive < self.max
            && let Some(line) = state.next(self.max)
        {
            let share = Arc::clone(&line.share);
            let Some(call) = line.calls.pop_front() else { continue };
            let place =
                Place { places: Arc::clone(self), share: Arc::clone(&share), working: true, counted: true };
            match call.send(place) {
                Ok(()) => {
                    state.alive += 1;
                    state.working += 1;
                    share.working.fetch_add(1, Ordering::Relaxed);
                }
                // The call was given up.
                Err(mut place) => place.counted = false,
            }
            state.served(&share);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enqueue(&mut self, share: &Arc<Share>, call: oneshot::Sender<Place>) {
        match self.lines.iter_mut().find(|line| Arc::ptr_eq(&line.share, share)) {
            Some(line) => line.calls.push_back(call),
            None => self.lines.push(Line { share: Arc::clone(share), calls: VecDeque::from([call]) }),
        }
    }

    /// The line whose turn it is: of those that may have one more, that of the subscription with the fewest at work; of
    /// several, the one that waits longest.
    fn next(&mut self, max: u32) -> Option<&mut Line> {
        // Calls that were given up go when they are at the head: nobody walks long lines for them.
        self.lines.retain_mut(|line| {
            while line.calls.pop_front_if(|call| call.is_closed()).is_some() {}
            !line.calls.is_empty()
        });
        let free = max.saturating_sub(self.working);
        let may = self.lines.iter_mut().filter(|line| line.share.working() < free);
        may.min_by_key(|line| line.share.working())
    }

    /// Puts a line behind those of the others.
    fn served(&mut self, share: &Arc<Share>) {
        let at = self.lines.iter().position(|line| Arc::ptr_eq(&line.share, share));
        if let Some(at) = at {
            let line = self.lines.remove(at);
            self.lines.push(line);
        }
    }

    fn is_full_for_somebody(&mut self, max: u32) -> bool {
        self.alive >= max && self.next(max).is_some()
    }
}

impl Place {
    /// The instance has nothing to do. Counts as free; to be followed by [`Places::make_room`] once it can be found.
    pub(super) fn rest(&mut self) {
        if std::mem::replace(&mut self.working, false) {
            let mut state = self.places.lock();
            state.working -= 1;
            self.share.working.fetch_sub(1, Ordering::Relaxed);
            self.places.serve(&mut state);
        }
    }

    /// It works again.
    pub(super) fn work(&mut self) {
        if !std::mem::replace(&mut self.working, true) {
            self.places.lock().working += 1;
            self.share.working.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        let mut state = self.places.lock();
        state.alive -= 1;
        if self.working {
            state.working -= 1;
            self.share.working.fetch_sub(1, Ordering::Relaxed);
        }
        self.places.serve(&mut state);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("working", &self.working).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::super::testing;
    use super::*;

    fn places(max: u32) -> Arc<Places> {
        Arc::new(Places::new(max, Arc::default()))
    }

    fn shares<const N: usize>() -> [Arc<Share>; N] {
        let host = testing::host();
        std::array::from_fn(|_| host.share(&Arc::default()))
    }

    /// A place, if there is one at once.
    fn now(places: &Arc<Places>, share: &Arc<Share>) -> Option<Place> {
        match pin!(places.take(share)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    /// As many as there are at once.
    fn all(places: &Arc<Places>, share: &Arc<Share>) -> Vec<Place> {
        std::iter::from_fn(|| now(places, share)).collect()
    }

    #[test]
    fn one_that_takes_all_it_can_gets_half_and_each_further_one_of_what_is_left() {
        let places = places(120);
        let [first, second, third, last] = shares();
        let _first = all(&places, &first);
        let _second = all(&places, &second);
        let _third = all(&places, &third);
        assert_eq!([first.working(), second.working(), third.working()], [60, 30, 15]);
        assert!(now(&places, &last).is_some());
    }

    #[test]
    fn with_others_at_work_nobody_has_more_than_is_left() {
        let places = places(9);
        let [one, other] = shares();
        let (mut ones, mut others) = (vec![], vec![]);
        loop {
            let (a, b) = (now(&places, &one), now(&places, &other));
            if a.is_none() && b.is_none() {
                break;
            }
            ones.extend(a);
            others.extend(b);
        }
        assert_eq!((ones.len(), others.len()), (3, 3));
    }

    #[test]
    fn every_limit_lets_one_at_a_time_work() {
        for max in 1..4 {
            let places = places(max);
            let [one, other] = shares();
            let place = now(&places, &one).expect("the first");
            assert_eq!(now(&places, &other).is_some(), max > 1);
            drop(place);
            assert!(now(&places, &other).is_some());
        }
    }

    #[test]
    fn the_one_with_fewest_at_work_is_served_first() {
        let places = places(8);
        let [most, some, fewest] = shares();
        let mut held = all(&places, &most);
        let _some = all(&places, &some);
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = pin!(places.take(&most));
        let mut second = pin!(places.take(&some));
        assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
        let _fewest = now(&places, &fewest).expect("something is left");
        let mut third = pin!(places.take(&fewest));
        assert!(third.as_mut().poll(&mut cx).is_pending());
        drop(held.pop());
        let served = [first.poll(&mut cx), second.poll(&mut cx), third.poll(&mut cx)];
        assert_eq!(served.map(|place| place.is_ready()), [false, false, true], "though it came last");
    }

    #[test]
    fn a_call_that_is_given_up_takes_nothing() {
        let places = places(2);
        let [one, other] = shares();
        let place = now(&places, &one).expect("the first");
        {
            let mut cx = Context::from_waker(Waker::noop());
            let (mut given_up, mut later) = (pin!(places.take(&one)), pin!(places.take(&one)));
            assert!(
                given_up.as_mut().poll(&mut cx).is_pending() && later.as_mut().poll(&mut cx).is_pending()
            );
            drop(place);
            // A place lies ready for it when it goes.
        }
        let held = (now(&places, &one), now(&places, &other));
        assert!(held.0.is_some() && held.1.is_some(), "both are free again");
    }

    #[test]
    fn an_idle_one_counts_as_free_but_keeps_its_place() {
        let places = places(2);
        let [one, other] = shares();
        let mut place = now(&places, &one).expect("the first");
        assert!(now(&places, &one).is_none(), "half of two is one");
        place.rest();
        assert_eq!((places.idle(), one.working()), (1, 0));
        let second = now(&places, &other).expect("there is one");
        assert!(now(&places, &one).is_none(), "both places are taken");
        place.work();
        drop((place, second));
        assert_eq!((places.idle(), one.working(), other.working()), (0, 0, 0));
    }
}
