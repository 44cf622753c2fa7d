//! Waits whose time has long passed. The server fires a wait; one that it has forgotten (a kill may cost it a schedule) would
//! lie there for good. Each look goes through a share of the waits and stores what is overdue anew, as it is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Engine;
use crate::model::Timestamp;
use crate::nats::{StoreError, Stored, tasks};

/// How late the server may be by its own clock before a wait counts as forgotten.
const OVERDUE: Duration = Duration::from_secs(30);
/// Looks in which every wait is seen once, if that is not too many at once.
const LOOKS: u64 = 60;
/// Waits seen in one look, at least and at most.
const SHARE: (u64, u64) = (64, 1_000);

impl Engine {
    /// Looks at a share of the waits from stream sequence `from` on; says where the next look begins.
    pub(super) async fn wake_the_overdue(&self, from: u64) -> u64 {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting == 0 {
            return 1;
        }
        let (stream, [waits, _]) = (self.nats.prefix().retries(), self.nats.prefix().retries_subjects());
        let Ok(now) = self.nats.server_time(&stream).await else { return from };
        let (mut from, mut woken, mut refused) = (from, 0_u64, None);
        for _ in 0..(waiting / LOOKS).clamp(SHARE.0, SHARE.1) {
            let wait = match self.nats.next_on(&stream, &waits, from).await {
                Ok(Some(wait)) => wait,
                Ok(None) => {
                    from = 1;
                    break;
                }
                Err(_) => break,
            };
            from = wait.sequence + 1;
            if let Some(schedule) = overdue_schedule(&wait, now) {
                match self.store_anew(wait, schedule).await {
                    Ok(stored) => woken += u64::from(stored),
                    Err(error) => refused = Some(error),
                }
            }
        }
        if woken > 0 {
            tracing::warn!(
                waits = woken,
                "waits were long overdue, the server had forgotten them; stored anew"
            );
        }
        if let Some(error) = refused {
            tracing::warn!(stream, %error, "waits are long overdue and can't be stored anew; they stay, and are tried again");
        }
        from
    }

    /// The same message again, in its own place alone: where it has fired meanwhile, or somebody was quicker, nothing
    /// happens (`false`). Its time stays what it was, so that it fires at once.
    async fn store_anew(&self, wait: Stored, schedule: String) -> Result<bool, StoreError> {
        let Stored { subject, sequence, mut headers, body, .. } = wait;
        headers.retain(|(name, _)| {
            let name = name.to_ascii_lowercase();
            name != tasks::SCHEDULE.to_ascii_lowercase() && !name.starts_with("nats-expected-")
        });
        headers.push((tasks::SCHEDULE.to_owned(), schedule));
        headers.push(("Nats-Expected-Last-Subject-Sequence".to_owned(), sequence.to_string()));
        match self.nats.store(subject, headers, body).await {
            Ok(_) => Ok(true),
            Err(StoreError::WrongLast) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// When a wait was to be fired, as the server reads it, if that is long ago.
fn overdue_schedule(wait: &Stored, now: Timestamp) -> Option<String> {
    let (text, due) = tasks::schedule(&wait.headers)?;
    (now.since(due) > OVERDUE).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_overdue_half_a_minute_after_its_time() {
        let wait = |text: &str| Stored {
            subject: String::new(),
            sequence: 1,
            time: Timestamp::default(),
            headers: vec![(tasks::SCHEDULE.to_owned(), text.to_owned())],
            body: bytes::Bytes::new(),
        };
        let at = Timestamp::from_unix_seconds;
        let due = wait(&format!("@at {}", at(1_000)));
        assert_eq!(overdue_schedule(&due, at(999)), None);
        assert_eq!(overdue_schedule(&due, at(1_030)), None);
        assert_eq!(overdue_schedule(&due, at(1_031)), Some(format!("@at {}", at(1_000))));
        assert_eq!(overdue_schedule(&wait("@every 1s"), at(1_031)), None);
    }
}
