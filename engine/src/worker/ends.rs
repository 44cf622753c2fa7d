//! Ends that are no delivery: a task or a whole message becomes a dead letter, and what held it is let go of once that is
//! stored.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use metrics::counter;

use super::Engine;
use super::held::Hold;
use super::lane::Lane;
use super::running::Ticket;
use super::storing::Put;
use crate::model::{Fault, Next, Reason, Task, Timestamp};
use crate::pipeline::Pipeline;
use crate::telemetry::metrics as names;

impl Engine {
    /// Dead-letters a message for the pipeline as a whole.
    pub(super) async fn reject(
        self: &Arc<Self>,
        pipeline: &Arc<Pipeline>,
        task: Task,
        fault: Fault,
        hold: Hold,
    ) {
        let crate::model::Again::Never(reason) = fault.again else { return };
        match self.storing.dead_letter(&task, reason, &fault).await {
            Put::Stored(_) => {}
            Put::TooLarge => {
                return self.spawn(self.clone().reject_later(pipeline.clone(), task, fault, hold));
            }
            Put::Elsewhere | Put::Full | Put::Stopped => return,
        }
        let labels = [("pipeline", pipeline.name.to_string()), ("reason", reason.to_string())];
        counter!(names::EVENTS_REJECTED, &labels).increment(1);
        tracing::warn!(
            pipeline = %pipeline.name, %reason, sequence = task.source.sequence, error = fault.detail,
            "message dead-lettered for the pipeline as a whole"
        );
        if let Some(onlooker) = &self.onlooker {
            let next = crate::model::Next::DeadLetter(task.clone(), fault);
            onlooker(&super::Seen { task: &task, next: &next, at: crate::model::Timestamp::now() });
        }
        hold.settle().await;
    }

    /// The same in a while, for a dead letter that can't be stored in any form now.
    fn reject_later(
        self: Arc<Self>,
        pipeline: Arc<Pipeline>,
        task: Task,
        fault: Fault,
        hold: Hold,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if self.wait_unstorable(&task).await {
                self.reject(&pipeline, task, fault, hold).await;
            }
        })
    }

    /// Dead-letters a task whose subscription can't say whether it wants the event.
    pub(super) async fn end_unjudged(self: &Arc<Self>, task: Task, fault: Fault, hold: Hold) {
        let labels =
            [("pipeline", task.pipeline.to_string()), ("subscription", task.subscription_token().to_owned())];
        counter!(names::UNJUDGED, &labels).increment(1);
        let Some(lane) = self.lane_of(&task) else { return };
        let Some(ticket) = self.running.begin(&task, hold) else { return };
        let task = task.with_fault(&fault);
        if let Some(onlooker) = &self.onlooker {
            let next = Next::DeadLetter(task.clone(), fault.clone());
            onlooker(&super::Seen { task: &task, next: &next, at: Timestamp::now() });
        }
        self.bury(&lane, task, fault, ticket, None).await;
    }

    /// Stores the dead letter.
    pub(super) async fn bury(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        mut task: Task,
        fault: Fault,
        ticket: Ticket,
        lease: Option<u64>,
    ) {
        task.stores = ticket.stores();
        let reason = fault.again.reason();
        match self.storing.dead_letter(&task, reason, &fault).await {
            Put::Stored(_) => {}
            Put::TooLarge => {
                return self.spawn(self.clone().bury_later(lane.clone(), task, fault, ticket, lease));
            }
            Put::Elsewhere | Put::Full | Put::Stopped => return,
        }
        if reason == Reason::Gone {
            self.disable(lane, "the endpoint answered 410 Gone").await;
        }
        self.finish(ticket, lease).await;
        lane.counters.dead_lettered.increment(1);
        let (pipeline, subscription) = (&lane.pipeline.name, &lane.subscription.name);
        tracing::warn!(%pipeline, %subscription, %reason, delivery_id = %task.delivery_id, modules = task.modules.join(","), error = fault.detail, "dead-lettered");
    }

    /// The same in a while, for a dead letter that can't be stored in any form now.
    fn bury_later(
        self: Arc<Self>,
        lane: Arc<Lane>,
        task: Task,
        fault: Fault,
        ticket: Ticket,
        lease: Option<u64>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if self.wait_unstorable(&task).await {
                self.bury(&lane, task, fault, ticket, lease).await;
            }
        })
    }

    /// The end is stored: the lease goes, then what is held is acknowledged.
    pub(super) async fn finish(&self, ticket: Ticket, lease: Option<u64>) {
        if let Some(sequence) = lease {
            self.storing.delete_lease(sequence).await;
        }
        ticket.settle().await;
    }
}
