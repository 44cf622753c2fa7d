//! Taking a task's original message again for its subscription alone: what a redrive with `--rerun` asks for.

use super::{Admitted, Arrival, Pipeline};
use crate::model::{Fault, Filtered, SourceMessage, Task};

/// What became of it.
#[derive(Debug)]
pub enum AdmittedAgain {
    /// The task from its first step on, with the keys and the standing that it had.
    Task(Box<Task>),
    /// The subscription doesn't want the event any more.
    Filtered(Filtered),
    /// The pipeline refuses it today.
    Refused(Fault),
}

impl Pipeline {
    /// Parses, validates, matches and filters `message` as [`Pipeline::admit`] does, for the subscription of `task`.
    pub fn admit_again(&self, task: &Task, message: SourceMessage, max_payload: usize) -> AdmittedAgain {
        let subject = task.subject.as_deref();
        let arrival = Arrival { source: &task.source, subject, generation: task.generation };
        match self.admit(message, arrival, max_payload) {
            Admitted::Refused(_, fault) => AdmittedAgain::Refused(fault),
            Admitted::Tasks { tasks, unjudged, .. } => {
                if let Some((_, fault)) =
                    unjudged.into_iter().find(|(found, _)| found.subscription == task.subscription)
                {
                    return AdmittedAgain::Refused(fault);
                }
                let own = tasks.into_iter().find(|found| found.subscription == task.subscription);
                own.map_or(AdmittedAgain::Filtered(Filtered::Filter), |fresh| {
                    // An output of a split goes through its split again and follows its own path.
                    AdmittedAgain::Task(Box::new(Task {
                        key: task.key.clone(),
                        delivery_id: task.delivery_id.clone(),
                        path: task.path.clone(),
                        stores: task.stores,
                        attempt: task.attempt,
                        first_attempt: task.first_attempt,
                        left: task.left,
                        last: task.last.clone(),
                        ..fresh
                    }))
                })
            }
        }
    }
}
