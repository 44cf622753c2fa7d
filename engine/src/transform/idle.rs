//! Instances that wait for an event: how many a step keeps, and when they end although nobody needs their places.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::instance::Instance;

/// How long the thread that ends unused instances sleeps at most.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(15);

/// Configured instances of one step. The one used last is used next: its memory is warm.
pub(super) struct Idle {
    /// With the time since when each is idle: the first one is idle longest.
    instances: Mutex<Vec<(Instant, Instance)>>,
    max: usize,
}

impl Idle {
    fn new() -> Self {
        // Calls that run at the same time are as many as threads, but for those that wait for a core.
        let max = thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
        Self { instances: Mutex::default(), max }
    }

    /// An instance for the next event.
    pub(super) fn take(&self) -> Option<Instance> {
        let (_, mut instance) = self.instances().pop()?;
        instance.work();
        Some(instance)
    }

    /// Keeps an instance, or ends it if there are enough.
    pub(super) fn put(&self, mut instance: Instance) {
        instance.rest();
        let mut instances = self.instances();
        if instances.len() < self.max {
            instances.push((Instant::now(), instance));
        } else {
            // Ending an instance takes up to 0.3 ms; not under the lock.
            drop(instances);
            drop(instance);
        }
    }

    /// Since when the first one is idle.
    fn since(&self) -> Option<Instant> {
        self.instances().first().map(|(since, _)| *since)
    }

    fn take_first(&self) -> Option<Instance> {
        let mut instances = self.instances();
        if instances.is_empty() { None } else { Some(instances.remove(0).1) }
    }

    fn take_before(&self, time: Instant) -> Vec<Instance> {
        let mut instances = self.instances();
        let count = instances.partition_point(|(since, _)| *since < time);
        instances.drain(..count).map(|(_, instance)| instance).collect()
    }

    fn instances(&self) -> MutexGuard<'_, Vec<(Instant, Instance)>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The idle instances of all steps.
#[derive(Default)]
pub(super) struct Idles(Mutex<Vec<Weak<Idle>>>);

impl Idles {
    /// Those of a new step.
    pub(super) fn add(&self) -> Arc<Idle> {
        let idle = Arc::new(Idle::new());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|idle| idle.strong_count() > 0);
        all.push(Arc::downgrade(&idle));
        idle
    }

    /// The instance that is idle longest, whosever it is.
    pub(super) fn take_oldest(&self) -> Option<Instance> {
        let all = self.all();
        let waiting = all.iter().filter_map(|idle| Some((idle.since()?, idle)));
        let (_, oldest) = waiting.min_by_key(|(since, _)| *since)?;
        // Somebody may have taken it meanwhile; then any other one is as good.
        oldest.take_first().or_else(|| all.iter().find_map(|idle| idle.take_first()))
    }

    /// Ends those that have been idle since before `time`.
    fn end_before(&self, time: Instant) {
        for idle in self.all() {
            drop(idle.take_before(time));
        }
    }

    fn all(&self) -> Vec<Arc<Idle>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

/// The thread that ends instances nobody has used for a while, so that their memory goes back to the system. It ends
/// with the host.
#[derive(Debug)]
pub(super) struct Sweeper(Thread);

impl Sweeper {
    /// `after`: how long an instance may be idle.
    pub(super) fn start(idles: &Arc<Idles>, after: Duration) -> std::io::Result<Self> {
        let weak = Arc::downgrade(idles);
        let run = move || {
            let nap = (after / 4).clamp(Duration::from_millis(1), LOOK_EVERY_MAX);
            while let Some(idles) = weak.upgrade() {
                if let Some(time) = Instant::now().checked_sub(after) {
                    idles.end_before(time);
                }
                drop(idles);
                thread::park_timeout(nap);
            }
        };
        let handle = thread::Builder::new().name("transform-idle".to_owned()).spawn(run)?;
        Ok(Self(handle.thread().clone()))
    }
}

impl Drop for Sweeper {
    /// Wakes it, so that it finds the host gone.
    fn drop(&mut self) {
        self.0.unpark();
    }
}
