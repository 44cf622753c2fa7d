//! Points in time. The one home of the wall clock: everything else is handed the time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use ::time::OffsetDateTime;
use ::time::format_description::well_known::Rfc3339;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds since the Unix epoch, UTC. Covers 1970 to 2554.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The wall clock, now.
    #[expect(clippy::disallowed_methods, reason = "the one home of the wall clock")]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self::from_unix_nanos(since.unwrap_or_default().as_nanos().try_into().unwrap_or(u64::MAX))
    }

    /// A clock that never steps back or ahead: the wall clock as it was when the process first asked, moved on by the time that
    /// has passed since. For what is only compared with itself (rates, circuits): a wall clock that is set anew stalls
    /// nothing.
    pub fn steady() -> Self {
        static BEGAN: LazyLock<(Timestamp, Instant)> = LazyLock::new(|| (Timestamp::now(), Instant::now()));
        let (wall, began) = &*BEGAN;
        wall.plus(began.elapsed())
    }

    /// A point of the steady clock as the wall clock tells it now, for people and for other processes.
    #[must_use]
    pub fn on_the_wall(self, steady: Self, wall: Self) -> Self {
        if self >= steady { wall.plus(self.since(steady)) } else { wall.minus(steady.since(self)) }
    }

    /// From nanoseconds since the epoch.
    pub const fn from_unix_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From seconds since the epoch.
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn unix_nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn unix_seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Milliseconds since the epoch.
    pub const fn unix_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// `self` moved on by `by`; stops at the end of the range.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.as_nanos().try_into().unwrap_or(u64::MAX)))
    }

    /// `self` moved back by `by`; stops at the epoch.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by.as_nanos().try_into().unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Reads RFC 3339 (`2026-11-24T03:00:00.5Z`); times before 1970 become the epoch.
    pub fn parse(text: &str) -> Option<Self> {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let nanos = time.unix_timestamp_nanos().max(0);
        Some(Self(nanos.try_into().unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        f.write_str(&time.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

/// Tells the time.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The wall clock.
    #[default]
    Wall,
    /// One that stands where it was set. Clones stand where it stands.
    Set(Arc<AtomicU64>),
}

impl Clock {
    /// One that stands at `time`.
    pub fn at(time: Timestamp) -> Self {
        Self::Set(Arc::new(AtomicU64::new(time.0)))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Wall => Timestamp::now(),
            Self::Set(nanos) => Timestamp(nanos.load(Ordering::Relaxed)),
        }
    }

    /// Sets it; the wall clock goes on as it does.
    pub fn set(&self, time: Timestamp) {
        match self {
            Self::Wall => {}
            Self::Set(nanos) => nanos.store(time.0, Ordering::Relaxed),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no time in RFC 3339"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back_keeps_the_nanosecond() {
        let time = Timestamp::from_unix_nanos(1_795_489_075_123_456_789);
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        assert_eq!(Timestamp::parse("1970-01-01T00:00:01+00:00").map(Timestamp::unix_seconds), Some(1));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn what_is_steady_is_told_by_a_wall_clock_that_was_set_anew() {
        let (steady, wall) = (Timestamp::from_unix_seconds(1_000), Timestamp::from_unix_seconds(400));
        let told = |seconds| Timestamp::from_unix_seconds(seconds).on_the_wall(steady, wall).unix_seconds();
        assert_eq!((told(1_030), told(990)), (430, 390));
        assert!(Timestamp::steady() <= Timestamp::steady());
    }
}
