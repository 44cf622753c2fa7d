//! What may be wrong with a consumer that somebody has changed by hand: whether it may be taken from at all, and whether it gives
//! what is asked of it. Pure.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Info, PriorityPolicy, ReplayPolicy};

use crate::model::Timestamp;

/// Progress acks go out every 3 s: what has to be acknowledged sooner comes twice.
const ACK_WAIT_MIN: Duration = Duration::from_secs(6);
/// How long a request of ours stands, and for how many messages it asks at most (`nats/pull.rs`, `worker/taking.rs`).
const EXPIRES: Duration = Duration::from_secs(10);
const BATCH: i64 = 512;

/// Something about a consumer that is not as it has to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misfit {
    /// What, and how to mend it.
    pub what: String,
    /// Whether taking from it would lose something.
    pub loses: bool,
    /// Whether it is a person's word, which stays until that person takes it back.
    pub is_pause: bool,
}

/// What is wrong with a consumer; the one that loses something first.
pub(super) fn misfits(info: &Info) -> Vec<Misfit> {
    let config = &info.config;
    let edit =
        |flag: &str| format!("`nats consumer edit {} {} {flag}` mends it", info.stream_name, info.name);
    let anew = format!(
        "delete it with `nats consumer rm {} {}`: it is made again behind what is settled",
        info.stream_name, info.name
    );
    let mut found = Vec::new();
    let mut wrong = |loses: bool, is: bool, what: String| {
        if is {
            found.push(Misfit { what, loses, is_pause: false });
        }
    };
    wrong(true, config.headers_only, format!("its consumer gives headers only, without the events; {anew}"));
    let acks = config.ack_policy == AckPolicy::Explicit;
    wrong(true, !acks, format!("its consumer takes other acks than explicit ones; {anew}"));
    let ends = config.max_deliver > 0;
    let deliveries = config.max_deliver;
    wrong(
        true,
        ends,
        format!(
            "its consumer gives up a message after {deliveries} deliveries; {}",
            edit("--max-deliver=-1")
        ),
    );
    let is_push = config.deliver_subject.as_ref().is_some_and(|subject| !subject.is_empty());
    wrong(false, is_push, format!("its consumer pushes, and can't be pulled from; {anew}"));
    let grouped = config.priority_policy != PriorityPolicy::None || !config.priority_groups.is_empty();
    wrong(false, grouped, format!("its consumer serves priority groups alone; {anew}"));
    let batch = config.max_batch;
    wrong(
        false,
        batch > 0 && batch < BATCH,
        format!(
            "its consumer refuses to give more than {batch} messages for a request; {}",
            edit("--max-pull-batch=0")
        ),
    );
    wrong(
        false,
        !config.max_expires.is_zero() && config.max_expires < EXPIRES,
        format!(
            "its consumer refuses requests that stand longer than {:?}; {}",
            config.max_expires,
            edit("--max-pull-expire=0")
        ),
    );
    let wait = config.backoff.first().copied().unwrap_or(config.ack_wait);
    wrong(
        false,
        !wait.is_zero() && wait < ACK_WAIT_MIN,
        format!(
            "its consumer gives a message again after {wait:?}, while it is still worked on; {}",
            edit("--wait=10s")
        ),
    );
    let replays = config.replay_policy == ReplayPolicy::Original;
    wrong(false, replays, format!("its consumer gives messages as slowly as they were published; {anew}"));
    found.extend(pause(info));
    found
}

fn pause(info: &Info) -> Option<Misfit> {
    if !info.paused {
        return None;
    }
    let until = info
        .config
        .pause_until
        .map(|until| Timestamp::from_unix_nanos(until.unix_timestamp_nanos().try_into().unwrap_or(0)));
    let until = until.map_or_else(|| "a person resumes it".to_owned(), |until| until.to_string());
    let what = format!(
        "its consumer is paused until {until}; `nats consumer resume {} {}` lets it go on",
        info.stream_name, info.name
    );
    Some(Misfit { what, loses: false, is_pause: true })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(change: &Value) -> Vec<(String, bool)> {
        let mut info = json!({
            "stream_name": "S", "name": "hookmill-p", "created": "2026-01-01T00:00:00Z",
            "config": {
                "durable_name": "hookmill-p", "deliver_policy": "all", "ack_policy": "explicit",
                "ack_wait": 10_000_000_000_u64, "max_deliver": -1, "replay_policy": "instant", "max_waiting": 512,
                "max_ack_pending": -1, "num_replicas": 0
            },
            "delivered": { "consumer_seq": 0, "stream_seq": 0 }, "ack_floor": { "consumer_seq": 0, "stream_seq": 0 },
            "num_ack_pending": 0, "num_redelivered": 0, "num_waiting": 0, "num_pending": 0
        });
        for (key, value) in change.as_object().expect("fields") {
            if key == "paused" {
                info[key] = value.clone();
            } else {
                info["config"][key] = value.clone();
            }
        }
        let info = serde_json::from_value(info).expect("as the server says it");
        misfits(&info).into_iter().map(|misfit| (misfit.what, misfit.loses)).collect()
    }

    #[test]
    fn what_keeps_a_consumer_from_giving_what_is_asked_is_said_and_what_would_lose_something_first() {
        assert_eq!(found(&json!({})), []);
        for (change, says, loses) in [
            (json!({ "headers_only": true }), "headers only", true),
            (json!({ "ack_policy": "none" }), "other acks", true),
            (
                json!({ "max_deliver": 5 }),
                "after 5 deliveries; `nats consumer edit S hookmill-p --max-deliver=-1`",
                true,
            ),
            (json!({ "deliver_subject": "x" }), "pushes", false),
            (
                json!({ "paused": true, "pause_until": "2027-01-01T00:00:00Z" }),
                "paused until 2027-01-01T00:00:00Z; `nats consumer resume S hookmill-p`",
                false,
            ),
            (json!({ "max_batch": 100 }), "more than 100 messages", false),
            (json!({ "max_expires": 5_000_000_000_u64 }), "longer than 5s", false),
            (json!({ "ack_wait": 1_000_000_000_u64 }), "again after 1s", false),
            (json!({ "backoff": [1_000_000_000_u64] }), "again after 1s", false),
            (json!({ "replay_policy": "original" }), "as slowly", false),
        ] {
            let found = found(&change);
            assert!(
                found.len() == 1 && found[0].0.contains(says) && found[0].1 == loses,
                "{change}: {found:?}"
            );
        }
        for harmless in [
            json!({ "max_ack_pending": 1_000 }),
            json!({ "max_waiting": 1 }),
            json!({ "description": "x" }),
            json!({ "inactive_threshold": 1_000_000_000_u64 }),
            json!({ "max_batch": 512 }),
        ] {
            assert_eq!(found(&harmless), [], "{harmless}");
        }
    }
}
