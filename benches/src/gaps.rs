//! How long each of many lanes goes without a delivery: noted by the endpoint, a few words a lane.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Deliveries of each lane, and its longest time without one.
#[derive(Debug)]
pub struct Arrivals {
    began: Instant,
    lanes: Vec<LaneTimes>,
}

/// One lane. Times are microseconds since the beginning.
#[derive(Debug, Default)]
struct LaneTimes {
    count: AtomicU64,
    last: AtomicU64,
    longest: AtomicU64,
}

impl LaneTimes {
    fn gap_until(&self, now: u64) {
        let last = self.last.swap(now, Ordering::Relaxed);
        self.longest.fetch_max(now.saturating_sub(last), Ordering::Relaxed);
    }
}

impl Arrivals {
    /// Of so many lanes.
    pub fn new(lanes: usize) -> Self {
        Self { began: Instant::now(), lanes: (0..lanes).map(|_| LaneTimes::default()).collect() }
    }

    /// A delivery, now.
    pub fn take(&self, lane: usize) {
        self.take_at(lane, self.now());
    }

    fn take_at(&self, lane: usize, now: u64) {
        let Some(lane) = self.lanes.get(lane) else { return };
        lane.count.fetch_add(1, Ordering::Relaxed);
        lane.gap_until(now);
    }

    /// How many deliveries each lane has had.
    pub fn counts(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.count.load(Ordering::Relaxed)).collect()
    }

    /// Counts the time of each lane from now on.
    pub fn begin(&self) {
        self.begin_at(self.now());
    }

    fn begin_at(&self, now: u64) {
        for lane in &self.lanes {
            lane.last.store(now, Ordering::Relaxed);
            lane.longest.store(0, Ordering::Relaxed);
        }
    }

    /// The longest time of each lane since the beginning; what has not ended by now counts as well.
    pub fn end(&self) -> Gaps {
        self.end_at(self.now())
    }

    fn end_at(&self, now: u64) -> Gaps {
        let longest = self.lanes.iter().map(|lane| {
            lane.gap_until(now);
            Duration::from_micros(lane.longest.load(Ordering::Relaxed))
        });
        let mut longest: Vec<Duration> = longest.collect();
        longest.sort_unstable();
        Gaps(longest)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The longest time without a delivery of each lane, the shortest first.
#[derive(Clone, Debug)]
pub struct Gaps(Vec<Duration>);

impl Gaps {
    /// That of the worst lane.
    pub fn most(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    /// What that share of the lanes keeps below.
    pub fn share(&self, share: f64) -> Duration {
        percentile(&self.0, share)
    }

    /// Lanes that went longer than that.
    pub fn over(&self, bound: Duration) -> usize {
        self.0.iter().filter(|gap| **gap > bound).count()
    }
}

/// The `share` of sorted times that are not above it; zero of none.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let at = (sorted.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lane_that_stands_still_is_seen_beside_those_that_flow() {
        const SECOND: u64 = 1_000_000;
        let arrivals = Arrivals::new(3);
        arrivals.take_at(0, SECOND);
        arrivals.begin_at(100 * SECOND);
        for second in 100..160 {
            arrivals.take_at(0, second * SECOND);
            if !(110..140).contains(&second) {
                arrivals.take_at(1, second * SECOND);
            }
        }
        // The third delivers nothing at all.
        let gaps = arrivals.end_at(160 * SECOND);
        assert_eq!(gaps.0, [secs(1), secs(31), secs(60)]);
        assert_eq!((gaps.most(), gaps.share(0.5), gaps.over(secs(3))), (secs(60), secs(31), 2));
        assert_eq!(arrivals.counts(), [61, 30, 0]);
    }
}
