//! Taking messages: from the source of each pipeline and from what is due.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::gate::Trouble;
use super::health::Part;
use super::held::Hold;
use super::revision::{Force, overruled};
use super::storing::{Put, Stopped};
use super::suspects::{SUSPECT_DELIVERIES, SUSPECT_STARTS_MAX, TURN_MAX, Turn};
use super::taking::{Origin, Taking};
use super::{Engine, FLOOR_EVERY};
use crate::model::event::Claims;
use crate::model::fault::chain;
use crate::model::{Code, EventRef, Fault, Name, Reason, SourceMessage, SourceRef, Stage, Task, Whose, Work};
use crate::nats::unreadable::lines;
use crate::nats::{Delivered, tasks};
use crate::pipeline::{Admitted, Arrival, Pipeline};
use crate::source;

/// Pause before a place that could not be prepared is tried again, at first and at most.
pub(super) const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

impl Engine {
    /// Takes a pipeline's source messages until the engine stops, and leaves its pull to the engine that takes over.
    pub(super) async fn run_source(self: Arc<Self>, pipeline: Arc<Pipeline>, left: Option<Taking>) {
        let mut taking = Taking::of(left, pipeline.source.max_in_flight, self.nats.cuts());
        self.take_from_source(&pipeline, &mut taking).await;
        self.leave(&pipeline.name, Origin::Source, taking);
    }

    /// Finds its place again whenever it is lost.
    async fn take_from_source(self: &Arc<Self>, pipeline: &Arc<Pipeline>, taking: &mut Taking) {
        let Some(force) = self.forces.get(&pipeline.name) else { return };
        let (mut force, now) = (force.subscribe(), force.subscribe());
        let mut pause = PAUSE.0;
        let mut lost_before = false;
        if self.unless_stopped(self.others_yield(pipeline)).await.is_none() {
            return;
        }
        while !self.stop.is_cancelled() {
            if self.unless_stopped(self.in_force(pipeline, &mut force)).await.is_none() {
                return;
            }
            let prepared = source::prepare(&self.nats, &self.registry, &pipeline.name, &pipeline.source);
            let place = match self.unless_stopped(prepared).await {
                None => return,
                Some(Ok(place)) => place,
                Some(Err(error)) => {
                    self.health.set(Part::Source(&pipeline.name), Some(chain(&error)));
                    tracing::warn!(pipeline = %pipeline.name, error = chain(&error), "source not ready, trying again");
                    self.pause(&mut pause).await;
                    continue;
                }
            };
            let cuts_now = self.nats.cuts();
            if taking.cuts != cuts_now {
                match self.unless_stopped(self.bury_unreadable(pipeline, &place)).await {
                    None => return,
                    Some(true) => taking.cuts = cuts_now,
                    Some(false) => {
                        self.pause(&mut pause).await;
                        continue;
                    }
                }
            }
            if !taking.open(&self.nats, &place.stream, &place.consumer).await {
                self.pause(&mut pause).await;
                continue;
            }
            pause = PAUSE.0;
            let floors = self.watch_durable(pipeline, &place);
            let part = Part::Source(&pipeline.name);
            let pump = self.pump(taking, (part, lost_before), |delivered, permit| {
                if *now.borrow() != Force::Ours {
                    // For an engine that has the file in force.
                    return self.spawn(async move { delivered.acker.nak().await });
                }
                let (engine, pipeline) = (self.clone(), pipeline.clone());
                self.spawn(engine.take_source(pipeline, delivered, permit));
            });
            let lost = tokio::select! {
                lost = pump => lost,
                // Somebody else's now, or changed by somebody: it is looked for again, and made right.
                () = floors => {
                    taking.give_up();
                    continue;
                }
                () = overruled(&mut force) => {
                    taking.give_up();
                    continue;
                }
            };
            let Some(lost) = lost else { return };
            taking.give_up();
            lost_before = true;
            self.health.set(part, Some(format!("pull lost ({lost:?}), building it anew")));
            tracing::warn!(pipeline = %pipeline.name, why = ?lost, "pull from the source lost, building it anew");
            self.pause(&mut pause).await;
        }
    }

    /// Looks at the durable every few seconds, and says what keeps messages from coming. Ends when it has to be prepared anew.
    async fn watch_durable(&self, pipeline: &Pipeline, place: &source::Place) {
        let part = Part::Durable(&pipeline.name);
        loop {
            match place.look(&self.nats, &self.registry, &pipeline.name, &pipeline.source).await {
                source::Look::Unknown => {}
                source::Look::Ours(still) => self.health.set(part, still),
                source::Look::SomebodyElses => return,
                source::Look::Edited(why) => {
                    tracing::warn!(pipeline = %pipeline.name, why, "the durable of a source was changed by somebody, bringing it back");
                    self.health.set(part, Some(why));
                    tokio::time::sleep(PAUSE.1).await;
                    return;
                }
            }
            tokio::time::sleep(FLOOR_EVERY).await;
        }
    }

    /// The same for what is due. An edited one is made right by the way that it is made.
    async fn watch_due(&self, pipeline: &Pipeline, stream: &str) {
        let part = Part::DueDurable(&pipeline.name);
        loop {
            if let Ok(Some(state)) = self.nats.consumer(stream, pipeline.name.as_str()).await {
                let first = state.misfits.first();
                self.health.set(part, first.map(|misfit| misfit.what.clone()));
                if let Some(misfit) = first.filter(|misfit| !misfit.is_pause) {
                    tracing::warn!(pipeline = %pipeline.name, why = misfit.what, "the durable of due tasks was changed by somebody, bringing it back");
                    tokio::time::sleep(PAUSE.1).await;
                    return;
                }
            }
            tokio::time::sleep(FLOOR_EVERY).await;
        }
    }

    /// Takes what is due in a pipeline until the engine stops, and leaves its pull to the engine that takes over.
    pub(super) async fn run_due(self: Arc<Self>, pipeline: Arc<Pipeline>, left: Option<Taking>) {
        let mut taking = Taking::of(left, pipeline.source.max_in_flight, 0);
        self.take_what_is_due(&pipeline, &mut taking).await;
        self.leave(&pipeline.name, Origin::Due, taking);
    }

    async fn take_what_is_due(self: &Arc<Self>, pipeline: &Arc<Pipeline>, taking: &mut Taking) {
        let stream = self.nats.prefix().retries();
        let part = Part::Due(&pipeline.name);
        let mut lost_before = false;
        let mut pause = PAUSE.0;
        while !self.stop.is_cancelled() {
            let filter = self.nats.prefix().due_all(&pipeline.name);
            let made = self.nats.make_due_consumer(&stream, pipeline.name.as_str(), filter);
            match self.unless_stopped(made).await {
                None => return,
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.health.set(part, Some(chain(&error)));
                    self.pause(&mut pause).await;
                    continue;
                }
            }
            if !taking.open(&self.nats, &stream, pipeline.name.as_str()).await {
                self.pause(&mut pause).await;
                continue;
            }
            pause = PAUSE.0;
            let pump = self.pump(taking, (part, lost_before), |delivered, permit| {
                let (engine, pipeline) = (self.clone(), pipeline.clone());
                self.spawn(engine.take_task(pipeline, delivered, Some(permit)));
            });
            let lost = tokio::select! {
                lost = pump => lost,
                () = self.watch_due(pipeline, &stream) => {
                    taking.give_up();
                    continue;
                }
            };
            let Some(lost) = lost else { return };
            taking.give_up();
            lost_before = true;
            self.health.set(part, Some(format!("pull lost ({lost:?}), building it anew")));
            tracing::warn!(pipeline = %pipeline.name, why = ?lost, "pull of due tasks lost, building it anew");
            self.pause(&mut pause).await;
        }
    }

    pub(super) async fn pause(&self, pause: &mut Duration) {
        let _ = self.unless_stopped(tokio::time::sleep(*pause)).await;
        *pause = (*pause * 2).min(PAUSE.1);
    }

    pub(super) async fn unless_stopped<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! { output = future => Some(output), () = self.stop.cancelled() => None }
    }

    /// After a cut of the connection: dead-letters what cut it, if a message did. False: it could not be found out.
    async fn bury_unreadable(self: &Arc<Self>, pipeline: &Arc<Pipeline>, place: &source::Place) -> bool {
        let found = match place.unreadable(&self.nats, &pipeline.source).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(pipeline = %pipeline.name, %error, "not known yet whether a message cut the connection");
                return false;
            }
        };
        for (delivered, why) in found {
            let Delivered { subject, message, stream, sequence, time, acker, .. } = delivered;
            pipeline.received.increment(1);
            let source = SourceRef { stream, sequence, time };
            let hold = Hold::message(&self.holds, acker, None);
            let arrival = Arrival { source: &source, subject: Some(&subject), generation: 0 };
            let about = EventRef::claimed(Claims::of(&lines(&message), Some(&message.body)));
            let task = pipeline.whole(message, arrival, about.into());
            let detail = format!(
                "{why}, so it can't be taken from the wire; it is kept in base64. Publish with a NATS client, \
                 or send header lines as `name: value` in UTF-8"
            );
            let (code, reason) = (Code::NotCloudEvent, Reason::NotCloudEvent);
            let fault = Fault::never(Stage::Source, code, Whose::Publisher, reason, detail);
            self.reject(pipeline, task, fault, hold).await;
        }
        true
    }

    async fn take_source(
        self: Arc<Self>,
        pipeline: Arc<Pipeline>,
        delivered: Delivered,
        room: OwnedSemaphorePermit,
    ) {
        let Delivered { subject, mut message, stream, sequence, time, deliveries, acker } = delivered;
        let source = SourceRef { stream, sequence, time };
        ack_first_if_told(&acker).await;
        let hold = Hold::message(&self.holds, acker, Some(room));
        if lacks_its_body(&message) {
            match Box::pin(self.storing.still_there(&source)).await {
                Ok(Some(whole)) => message = SourceMessage { headers: whole.headers, body: whole.body },
                Ok(None) => {}
                Err(Stopped) => return,
            }
        }
        pipeline.received.increment(1);
        let suspect = if deliveries >= SUSPECT_DELIVERIES {
            Box::pin(self.suspect(&source, &hold)).await
        } else {
            Suspect::No
        };
        let turn = match suspect {
            Suspect::No => None,
            Suspect::Turn(turn) => Some((turn, hold.on_done())),
            Suspect::Stopped => return,
            Suspect::Killer => {
                let arrival = Arrival { source: &source, subject: Some(&subject), generation: 0 };
                let about = claimed_by_headers(&message);
                let task = pipeline.whole(message, arrival, about);
                Box::pin(self.reject(&pipeline, task, killer(), hold)).await;
                return self.clear_suspect(&source).await;
            }
        };
        let arrival = Arrival { source: &source, subject: Some(&subject), generation: 0 };
        let work = self.clone().admit(&pipeline, message, arrival, hold, deliveries > 1);
        self.in_turn(&source, turn, work).await;
    }

    /// Admits a message (new, or redriven as a whole) and carries its tasks on, side by side.
    pub(super) async fn admit(
        self: Arc<Self>,
        pipeline: &Arc<Pipeline>,
        message: SourceMessage,
        arrival: Arrival<'_>,
        hold: Hold,
        again: bool,
    ) {
        abort_if_marked(&message);
        let max_payload = self.nats.max_payload();
        let admit = AssertUnwindSafe(|| pipeline.admit(message.clone(), arrival, max_payload));
        let Ok(admitted) = std::panic::catch_unwind(admit) else {
            let detail = "the engine failed at this message (a panic); please report it";
            let (code, reason) = (Code::Internal, Reason::CrashLoop);
            let fault = Fault::never(Stage::Source, code, Whose::Engine, reason, detail);
            let about = claimed_by_headers(&message);
            let task = pipeline.whole(message, arrival, about);
            return Box::pin(self.reject(pipeline, task, fault, hold)).await;
        };
        let (mut tasks, filtered, unjudged, about) = match admitted {
            Admitted::Tasks { tasks, filtered, unjudged, about } => (tasks, filtered, unjudged, about),
            Admitted::Refused(task, fault) => {
                return Box::pin(self.reject(pipeline, *task, fault, hold)).await;
            }
        };
        if tasks.is_empty() && filtered.is_empty() && unjudged.is_empty() {
            pipeline.unmatched.increment(1);
        }
        if let Some(task) = tasks.first().or(unjudged.first().map(|(task, _)| task)) {
            self.reused_ids.look(pipeline, task, again);
        }
        for name in &filtered {
            if let Some(lane) = self.lane_named(&pipeline.name, name) {
                lane.counters.filtered.increment(1);
            }
            self.saw_filtered(pipeline, name, arrival, &about);
        }
        for (task, fault) in unjudged {
            Box::pin(self.end_unjudged(task, fault, hold.share())).await;
        }
        if tasks.len() == 1
            && let Some(task) = tasks.pop()
        {
            return self.carry(task, hold, again).await;
        }
        let shares: Vec<_> =
            tasks.into_iter().map(|task| self.clone().carry(task, hold.share(), again)).collect();
        // Now: the message is held by its tasks alone and let go as soon as each has its end or its lease.
        hold.settle().await;
        futures_util::future::join_all(shares).await;
    }

    /// Takes a task that is due, or that lay in a lane.
    pub(super) async fn take_task(
        self: Arc<Self>,
        pipeline: Arc<Pipeline>,
        delivered: Delivered,
        room: Option<OwnedSemaphorePermit>,
    ) {
        let Delivered { subject, message, stream, sequence, time, deliveries, acker, .. } = delivered;
        let place = SourceRef { stream, sequence, time };
        ack_first_if_told(&acker).await;
        let hold = Hold::message(&self.holds, acker, room);
        let token =
            self.nats.prefix().parts(&subject).map_or("_", |(_, subscription)| subscription).to_owned();
        let subscription = Name::new(&token).ok();
        let decoded = tasks::decode(&pipeline.name, subscription.as_ref(), &message.headers, &message.body);
        let task = match decoded {
            Ok(task) => task,
            Err(error) if error.is_foreign() => {
                return self.set_aside(&pipeline.name, &token, &message, &error, hold).await;
            }
            Err(error) => {
                match subscription.and_then(|name| self.lane_named(&pipeline.name, &name)) {
                    Some(lane) => self.leave_alone(&lane, &error).await,
                    None => self.whole_unreadable(&pipeline.name, &token, &error).await,
                }
                // What lies there already is let go of, not stored there once more: it comes again later.
                if *place.stream == *self.nats.prefix().lanes() {
                    return;
                }
                return self.park_bytes(&pipeline, &token, message, hold).await;
            }
        };
        let suspect = if deliveries >= SUSPECT_DELIVERIES {
            Box::pin(self.suspect(&place, &hold)).await
        } else {
            Suspect::No
        };
        let turn = match suspect {
            Suspect::No => None,
            Suspect::Turn(turn) => Some((turn, hold.on_done())),
            Suspect::Stopped => return,
            Suspect::Killer => {
                let fault = killer();
                if matches!(self.storing.dead_letter(&task, Reason::CrashLoop, &fault).await, Put::Stored(_))
                {
                    if let Some(lane) = self.lane_of(&task) {
                        lane.counters.dead_lettered.increment(1);
                    }
                    hold.settle().await;
                    self.clear_suspect(&place).await;
                }
                return;
            }
        };
        let work = self.clone().take_decoded(&pipeline, task, hold, deliveries > 1);
        self.in_turn(&place, turn, work).await;
    }

    /// A task for the pipeline as a whole is admitted again; any other is carried on.
    pub(super) async fn take_decoded(
        self: Arc<Self>,
        pipeline: &Arc<Pipeline>,
        task: Task,
        hold: Hold,
        again: bool,
    ) {
        match task.work {
            Work::Source(message) if task.subscription.is_none() => {
                let subject = task.subject.as_deref();
                let arrival = Arrival { source: &task.source, subject, generation: task.generation };
                self.admit(pipeline, message, arrival, hold, again).await;
            }
            _ => Box::pin(self.carry(task, hold, again)).await,
        }
    }

    /// Puts a message that can't be read byte for byte into its lane.
    async fn park_bytes(&self, pipeline: &Pipeline, subscription: &str, message: SourceMessage, hold: Hold) {
        let mut headers = message.headers;
        headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("nats-"));
        match self.storing.lane(pipeline.name.as_str(), subscription, (headers, message.body)).await {
            Put::Stored(_) | Put::Elsewhere => hold.settle().await,
            Put::Stopped | Put::TooLarge | Put::Full => {}
        }
    }

    /// Waits for a suspect's turn and notes the start, so that a crash now is counted against it.
    pub(super) async fn suspect(&self, message: &SourceRef, hold: &Hold) -> Suspect {
        let Some(turn) = self.unless_stopped(self.suspects.turn(hold)).await else { return Suspect::Stopped };
        let mut pause = PAUSE.0;
        let mut stuck = None;
        // Read once: a count that was written but not acknowledged must not be counted again.
        let mut known: Option<u32> = None;
        loop {
            let noted = async {
                let starts = match known {
                    Some(starts) => starts,
                    None => *known.insert(self.registry.suspect_starts(message).await?),
                };
                if starts < SUSPECT_STARTS_MAX {
                    self.registry.put_suspect_starts(message, starts + 1).await?;
                }
                Ok::<_, crate::nats::registry::RegistryError>(starts)
            };
            match self.unless_stopped(noted).await {
                None => return Suspect::Stopped,
                Some(Ok(starts)) if starts >= SUSPECT_STARTS_MAX => return Suspect::Killer,
                Some(Ok(_)) => return Suspect::Turn(turn),
                Some(Err(error)) => {
                    // Other messages would be taken and held as this one is, as far as anybody could tell.
                    let trouble = Trouble {
                        pipeline: None,
                        what: "a suspect can't be noted",
                        stream: self.nats.prefix().registry_stream(),
                        subject: None,
                        why: chain(&error),
                        store: error.refusal(),
                    };
                    stuck.get_or_insert_with(|| self.storing.gate.stick(trouble));
                    self.pause(&mut pause).await;
                }
            }
        }
    }

    /// Does the work, in its turn if it is a suspect's.
    pub(super) fn in_turn<'a, F>(
        &'a self,
        suspect: &'a SourceRef,
        turn: Option<(Turn, oneshot::Receiver<()>)>,
        work: F,
    ) -> Either<F, BoxFuture<'a, ()>>
    where
        F: Future<Output = ()> + Send + 'a,
    {
        match turn {
            None => Either::Left(work),
            Some(turn) => Either::Right(Box::pin(self.suspects_work(suspect, turn, work))),
        }
    }

    /// Does a suspect's work. Its turn lasts until it is settled, its work has ended, or others have waited long enough;
    /// by then this process has outlived it, so nothing counts against it.
    async fn suspects_work(
        &self,
        suspect: &SourceRef,
        (turn, settled): (Turn, oneshot::Receiver<()>),
        work: impl Future<Output = ()>,
    ) {
        let mut work = std::pin::pin!(work);
        let ended = tokio::select! {
            () = &mut work => true,
            _ = settled => false,
            () = tokio::time::sleep(TURN_MAX) => false,
        };
        self.clear_suspect(suspect).await;
        drop(turn);
        if !ended {
            work.await;
        }
    }

    pub(super) async fn clear_suspect(&self, message: &SourceRef) {
        if let Err(error) = self.registry.clear_suspect(message).await {
            tracing::debug!(%error, "a settled suspect's record stays behind");
        }
    }
}

/// Whether a message came without its body, because somebody has made its consumer give headers only: the server says so in a
/// header. What a publisher has sent like that is read once more, and is the same.
fn lacks_its_body(message: &SourceMessage) -> bool {
    message.body.is_empty()
        && message.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Nats-Msg-Size"))
}

/// What the headers of a message that must not be looked into say of its event.
fn claimed_by_headers(message: &SourceMessage) -> Arc<EventRef> {
    let claims = std::panic::catch_unwind(|| Claims::of(&message.headers, None));
    claims.map(|claims| EventRef::claimed(claims).into()).unwrap_or_default()
}

/// What became of asking for a suspect's turn.
pub(super) enum Suspect {
    No,
    Turn(Turn),
    Killer,
    Stopped,
}

pub(super) fn killer() -> Fault {
    let detail = "the engine ended three times while this message alone was being started";
    Fault::never(Stage::Source, Code::CrashLoop, Whose::Engine, Reason::CrashLoop, detail)
}

/// In builds for tests, a message that carries the marker of `HOOKMILL_TEST_ABORT` ends the process.
#[cfg(debug_assertions)]
fn abort_if_marked(message: &SourceMessage) {
    if let Ok(marker) = std::env::var("HOOKMILL_TEST_ABORT")
        && contains(&message.body, marker.as_bytes())
    {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
fn abort_if_marked(_message: &SourceMessage) {}

/// In builds for tests, with `HOOKMILL_TEST_ACK_FIRST`: what no engine may do, so that tests can show that they see it.
#[cfg(debug_assertions)]
async fn ack_first_if_told(acker: &crate::nats::Acker) {
    if std::env::var_os("HOOKMILL_TEST_ACK_FIRST").is_some() {
        acker.ack().await;
    }
}

#[cfg(not(debug_assertions))]
async fn ack_first_if_told(_acker: &crate::nats::Acker) {}

#[cfg(debug_assertions)]
fn contains(body: &[u8], marker: &[u8]) -> bool {
    !marker.is_empty() && body.windows(marker.len()).any(|window| window == marker)
}
