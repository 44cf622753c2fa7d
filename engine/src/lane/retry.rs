//! When a failed task is tried again, and when it has been tried enough.

use std::time::Duration;

/// How waits are spread, so that what failed together does not come back together.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Jitter {
    /// The wait times a number drawn evenly from `1 - share` to `1 + share`.
    Share(f64),
    /// A wait drawn evenly from zero to the nominal one.
    Full,
}

/// A subscription's retry policy.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// The wait after the first failure, the second, and so on; one attempt more than entries.
    pub schedule: Vec<Duration>,
    /// Their spread.
    pub jitter: Jitter,
}

/// Standard Webhooks, "Deliverability and reliability": the default waits, in seconds.
const DEFAULT_SCHEDULE_SECONDS: [u64; 9] =
    [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

impl Default for Policy {
    fn default() -> Self {
        let schedule = DEFAULT_SCHEDULE_SECONDS.into_iter().map(Duration::from_secs).collect();
        Self { schedule, jitter: Jitter::Share(0.2) }
    }
}

impl Policy {
    /// Attempts in all.
    pub fn attempts(&self) -> u32 {
        u32::try_from(self.schedule.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The nominal wait after `made` attempts have failed; `None` when that was the last one.
    fn nominal(&self, made: u32) -> Option<Duration> {
        let nth = usize::try_from(made.checked_sub(1)?).ok()?;
        self.schedule.get(nth).copied()
    }

    /// How long to wait after `made` attempts have failed; `None` when that was the last one. `asked` is what the
    /// endpoint asked for (a floor); `draw` is an even random number in `0..1`.
    pub fn next(&self, made: u32, asked: Option<Duration>, draw: f64) -> Option<Duration> {
        let nominal = self.nominal(made)?;
        let factor = match self.jitter {
            Jitter::Share(share) => 1.0 + share * (2.0 * draw - 1.0),
            Jitter::Full => draw,
        };
        let wait = nominal.mul_f64(factor.max(0.0));
        Some(asked.map_or(wait, |asked| wait.max(asked)))
    }

    /// What is left of the schedule after `made` attempts: the sum of the nominal waits to come.
    pub fn left(&self, made: u32) -> Duration {
        let passed = usize::try_from(made.saturating_sub(1)).unwrap_or(usize::MAX);
        let waits = self.schedule.iter().skip(passed);
        waits.fold(Duration::ZERO, |sum, wait| sum.saturating_add(*wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_schedule_has_one_attempt_more_than_waits() {
        let policy = Policy { schedule: vec![secs(5), secs(10)], jitter: Jitter::Share(0.0) };
        assert_eq!(policy.attempts(), 3);
        assert_eq!(policy.next(1, None, 0.5), Some(secs(5)));
        assert_eq!(policy.next(2, None, 0.5), Some(secs(10)));
        assert_eq!(policy.next(3, None, 0.5), None);
        assert_eq!(policy.next(0, None, 0.5), None);
        assert_eq!(policy.left(0), secs(15));
        assert_eq!(policy.left(1), secs(15));
        assert_eq!(policy.left(2), secs(10));
        assert_eq!(policy.left(3), secs(0));
    }

    #[test]
    fn jitter_stays_within_its_share_and_full_reaches_zero() {
        let share = Policy { schedule: vec![secs(10)], jitter: Jitter::Share(0.2) };
        assert_eq!(share.next(1, None, 0.0), Some(secs(8)));
        assert_eq!(share.next(1, None, 0.5), Some(secs(10)));
        assert!(share.next(1, None, 0.999).unwrap() < secs(12));
        let full = Policy { jitter: Jitter::Full, ..share };
        assert_eq!(full.next(1, None, 0.0), Some(secs(0)));
    }

    #[test]
    fn what_the_endpoint_asks_for_is_a_floor() {
        let policy = Policy { schedule: vec![secs(10)], jitter: Jitter::Share(0.0) };
        assert_eq!(policy.next(1, Some(secs(60)), 0.5), Some(secs(60)));
        assert_eq!(policy.next(1, Some(secs(1)), 0.5), Some(secs(10)));
    }

    #[test]
    fn the_default_is_the_standard_webhooks_schedule() {
        let policy = Policy::default();
        assert_eq!(policy.attempts(), 10);
        assert_eq!(policy.left(0), secs(272_105));
    }
}
