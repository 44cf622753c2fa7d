//! Ready-made ways to answer. A behaviour is a function from the recorded request to a [`Reply`]; write your own where
//! none of these fits.

use std::sync::Arc;
use std::time::Duration;

use super::{Reply, Request};

/// Decides how each request is answered. It runs while the log is locked, so it only decides.
pub type Behaviour = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A behaviour of one's own.
pub fn custom(decide: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Behaviour {
    Arc::new(decide)
}

/// Always this status.
pub fn always(status: u16) -> Behaviour {
    custom(move |_| Reply::Status(status))
}

/// Each `webhook-id` is answered with `status` for its first `attempts` attempts, then with 200.
pub fn fail_first(attempts: usize, status: u16) -> Behaviour {
    custom(move |request| Reply::Status(if request.attempt <= attempts { status } else { 200 }))
}

/// That share of all attempts is answered with `status`, the others with 200. Which ones is decided by a hash of
/// `webhook-id` and attempt, so a run can be repeated.
pub fn fail_share(percent: u64, status: u16) -> Behaviour {
    custom(move |request| {
        let drawn = hash(&format!("{}/{}", request.webhook_id, request.attempt)) % 100;
        Reply::Status(if drawn < percent { status } else { 200 })
    })
}

/// Takes the request and never answers.
pub fn hang() -> Behaviour {
    custom(|_| Reply::Hang)
}

/// Answers 200 after `time`.
pub fn slow(time: Duration) -> Behaviour {
    custom(move |_| Reply::After(time, Box::new(Reply::Status(200))))
}

/// Answers 200 and then sends its body without end, one byte each `pause`.
pub fn drip(pause: Duration) -> Behaviour {
    custom(move |_| Reply::Drip(pause))
}

/// Answers 200, promises 1,000 bytes, sends ten and closes the connection.
pub fn close_mid_response() -> Behaviour {
    custom(|_| Reply::CloseMidResponse)
}

/// Answers 200 and sends a body without end as fast as it can.
pub fn endless() -> Behaviour {
    custom(|_| Reply::Endless)
}

/// Answers 302 with this `location`.
pub fn redirect(location: &str) -> Behaviour {
    let location = location.to_owned();
    custom(move |_| Reply::Headers(302, vec![("location".into(), location.clone())]))
}

/// Answers 429 with this `retry-after`, in seconds or as an HTTP date.
pub fn too_many(retry_after: &str) -> Behaviour {
    let retry_after = retry_after.to_owned();
    custom(move |_| Reply::Headers(429, vec![("retry-after".into(), retry_after.clone())]))
}

/// Answers 410: the endpoint wants nothing any more.
pub fn gone() -> Behaviour {
    always(410)
}

/// FNV-1a, 64 bit, with the bits mixed once more: even draws from texts that differ in one digit.
fn hash(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}
