//! The path of an event: [`Pipeline::admit`] turns a message into tasks, [`Pipeline::advance`] carries a task on from
//! wherever it stands and says what comes next.
//!
//! Only this file knows the order of the stages. It never stores, acknowledges, spawns or waits for a slot: the worker
//! does. Time and randomness come in from outside.

mod admit;
mod again;
mod loader;
mod mended;
mod references;
mod step;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::deliver::Endpoint;
use crate::deliver::publish::Publisher;
use crate::filter::Filter;
use crate::lane::{Policy, Rate, Tried, circuit};
use crate::model::{
    Again, Clock, Code, Event, EventRef, Fault, Filtered, Fits, Name, Next, Output, Reason, Stage, Task,
    TaskKey, Verdict, Whose, Work,
};
use crate::source;
use crate::telemetry::metrics as names;
use crate::validate::Validator;

pub use admit::{Admitted, Arrival, SOURCE_HEADERS_BYTES_MAX};
pub use again::AdmittedAgain;
pub use loader::{FitError, Loader};
pub use step::{Fitted, OnError, Step, Wanted};

/// What NATS puts on top of an event that has to be stored as a task, in bytes: room for our own headers.
pub const TASK_ROOM_BYTES: usize = 64 * 1024;

/// Where a subscription's events go.
pub enum Target {
    /// A webhook.
    Webhook(Box<Endpoint>),
    /// A NATS subject.
    Publish(Publisher),
}

/// One subscription of a pipeline.
pub struct Subscription {
    /// Its name.
    pub name: Name,
    /// Which events it wants.
    pub filter: Filter,
    /// What happens to them.
    pub steps: Vec<Step>,
    /// Where they go.
    pub target: Target,
    /// When failed ones are tried again.
    pub retry: Policy,
    /// Attempts at once in one engine.
    pub concurrency: usize,
    /// Attempts over time in one engine.
    pub rate: Option<Rate>,
    /// When to stop trying.
    pub circuit: circuit::Settings,
    /// Longest delivery.
    pub timeout: Duration,
    steps_hash: Arc<str>,
    /// Handles with the labels of each step, looked up once.
    step_durations: Vec<metrics::Histogram>,
}

/// The parts of a [`Subscription`] that are set from outside.
pub struct SubscriptionParts {
    /// Its name.
    pub name: Name,
    /// Which events it wants.
    pub filter: Filter,
    /// What happens to them.
    pub steps: Vec<Step>,
    /// Where they go.
    pub target: Target,
    /// When failed ones are tried again.
    pub retry: Policy,
    /// Attempts at once in one engine.
    pub concurrency: usize,
    /// Attempts over time in one engine.
    pub rate: Option<Rate>,
    /// When to stop trying.
    pub circuit: circuit::Settings,
    /// Longest delivery.
    pub timeout: Duration,
}

impl Subscription {
    /// Puts the parts together.
    pub fn new(parts: SubscriptionParts) -> Self {
        let mut hash = Sha256::new();
        for step in &parts.steps {
            let identity = step.identity();
            hash.update((identity.len() as u64).to_be_bytes());
            hash.update(identity.as_bytes());
        }
        let digest = data_encoding::HEXLOWER.encode(&hash.finalize()[..8]);
        let SubscriptionParts { name, filter, steps, target, retry, concurrency, rate, circuit, timeout } =
            parts;
        let (steps_hash, step_durations) = (digest.into(), Vec::new());
        Self {
            name,
            filter,
            steps,
            target,
            retry,
            concurrency,
            rate,
            circuit,
            timeout,
            steps_hash,
            step_durations,
        }
    }

    /// The longest that one attempt at `task` may take: the sum of the time-outs of what it may still do.
    pub fn deadline(&self, task: &Task) -> Duration {
        let from = match &task.work {
            Work::Step(step, _) => usize::from(*step),
            Work::Source(_) => 0,
            Work::Deliver(_) => self.steps.len(),
        };
        let steps = self.steps.iter().skip(from).map(|step| step.fitted().longest());
        steps.sum::<Duration>() + self.timeout + Duration::from_secs(1)
    }

    /// The hash of the steps as they are now.
    pub fn steps_hash(&self) -> &Arc<str> {
        &self.steps_hash
    }

    /// Longest time that its endpoint is left alone because it asks for that.
    pub fn retry_after_max(&self) -> Duration {
        match &self.target {
            Target::Webhook(endpoint) => endpoint.settings().retry_after_max,
            Target::Publish(_) => Duration::ZERO,
        }
    }

    /// Whether it does the same to an event, and sends it to the same place in the same way, as another version of it.
    pub fn works_like(&self, other: &Self) -> bool {
        let sends_alike = match (&self.target, &other.target) {
            (Target::Webhook(one), Target::Webhook(two)) => one.settings() == two.settings(),
            (Target::Publish(one), Target::Publish(two)) => one.settings() == two.settings(),
            (Target::Webhook(_), Target::Publish(_)) | (Target::Publish(_), Target::Webhook(_)) => false,
        };
        sends_alike && self.steps_hash == other.steps_hash
    }

    /// Whether a stored task was made for other steps than these, in a way that counts.
    pub fn steps_changed(&self, task: &Task) -> bool {
        matches!(task.work, Work::Step(step, _) if step > 0) && task.steps != self.steps_hash
    }
}

/// One loaded pipeline.
pub struct Pipeline {
    /// Its name.
    pub name: Name,
    /// Hash of its file.
    pub revision: Arc<str>,
    /// Where its events come from.
    pub source: source::Settings,
    validator: Validator,
    subscriptions: Vec<Arc<Subscription>>,
    by_name: HashMap<Name, usize>,
    /// Messages taken from its source.
    pub received: metrics::Counter,
    /// Events that no subscription wanted.
    pub unmatched: metrics::Counter,
    mended: mended::Mended,
    /// Events with the source and id of an earlier one and other content.
    pub id_reused: metrics::Counter,
}

/// The world outside, handed in.
#[derive(Clone, Copy)]
pub struct Moment<'c> {
    /// Tells the time.
    pub clock: &'c Clock,
    /// An even random number in `0..1`, for jitter.
    pub draw: f64,
    /// Largest event that surely fits into a stored task, in bytes.
    pub room: usize,
}

impl Pipeline {
    /// Puts a pipeline together.
    pub fn new(
        name: Name,
        revision: Arc<str>,
        source: source::Settings,
        validator: Validator,
        subscriptions: Vec<Subscription>,
    ) -> Self {
        let measured = |mut subscription: Subscription| {
            let labels = |step: usize| {
                [
                    ("pipeline", name.to_string()),
                    ("subscription", subscription.name.to_string()),
                    ("step", step.to_string()),
                ]
            };
            let steps = 0..subscription.steps.len();
            subscription.step_durations =
                steps.map(|step| metrics::histogram!(names::STEP_DURATION, &labels(step))).collect();
            Arc::new(subscription)
        };
        let subscriptions: Vec<_> = subscriptions.into_iter().map(measured).collect();
        let by_name =
            subscriptions.iter().enumerate().map(|(place, sub)| (sub.name.clone(), place)).collect();
        let received = metrics::counter!(names::EVENTS_RECEIVED, "pipeline" => name.to_string());
        let unmatched = metrics::counter!(names::EVENTS_UNMATCHED, "pipeline" => name.to_string());
        let mended = mended::Mended::new(&name);
        let id_reused = metrics::counter!(names::EVENTS_ID_REUSED, "pipeline" => name.to_string());
        Self {
            name,
            revision,
            source,
            validator,
            subscriptions,
            by_name,
            received,
            unmatched,
            mended,
            id_reused,
        }
    }

    /// All subscriptions, in the order of the file.
    pub fn subscriptions(&self) -> &[Arc<Subscription>] {
        &self.subscriptions
    }

    /// The subscription of this name.
    pub fn subscription(&self, name: &Name) -> Option<&Arc<Subscription>> {
        self.by_name.get(name).map(|place| &self.subscriptions[*place])
    }

    /// Makes one attempt at a task: the steps that are left, then the delivery.
    pub async fn advance(&self, subscription: &Subscription, task: Task, moment: Moment<'_>) -> Next {
        let mut task = task;
        task.attempt += 1;
        task.first_attempt.get_or_insert_with(|| moment.clock.now());
        task.left = None;
        let mut splits_passed = match task.work {
            Work::Step(0, _) => 0,
            _ => task.path.indices().len(),
        };
        loop {
            let (at, event) = match &task.work {
                Work::Step(at, event) => (*at, event.clone()),
                Work::Deliver(finished) => {
                    let sent = match &subscription.target {
                        Target::Webhook(endpoint) => {
                            let traceparent = task.traceparent.as_deref();
                            let now = moment.clock.now();
                            endpoint.send(finished, &task.delivery_id, traceparent, now).await.map(Some)
                        }
                        Target::Publish(publisher) => publisher.send(finished, &task).await.map(|()| None),
                    };
                    return match sent {
                        Ok(status) => Next::Delivered { status },
                        Err(fault) => failed(subscription, task, fault, None, moment),
                    };
                }
                Work::Source(_) => unreachable!("it was admitted before: worker/again.rs"),
            };
            let Some(step) = subscription.steps.get(usize::from(at)) else {
                let finished = match &subscription.target {
                    Target::Webhook(endpoint) => endpoint.render(&event, &task.http),
                    Target::Publish(publisher) => publisher.render(&event),
                };
                if finished.bytes() > moment.room {
                    keep_what_fits(&mut task, at, &event, moment.room);
                }
                task.work = Work::Deliver(Arc::new(finished));
                continue;
            };
            let module = step.fitted();
            task.worked_on_by(module.label());
            let began = moment.clock.now();
            // In a box: the way of an event without steps needn't have room for a call.
            let applied = Box::pin(module.apply(&event)).await;
            measure(self, subscription, at, moment.clock.now().since(began), &applied);
            match applied {
                Ok(Verdict::Keep) => task.work = Work::Step(at + 1, event),
                Ok(Verdict::Replace(output)) => {
                    // Before a split of its own path it could not go on from here: it would be split once more.
                    let own = splits_passed == task.path.indices().len();
                    if own && output.event.stored_bytes_max() > moment.room {
                        keep_what_fits(&mut task, at, &event, moment.room);
                    }
                    follow(&mut task, at, output);
                }
                Ok(Verdict::Drop(why)) => return Next::Filtered(Filtered::Dropped(why)),
                Ok(Verdict::Split(outputs)) => {
                    let Some(index) = task.path.indices().get(splits_passed).copied() else {
                        return split(&task, at, outputs);
                    };
                    splits_passed += 1;
                    let own = usize::try_from(index).ok().and_then(|index| outputs.into_iter().nth(index));
                    let Some(own) = own else { return gone_from_split(task, index) };
                    follow(&mut task, at, own);
                }
                Err(fault) => return failed(subscription, task, fault, Some((step.on_error, at)), moment),
            }
        }
    }
}

/// Counts and times one call of step `at`.
fn measure(
    pipeline: &Pipeline,
    subscription: &Subscription,
    at: u16,
    took: Duration,
    result: &Result<Verdict, Fault>,
) {
    if let Some(duration) = subscription.step_durations.get(usize::from(at)) {
        duration.record(took.as_secs_f64());
    }
    if let Err(fault) = result {
        let labels = [
            ("pipeline", pipeline.name.to_string()),
            ("subscription", subscription.name.to_string()),
            ("step", at.to_string()),
            ("kind", fault.code.as_str().to_owned()),
        ];
        metrics::counter!(names::STEP_FAILURES, &labels).increment(1);
    }
}

/// Before an event grows beyond what can be stored: remembers the point where it still could be, if it can.
fn keep_what_fits(task: &mut Task, step: u16, event: &Arc<Event>, room: usize) {
    if event.stored_bytes_max() <= room {
        task.fits = Some(Arc::new(Fits { step, event: event.clone(), http: task.http.clone() }));
    }
}

/// Goes on behind step `at` with what the step made of the event.
fn follow(task: &mut Task, at: u16, output: Output) {
    for (name, value) in output.headers {
        task.http.retain(|(have, _)| *have != name);
        task.http.push((name, value));
    }
    let (event, was) = (&output.event, &task.event);
    if event.id != was.id || event.source != was.source || event.ty != was.ty {
        task.event = Arc::new(EventRef { time: was.time, ..EventRef::of(event) });
    }
    task.work = Work::Step(at + 1, Arc::new(output.event));
}

fn split(task: &Task, at: u16, outputs: Vec<Output>) -> Next {
    if outputs.is_empty() {
        return Next::Filtered(Filtered::EmptySplit);
    }
    // What another subscription has taken over keeps the keys that it had, so that it meets no work of the new one's own.
    let (subscription, own) = (task.subscription_token(), task.has_key_of_its_names());
    // A child takes its split again only from the first step on; a later point lies before or behind it.
    let fits = task.fits.clone().filter(|fits| fits.step == 0);
    let child = |(index, output): (u32, Output)| {
        let path = task.path.child(index);
        let mut child = Task {
            key: if own {
                TaskKey::derive(&task.source, &task.pipeline, subscription, &path)
            } else {
                task.key.child(index)
            },
            delivery_id: task.delivery_id.child(index),
            path,
            fits: fits.clone(),
            // A task of its own: what it came from counts its own stores.
            stores: 0,
            attempt: 0,
            first_attempt: None,
            ..task.clone()
        };
        follow(&mut child, at, output);
        child
    };
    Next::Split((0..).zip(outputs).map(child).collect())
}

fn gone_from_split(task: Task, index: u32) -> Next {
    let detail = format!("the split that made this task has no output {index} any more");
    let fault =
        Fault::never(Stage::Transform, Code::StepsChanged, Whose::Operator, Reason::StepsChanged, detail);
    Next::DeadLetter(task.with_fault(&fault), fault)
}

/// What follows from a failure. Pure.
pub fn failed(
    subscription: &Subscription,
    task: Task,
    mut fault: Fault,
    step: Option<(OnError, u16)>,
    moment: Moment<'_>,
) -> Next {
    let reason = match fault.again {
        Again::Never(reason) => reason,
        Again::Held => {
            let attempt = task.attempt.saturating_sub(1);
            let first_attempt = task.first_attempt.filter(|_| attempt > 0);
            return Next::Held(Task { attempt, first_attempt, ..task.with_fault(&fault) }, fault);
        }
        Again::Later { after, exhausted } => {
            let now = moment.clock.now();
            match subscription.retry.next(
                Tried::by(now, task.attempt, task.first_attempt),
                after,
                moment.draw,
            ) {
                Ok(wait) => return Next::Wait(task.with_fault(&fault), now.plus(wait), fault),
                Err(spent) => fault.detail = format!("given up {spent}: {}", fault.detail),
            }
            exhausted
        }
    };
    match step {
        Some((OnError::Drop, _)) => Next::Filtered(Filtered::OnError(fault.detail)),
        Some((OnError::Skip, at)) => {
            let work = match task.work {
                Work::Step(_, event) => Work::Step(at + 1, event),
                other => other,
            };
            Next::Onward(Task { work, attempt: 0, first_attempt: None, ..task })
        }
        Some((OnError::DeadLetter, _)) | None => {
            let fault = Fault { again: Again::Never(reason), ..fault };
            Next::DeadLetter(task.with_fault(&fault), fault)
        }
    }
}
