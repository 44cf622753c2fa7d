//! What has waited in a lane for as long as was left of its schedule while the circuit was open: it is at its end.

use std::sync::Arc;

use super::Engine;
use super::lane::Lane;
use super::storing::Put;
use super::under_way::Taken;
use crate::lane::{Tried, circuit};
use crate::model::{Code, Fault, Reason, Stage, Task, Timestamp, Whose};
use crate::nats::{ApiError, Reader, Stored, tasks};

/// Expired tasks that are dead-lettered at once.
const EXPIRE_BATCH: usize = 64;

impl Engine {
    /// Dead-letters what has expired at the head of a lane. Leaves off when a probe is due, so that a lane into which more
    /// comes than can be dead-lettered still learns that its endpoint is back.
    pub(super) async fn expire(
        &self,
        lane: &Arc<Lane>,
        since: Timestamp,
        probe_at: Timestamp,
    ) -> Result<(), String> {
        while !self.stop.is_cancelled() && Timestamp::steady() < probe_at {
            let expired = self.expired_at_head(lane, since).await.map_err(|error| error.to_string())?;
            if expired.is_empty() || !self.own(lane).await.map_err(|error| error.to_string())? {
                return Ok(());
            }
            let taken = expired.into_iter().filter_map(|stored| {
                let taken = lane.drained.under_way.take(stored.sequence)?;
                Some(self.bury_expired(lane, stored, taken))
            });
            if !futures_util::future::join_all(taken).await.into_iter().all(|buried| buried) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tasks at the head of a lane that have expired, up to a batch. The leader says what the head is, so that an old answer
    /// of a replica is no reason to take anything; what lies behind is read in one go.
    async fn expired_at_head(&self, lane: &Lane, since: Timestamp) -> Result<Vec<Stored>, ApiError> {
        let stream = self.nats.prefix().lanes();
        let subject = self.nats.prefix().lane(lane.pipeline.name.as_str(), lane.subscription.name.as_str());
        let head = self.nats.next_on(&stream, &subject, 1).await?;
        let Some(head) = head.filter(|head| has_expired(lane, head, since)) else { return Ok(Vec::new()) };
        let mut behind =
            Reader::new(&self.nats, stream, subject, head.sequence + 1).at_once(EXPIRE_BATCH - 1);
        let mut expired = vec![head];
        while expired.len() < EXPIRE_BATCH {
            match behind.next().await? {
                Some(next) if has_expired(lane, &next, since) => expired.push(next),
                Some(_) | None => break,
            }
        }
        Ok(expired)
    }

    /// Dead-letters a task whose time ran out in its lane. False: it could not be stored, or not be removed.
    async fn bury_expired(&self, lane: &Lane, stored: Stored, taken: Taken) -> bool {
        let Ok(task) = decode(lane, &stored) else { return false };
        let error = task.last.as_ref().map_or("its endpoint was out of reach", |last| last.error.as_str());
        let detail = format!("its time ran out in the lane, after {} attempts: {error}", task.attempt);
        let (code, reason) = (Code::Timeout, Reason::Exhausted);
        let fault = Fault::never(Stage::Deliver, code, Whose::Endpoint, reason, detail);
        if !matches!(self.storing.dead_letter(&task, reason, &fault).await, Put::Stored(_)) {
            return false;
        }
        lane.counters.dead_lettered.increment(1);
        let removed = self.storing.remove_from_lane(taken.sequence).await;
        if removed {
            taken.settled();
        }
        removed
    }
}

pub(super) fn decode(lane: &Lane, stored: &Stored) -> Result<Task, tasks::DecodeError> {
    let subscription = &lane.subscription.name;
    tasks::decode(&lane.pipeline.name, Some(subscription), &stored.headers, &stored.body)
}

fn has_expired(lane: &Lane, stored: &Stored, since: Timestamp) -> bool {
    let Ok(task) = decode(lane, stored) else { return false };
    // What was redriven, or stored by an engine that doesn't know the subscription, has its whole schedule left.
    let tried = Tried::by(stored.time, task.attempt, task.first_attempt);
    let left = task.left.unwrap_or_else(|| lane.subscription.retry.left(tried));
    circuit::expired(stored.time, Timestamp::steady().since(since), left, Timestamp::now())
}
