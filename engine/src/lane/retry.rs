//! When a failed task is tried again, and when it has been tried enough.

use std::time::Duration;

use crate::model::Timestamp;

/// How waits are spread, so that what failed together does not come back together.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Jitter {
    /// The wait times a number drawn evenly from `1 - share` to `1 + share`.
    Share(f64),
    /// A wait drawn evenly from zero to the nominal one.
    Full,
}

fn attempts_in_words(attempts: u32) -> String {
    if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") }
}

/// A subscription's retry policy.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// The wait after the first failure, the second, and so on; one attempt more than entries.
    pub schedule: Vec<Duration>,
    /// Their spread.
    pub jitter: Jitter,
    /// No further attempt is planned for later than this after the first one began.
    pub max_age: Option<Duration>,
}

/// What has been tried of a task so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tried {
    /// Attempts made.
    pub attempts: u32,
    /// Time since the first of them began; zero when there was none.
    pub age: Duration,
}

impl Tried {
    /// What has been tried by `now`.
    pub fn by(now: Timestamp, attempts: u32, first: Option<Timestamp>) -> Self {
        Self { attempts, age: first.map_or(Duration::ZERO, |first| now.since(first)) }
    }
}

/// Which bound of a policy ends a task; it prints as a part of a sentence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Spent {
    /// The schedule has no further attempt.
    #[error("after {}, all that its schedule has", attempts_in_words(*.0))]
    Attempts(u32),
    /// The next attempt would come too late.
    #[error(
        "after {}, because the next would come later than `max_age` ({}) after the first",
        attempts_in_words(*attempts),
        humantime::format_duration(*max_age)
    )]
    Age {
        /// Attempts made.
        attempts: u32,
        /// The bound.
        max_age: Duration,
    },
}

/// Standard Webhooks, "Deliverability and reliability": the default waits, in seconds.
const DEFAULT_SCHEDULE_SECONDS: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

impl Default for Policy {
    fn default() -> Self {
        let schedule = DEFAULT_SCHEDULE_SECONDS.into_iter().map(Duration::from_secs).collect();
        Self { schedule, jitter: Jitter::Share(0.2), max_age: None }
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

    /// How long to wait after what was tried has failed, or which bound has been reached. `asked` is what the endpoint
    /// asked for (a floor); `draw` is an even random number in `0..1`. A wait is never cut to fit `max_age`: an endpoint
    /// that asks for more time than is left gets no attempt before that time.
    pub fn next(&self, tried: Tried, asked: Option<Duration>, draw: f64) -> Result<Duration, Spent> {
        let Tried { attempts, age } = tried;
        let nominal = self.nominal(attempts).ok_or(Spent::Attempts(attempts))?;
        let factor = match self.jitter {
            Jitter::Share(share) => 1.0 + share * (2.0 * draw - 1.0),
            Jitter::Full => draw,
        };
        let wait = nominal.mul_f64(factor.max(0.0));
        let wait = asked.map_or(wait, |asked| wait.max(asked));
        match self.max_age {
            Some(max_age) if age.saturating_add(wait) > max_age => Err(Spent::Age { attempts, max_age }),
            _ => Ok(wait),
        }
    }

    /// What is left of the time for a task: the sum of the nominal waits to come, within `max_age`.
    pub fn left(&self, tried: Tried) -> Duration {
        let passed = usize::try_from(tried.attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let waits = self.schedule.iter().skip(passed);
        let scheduled = waits.fold(Duration::ZERO, |sum, wait| sum.saturating_add(*wait));
        self.max_age.map_or(scheduled, |max_age| scheduled.min(max_age.saturating_sub(tried.age)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// After so many attempts, the first of which began just now.
    fn made(attempts: u32) -> Tried {
        Tried { attempts, age: Duration::ZERO }
    }

    #[test]
    fn a_schedule_has_one_attempt_more_than_waits() {
        let policy = Policy { schedule: vec![secs(5), secs(10)], jitter: Jitter::Share(0.0), max_age: None };
        assert_eq!(policy.attempts(), 3);
        for (attempts, next, left) in [
            (0, Err(Spent::Attempts(0)), 15),
            (1, Ok(secs(5)), 15),
            (2, Ok(secs(10)), 10),
            (3, Err(Spent::Attempts(3)), 0),
        ] {
            assert_eq!(policy.next(made(attempts), None, 0.5), next, "{attempts}");
            assert_eq!(policy.left(made(attempts)), secs(left), "{attempts}");
        }
        let old = Tried { attempts: 1, age: secs(1_000_000) };
        assert_eq!(policy.next(old, None, 0.5), Ok(secs(5)), "without max_age no age is too great");
    }

    #[test]
    fn jitter_stays_within_its_share_and_full_reaches_zero() {
        let share = Policy { schedule: vec![secs(10)], jitter: Jitter::Share(0.2), max_age: None };
        assert_eq!(share.next(made(1), None, 0.0), Ok(secs(8)));
        assert_eq!(share.next(made(1), None, 0.5), Ok(secs(10)));
        assert!(share.next(made(1), None, 0.999).unwrap() < secs(12));
        let full = Policy { jitter: Jitter::Full, ..share };
        assert_eq!(full.next(made(1), None, 0.0), Ok(secs(0)));
    }

    #[test]
    fn what_the_endpoint_asks_for_is_a_floor() {
        let policy = Policy { schedule: vec![secs(10)], jitter: Jitter::Share(0.0), max_age: None };
        assert_eq!(policy.next(made(1), Some(secs(60)), 0.5), Ok(secs(60)));
        assert_eq!(policy.next(made(1), Some(secs(1)), 0.5), Ok(secs(10)));
    }

    #[test]
    fn no_attempt_is_planned_beyond_the_greatest_age() {
        let schedule = vec![secs(10), secs(20), secs(40)];
        let max_age = secs(60);
        let policy = Policy { schedule, jitter: Jitter::Share(0.5), max_age: Some(max_age) };
        let too_old = |attempts| Err(Spent::Age { attempts, max_age });
        for (attempts, age, asked, draw, next) in [
            (1, 0, None, 0.5, Ok(secs(10))),
            (2, 40, None, 0.5, Ok(secs(20))),
            (2, 41, None, 0.5, too_old(2)),
            // What jitter makes of the wait counts, not the nominal one.
            (2, 41, None, 0.0, Ok(secs(10))),
            (3, 20, None, 0.5, Ok(secs(40))),
            (3, 20, None, 0.75, too_old(3)),
            (1, 0, Some(60), 0.5, Ok(secs(60))),
            (1, 0, Some(61), 0.5, too_old(1)),
            // It waited long for a reason of its own, such as a pause.
            (1, 600, None, 0.0, too_old(1)),
            (4, 0, None, 0.5, Err(Spent::Attempts(4))),
        ] {
            let tried = Tried { attempts, age: secs(age) };
            assert_eq!(policy.next(tried, asked.map(secs), draw), next, "{tried:?} {asked:?} {draw}");
        }
        for (attempts, age, left) in
            [(0, 0, 60), (1, 0, 60), (1, 15, 45), (3, 0, 40), (3, 30, 30), (2, 61, 0)]
        {
            let tried = Tried { attempts, age: secs(age) };
            assert_eq!(policy.left(tried), secs(left), "{tried:?}");
        }
    }

    #[test]
    fn the_age_counts_from_the_first_attempt() {
        let at = Timestamp::from_unix_seconds;
        assert_eq!(Tried::by(at(100), 0, None), made(0));
        assert_eq!(Tried::by(at(100), 2, Some(at(70))), Tried { attempts: 2, age: secs(30) });
        assert_eq!(Tried::by(at(100), 2, Some(at(170))), made(2), "a clock that went back");
    }

    #[test]
    fn a_bound_says_which_it_is() {
        let text = |spent: Spent| spent.to_string();
        assert_eq!(text(Spent::Attempts(1)), "after 1 attempt, all that its schedule has");
        assert_eq!(text(Spent::Attempts(3)), "after 3 attempts, all that its schedule has");
        assert_eq!(
            text(Spent::Age { attempts: 2, max_age: secs(5_400) }),
            "after 2 attempts, because the next would come later than `max_age` (1h 30m) after the first"
        );
    }

    #[test]
    fn the_default_is_the_standard_webhooks_schedule() {
        let policy = Policy::default();
        assert_eq!(policy.attempts(), 10);
        assert_eq!(policy.left(made(0)), secs(272_105));
    }
}
