//! One attempt at a task: through the door of its lane, `advance` under a deadline and a lease, then its outcome is
//! stored before anything is acknowledged.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::Engine;
use super::held::Hold;
use super::lane::{Entry, Lane, Slot};
use super::running::Ticket;
use super::storing::{Put, Stopped, forms};
use crate::lane::Tried;
use crate::model::event::Mends;
use crate::model::progress::next_store;
use crate::model::{Clock, Code, Event, Fault, Fits, Next, Reason, Stage, Task, Timestamp, Whose, Work};
use crate::nats::tasks;
use crate::pipeline::{Moment, Pipeline};

/// How long a task waits in memory for a slot before its lane spills.
const SPILL_AFTER: Duration = Duration::from_millis(250);
/// An attempt that runs longer is stored as a wait, so that nothing is held for it.
const LEASE_AFTER: Duration = Duration::from_secs(1);
/// What a lease is due after its attempt's deadline.
const LEASE_ROOM: Duration = Duration::from_secs(5);
/// How long a lease lasts while the outputs of a split go through their doors.
const SPLIT_LEASE: Duration = Duration::from_secs(60);
/// Pause before a full lane that moves is asked again.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// A task behind its door: it has a slot.
pub(super) struct Ready {
    pub(super) lane: Arc<Lane>,
    pub(super) slot: Slot,
    pub(super) task: Task,
    pub(super) ticket: Ticket,
}

/// Which way a fault points for its lane's circuit.
enum Sign {
    Success,
    Failure,
    Neither,
}

fn sign(fault: &Fault) -> Sign {
    match fault.code {
        Code::Status if matches!(fault.again, crate::model::Again::Never(Reason::GivenUp)) => Sign::Success,
        // The endpoint has judged the event, it is not broken.
        Code::UnlistedStatus if fault.status.is_some_and(|status| (400..500).contains(&status)) => {
            Sign::Success
        }
        Code::Status
        | Code::UnlistedStatus
        | Code::Timeout
        | Code::Connect
        | Code::Tls
        | Code::Resolve
        | Code::Protocol
        | Code::Publish
        | Code::GuestTrap
        | Code::GuestOutput
        | Code::GuestRetry
        | Code::StepTimeout
        | Code::Internal => Sign::Failure,
        Code::NotCloudEvent
        | Code::Schema
        | Code::Unjudged
        | Code::UnknownType
        | Code::TooLarge
        | Code::CrashLoop
        | Code::Rejected
        | Code::StepsChanged
        | Code::Egress
        | Code::Config
        | Code::OutOfFiles
        | Code::LaneFull => Sign::Neither,
    }
}

/// Whether an attempt that ended so has asked anything of its endpoint: what has not spends nothing of the lane's rate.
fn was_sent(next: &Next) -> bool {
    match next {
        Next::Delivered { .. } => true,
        Next::Filtered(_) | Next::Onward(_) | Next::Split(_) | Next::Held(..) => false,
        Next::Wait(_, _, fault) | Next::DeadLetter(_, fault) => {
            fault.stage == Stage::Deliver
                && !matches!(fault.code, Code::Egress | Code::Config | Code::OutOfFiles)
        }
    }
}

impl Engine {
    /// Carries a task as far as it comes now: door, attempt, outcome. `again`: its message was delivered before.
    pub(super) async fn carry(self: Arc<Self>, task: Task, hold: Hold, again: bool) {
        if let Some(ready) = self.enter(task, hold, again).await {
            self.attempt(ready).await;
        }
    }

    /// Through the door: a slot, or stored in the lane.
    pub(super) async fn enter(self: &Arc<Self>, task: Task, hold: Hold, again: bool) -> Option<Ready> {
        let Some(lane) = self.lane_of(&task) else {
            Box::pin(self.park(task, hold)).await;
            return None;
        };
        // Before the attempt is known to others: what they bring meanwhile may be that very wait, fired.
        if again {
            match Box::pin(self.storing.waits_already(&task)).await {
                None => return None,
                Some(true) => {
                    hold.settle().await;
                    return None;
                }
                Some(false) => {}
            }
        }
        let ticket = self.running.begin(&task, hold)?;
        let slot = match lane.entry() {
            Entry::Wait => match timeout(SPILL_AFTER, lane.turn(Timestamp::steady)).await {
                Ok(Some(slot)) if lane.entry() != Entry::Store => Some(slot),
                Ok(Some(_)) => {
                    lane.give_back_paces(1);
                    None
                }
                Ok(None) | Err(_) => None,
            },
            Entry::IfFree => lane.newcomer(Timestamp::steady()),
            Entry::Store => None,
        };
        if let Some(slot) = slot {
            Some(Ready { lane, slot, task, ticket })
        } else {
            Box::pin(self.store_in_lane(&lane, task, ticket, None)).await;
            None
        }
    }

    /// Stores a task in its lane and settles it; a full lane that moves is waited for, one that doesn't is not.
    pub(super) async fn store_in_lane(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        mut task: Task,
        mut ticket: Ticket,
        lease: Option<u64>,
    ) {
        ticket.close();
        task.stores = ticket.stores();
        let tried = Tried::by(Timestamp::now(), task.attempt, task.first_attempt);
        task.left = Some(lane.subscription.retry.left(tried));
        let mut smaller = forms(&task).skip(1).collect::<Vec<_>>().into_iter();
        loop {
            let news = lane.spill();
            if news {
                self.drain_lane(lane.clone());
            }
            let (pipeline, subscription) = (task.pipeline.as_str(), task.subscription_token());
            match self.storing.lane(pipeline, subscription, tasks::encode(&task)).await {
                Put::Stored(_) | Put::Elsewhere => {
                    if news {
                        self.nudge(&task.pipeline).await;
                    }
                    self.finish(ticket, lease).await;
                    return;
                }
                Put::Stopped => return,
                Put::TooLarge => {
                    let Some(small) = smaller.next() else {
                        let fault = too_large("the task does not fit into its lane");
                        self.bury(lane, task, fault, ticket, lease).await;
                        return;
                    };
                    task = small;
                }
                Put::Full if lane.moves() => tokio::select! {
                    () = tokio::time::sleep(FULL_PAUSE) => {}
                    () = self.cut_off.cancelled() => return,
                },
                Put::Full => {
                    let detail = match lane.misconfigured() {
                        Some(why) => format!("the lane is full and stands still: {why}"),
                        None => "the lane is full and its endpoint is out of reach".to_owned(),
                    };
                    let (code, reason) = (Code::LaneFull, Reason::LaneFull);
                    let fault = Fault::never(Stage::Deliver, code, Whose::Endpoint, reason, detail);
                    self.bury(lane, task, fault, ticket, lease).await;
                    return;
                }
            }
        }
    }

    /// Stores a task for a subscription that this engine doesn't know: it waits in that lane.
    async fn park(&self, task: Task, hold: Hold) {
        let (pipeline, subscription) = (task.pipeline.as_str(), task.subscription_token());
        match self.storing.lane(pipeline, subscription, tasks::encode(&task)).await {
            Put::Stored(_) | Put::Elsewhere => hold.settle().await,
            Put::Stopped => {}
            // Let go of: it comes again, and by then there may be room.
            Put::TooLarge | Put::Full => {
                tracing::warn!(
                    pipeline,
                    subscription,
                    "a task of an unknown subscription finds no room in its lane"
                );
            }
        }
    }

    /// Attempts a task that has a slot, until there is an outcome, and stores it. What seldom happens is boxed, here and
    /// wherever a task passes: every task carries the room for it otherwise, and moves it.
    pub(super) async fn attempt(self: Arc<Self>, ready: Ready) {
        let Ready { lane, slot, mut task, ticket } = ready;
        super::stalled::stall_if_told(&lane).await;
        let mut lease = None;
        loop {
            let began = Timestamp::steady();
            let next = match self.before(&lane, &mut task).await {
                Err(Stopped) => return,
                Ok(Some(next)) => {
                    lane.give_back_paces(1);
                    next
                }
                Ok(None) if self.answered.remembers(&task, began) => {
                    tracing::debug!(delivery_id = %task.delivery_id, "answered before, settled without sending");
                    lane.give_back_paces(1);
                    drop(slot);
                    return self.finish(ticket, lease).await;
                }
                Ok(None) => {
                    let next = self.advance(&lane, &task, &ticket, &mut lease).await;
                    if !was_sent(&next) {
                        lane.give_back_paces(1);
                    }
                    self.observe(&lane, &task, &next, began);
                    next
                }
            };
            match next {
                Next::Onward(mut onward) => {
                    let due = Timestamp::now().plus(lane.subscription.deadline(&onward) + LEASE_ROOM);
                    onward.stores = ticket.stores();
                    match Box::pin(self.storing.wait(&onward, due, lease)).await {
                        Put::Stored(sequence) => {
                            lease = Some(sequence);
                            ticket.settle_behind(next_store(onward.stores)).await;
                        }
                        Put::Elsewhere => ticket.settle_behind(next_store(onward.stores)).await,
                        Put::Stopped => return,
                        // Held on by what it came from, with progress acks.
                        Put::TooLarge | Put::Full => {}
                    }
                    task = onward;
                }
                Next::Delivered { .. } => {
                    // Nothing of it has to be stored: the next attempt needn't wait until it is removed.
                    drop(slot);
                    self.finish(ticket, lease).await;
                    lane.counters.delivered.increment(1);
                    return;
                }
                Next::Filtered(_) => {
                    drop(slot);
                    self.finish(ticket, lease).await;
                    lane.counters.filtered.increment(1);
                    return;
                }
                Next::Wait(task, due, _) => {
                    return Box::pin(self.put_off(&lane, task, due, ticket, lease)).await;
                }
                Next::DeadLetter(task, fault) => {
                    return Box::pin(self.bury(&lane, task, fault, ticket, lease)).await;
                }
                Next::Held(task, fault) => {
                    return Box::pin(self.hold(&lane, task, &fault, ticket, lease)).await;
                }
                Next::Split(children) => {
                    drop(slot);
                    return Box::pin(self.fan_out(&lane, &task, children, ticket, lease)).await;
                }
            }
        }
    }

    /// What can be said of a task without attempting it.
    async fn before(&self, lane: &Lane, task: &mut Task) -> Result<Option<Next>, Stopped> {
        let subscription = &lane.subscription;
        if let Some(next) = self.admit_again(lane, task) {
            return Ok(Some(next));
        }
        if matches!(task.work, Work::Step(0, _)) {
            task.steps = subscription.steps_hash().clone();
        }
        if task.attempt >= subscription.retry.attempts() {
            let detail = match &task.last {
                Some(last) => format!("given up after {} attempts: {}", task.attempt, last.error),
                None => format!("given up after {} attempts, none of which came to an end", task.attempt),
            };
            let fault = Fault::never(Stage::Deliver, Code::Timeout, Whose::Engine, Reason::Exhausted, detail);
            return Ok(Some(Next::DeadLetter(task.clone(), fault)));
        }
        if !subscription.steps_changed(task) {
            return Ok(None);
        }
        match Box::pin(self.original(&lane.pipeline, task)).await? {
            Ok((event, mends)) if task.path.is_root() => {
                task.fits = Some(Arc::new(Fits { step: 0, event: event.clone(), http: Vec::new() }));
                task.work = Work::Step(0, event);
                task.mends = mends;
                task.steps = subscription.steps_hash().clone();
                task.http.clear();
                Ok(None)
            }
            original => {
                let why = original.err().unwrap_or_else(|| "a split can't be gone through again".to_owned());
                let detail = format!("the steps of the subscription changed, and {why}");
                let (code, reason) = (Code::StepsChanged, Reason::StepsChanged);
                let fault = Fault::never(Stage::Transform, code, Whose::Operator, reason, detail);
                Ok(Some(Next::DeadLetter(task.clone(), fault)))
            }
        }
    }

    /// The event as its source stream still has it, or why it can't be had from there.
    async fn original(
        &self,
        pipeline: &Pipeline,
        task: &Task,
    ) -> Result<Result<(Arc<Event>, Mends), String>, Stopped> {
        let Some(stored) = self.storing.still_there(&task.source).await? else {
            return Ok(Err("the original event is not there any more".to_owned()));
        };
        let event = Event::parse(&stored.headers, &stored.body, pipeline.source.reading);
        let event = event.map(|(event, mends)| (Arc::new(event), mends));
        Ok(event.map_err(|error| format!("the original event can't be read: {error}")))
    }

    /// `advance` under its deadline; past a second its lease is stored and what was held is settled.
    async fn advance(&self, lane: &Lane, task: &Task, ticket: &Ticket, lease: &mut Option<u64>) -> Next {
        let subscription = &lane.subscription;
        let deadline = subscription.deadline(task);
        let room = self.nats.max_payload().saturating_sub(crate::pipeline::TASK_ROOM_BYTES);
        let moment = Moment { clock: &Clock::Wall, draw: rand::random(), room };
        let advance = abort_late_if_marked(task, lane.pipeline.advance(subscription, task.clone(), moment));
        let advance = AssertUnwindSafe(advance).catch_unwind();
        tokio::pin!(advance);
        // One timer at a time: most attempts never see the second.
        let done = if let Ok(done) = timeout(LEASE_AFTER.min(deadline), &mut advance).await {
            Ok(done)
        } else {
            let advance = timeout(deadline.saturating_sub(LEASE_AFTER), advance);
            let store = async {
                let due = Timestamp::now().plus(deadline.saturating_sub(LEASE_AFTER) + LEASE_ROOM);
                let leased = Task { stores: ticket.stores(), ..leased(task) };
                match self.storing.wait_in_some_form(&leased, due, *lease).await {
                    Put::Stored(sequence) => *lease = Some(sequence),
                    Put::Elsewhere => {}
                    // Held on, with progress acks, until the attempt has its outcome.
                    Put::TooLarge | Put::Full | Put::Stopped => return,
                }
                ticket.settle_behind(next_store(leased.stores)).await;
            };
            futures_util::join!(advance, Box::pin(store)).0
        };
        let (code, detail) = match done {
            Ok(Ok(next)) => return next,
            Ok(Err(_)) => (Code::Internal, "the engine failed at this event (a panic); please report it"),
            Err(_) => (Code::Timeout, "cut off: the attempt took longer than all its time-outs together"),
        };
        let fault = Fault::later(Stage::Deliver, code, Whose::Engine, Reason::Exhausted, detail);
        let tried = leased(task);
        crate::pipeline::failed(subscription, tried, fault, None, moment)
    }

    /// Stores the wait for the next attempt.
    async fn put_off(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        mut task: Task,
        due: Timestamp,
        mut ticket: Ticket,
        lease: Option<u64>,
    ) {
        if self.waiting_is_full() {
            return self.store_in_lane(lane, task, ticket, lease).await;
        }
        ticket.close();
        task.stores = ticket.stores();
        match self.storing.wait_in_some_form(&task, due, lease).await {
            Put::Stored(_) | Put::Elsewhere => ticket.settle().await,
            Put::Stopped => {}
            Put::TooLarge | Put::Full => {
                let fault = too_large("what is left to do does not fit into a message, so it can't wait");
                self.bury(lane, task, fault, ticket, lease).await;
            }
        }
    }

    /// A split: its outputs go through the door one by one, and what the task was held by stays until all are settled.
    async fn fan_out(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        task: &Task,
        children: Vec<Task>,
        ticket: Ticket,
        lease: Option<u64>,
    ) {
        let mut parent = Task { stores: ticket.stores(), ..leased(task) };
        let mut holds = ticket.into_holds();
        if let Some(sequence) = lease {
            let due = Timestamp::now().plus(SPLIT_LEASE);
            let sequence = match self.storing.wait(&parent, due, Some(sequence)).await {
                Put::Stored(sequence) => sequence,
                Put::Stopped => return,
                Put::Elsewhere | Put::TooLarge | Put::Full => sequence,
            };
            holds.push(Hold::lease(&self.holds, self.storing.clone(), sequence));
        }
        let Some(hold) = holds.pop() else {
            tracing::error!(delivery_id = %task.delivery_id, lane = %lane.subscription.name, "a split is held by nothing");
            return;
        };
        for other in holds {
            hold.also(other);
        }
        // What is resumed may have been split before; its outputs may wait already.
        parent.stores = next_store(parent.stores);
        self.enter_one_by_one(parent, children, hold, task.attempt > 0);
    }

    fn enter_one_by_one(self: &Arc<Self>, mut parent: Task, children: Vec<Task>, hold: Hold, again: bool) {
        let engine = self.clone();
        self.tracker.spawn(async move {
            let mut renewed = Instant::now();
            for child in children {
                if renewed.elapsed() > SPLIT_LEASE / 3 {
                    renewed = Instant::now();
                    let due = Timestamp::now().plus(SPLIT_LEASE);
                    hold.renew(|lease| engine.storing.wait_again(&parent, due, lease)).await;
                    parent.stores = next_store(parent.stores);
                }
                if let Some(ready) = engine.enter(child, hold.share(), again).await {
                    engine.spawn_attempt(ready);
                }
            }
            hold.settle().await;
        });
    }

    /// Attempts on a task of its own.
    pub(super) fn spawn_attempt(self: &Arc<Self>, ready: Ready) {
        let engine = self.clone();
        self.spawn(engine.attempt(ready));
    }

    /// Tells circuit, metrics and onlookers of an attempt.
    fn observe(self: &Arc<Self>, lane: &Arc<Lane>, task: &Task, next: &Next, began: Timestamp) {
        let now = Timestamp::steady();
        let sign = match next {
            Next::Delivered { .. } => Sign::Success,
            Next::Wait(_, _, fault) | Next::DeadLetter(_, fault) => sign(fault),
            Next::Filtered(_) | Next::Onward(_) | Next::Held(..) | Next::Split(_) => Sign::Neither,
        };
        match sign {
            Sign::Success => {
                // Not what was given up on an answer that is no success: its end is a dead letter still to be stored.
                if matches!(next, Next::Delivered { .. }) {
                    self.answered.remember(task, now);
                }
                lane.counters.attempts_ok.increment(1);
                if lane.succeeded(began, now) {
                    self.circuit_changed(lane, None);
                }
            }
            Sign::Failure => {
                lane.counters.attempts_failed.increment(1);
                let (why, hold) = match next {
                    Next::Wait(_, _, fault) | Next::DeadLetter(_, fault) => {
                        (fault.detail.as_str(), fault.hold)
                    }
                    _ => ("", None),
                };
                if lane.failed(began, now, why, hold) {
                    self.circuit_changed(lane, Some(why.to_owned()));
                }
            }
            Sign::Neither => {}
        }
        lane.counters.duration.record(now.since(began).as_secs_f64());
        if matches!(next, Next::Delivered { .. }) {
            let wall = Timestamp::now();
            lane.counters.age.record(wall.since(task.since(wall)).as_secs_f64());
        }
        if let Some(onlooker) = &self.onlooker {
            onlooker(&super::Seen { task, next, at: Timestamp::now() });
        }
    }
}

fn leased(task: &Task) -> Task {
    let first_attempt = task.first_attempt.or_else(|| Some(Timestamp::now()));
    Task { attempt: task.attempt + 1, first_attempt, left: None, ..task.clone() }
}

fn too_large(detail: &str) -> Fault {
    Fault::never(Stage::Deliver, Code::TooLarge, Whose::Operator, Reason::TooLarge, detail)
}

/// In builds for tests, an attempt at an event whose id is in `HOOKMILL_TEST_ABORT_LATE` ends the process after 2 s.
#[cfg(debug_assertions)]
async fn abort_late_if_marked<F: Future>(task: &Task, attempt: F) -> F::Output {
    if !std::env::var("HOOKMILL_TEST_ABORT_LATE").is_ok_and(|id| id == task.event.id) {
        return attempt.await;
    }
    let late = tokio::time::sleep(Duration::from_secs(2));
    tokio::select! { output = attempt => output, () = late => std::process::abort() }
}

#[cfg(not(debug_assertions))]
async fn abort_late_if_marked<F: Future>(_task: &Task, attempt: F) -> F::Output {
    attempt.await
}
