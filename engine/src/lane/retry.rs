//! When a failed task is tried again, and when it has been tried enough.

use std::time::Duration;

/// The waits between attempts.
#[derive(Clone, PartialEq, Debug)]
pub enum Delays {
    /// The wait after the first failure, the second, and so on; one attempt more than entries.
    Schedule(Vec<Duration>),
    /// `initial · multiplierⁿ`, at most `max`.
    Exponential {
        /// Attempts in all, at least 1.
        attempts: u32,
        /// The first wait.
        initial: Duration,
        /// Growth from one wait to the next, at least 1.
        multiplier: f64,
        /// The longest wait.
        max: Duration,
    },
}

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
    /// The waits.
    pub delays: Delays,
    /// Their spread.
    pub jitter: Jitter,
}

/// Standard Webhooks, "Deliverability and reliability": the default waits, in seconds.
const DEFAULT_SCHEDULE_SECONDS: [u64; 9] =
    [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

impl Default for Policy {
    fn default() -> Self {
        let delays = DEFAULT_SCHEDULE_SECONDS.into_iter().map(Duration::from_secs).collect();
        Self { delays: Delays::Schedule(delays), jitter: Jitter::Share(0.2) }
    }
}

impl Policy {
    /// Attempts in all.
    pub fn attempts(&self) -> u32 {
        match &self.delays {
            Delays::Schedule(waits) => u32::try_from(waits.len()).unwrap_or(u32::MAX).saturating_add(1),
            Delays::Exponential { attempts, .. } => *attempts,
        }
    }

    /// The nominal wait after `made` attempts have failed; `None` when that was the last one.
    fn nominal(&self, made: u32) -> Option<Duration> {
        let nth = made.checked_sub(1)?;
        match &self.delays {
            Delays::Schedule(waits) => waits.get(usize::try_from(nth).ok()?).copied(),
            Delays::Exponential { attempts, initial, multiplier, max } => {
                if made >= *attempts {
                    return None;
                }
                let exponent = i32::try_from(nth).unwrap_or(i32::MAX);
                let seconds = initial.as_secs_f64() * multiplier.powi(exponent);
                Some(Duration::try_from_secs_f64(seconds).map_or(*max, |wait| wait.min(*max)))
            }
        }
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
        let from = made.max(1);
        let waits = (from..self.attempts()).map_while(|made| self.nominal(made));
        waits.take(10_000).fold(Duration::ZERO, Duration::saturating_add)
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
        let policy = Policy { delays: Delays::Schedule(vec![secs(5), secs(10)]), jitter: Jitter::Share(0.0) };
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
        let share = Policy { delays: Delays::Schedule(vec![secs(10)]), jitter: Jitter::Share(0.2) };
        assert_eq!(share.next(1, None, 0.0), Some(secs(8)));
        assert_eq!(share.next(1, None, 0.5), Some(secs(10)));
        assert!(share.next(1, None, 0.999).unwrap() < secs(12));
        let full = Policy { jitter: Jitter::Full, ..share };
        assert_eq!(full.next(1, None, 0.0), Some(secs(0)));
    }

    #[test]
    fn what_the_endpoint_asks_for_is_a_floor() {
        let policy = Policy { delays: Delays::Schedule(vec![secs(10)]), jitter: Jitter::Share(0.0) };
        assert_eq!(policy.next(1, Some(secs(60)), 0.5), Some(secs(60)));
        assert_eq!(policy.next(1, Some(secs(1)), 0.5), Some(secs(10)));
    }

    #[test]
    fn exponential_waits_grow_to_their_cap() {
        let delays =
            Delays::Exponential { attempts: 5, initial: secs(1), multiplier: 3.0, max: secs(10) };
        let policy = Policy { delays, jitter: Jitter::Share(0.0) };
        let waits: Vec<_> = (1..=5).map(|made| policy.next(made, None, 0.5)).collect();
        assert_eq!(waits, [Some(secs(1)), Some(secs(3)), Some(secs(9)), Some(secs(10)), None]);
    }

    #[test]
    fn the_default_is_the_standard_webhooks_schedule() {
        let policy = Policy::default();
        assert_eq!(policy.attempts(), 10);
        assert_eq!(policy.left(0), secs(272_105));
    }
}
