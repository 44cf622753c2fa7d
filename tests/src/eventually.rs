//! Waiting for what can't notify, such as the state of a stream.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until `look` finds something, and panics with `what` and the last finding if that has not
/// happened within `deadline`. `Err` says what was found instead.
///
/// This is an observation with a deadline, for state outside this process that has no way to tell us of a change. Where
/// there is a way (an [`Endpoint`](crate::Endpoint), a log line), wait for that instead.
pub async fn eventually<T, F, Fut>(deadline: Duration, what: &str, mut look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let until = Instant::now() + deadline;
    let mut last = "no look has ended".to_owned();
    loop {
        if let Ok(seen) = tokio::time::timeout_at(until, look()).await {
            match seen {
                Ok(found) => return found,
                Err(instead) => last = instead,
            }
        }
        assert!(Instant::now() + PAUSE < until, "not within {deadline:?}: {what}; last seen: {last}");
        tokio::time::sleep(PAUSE).await;
    }
}
