//! How many requests a second one token, or one address, may send.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Name;

/// Most addresses and tokens that are remembered.
const KEYS_MAX: usize = 10_000;
/// How long the next one waits when so many are remembered that none can be forgotten.
const CROWDED_WAIT: Duration = Duration::from_secs(1);

/// Whose requests are counted together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Key {
    /// A token's.
    Token(Name),
    /// An address's; of IPv6, those of the network of one customer (/64).
    Peer(IpAddr),
}

impl Key {
    pub(super) fn peer(address: IpAddr) -> Self {
        Self::Peer(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// The counts of all.
pub(super) struct Rates {
    /// Between two requests, on average.
    interval: Duration,
    /// For each: when it will have made up for all it sent (the "theoretical arrival time" of ATM's GCRA).
    clear: Mutex<HashMap<Key, Instant>>,
}

impl Rates {
    /// `rate` requests a second, twice as many at once.
    pub(super) fn new(rate: u32) -> Self {
        Self { interval: Duration::from_secs(1) / rate.max(1), clear: Mutex::default() }
    }

    /// Counts one request; an error is the time after which it may come again.
    pub(super) fn take(&self, key: Key, now: Instant) -> Result<(), Duration> {
        let mut all = self.clear.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEYS_MAX && !all.contains_key(&key) {
            all.retain(|_, clear| *clear > now);
            if all.len() >= KEYS_MAX {
                return Err(CROWDED_WAIT);
            }
        }
        let next = decide(all.get(&key).copied(), now, self.interval)?;
        all.insert(key, next);
        Ok(())
    }
}

/// When all will be made up for if one more is let through now. One who is two seconds behind has to wait.
fn decide(clear: Option<Instant>, now: Instant, interval: Duration) -> Result<Instant, Duration> {
    let next = clear.map_or(now, |clear| clear.max(now)) + interval;
    let ahead = next - now;
    let allowed = Duration::from_secs(2);
    match ahead.checked_sub(allowed) {
        Some(wait) if !wait.is_zero() => Err(wait),
        _ => Ok(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn twice_the_rate_may_come_at_once_and_then_the_rate() {
        let rates = Rates::new(10);
        let take = |key: &str| rates.take(Key::Token(Name::new(key).unwrap()), Instant::now());
        for _ in 0..20 {
            assert_eq!(take("a"), Ok(()));
        }
        assert_eq!(take("a"), Err(Duration::from_millis(100)));
        assert_eq!(take("b"), Ok(()), "others are not touched");
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(take("a"), Ok(()));
        assert_eq!(take("a"), Err(Duration::from_millis(100)), "a refused one isn't counted");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!((0..20).all(|_| take("a").is_ok()) && take("a").is_err(), "rest is not saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_addresses_that_none_can_be_forgotten_wait() {
        let rates = Rates::new(1);
        let take = |number: u32| {
            rates.take(Key::peer(IpAddr::V4(std::net::Ipv4Addr::from_bits(number))), Instant::now())
        };
        for number in 0..10_000 {
            assert_eq!(take(number), Ok(()));
        }
        assert_eq!(take(10_000), Err(CROWDED_WAIT));
        assert_eq!(take(1), Ok(()), "those that are known go on");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(take(10_000), Ok(()), "the others have been forgotten");
    }

    #[test]
    fn addresses_of_one_customer_are_one() {
        let key = |text: &str| Key::peer(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::3"), key("2001:db8:1:2:ffff::4"));
        assert_ne!(key("2001:db8:1:2::3"), key("2001:db8:1:3::3"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
