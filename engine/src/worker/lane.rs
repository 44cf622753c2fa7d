//! One lane at run time: its slots, whether it spills, its circuit, and what the registry says of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::counters::Counters;
use super::lane_owner::Drained;
use super::shares::{DirectRoom, DirectShare, DirectUse};
use crate::lane::Pace;
use crate::lane::circuit::{Change, Circuit, CircuitState};
use crate::model::Timestamp;
use crate::nats::registry::LaneMode;
use crate::pipeline::{Pipeline, Subscription};

/// A subscription with what the engine keeps in memory about it. All but the subscription itself is shared with the lane
/// of the same name in the engine that takes over when the files are loaded again.
pub struct Lane {
    /// Its pipeline.
    pub pipeline: Arc<Pipeline>,
    /// Its subscription.
    pub subscription: Arc<Subscription>,
    /// Attempts at once.
    pub slots: Arc<Semaphore>,
    /// Of these, what drains the lane while it spills.
    pub drainers: Arc<Semaphore>,
    /// Of these, what new tasks may use while the lane spills.
    newcomers: Arc<Semaphore>,
    /// Told when anything about the lane changed.
    pub changed: Arc<Notify>,
    /// Counters with this lane's labels.
    pub counters: Arc<Counters>,
    /// Who drains it, and what is under way.
    pub(super) drained: Arc<Drained>,
    /// Room of its pipeline for attempts that hold what was taken from the source, and what it has of it.
    pub(super) room: Arc<DirectRoom>,
    direct: Arc<DirectUse>,
    /// Told of each store into it.
    told_of_stores: Arc<Notify>,
    state: Arc<Mutex<State>>,
}

pub(super) struct State {
    spilling: bool,
    /// What the rate limit has left, if there is one.
    pace: Option<Pace>,
    /// Raised by each store into the lane, so that an empty lane is not taken for one while something is on its way.
    stored: u64,
    pub(super) circuit: Circuit,
    pub(super) record: LaneMode,
    /// Until when the endpoint is to be left alone by the registry's word (Unix ns), so that each is obeyed once.
    pub(super) told_hold: Option<u64>,
    /// A task of a format that this engine can't read lies in it.
    pub(super) unreadable: bool,
    pub(super) references: References,
    /// The process could not connect for want of file descriptors: until the next look.
    out_of_files: bool,
    pub(super) last_error: Option<String>,
}

/// How the references of its subscription stand.
#[derive(Default)]
pub(super) struct References {
    /// Which of them have no usable value, as this engine sees them.
    wrong: Option<String>,
    /// The engine that says in the registry that it has none for some.
    pub(super) said_wrong_by: Option<String>,
    /// Whether the last good value of one serves on.
    served_on: bool,
}

impl State {
    /// Whether nothing is attempted until somebody resumes the lane, or mends what it needs.
    fn rests(&self) -> bool {
        self.unreadable
            || self.references.wrong.is_some()
            || matches!(self.record, LaneMode::Paused | LaneMode::Disabled | LaneMode::Unknown)
    }
}

/// How the registry's word on a lane that lacks values differs from this engine's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Differs {
    /// It lacks them, and the registry doesn't say so.
    Unsaid,
    /// It has them, and this engine has said that it lacks them.
    SaidBy(String),
}

/// What a task may do at a lane's door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Wait for a slot, for a while.
    Wait,
    /// Take a newcomer's slot if one is free at once, else be stored.
    IfFree,
    /// Be stored.
    Store,
}

/// What a lane's drain may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Nothing, until somebody resumes it or mends what it needs.
    Rest,
    /// Nothing but a probe at `probe_at`; what has expired by the opening at `since` is dead-lettered.
    Probe {
        /// The opening.
        since: Timestamp,
        /// The next probe.
        probe_at: Timestamp,
    },
    /// At most so many attempts at once.
    Drain(usize),
}

/// A slot of a lane; given back when dropped.
pub struct Slot {
    _permit: OwnedSemaphorePermit,
    _share: Option<OwnedSemaphorePermit>,
    _direct: Option<DirectShare>,
}

impl Slot {
    /// From permits that were taken elsewhere.
    pub fn new(slot: OwnedSemaphorePermit, share: Option<OwnedSemaphorePermit>) -> Self {
        Self { _permit: slot, _share: share, _direct: None }
    }

    fn direct(
        slot: OwnedSemaphorePermit,
        share: Option<OwnedSemaphorePermit>,
        direct: Option<DirectShare>,
    ) -> Self {
        Self { _permit: slot, _share: share, _direct: direct }
    }
}

/// Permits that are in use and have to go: to be awaited.
pub type Shrinking = BoxFuture<'static, ()>;

/// Makes `from` permits `to`. What waits for those in use goes before whoever asks for one later.
fn resize(permits: &Arc<Semaphore>, from: usize, to: usize) -> Option<Shrinking> {
    if to >= from {
        permits.add_permits(to - from);
        return None;
    }
    let left = from - to - permits.forget_permits(from - to);
    let left = u32::try_from(left).ok().filter(|left| *left > 0)?;
    let permits = permits.clone();
    Some(Box::pin(async move {
        if let Ok(freed) = permits.acquire_many_owned(left).await {
            freed.forget();
        }
    }))
}

impl Lane {
    /// A lane that is empty, as far as we know.
    pub fn new(pipeline: Arc<Pipeline>, subscription: Arc<Subscription>) -> Self {
        let slots = subscription.concurrency;
        let counters = Counters::new(pipeline.name.as_str(), subscription.name.as_str());
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            drainers: Arc::new(Semaphore::new(slots.div_ceil(2))),
            newcomers: Arc::new(Semaphore::new(slots / 2)),
            changed: Arc::new(Notify::new()),
            counters: Arc::new(counters),
            drained: Arc::default(),
            room: Arc::default(),
            direct: Arc::default(),
            told_of_stores: Arc::default(),
            state: Arc::new(Mutex::new(State {
                spilling: false,
                stored: 0,
                pace: subscription.rate.map(Pace::new),
                circuit: Circuit::new(subscription.circuit),
                record: LaneMode::Active,
                told_hold: None,
                unreadable: false,
                references: References::default(),
                out_of_files: false,
                last_error: None,
            })),
            pipeline,
            subscription,
        }
    }

    /// The same, in room that it shares with other lanes of its pipeline.
    pub(super) fn in_room(self, room: Arc<DirectRoom>) -> Self {
        Self { room, ..self }
    }

    /// The lane with another version of its subscription: what runs, what the circuit has seen and what the rate has left
    /// go on. Attempts that are too many for a lower `concurrency` come to their end first; `shrink` is given what waits
    /// for that. What the circuit has seen of other steps or of another endpoint counts no longer: as over a restart, it is
    /// probed at once if it is open.
    pub fn succeeded_by(
        &self,
        pipeline: Arc<Pipeline>,
        subscription: Arc<Subscription>,
        now: Timestamp,
        mut shrink: impl FnMut(Shrinking),
    ) -> Self {
        let (before, after) = (self.subscription.concurrency, subscription.concurrency);
        for (permits, from, to) in [
            (&self.slots, before, after),
            (&self.drainers, before.div_ceil(2), after.div_ceil(2)),
            (&self.newcomers, before / 2, after / 2),
        ] {
            resize(permits, from, to).into_iter().for_each(&mut shrink);
        }
        let mut state = self.state();
        if subscription.rate != self.subscription.rate {
            state.pace = subscription.rate.map(Pace::new);
        }
        let settings = subscription.circuit;
        if settings != self.subscription.circuit || !subscription.works_like(&self.subscription) {
            state.circuit = state.circuit.clone().with(settings, now);
        }
        drop(state);
        subscription.take_after(&self.subscription);
        Self {
            pipeline,
            subscription,
            slots: self.slots.clone(),
            drainers: self.drainers.clone(),
            newcomers: self.newcomers.clone(),
            changed: self.changed.clone(),
            counters: self.counters.clone(),
            drained: self.drained.clone(),
            room: self.room.clone(),
            direct: self.direct.clone(),
            told_of_stores: self.told_of_stores.clone(),
            state: self.state.clone(),
        }
    }

    /// Whether something lies in it, as far as we know.
    pub fn is_spilling(&self) -> bool {
        self.state().spilling
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a task may do now.
    pub fn entry(&self) -> Entry {
        let state = self.state();
        if state.circuit.is_open() || state.rests() || state.out_of_files {
            Entry::Store
        } else if state.circuit.allowed(self.subscription.concurrency) < self.subscription.concurrency {
            // An empty lane as well: what falls due at once after an outage would take every slot of an endpoint that has
            // answered once. The drain keeps to the ramp.
            Entry::Store
        } else if state.spilling {
            Entry::IfFree
        } else {
            Entry::Wait
        }
    }

    /// Whether a full lane has to wait for room (its circuit is closed, it moves) or gives up.
    pub fn moves(&self) -> bool {
        let state = self.state();
        !state.rests() && !state.circuit.is_open()
    }

    /// A newcomer's slot beside the drain, if one is free at once and the rate allows it.
    pub fn newcomer(&self, now: Timestamp) -> Option<Slot> {
        let share = self.newcomers.clone().try_acquire_owned().ok()?;
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        let direct = match self.direct_most() {
            Some(most) => Some(DirectShare::take(&self.room, &self.direct, most)?),
            None => None,
        };
        self.take_pace(now).is_ok().then(|| Slot::direct(slot, Some(share), direct))
    }

    /// The room that lanes of its pipeline share; none: there is no other lane to leave any to.
    fn direct_most(&self) -> Option<usize> {
        (self.pipeline.subscriptions().len() > 1).then_some(self.pipeline.source.max_in_flight)
    }

    /// Takes one attempt of the rate limit, or says how long to wait for one.
    pub fn take_pace(&self, now: Timestamp) -> Result<(), Duration> {
        self.state().pace.as_mut().map_or(Ok(()), |pace| pace.take(now))
    }

    /// Takes up to `most` attempts; none: how long to wait for one.
    pub fn take_paces(&self, most: usize, now: Timestamp) -> Result<usize, Duration> {
        let mut state = self.state();
        let Some(pace) = &mut state.pace else { return Ok(most) };
        pace.take(now)?;
        Ok(1 + (1..most).take_while(|_| pace.take(now).is_ok()).count())
    }

    /// Gives back attempts that were taken and not made.
    pub fn give_back_paces(&self, unused: usize) {
        if let Some(pace) = &mut self.state().pace {
            pace.give_back(u32::try_from(unused).unwrap_or(u32::MAX));
        }
    }

    /// Waits for a slot, for room, and for the rate limit.
    pub async fn turn(&self, clock: fn() -> Timestamp) -> Option<Slot> {
        let slot = self.slots.clone().acquire_owned().await.ok()?;
        let direct = match self.direct_most() {
            Some(most) => Some(DirectShare::wait(&self.room, &self.direct, most).await),
            None => None,
        };
        while let Err(wait) = self.take_pace(clock()) {
            tokio::time::sleep(wait).await;
        }
        Some(Slot::direct(slot, None, direct))
    }

    /// Whether attempts have gone on failing for so long that nobody should wait any more.
    pub fn is_hopeless(&self) -> bool {
        self.state().circuit.is_hopeless()
    }

    /// Something is in the lane or on its way into it. True if that is news.
    pub fn spill(&self) -> bool {
        let mut state = self.state();
        state.stored += 1;
        let news = !std::mem::replace(&mut state.spilling, true);
        drop(state);
        self.told_of_stores.notify_waiters();
        news
    }

    /// Waits until more was stored than `stored`.
    pub async fn newly_stored(&self, stored: u64) {
        loop {
            let told = self.told_of_stores.notified();
            if self.stored() != stored {
                return;
            }
            told.await;
        }
    }

    /// How much was stored so far, to compare with later.
    pub fn stored(&self) -> u64 {
        self.state().stored
    }

    /// Ends spilling if nothing was stored since `stored` was read.
    pub fn direct_if(&self, stored: u64) -> bool {
        let mut state = self.state();
        if state.stored == stored {
            state.spilling = false;
        }
        !state.spilling
    }

    /// What the drain may do now.
    pub fn plan(&self) -> Plan {
        let state = self.state();
        if state.rests() || state.out_of_files {
            return Plan::Rest;
        }
        match state.circuit.state() {
            CircuitState::Open { since, probe_at } => Plan::Probe { since, probe_at },
            CircuitState::Closed => {
                let half = self.subscription.concurrency.div_ceil(2);
                Plan::Drain(state.circuit.allowed(half))
            }
        }
    }

    /// A probe starts.
    pub fn probing(&self, now: Timestamp) {
        self.state().circuit.probing(now);
    }

    /// An attempt that began at `began` succeeded. True if the circuit closed.
    pub fn succeeded(&self, began: Timestamp, now: Timestamp) -> bool {
        let half = self.subscription.concurrency.div_ceil(2);
        let change = self.state().circuit.succeeded(half, began, now);
        if change == Change::Closed {
            self.changed.notify_waiters();
        }
        change == Change::Closed
    }

    /// An attempt failed; `hold`: its endpoint asks to be left alone for so long. True if people should hear of it: the
    /// circuit opened, or a hold began or grew.
    pub fn failed(&self, began: Timestamp, now: Timestamp, why: &str, hold: Option<Duration>) -> bool {
        let mut state = self.state();
        state.last_error = Some(why.to_owned());
        let held_until = state.circuit.held_until();
        let opened = state.circuit.failed(began, now) == Change::Opened;
        let opened = hold.is_some_and(|hold| state.circuit.hold(hold, now) == Change::Opened) || opened;
        let news = opened || (hold.is_some() && state.circuit.held_until() != held_until);
        drop(state);
        if news {
            self.changed.notify_waiters();
        }
        news
    }

    /// What the last failed attempt met.
    pub fn last_error(&self) -> Option<String> {
        self.state().last_error.clone()
    }

    /// Whether a person or the endpoint itself has stopped the lane; a circuit has no say then.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state().record, LaneMode::Paused | LaneMode::Disabled | LaneMode::Unknown)
    }

    /// A task that this engine can't read lies in the lane: it is left alone. True if that is news.
    pub fn set_unreadable(&self) -> bool {
        !std::mem::replace(&mut self.state().unreadable, true)
    }

    /// Whether this engine, or by the registry another one, leaves the lane alone.
    pub fn is_unreadable(&self) -> bool {
        let state = self.state();
        state.unreadable || state.record == LaneMode::Unreadable
    }

    /// Which references have no usable value, as this engine sees them; none: all have one. True if that is news. As with a
    /// pause, what the circuit has seen before counts no longer, so that the time in between expires nothing.
    pub fn set_misconfigured(&self, why: Option<String>) -> bool {
        let mut state = self.state();
        if state.references.wrong == why {
            return false;
        }
        if state.references.wrong.is_none() {
            state.circuit.reset();
        }
        state.references.wrong = why;
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// What was set last.
    pub fn misconfigured(&self) -> Option<String> {
        self.state().references.wrong.clone()
    }

    /// What the registry says of it that this engine doesn't, or the other way round.
    pub fn differs(&self) -> Option<Differs> {
        let state = self.state();
        match (&state.references.wrong, state.record, &state.references.said_wrong_by) {
            (Some(_), LaneMode::Active | LaneMode::Open, _) => Some(Differs::Unsaid),
            (None, LaneMode::Misconfigured, Some(engine)) => Some(Differs::SaidBy(engine.clone())),
            _ => None,
        }
    }

    /// Whether last good values serve on. True if that is news.
    pub fn set_served_on(&self, served_on: bool) -> bool {
        std::mem::replace(&mut self.state().references.served_on, served_on) != served_on
    }

    /// The process had no file descriptor left to connect with: nothing is attempted until the next look. True if that is news.
    pub fn set_out_of_files(&self, out_of_files: bool) -> bool {
        let news = std::mem::replace(&mut self.state().out_of_files, out_of_files) != out_of_files;
        if news {
            self.changed.notify_waiters();
        }
        news
    }

    /// Whether it rests only until the next look finds it mended.
    pub fn waits_for_mending(&self) -> bool {
        let state = self.state();
        state.references.wrong.is_some() || state.out_of_files
    }

    /// What the gauge of the state shows: 0 direct, 1 spilling, 2 open, 3 paused, 4 disabled, 5 unreadable, 6 misconfigured.
    pub fn gauge(&self) -> u8 {
        let state = self.state();
        match (state.record, state.circuit.is_open(), state.spilling) {
            (LaneMode::Disabled, _, _) => 4,
            (LaneMode::Paused | LaneMode::Unknown, _, _) => 3,
            _ if state.unreadable => super::unreadable::GAUGE,
            _ if state.references.wrong.is_some() => super::misconfigured::GAUGE,
            (_, true, _) => 2,
            (_, false, true) => 1,
            (_, false, false) => 0,
        }
    }
}
