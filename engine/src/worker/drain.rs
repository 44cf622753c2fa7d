//! Draining a lane that spills: half of its slots while its circuit is closed, one probe at a time while it is open, nothing
//! while it rests. A lane has no consumer: its owner reads it, and deletes what is settled.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::Engine;
use super::attempt::Ready;
use super::cursor::Cursor;
use super::expiry::decode;
use super::held::Hold;
use super::intake::{Suspect, killer};
use super::lane::{Lane, Plan, Slot};
use super::lane_owner::{Past, window};
use super::shares::Share;
use super::storing::Put;
use super::under_way::Taken;
use crate::model::{Reason, SourceMessage, SourceRef, Task, Timestamp};
use crate::nats::{ApiError, Stored};

/// How often a lane that rests or is open is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a lane that somebody else drains is looked at, should no word of it have come.
const OTHERS_LOOK_EVERY: Duration = Duration::from_secs(60);
/// Pause before a drain that was interrupted begins again.
const PAUSE: Duration = Duration::from_millis(200);

/// What a drain keeps between two looks.
#[derive(Default)]
struct Place<'s> {
    cursor: Option<Cursor>,
    share: Option<Share<'s>>,
}

/// What became of a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Looked {
    /// There may be more.
    Again,
    /// Nothing lies there: the lane is direct.
    Direct,
}

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
            // One drain at a time, whichever engine of this process began it: what spills while one ends is the next one's.
            let _turn = lane.drained.turn.lock().await;
            while lane.is_spilling() && !engine.stop.is_cancelled() {
                let drained = AssertUnwindSafe(Box::pin(engine.drain(&lane))).catch_unwind().await;
                match drained.unwrap_or_else(|_| Err("the drain failed (a panic); please report it".to_owned())) {
                    Ok(()) => {}
                    Err(why) => {
                        tracing::debug!(pipeline = %lane.pipeline.name, subscription = %lane.subscription.name, why, "drain interrupted");
                        engine.look_later(&lane, PAUSE).await;
                    }
                }
            }
        });
    }

    /// The lane of the same name, where this engine has one.
    pub(super) fn heir_of(&self, lane: &Lane) -> Option<Arc<Lane>> {
        self.lane_named(&lane.pipeline.name, &lane.subscription.name)
    }

    /// Until the lane is direct or the engine stops. An error means: from the beginning.
    async fn drain(self: &Arc<Self>, lane: &Arc<Lane>) -> Result<(), String> {
        let mut place = Place::default();
        while !self.stop.is_cancelled() {
            let plan = lane.plan();
            if !matches!(plan, Plan::Drain(_)) {
                place = Place::default();
            }
            let looked = match plan {
                Plan::Rest => {
                    self.let_go(lane).await;
                    self.look_later(lane, LOOK_EVERY).await;
                    Looked::Again
                }
                Plan::Probe { since, probe_at } => self.while_open(lane, since, probe_at).await?,
                Plan::Drain(most) => self.while_closed(lane, most, &mut place).await?,
            };
            if looked == Looked::Direct {
                break;
            }
        }
        Ok(())
    }

    /// An open circuit: what has expired is dead-lettered, and a single task probes when it is time. In between the lane is
    /// free for an engine whose circuit is closed.
    async fn while_open(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        since: Timestamp,
        probe_at: Timestamp,
    ) -> Result<Looked, String> {
        self.expire(lane, since, probe_at).await?;
        let now = Timestamp::steady();
        if lane.is_hopeless() {
            self.disable(lane, "nothing but failures since the circuit opened").await;
            return Ok(Looked::Again);
        }
        if now < probe_at {
            self.let_go(lane).await;
            self.look_later(lane, probe_at.since(now).min(LOOK_EVERY)).await;
            return Ok(Looked::Again);
        }
        if !self.own(lane).await.map_err(|error| error.to_string())? {
            return self.wait_for_others(lane).await;
        }
        lane.probing(now);
        self.note_probe(lane);
        let slot = tokio::select! {
            slot = lane.slots.clone().acquire_owned() => slot.map_err(|_| "closed")?,
            () = self.stop.cancelled() => return Ok(Looked::Again),
        };
        let stored = lane.stored();
        let mut cursor = Cursor::new(&self.nats, lane);
        if let Some((task, taken)) = self.next(lane, &mut cursor).await? {
            let past = lane.drained.owner.past(&taken);
            Box::pin(self.clone().take_drained(lane.clone(), task, taken, past, Slot::new(slot, None))).await;
            return Ok(Looked::Again);
        }
        self.emptied(lane, &mut cursor, stored).await
    }

    /// A closed circuit: as much as slots, share and rate allow, if this process is the lane's owner.
    async fn while_closed<'s>(
        self: &'s Arc<Self>,
        lane: &Arc<Lane>,
        most: usize,
        place: &mut Place<'s>,
    ) -> Result<Looked, String> {
        let stored = lane.stored();
        if !self.owns(lane) {
            *place = Place::default();
            if self.is_nobodys_and_empty(lane).await.map_err(|error| error.to_string())? {
                return Ok(if lane.direct_if(stored) { Looked::Direct } else { Looked::Again });
            }
            if !self.own(lane).await.map_err(|error| error.to_string())? {
                return self.wait_for_others(lane).await;
            }
        }
        let cursor = place.cursor.get_or_insert_with(|| Cursor::new(&self.nats, lane));
        let most = most.min(place.share.get_or_insert_with(|| self.shares.take()).most());
        if self.drain_some(lane, cursor, most).await? {
            return Ok(Looked::Again);
        }
        self.prove(lane).await;
        self.emptied(lane, cursor, stored).await
    }

    /// Whether nobody drains the lane, and there is nothing in it: then it need not be owned to be direct again.
    async fn is_nobodys_and_empty(&self, lane: &Lane) -> Result<bool, ApiError> {
        if lane.drained.under_way.count() > 0 || lane.drained.owner.is_owned() {
            return Ok(false);
        }
        let turn = self.turns.take().await;
        let stream = self.nats.prefix().lanes();
        let subject = self.nats.prefix().lane(lane.pipeline.name.as_str(), lane.subscription.name.as_str());
        let head = self.nats.next_on(&stream, &subject, 1).await;
        turn.answered();
        Ok(head?.is_none())
    }

    /// Another process drains the lane, or this one is not sure of its own: until something about that changes.
    async fn wait_for_others(&self, lane: &Lane) -> Result<Looked, String> {
        if lane.drained.owner.is_owned() {
            self.look_later(lane, OTHERS_LOOK_EVERY).await;
            // Should a word have been missed.
            lane.drained.owner.forget_others(&self.process.id);
        } else {
            self.look_later(lane, PAUSE).await;
        }
        Ok(Looked::Again)
    }

    /// Lets others drain the lane as soon as nothing of it is under way here.
    async fn let_go(&self, lane: &Lane) {
        if lane.drained.under_way.count() == 0 {
            self.give_up_lane(lane).await;
        }
    }

    /// Takes what is there, up to the free slots. False: there was less.
    async fn drain_some(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        cursor: &mut Cursor,
        most: usize,
    ) -> Result<bool, String> {
        let Some(mut slots) = self.free_slots(lane, most).await? else { return Ok(true) };
        match lane.take_paces(slots.len(), Timestamp::steady()) {
            Ok(paces) => slots.truncate(paces),
            Err(wait) => {
                drop(slots);
                self.look_later(lane, wait).await;
                return Ok(true);
            }
        }
        let mut found = Ok(true);
        while let Some(slot) = slots.pop() {
            match self.next(lane, cursor).await {
                Ok(Some((task, taken))) => {
                    let past = lane.drained.owner.past(&taken);
                    self.spawn(self.clone().take_drained(lane.clone(), task, taken, past, slot));
                    continue;
                }
                Ok(None) => found = Ok(false),
                Err(why) => found = Err(why),
            }
            slots.push(slot);
            break;
        }
        lane.give_back_paces(slots.len());
        found
    }

    /// Slots that are free now, one at the least, within `most` at once; none: too much is under way, look again.
    async fn free_slots(&self, lane: &Arc<Lane>, most: usize) -> Result<Option<Vec<Slot>>, String> {
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
            return Ok(None);
        }
        let room = window(lane).saturating_sub(lane.drained.under_way.count());
        if room == 0 {
            tokio::select! {
                () = lane.drained.under_way.changed() => {}
                () = self.look_later(lane, LOOK_EVERY) => {}
            }
            return Ok(None);
        }
        let mut slots = Vec::new();
        while slots.len() < (most - busy).min(room) {
            let Ok(share) = lane.drainers.clone().try_acquire_owned() else { break };
            let Ok(slot) = lane.slots.clone().try_acquire_owned() else { break };
            slots.push(Slot::new(slot, Some(share)));
        }
        if slots.is_empty() {
            let both = async {
                let share = lane.drainers.clone().acquire_owned().await.ok()?;
                Some(Slot::new(lane.slots.clone().acquire_owned().await.ok()?, Some(share)))
            };
            tokio::select! {
                slot = both => slots.push(slot.ok_or("closed")?),
                () = self.look_later(lane, LOOK_EVERY) => return Ok(None),
            }
        }
        Ok(Some(slots))
    }

    async fn next(&self, lane: &Lane, cursor: &mut Cursor) -> Result<Option<(Stored, Taken)>, String> {
        let next = cursor.next(lane, &self.turns, self.shares.lanes()).await;
        next.map_err(|error| error.to_string())
    }

    pub(super) async fn look_later(&self, lane: &Lane, wait: Duration) {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = lane.changed.notified() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// There was nothing to take. Nothing there by the leader's word, nothing under way, nothing stored meanwhile: the lane is
    /// direct again, and nobody's.
    async fn emptied(&self, lane: &Lane, cursor: &mut Cursor, stored: u64) -> Result<Looked, String> {
        if lane.drained.under_way.count() > 0 {
            tokio::select! {
                () = lane.drained.under_way.changed() => {}
                () = lane.newly_stored(stored) => {}
                () = self.look_later(lane, LOOK_EVERY) => {}
            }
            return Ok(Looked::Again);
        }
        if !cursor.is_empty(&self.turns).await.map_err(|error| error.to_string())? {
            return Ok(Looked::Again);
        }
        if !lane.direct_if(stored) {
            return Ok(Looked::Again);
        }
        self.give_up_lane(lane).await;
        Ok(Looked::Direct)
    }

    /// Attempts one task that lay in the lane; the slot is its.
    async fn take_drained(
        self: Arc<Self>,
        lane: Arc<Lane>,
        stored: Stored,
        taken: Taken,
        past: Past,
        slot: Slot,
    ) {
        let (pipeline, subscription) = (&lane.pipeline.name, &lane.subscription.name);
        let decoded = decode(&lane, &stored);
        let Stored { sequence, time, headers, body, .. } = stored;
        let hold = Hold::in_lane(&self.holds, self.storing.clone(), taken);
        let mut task = match decoded {
            Ok(task) => task,
            Err(error) if error.is_foreign() => {
                let message = SourceMessage { headers, body };
                return self.set_aside(pipeline, subscription.as_str(), &message, &error, hold).await;
            }
            Err(error) => return self.leave_alone(&lane, &error).await,
        };
        let place = SourceRef { stream: self.nats.prefix().lanes().into(), sequence, time };
        let mut turn = None;
        if past.suspect {
            match self.suspect(&place, &hold).await {
                Suspect::Turn(its) => turn = Some((its, hold.on_done())),
                Suspect::Killer => {
                    let fault = killer();
                    if matches!(
                        self.storing.dead_letter(&task, Reason::CrashLoop, &fault).await,
                        Put::Stored(_)
                    ) {
                        lane.counters.dead_lettered.increment(1);
                        hold.settle().await;
                        self.clear_suspect(&place).await;
                    }
                    return;
                }
                Suspect::No | Suspect::Stopped => return,
            }
        }
        abort_if_marked(&task);
        task.left = None;
        if past.again {
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
}

/// In builds for tests, a task from a lane whose event has the id in `HOOKMILL_TEST_ABORT_DRAINED` ends the process.
#[cfg(debug_assertions)]
fn abort_if_marked(task: &Task) {
    if std::env::var("HOOKMILL_TEST_ABORT_DRAINED").is_ok_and(|id| id == task.event.id) {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
fn abort_if_marked(_task: &Task) {}
