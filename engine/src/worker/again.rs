//! A task whose original message is taken again (`hookmill dlq redrive --rerun`): admitted before its attempt, for its own
//! subscription alone.

use std::panic::AssertUnwindSafe;

use super::Engine;
use super::lane::Lane;
use crate::model::{Code, Fault, Next, Reason, Stage, Task, Whose, Work};
use crate::pipeline::AdmittedAgain;

impl Engine {
    /// Makes it a task from its first step on; or says what becomes of it. A task of another kind is left as it is.
    pub(super) fn admit_again(&self, lane: &Lane, task: &mut Task) -> Option<Next> {
        let Work::Source(message) = &task.work else { return None };
        let (message, max_payload) = (message.clone(), self.nats.max_payload());
        let admit = AssertUnwindSafe(|| lane.pipeline.admit_again(task, message, max_payload));
        let fault = match std::panic::catch_unwind(admit) {
            Ok(AdmittedAgain::Task(fresh)) => {
                *task = *fresh;
                return None;
            }
            Ok(AdmittedAgain::Filtered(why)) => return Some(Next::Filtered(why)),
            Ok(AdmittedAgain::Refused(fault)) => fault,
            Err(_) => {
                let detail = "the engine failed at this message (a panic); please report it";
                let (code, reason) = (Code::Internal, Reason::CrashLoop);
                Fault::never(Stage::Source, code, Whose::Engine, reason, detail)
            }
        };
        Some(Next::DeadLetter(task.clone().with_fault(&fault), fault))
    }
}
