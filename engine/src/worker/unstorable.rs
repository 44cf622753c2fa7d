//! Ends that can't be stored in any form: what they came from stays held, and they are stored again now and then.
//!
//! Others go on: no slot, no suspect's turn and no closed gate waits for one of these.

use std::time::Duration;

use metrics::gauge;

use super::Engine;
use crate::model::Task;
use crate::telemetry::metrics as names;

/// Pause before such an end is stored again.
const PAUSE: Duration = Duration::from_secs(10);

impl Engine {
    /// Waits until the end of this task is to be stored again. False: the engine stops.
    pub(super) async fn wait_unstorable(&self, task: &Task) -> bool {
        let (pipeline, source) = (&task.pipeline, &task.source);
        tracing::error!(
            %pipeline, subscription = task.subscription_token(), stream = %source.stream, sequence = source.sequence,
            "a dead letter can't be stored, not even in parts: its message stays unacknowledged; raise max_msg_size of the \
             dead-letter stream with `nats stream edit --max-msg-size=-1`"
        );
        let labels = [("pipeline", pipeline.to_string())];
        gauge!(names::UNSTORABLE, &labels).increment(1.0);
        let goes_on = tokio::select! {
            () = tokio::time::sleep(PAUSE) => true,
            () = self.stop.cancelled() => false,
        };
        gauge!(names::UNSTORABLE, &labels).decrement(1.0);
        goes_on
    }
}
