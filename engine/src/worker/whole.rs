//! The lane of a pipeline as a whole: messages that were redriven to be read anew. It holds what a person has put there, so it
//! has a consumer that all engines share, as a source has.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError};

use futures_util::FutureExt;

use tokio::sync::Semaphore;

use super::Engine;
use crate::model::Name;
use crate::nats::{Prefix, Pull, PullEvent};
use crate::pipeline::Pipeline;

/// Tasks for the pipeline as a whole, admitted at once.
const WHOLE_SLOTS: usize = 64;

impl Engine {
    /// Starts the drain of a pipeline's own lane, if none runs.
    pub(super) fn drain_whole(self: &Arc<Self>, pipeline: &Arc<Pipeline>) {
        let begin = |draining: &mut HashSet<Name>| draining.insert(pipeline.name.clone());
        if !begin(&mut self.draining_whole.lock().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let (engine, pipeline) = (self.clone(), pipeline.clone());
        self.tracker.spawn(async move {
            let admitted = AssertUnwindSafe(engine.admit_whole(&pipeline)).catch_unwind().await;
            if let Err(why) =
                admitted.unwrap_or_else(|_| Err("it failed (a panic); please report it".to_owned()))
            {
                tracing::debug!(pipeline = %pipeline.name, why, "the pipeline's own lane waits");
            }
            let mut draining = engine.draining_whole.lock().unwrap_or_else(PoisonError::into_inner);
            draining.remove(&pipeline.name);
        });
    }

    /// Admits what lies in the lane of a pipeline as a whole, until there is nothing.
    async fn admit_whole(self: &Arc<Self>, pipeline: &Arc<Pipeline>) -> Result<(), String> {
        let stream = self.nats.prefix().lanes();
        let subject = self.nats.prefix().lane(pipeline.name.as_str(), "_");
        let consumer = Prefix::lane_consumer(&pipeline.name, "_");
        let room = Arc::new(Semaphore::new(WHOLE_SLOTS));
        let made = self.nats.make_lane_consumer(&stream, &consumer, subject.clone()).await;
        made.map_err(|error| error.to_string())?;
        let pull = Pull::open(&self.nats, &stream, &consumer).await;
        let mut pull = pull.map_err(|error| error.to_string())?;
        while !self.stop.is_cancelled() && self.is_in_force(&pipeline.name) {
            let Ok(first) = room.clone().acquire_owned().await else { return Ok(()) };
            let mut permits = vec![first];
            permits.extend(std::iter::from_fn(|| room.clone().try_acquire_owned().ok()));
            pull.ask_now(permits.len()).await;
            let mut found = false;
            while pull.asked() > 0 {
                match pull.next().await {
                    PullEvent::Message(delivered) => {
                        found = true;
                        let task = self.clone().take_task(pipeline.clone(), delivered, permits.pop());
                        self.spawn(task);
                    }
                    PullEvent::Alive | PullEvent::Ended(_) => {}
                    PullEvent::Lost(lost) => return Err(format!("{lost:?}")),
                }
            }
            if !found {
                return self.see(&stream, &consumer, &subject).await;
            }
        }
        Ok(())
    }

    /// Deletes a consumer that is blind for what lies there, so that it is made anew: an error then.
    async fn see(&self, stream: &str, consumer: &str, subject: &str) -> Result<(), String> {
        let blind = self.nats.is_blind(stream, consumer, subject).await.map_err(|error| error.to_string())?;
        if !blind {
            return Ok(());
        }
        tracing::warn!(stream, consumer, "a consumer doesn't see what lies in its lane, making it anew");
        self.nats.delete_consumer(stream, consumer).await.map_err(|error| error.to_string())?;
        Err("the lane's consumer is made anew".to_owned())
    }
}
