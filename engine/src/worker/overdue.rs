//! Waits whose time has long passed. The server fires a wait; one that it has forgotten (a kill may cost it a schedule) would
//! lie there for good. Each look goes through a share of the waits and stores what is overdue anew, as it is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Engine;
use super::storing::SCHEDULE;
use crate::model::Timestamp;
use crate::nats::{StoreError, Stored};

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
        let (mut from, mut woken) = (from, 0_u64);
        for _ in 0..(waiting / LOOKS).clamp(SHARE.0, SHARE.1) {
            from = match self.nats.next_on(&stream, &waits, from).await {
                Ok(Some(wait)) => {
                    let next = wait.sequence + 1;
                    woken += u64::from(is_overdue(&wait, now) && self.store_anew(wait).await);
                    next
                }
                Ok(None) => 1,
                Err(_) => break,
            };
            if from == 1 {
                break;
            }
        }
        if woken > 0 {
            tracing::warn!(
                waits = woken,
                "waits were long overdue, the server had forgotten them; stored anew"
            );
        }
        from
    }

    /// The same message again, in its own place alone: where it has fired meanwhile, or somebody was quicker, nothing
    /// happens. Its time stays what it was, so that it fires at once.
    async fn store_anew(&self, wait: Stored) -> bool {
        let Stored { subject, sequence, headers, body, .. } = wait;
        let is = |name: &str, prefix: &str| {
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let mut headers: Vec<_> =
            headers.into_iter().filter(|(name, _)| !is(name, "Nats-Expected-")).collect();
        for (name, _) in &mut headers {
            if name.eq_ignore_ascii_case(SCHEDULE) {
                SCHEDULE.clone_into(name);
            }
        }
        headers.push(("Nats-Expected-Last-Subject-Sequence".to_owned(), sequence.to_string()));
        match self.nats.store(subject, headers, body).await {
            Ok(_) => true,
            Err(StoreError::WrongLast) => false,
            Err(error) => {
                tracing::debug!(%error, sequence, "an overdue wait can't be stored anew yet");
                false
            }
        }
    }
}

fn is_overdue(wait: &Stored, now: Timestamp) -> bool {
    let schedule = wait.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(SCHEDULE));
    let due = schedule.and_then(|(_, text)| text.strip_prefix("@at ")).and_then(Timestamp::parse);
    due.is_some_and(|due| now.since(due) > OVERDUE)
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
            headers: vec![(SCHEDULE.to_owned(), text.to_owned())],
            body: bytes::Bytes::new(),
        };
        let at = Timestamp::from_unix_seconds;
        let due = wait(&format!("@at {}", at(1_000)));
        assert!(!is_overdue(&due, at(999)));
        assert!(!is_overdue(&due, at(1_030)));
        assert!(is_overdue(&due, at(1_031)));
        assert!(!is_overdue(&wait("@every 1s"), at(1_031)));
    }
}
