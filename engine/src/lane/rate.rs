//! How fast a lane may send: so many attempts in a time, with a burst (the generic cell rate algorithm, as in ITU-T I.371).

use std::time::Duration;

use crate::model::Timestamp;

/// A bound on attempts over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// The time that one attempt takes up.
    pub every: Duration,
    /// Attempts that may come at once after a pause.
    pub burst: u32,
}

/// What a rate has left. The caller passes the time in.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: Rate,
    /// When everything that was taken has been earned.
    paid_up: Timestamp,
}

impl Pace {
    /// With a whole burst to begin with.
    pub fn new(rate: Rate) -> Self {
        Self { rate, paid_up: Timestamp::default() }
    }

    /// Takes one attempt, or says how long to wait for one.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        let from = self.paid_up.max(now);
        let ahead = self.rate.every.saturating_mul(self.rate.burst.saturating_sub(1));
        let early = from.since(now).saturating_sub(ahead);
        if early > Duration::ZERO {
            return Err(early);
        }
        self.paid_up = from.plus(self.rate.every);
        Ok(())
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&mut self, attempts: u32) {
        self.paid_up = self.paid_up.minus(self.rate.every.saturating_mul(attempts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(burst: u32) -> Pace {
        Pace::new(Rate { every: Duration::from_millis(100), burst })
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_unix_seconds(100).plus(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let mut pace = pace(3);
        let mut sent = Vec::new();
        let mut now = at(0);
        for _ in 0..6 {
            while let Err(wait) = pace.take(now) {
                now = now.plus(wait);
            }
            sent.push(now.since(at(0)).as_millis());
        }
        assert_eq!(sent, [0, 0, 0, 100, 200, 300]);
    }

    #[test]
    fn a_pause_earns_a_burst_and_no_more() {
        let mut pace = pace(2);
        let taken = |pace: &mut Pace, now| {
            std::iter::repeat_with(|| pace.take(now)).take_while(Result::is_ok).count()
        };
        assert_eq!(taken(&mut pace, at(0)), 2);
        assert_eq!(taken(&mut pace, at(100)), 1);
        assert_eq!(taken(&mut pace, at(60_000)), 2);
        assert_eq!(pace.take(at(60_000)), Err(Duration::from_millis(100)));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut pace = pace(2);
        assert_eq!((pace.take(at(0)), pace.take(at(0))), (Ok(()), Ok(())));
        pace.give_back(1);
        assert_eq!(pace.take(at(0)), Ok(()));
        assert!(pace.take(at(0)).is_err());
    }
}
