//! One pipeline, ready to be tested: an event goes in through `admit`, its tasks through `advance` to their ends.

use std::collections::HashMap;

use bytes::Bytes;

use super::outlet::{Recorder, Sent};
use crate::config::suite::{Mode, Test};
use crate::model::{Clock, Event, Filtered, Name, Next, Reason, SourceMessage, SourceRef, Task, Timestamp};
use crate::pipeline::{Admitted, Arrival, Moment, Pipeline, Subscription};

/// What nats-server takes by default, in bytes.
const MAX_PAYLOAD: usize = 1024 * 1024;
/// The middle of all draws: retries wait as long as the schedule says.
const DRAW: f64 = 0.5;

/// A pipeline whose deliveries go into recorders.
pub(super) struct Stage {
    pub(super) pipeline: Pipeline,
    pub(super) recorders: HashMap<Name, Recorder>,
    pub(super) clock: Clock,
}

/// How one task ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    Delivered(Sent),
    Filtered(String),
    DeadLettered { reason: Reason, error: String },
}

/// What became of an event.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The pipeline as a whole refused it.
    Rejected(Reason, String),
    /// The ends in each subscription; none where it was not wanted.
    Ends(HashMap<Name, Vec<Ended>>),
}

impl Stage {
    /// Publishes the test's event and follows it to its ends.
    pub(super) async fn run(&self, test: &Test) -> Outcome {
        let now = test.now.unwrap_or_else(Timestamp::now);
        self.clock.set(now);
        for (name, recorder) in &self.recorders {
            let answer = test.answers.iter().find(|(at, _)| at.value == name.as_str());
            recorder.begin(answer.map(|(_, status)| *status));
        }
        let source = SourceRef { stream: self.pipeline.source.stream.clone(), sequence: 1, time: now };
        let arrival = Arrival { source: &source, subject: None, generation: 0 };
        let (tasks, filtered, unjudged) = match self.pipeline.admit(message(test), arrival, MAX_PAYLOAD) {
            Admitted::Refused(_, fault) => return Outcome::Rejected(fault.again.reason(), fault.detail),
            Admitted::Tasks { tasks, filtered, unjudged, about: _ } => (tasks, filtered, unjudged),
        };
        let none = self.pipeline.subscriptions().iter().map(|sub| (sub.name.clone(), Vec::new()));
        let mut ends: HashMap<Name, Vec<Ended>> = none.collect();
        for name in filtered {
            ends.insert(name, vec![Ended::Filtered(why(Filtered::Filter))]);
        }
        for (task, fault) in unjudged {
            let end = Ended::DeadLettered { reason: fault.again.reason(), error: fault.detail };
            ends.extend(task.subscription.map(|name| (name, vec![end])));
        }
        for task in tasks {
            let subscription = task.subscription.as_ref().and_then(|name| self.pipeline.subscription(name));
            let Some(subscription) = subscription else { continue };
            self.clock.set(now);
            ends.insert(subscription.name.clone(), self.follow(subscription, task).await);
        }
        Outcome::Ends(ends)
    }

    /// Carries a task on until it, or each output of its splits, has its end. The clock skips what it would wait for.
    async fn follow(&self, subscription: &Subscription, task: Task) -> Vec<Ended> {
        let mut ends = Vec::new();
        let mut left = vec![task];
        while let Some(task) = left.pop() {
            let moment = Moment { clock: &self.clock, draw: DRAW, room: usize::MAX };
            match self.pipeline.advance(subscription, task, moment).await {
                Next::Delivered { .. } => {
                    let sent = self.recorders.get(&subscription.name).and_then(Recorder::take);
                    ends.extend(sent.map(Ended::Delivered));
                }
                Next::Filtered(filtered) => ends.push(Ended::Filtered(why(filtered))),
                Next::Onward(task) => left.push(task),
                Next::Wait(task, at, _) => {
                    self.clock.set(at);
                    left.push(task);
                }
                // Nothing is held where placeholders stand for what stands elsewhere.
                Next::DeadLetter(_, fault) | Next::Held(_, fault) => {
                    ends.push(Ended::DeadLettered { reason: fault.again.reason(), error: fault.detail });
                }
                // The first output is on top.
                Next::Split(children) => left.extend(children.into_iter().rev()),
            }
        }
        ends
    }
}

/// The test's event as a message of the source stream.
fn message(test: &Test) -> SourceMessage {
    let structured = |body: Bytes| SourceMessage {
        headers: vec![("Content-Type".to_owned(), crate::model::event::STRUCTURED_CONTENT_TYPE.to_owned())],
        body,
    };
    match test.mode {
        Mode::Structured => structured(test.event.clone()),
        Mode::Binary => match Event::from_structured(&test.event) {
            Ok(event) => {
                let (headers, body) = event.to_nats_binary();
                SourceMessage { headers, body }
            }
            // Refused when the file was read.
            Err(_) => structured(test.event.clone()),
        },
    }
}

fn why(filtered: Filtered) -> String {
    match filtered {
        Filtered::Filter => "match".to_owned(),
        Filtered::EmptySplit => "empty split".to_owned(),
        Filtered::Dropped(why) | Filtered::OnError(why) => why,
    }
}
