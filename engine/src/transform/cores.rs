//! The cores that long calls share, and who gets one next.
//!
//! Each step has an account: what its calls have worked lately, whether they could be interrupted or not. While that is
//! little, they run where they are. Beyond it each of them needs a core of the few that all such calls share, and gets it
//! in the order of the accounts: the step that has worked least comes first.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// What a step may work for free, as a share of one core: the inverse of it. All steps together may use that share of all
/// cores.
const FREE_SHARE_INVERSE: u32 = 2;

/// How much of that may be used at once, in work.
const FREE_AT_ONCE: Duration = Duration::from_millis(50);

/// Work that is held against a step at most: what was longer ago is forgotten.
const REMEMBERED: Duration = Duration::from_secs(2);

/// A measure of work that runs empty by itself. Holds the time at which it will be empty, in nanoseconds.
#[derive(Debug, Default)]
struct Bucket {
    empty_at: AtomicU64,
}

impl Bucket {
    /// Adds what takes `drain` to run out.
    fn fill(&self, now: u64, drain: Duration, most: Duration) {
        let (drain, most) = (nanos(drain), now.saturating_add(nanos(most)));
        let add = |empty_at: u64| Some(empty_at.max(now).saturating_add(drain).min(most));
        // Never an error: `add` always has an answer.
        let _ = self.empty_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn drains_within(&self, now: u64, time: Duration) -> bool {
        self.empty_at.load(Ordering::Relaxed) <= now.saturating_add(nanos(time))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What one step has worked lately.
#[derive(Debug, Default)]
pub(super) struct Account {
    worked: Bucket,
}

/// The cores, and who waits for one.
#[derive(Debug)]
pub(super) struct Cores {
    began: Instant,
    /// Cores of the machine.
    all: u32,
    /// Work that was done for free, of all steps together: many that each use little are as bad as one that uses much.
    free: Bucket,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: usize,
    /// Calls that wait, by step; the step that was served last stands last.
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    account: Arc<Account>,
    calls: VecDeque<oneshot::Sender<Core>>,
}

/// Where in its step's line a call waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Front,
    Back,
}

/// A core that is one's own until it is dropped.
#[derive(Debug)]
pub(super) struct Core {
    /// None once it was given back by hand.
    of: Option<Arc<Cores>>,
}

impl Cores {
    /// For a machine with `all` cores: one less than that is shared, at least one.
    pub(super) fn new(all: usize) -> Self {
        let state = State { left: all.saturating_sub(1).max(1), lines: Vec::new() };
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        Self { began: Instant::now(), all, free: Bucket::default(), state: Mutex::new(state) }
    }

    /// Whether a call of this step may run without a core of its own.
    pub(super) fn is_free(&self, account: &Account) -> bool {
        let now = self.now();
        let ahead = FREE_AT_ONCE * FREE_SHARE_INVERSE;
        account.worked.drains_within(now, ahead) && self.free.drains_within(now, ahead)
    }

    /// Puts work on a step's account.
    pub(super) fn charge(&self, account: &Account, worked: Duration, for_free: bool) {
        let now = self.now();
        account.worked.fill(now, worked * FREE_SHARE_INVERSE, REMEMBERED * FREE_SHARE_INVERSE);
        if for_free {
            let drain = worked * FREE_SHARE_INVERSE / self.all.max(1);
            self.free.fill(now, drain, REMEMBERED);
        }
    }

    /// A core for a call that meets nobody in line.
    pub(super) fn take(self: &Arc<Self>) -> Option<Core> {
        let mut state = self.lock();
        if !state.lines.is_empty() || state.left == 0 {
            return None;
        }
        state.left -= 1;
        Some(Core { of: Some(Arc::clone(self)) })
    }

    /// Gets in line for a core.
    pub(super) fn wait(self: &Arc<Self>, account: &Arc<Account>, place: Place) -> oneshot::Receiver<Core> {
        let (call, core) = oneshot::channel();
        {
            let mut state = self.lock();
            let known = state.lines.iter_mut().find(|line| Arc::ptr_eq(&line.account, account));
            match (known, place) {
                (Some(line), Place::Front) => line.calls.push_front(call),
                (Some(line), Place::Back) => line.calls.push_back(call),
                (None, _) => {
                    let line = Line { account: Arc::clone(account), calls: VecDeque::from([call]) };
                    state.lines.push(line);
                }
            }
        }
        self.serve();
        core
    }

    /// Gives cores away as long as there are any and somebody waits.
    fn serve(self: &Arc<Self>) {
        loop {
            let Some(call) = self.lock().next() else { return };
            let core = Core { of: Some(Arc::clone(self)) };
            if let Err(mut core) = call.send(core) {
                // The call was given up.
                core.of = None;
                self.lock().left += 1;
            }
        }
    }

    fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The call that gets a core now: the first of the step that has worked least; of several, of the one that was
    /// served longest ago.
    fn next(&mut self) -> Option<oneshot::Sender<Core>> {
        if self.left == 0 {
            return None;
        }
        let worked = |line: &Line| line.account.worked.empty_at.load(Ordering::Relaxed);
        let (at, _) = self.lines.iter().enumerate().min_by_key(|(_, line)| worked(line))?;
        let mut line = self.lines.remove(at);
        let call = line.calls.pop_front()?;
        if !line.calls.is_empty() {
            self.lines.push(line);
        }
        self.left -= 1;
        Some(call)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(cores) = self.of.take() {
            cores.lock().left += 1;
            cores.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn cores(all: usize) -> Arc<Cores> {
        Arc::new(Cores::new(all))
    }

    fn account() -> Arc<Account> {
        Arc::default()
    }

    #[test]
    fn one_core_less_than_there_are_is_shared() {
        for (all, shared) in [(1, 1), (2, 1), (8, 7)] {
            let (cores, account) = (cores(all), account());
            let mut waits: Vec<_> = (0..9).map(|_| cores.wait(&account, Place::Back)).collect();
            let mut given: Vec<_> = waits.iter_mut().filter_map(|wait| wait.try_recv().ok()).collect();
            assert_eq!(given.len(), shared, "{all}");
            given.pop();
            let further = waits.iter_mut().filter_map(|wait| wait.try_recv().ok()).count();
            // The one that was just looked at gives its core back at once, and so on to the last.
            assert_eq!(further, 9 - shared, "{all}");
        }
    }

    #[test]
    fn who_meets_nobody_needs_no_line() {
        let (cores, account) = (cores(3), account());
        let both = [cores.take().unwrap(), cores.take().unwrap()];
        assert!(cores.take().is_none(), "there are two");
        let waits = cores.wait(&account, Place::Back);
        drop(both);
        assert!(cores.take().is_some(), "one is left");
        let core = cores.take();
        let _second = [cores.wait(&account, Place::Back), cores.wait(&account, Place::Back)];
        drop((core, waits));
        assert!(cores.take().is_none(), "those in line come first");
    }

    #[test]
    fn the_step_that_has_worked_least_comes_first() {
        let cores = cores(2);
        let (much, little) = (account(), account());
        cores.charge(&much, 100 * MILLISECOND, false);
        cores.charge(&little, 10 * MILLISECOND, false);
        let core = cores.wait(&much, Place::Back).try_recv().unwrap();
        let mut first = cores.wait(&much, Place::Back);
        let mut front = cores.wait(&much, Place::Front);
        let mut second = cores.wait(&little, Place::Back);
        drop(core);
        assert!(first.try_recv().is_err() && front.try_recv().is_err());
        drop(second.try_recv().unwrap());
        assert!(first.try_recv().is_err());
        drop(front.try_recv().unwrap());
        drop(first.try_recv().unwrap());
    }

    #[test]
    fn a_call_that_was_given_up_takes_no_core_along() {
        let cores = cores(1);
        let account = account();
        let core = cores.wait(&account, Place::Back).try_recv().unwrap();
        drop(cores.wait(&account, Place::Back));
        let mut next = cores.wait(&account, Place::Back);
        drop(core);
        drop(next.try_recv().unwrap());
        // One that was served and then given up gives it back.
        drop(cores.wait(&account, Place::Back));
        assert!(cores.wait(&account, Place::Back).try_recv().is_ok());
    }

    #[test]
    fn what_a_step_works_beyond_its_share_is_not_free() {
        let cores = cores(4);
        let (busy, other) = (account(), account());
        assert!(cores.is_free(&busy));
        cores.charge(&busy, 40 * MILLISECOND, true);
        assert!(cores.is_free(&busy));
        cores.charge(&busy, 100 * MILLISECOND, true);
        assert!(!cores.is_free(&busy) && cores.is_free(&other));
    }

    #[test]
    fn many_that_work_little_are_not_free_either() {
        let cores = cores(2);
        let accounts: Vec<_> = (0..20).map(|_| account()).collect();
        for account in &accounts {
            cores.charge(account, 30 * MILLISECOND, true);
        }
        assert!(accounts.iter().all(|account| !cores.is_free(account)));
        assert!(!cores.is_free(&account()));
    }

    #[test]
    fn no_more_than_two_seconds_are_held_against_anybody() {
        let (cores, busy) = (cores(2), account());
        for _ in 0..100 {
            cores.charge(&busy, Duration::from_secs(10), false);
        }
        assert!(busy.worked.drains_within(cores.now(), 2 * REMEMBERED));
    }
}
