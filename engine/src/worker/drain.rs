//! Draining a lane that spills: half of its slots while its circuit is closed, one probe at a time while it is open,
//! nothing while it rests; and dead-lettering what has expired meanwhile.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::Engine;
use super::attempt::Ready;
use super::held::Hold;
use super::lane::{Lane, Plan, Slot};
use super::shares::Share;
use super::storing::Put;
use crate::lane::{Tried, circuit};
use crate::model::{Code, Fault, Name, Reason, Stage, Task, Timestamp, Whose};
use crate::nats::{Delivered, Prefix, Pull, PullEvent, Reader, Stored, tasks};
use crate::pipeline::Pipeline;

/// How often a lane that rests or is open is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Expired tasks that are dead-lettered at once.
const EXPIRE_BATCH: usize = 64;
/// Tasks for the pipeline as a whole, admitted at once.
const WHOLE_SLOTS: usize = 64;

impl Engine {
    /// Starts the drain of a lane that has just begun to spill.
    pub(super) fn drain_lane(self: &Arc<Self>, lane: Arc<Lane>) {
        // What this engine stores there while it comes to its end is taken by the one that took over.
        if let Some(successor) = self.successor.get() {
            let heir = successor.upgrade().and_then(|engine| Some((engine.heir_of(&lane)?, engine)));
            if let Some((lane, engine)) = heir {
                engine.drain_lane(lane);
            }
            return;
        }
        let engine = self.clone();
        self.tracker.spawn(async move {
            loop {
                match Box::pin(engine.drain(&lane)).await {
                    Ok(()) => return,
                    Err(why) => {
                        tracing::debug!(pipeline = %lane.pipeline.name, subscription = %lane.subscription.name, why, "drain interrupted");
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(200)) => {}
                    () = engine.stop.cancelled() => return,
                }
            }
        });
    }

    /// The lane of the same name, where this engine has one.
    fn heir_of(&self, lane: &Lane) -> Option<Arc<Lane>> {
        self.lane_named(&lane.pipeline.name, &lane.subscription.name)
    }

    /// Until the lane is empty or the engine stops. An error means: from the beginning.
    async fn drain(self: &Arc<Self>, lane: &Arc<Lane>) -> Result<(), String> {
        let stream = self.nats.prefix().lanes();
        let (pipeline, subscription) = (&lane.pipeline.name, &lane.subscription.name);
        let subject = self.nats.prefix().lane(pipeline.as_str(), subscription.as_str());
        let consumer = Prefix::lane_consumer(pipeline, subscription.as_str());
        let (mut pull, mut share): (Option<Pull>, Option<Share<'_>>) = (None, None);
        while !self.stop.is_cancelled() {
            let plan = lane.plan();
            if !matches!(plan, Plan::Drain(_)) {
                share = None;
            }
            match plan {
                Plan::Rest => {
                    pull = None;
                    self.look_later(lane, LOOK_EVERY).await;
                }
                Plan::Probe { since, probe_at } => {
                    self.expire(lane, &stream, &subject, &consumer, since, probe_at).await?;
                    let now = Timestamp::now();
                    if lane.is_hopeless(now) {
                        self.disable(lane, "nothing but failures since the circuit opened").await;
                        continue;
                    }
                    if now < probe_at {
                        self.look_later(lane, probe_at.since(now).min(LOOK_EVERY)).await;
                        continue;
                    }
                    let pull = self.lane_pull(&mut pull, &stream, &consumer, &subject).await?;
                    lane.probing(now);
                    self.note_probe(lane);
                    let slot = lane.slots.clone().acquire_owned().await.map_err(|_| "closed")?;
                    if let Some(delivered) = one(pull).await? {
                        let drained =
                            self.clone().take_drained(lane.clone(), delivered, Slot::new(slot, None));
                        Box::pin(drained).await;
                    } else if self.emptied(lane, &stream, &consumer).await? {
                        return Ok(());
                    }
                }
                Plan::Drain(most) => {
                    let pull = self.lane_pull(&mut pull, &stream, &consumer, &subject).await?;
                    let stored = lane.stored();
                    let most = most.min(share.get_or_insert_with(|| self.shares.take()).most());
                    if !self.drain_some(lane, pull, most).await? {
                        if self.emptied_since(lane, &stream, &consumer, stored).await? {
                            return Ok(());
                        }
                        self.look_later(lane, Duration::from_millis(100)).await;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes what is there, up to the free slots. False: there was nothing.
    async fn drain_some(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        pull: &mut Pull,
        most: usize,
    ) -> Result<bool, String> {
        let half = lane.subscription.concurrency.div_ceil(2);
        // Another version of the subscription may have more of them.
        let busy = half.saturating_sub(lane.drainers.available_permits());
        if busy >= most {
            // Until one of them is done: then so many of the half are free.
            let enough = u32::try_from(half - most + 1).unwrap_or(u32::MAX);
            tokio::select! {
                free = lane.drainers.acquire_many(enough) => drop(free),
                () = self.look_later(lane, LOOK_EVERY) => {}
            }
            return Ok(true);
        }
        let mut slots = Vec::new();
        while slots.len() < most - busy {
            let Ok(share) = lane.drainers.clone().try_acquire_owned() else { break };
            let Ok(slot) = lane.slots.clone().try_acquire_owned() else { break };
            slots.push(Slot::new(slot, Some(share)));
        }
        if slots.is_empty() {
            let Ok(share) = lane.drainers.clone().acquire_owned().await else {
                return Err("closed".to_owned());
            };
            let slot = tokio::select! {
                slot = lane.slots.clone().acquire_owned() => slot.map_err(|_| "closed")?,
                () = self.stop.cancelled() => return Ok(true),
            };
            slots.push(Slot::new(slot, Some(share)));
        }
        match lane.take_paces(slots.len(), Timestamp::now()) {
            Ok(paces) => slots.truncate(paces),
            Err(wait) => {
                self.look_later(lane, wait).await;
                return Ok(true);
            }
        }
        let asked = slots.len();
        let lost = self.spread(lane, pull, &mut slots).await;
        lane.give_back_paces(slots.len());
        lost.map(|()| slots.len() < asked)
    }

    /// Asks for as many as there are slots, and attempts what comes; slots that are left were not needed.
    async fn spread(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        pull: &mut Pull,
        slots: &mut Vec<Slot>,
    ) -> Result<(), String> {
        pull.ask_now(slots.len()).await;
        while pull.asked() > 0 {
            match pull.next().await {
                PullEvent::Message(delivered) => {
                    let Some(slot) = slots.pop() else { break };
                    let engine = self.clone();
                    self.spawn(engine.take_drained(lane.clone(), delivered, slot));
                }
                PullEvent::Alive | PullEvent::Ended(_) => {}
                PullEvent::Lost(lost) => return Err(format!("{lost:?}")),
            }
        }
        Ok(())
    }

    async fn lane_pull<'p>(
        &self,
        pull: &'p mut Option<Pull>,
        stream: &str,
        consumer: &str,
        subject: &str,
    ) -> Result<&'p mut Pull, String> {
        if pull.is_none() {
            let made = self.nats.make_lane_consumer(stream, consumer, subject.to_owned()).await;
            made.map_err(|error| error.to_string())?;
            let opened = Pull::open(&self.nats, stream, consumer).await.map_err(|error| error.to_string())?;
            *pull = Some(opened);
        }
        pull.as_mut().ok_or_else(|| "no pull".to_owned())
    }

    async fn look_later(&self, lane: &Lane, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = lane.changed.notified() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn emptied(&self, lane: &Lane, stream: &str, consumer: &str) -> Result<bool, String> {
        let stored = lane.stored();
        self.emptied_since(lane, stream, consumer, stored).await
    }

    /// Nothing pending, nothing unacknowledged, nothing stored meanwhile: the lane is direct again.
    async fn emptied_since(
        &self,
        lane: &Lane,
        stream: &str,
        consumer: &str,
        stored: u64,
    ) -> Result<bool, String> {
        match self.nats.consumer(stream, consumer).await {
            Ok(Some(state)) if state.pending > 0 || state.ack_pending > 0 => Ok(false),
            Ok(Some(_)) => {
                let (pipeline, subscription) = (lane.pipeline.name.as_str(), lane.subscription.name.as_str());
                let subject = self.nats.prefix().lane(pipeline, subscription);
                self.see(stream, consumer, &subject).await?;
                Ok(lane.direct_if(stored))
            }
            Ok(None) => Err("the lane's consumer is gone".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Deletes a consumer that is blind for what lies there, so that it is made anew: an error then.
    async fn see(&self, stream: &str, consumer: &str, subject: &str) -> Result<(), String> {
        let blind = self.nats.is_blind(stream, consumer, subject).await.map_err(|error| error.to_string())?;
        if !blind {
            return Ok(());
        }
        tracing::warn!(stream, consumer, "a consumer doesn't see what lies in its lane, making it anew");
        self.nats.delete_consumer(stream, consumer).await.map_err(|error| error.to_string())?;
        Err("the lane's consumer is made anew".to_owned())
    }

    /// Attempts one task that lay in the lane; the slot is its.
    async fn take_drained(self: Arc<Self>, lane: Arc<Lane>, delivered: Delivered, slot: Slot) {
        let Delivered { message, stream, sequence, time, deliveries, acker, .. } = delivered;
        let place = crate::model::SourceRef { stream, sequence, time };
        let (pipeline, subscription) = (&lane.pipeline.name, &lane.subscription.name);
        let decoded = tasks::decode(pipeline, Some(subscription), &message.headers, &message.body);
        let mut task = match decoded {
            Ok(task) => task,
            Err(error) if error.is_foreign() => {
                let hold = Hold::message(&self.holds, acker, None);
                return self.set_aside(pipeline, subscription.as_str(), &message, &error, hold).await;
            }
            Err(error) => {
                self.leave_alone(&lane, &error).await;
                return acker.nak().await;
            }
        };
        let hold = Hold::message(&self.holds, acker, None);
        let mut turn = None;
        if deliveries >= super::suspects::SUSPECT_DELIVERIES {
            match self.suspect(&place).await {
                super::intake::Suspect::Turn(its) => turn = Some((its, hold.on_done())),
                super::intake::Suspect::Killer => {
                    let detail = "the engine ended three times while this task alone was being started";
                    let (code, reason) = (Code::CrashLoop, Reason::CrashLoop);
                    let fault = Fault::never(Stage::Source, code, Whose::Engine, reason, detail);
                    if matches!(self.storing.dead_letter(&task, reason, &fault).await, Put::Stored(_)) {
                        lane.counters.dead_lettered.increment(1);
                        hold.settle().await;
                    }
                    return;
                }
                super::intake::Suspect::No | super::intake::Suspect::Stopped => return,
            }
        }
        task.left = None;
        if deliveries > 1 {
            match self.storing.waits_already(&task).await {
                None => return,
                Some(true) => return hold.settle().await,
                Some(false) => {}
            }
        }
        let Some(ticket) = self.running.begin(&task, hold) else { return };
        let attempt = self.clone().attempt(Ready { lane, slot, task, ticket });
        self.in_turn(&place, turn, attempt).await;
    }

    /// While a circuit is open: what has waited in the lane for as long as was left of its schedule is at its end.
    /// Looks at the head through the stream, because a look through the consumer would count as a delivery. Leaves off when
    /// a probe is due, so that a lane into which more comes than can be dead-lettered still learns that its endpoint is back.
    async fn expire(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        stream: &str,
        subject: &str,
        consumer: &str,
        since: Timestamp,
        probe_at: Timestamp,
    ) -> Result<(), String> {
        let mut pull: Option<Pull> = None;
        while !self.stop.is_cancelled() && Timestamp::now() < probe_at {
            let expired = self.expired_at_head(lane, stream, subject, since).await?;
            if expired == 0 {
                return Ok(());
            }
            let pull = self.lane_pull(&mut pull, stream, consumer, subject).await?;
            let taken = some(pull, expired).await?;
            let buried = taken.into_iter().map(|delivered| self.bury_expired(lane, delivered, since));
            if !futures_util::future::join_all(buried).await.into_iter().all(|buried| buried) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How many tasks at the head of a lane have expired, up to a batch. The leader says what the head is, so that an old
    /// answer of a replica is no reason to take anything; what lies behind is read in one go.
    async fn expired_at_head(
        &self,
        lane: &Lane,
        stream: &str,
        subject: &str,
        since: Timestamp,
    ) -> Result<usize, String> {
        let expired = |next: &Stored| has_expired(lane, &next.headers, &next.body, next.time, since);
        let head = self.nats.next_on(stream, subject, 1).await.map_err(|error| error.to_string())?;
        let Some(head) = head.filter(expired) else { return Ok(0) };
        let mut behind = Reader::new(&self.nats, stream.to_owned(), subject.to_owned(), head.sequence + 1)
            .at_once(EXPIRE_BATCH - 1);
        let mut count = 1;
        while count < EXPIRE_BATCH {
            let next = behind.next().await.map_err(|error| error.to_string())?;
            if !next.is_some_and(|next| expired(&next)) {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    /// Dead-letters a task whose time ran out in its lane. False: it had not, or it could not be stored.
    async fn bury_expired(&self, lane: &Lane, delivered: Delivered, since: Timestamp) -> bool {
        let Delivered { message, time, acker, .. } = delivered;
        if !has_expired(lane, &message.headers, &message.body, time, since) {
            acker.nak().await;
            return false;
        }
        let Ok(task) = decode(lane, &message.headers, &message.body) else { return false };
        let error = task.last.as_ref().map_or("its endpoint was out of reach", |last| last.error.as_str());
        let detail = format!("its time ran out in the lane, after {} attempts: {error}", task.attempt);
        let (code, reason) = (Code::Timeout, Reason::Exhausted);
        let fault = Fault::never(Stage::Deliver, code, Whose::Endpoint, reason, detail);
        if !matches!(self.storing.dead_letter(&task, reason, &fault).await, Put::Stored(_)) {
            return false;
        }
        lane.counters.dead_lettered.increment(1);
        acker.ack().await;
        true
    }

    /// Starts the drain of a pipeline's own lane, if none runs.
    pub(super) fn drain_whole(self: &Arc<Self>, pipeline: &Arc<Pipeline>) {
        let begin = |draining: &mut HashSet<Name>| draining.insert(pipeline.name.clone());
        if !begin(&mut self.draining_whole.lock().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let (engine, pipeline) = (self.clone(), pipeline.clone());
        self.tracker.spawn(async move {
            if let Err(why) = engine.admit_whole(&pipeline).await {
                tracing::debug!(pipeline = %pipeline.name, why, "the pipeline's own lane waits");
            }
            let mut draining = engine.draining_whole.lock().unwrap_or_else(PoisonError::into_inner);
            draining.remove(&pipeline.name);
        });
    }

    /// Admits what lies in the lane of a pipeline as a whole, until there is nothing.
    async fn admit_whole(self: &Arc<Self>, pipeline: &Arc<Pipeline>) -> Result<(), String> {
        let stream = self.nats.prefix().lanes();
        let subject = self.nats.prefix().lane(pipeline.name.as_str(), "_");
        let consumer = Prefix::lane_consumer(&pipeline.name, "_");
        let room = Arc::new(Semaphore::new(WHOLE_SLOTS));
        let mut pull = None;
        let pull = self.lane_pull(&mut pull, &stream, &consumer, &subject).await?;
        while !self.stop.is_cancelled() && self.is_in_force(&pipeline.name) {
            let Ok(first) = room.clone().acquire_owned().await else { return Ok(()) };
            let mut permits = vec![first];
            permits.extend(std::iter::from_fn(|| room.clone().try_acquire_owned().ok()));
            pull.ask_now(permits.len()).await;
            let mut found = false;
            while pull.asked() > 0 {
                match pull.next().await {
                    PullEvent::Message(delivered) => {
                        found = true;
                        let task = self.clone().take_task(pipeline.clone(), delivered, permits.pop());
                        self.spawn(task);
                    }
                    PullEvent::Alive | PullEvent::Ended(_) => {}
                    PullEvent::Lost(lost) => return Err(format!("{lost:?}")),
                }
            }
            if !found {
                return self.see(&stream, &consumer, &subject).await;
            }
        }
        Ok(())
    }
}

/// One message, if there is one now.
async fn one(pull: &mut Pull) -> Result<Option<Delivered>, String> {
    Ok(some(pull, 1).await?.pop())
}

/// Up to `most` messages of those that there are now.
async fn some(pull: &mut Pull, most: usize) -> Result<Vec<Delivered>, String> {
    pull.ask_now(most).await;
    let mut taken = Vec::new();
    while pull.asked() > 0 {
        match pull.next().await {
            PullEvent::Message(delivered) => taken.push(delivered),
            PullEvent::Alive | PullEvent::Ended(_) => {}
            PullEvent::Lost(lost) => return Err(format!("{lost:?}")),
        }
    }
    Ok(taken)
}

fn decode(
    lane: &Lane,
    headers: &[(String, String)],
    body: &bytes::Bytes,
) -> Result<Task, tasks::DecodeError> {
    let subscription: &Name = &lane.subscription.name;
    tasks::decode(&lane.pipeline.name, Some(subscription), headers, body)
}

fn has_expired(
    lane: &Lane,
    headers: &[(String, String)],
    body: &bytes::Bytes,
    stored: Timestamp,
    since: Timestamp,
) -> bool {
    let Ok(task) = decode(lane, headers, body) else { return false };
    // What was redriven, or stored by an engine that doesn't know the subscription, has its whole schedule left.
    let tried = Tried::by(stored, task.attempt, task.first_attempt);
    let left = task.left.unwrap_or_else(|| lane.subscription.retry.left(tried));
    circuit::expired(stored, since, left, Timestamp::now())
}
