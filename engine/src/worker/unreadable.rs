//! Lanes that hold a task which this engine can't read, because a newer one has written it: left alone, and said so where
//! people look, until somebody resumes the lane or it has been emptied.

use std::sync::PoisonError;

use metrics::gauge;

use super::Engine;
use super::held::Hold;
use super::lane::Lane;
use super::lane_record::readable_record;
use super::storing::Put;
use crate::model::{Name, SourceMessage};
use crate::nats::Registry;
use crate::nats::registry::{LaneMode, LaneRecord, RegistryError};
use crate::nats::tasks::DecodeError;
use crate::telemetry::metrics as names;

/// What the gauge of the state shows for it.
pub(super) const GAUGE: u8 = 5;

impl Engine {
    /// A task in this lane, or on its way there, can't be read: the lane is not taken from any more.
    pub(super) async fn leave_alone(&self, lane: &Lane, error: &DecodeError) {
        if !lane.set_unreadable() {
            return;
        }
        let (pipeline, subscription) = (&lane.pipeline.name, &lane.subscription.name);
        say(pipeline, subscription.as_str(), error);
        // A pause by hand says more, and its end reads the lane again as well.
        if !lane.is_stopped() {
            self.keep_unreadable(pipeline, subscription.as_str(), why(error)).await;
        }
    }

    /// The same for the lane of a pipeline as a whole (`_`), which goes on being read: what can't be is let go of each time.
    /// For any other subscription that this engine doesn't know, it is only said.
    pub(super) async fn whole_unreadable(&self, pipeline: &Name, subscription: &str, error: &DecodeError) {
        if subscription != "_" {
            return say(pipeline, subscription, error);
        }
        let news = {
            let mut known = self.unreadable_whole.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(pipeline.clone())
        };
        if news {
            say(pipeline, subscription, error);
            self.keep_unreadable(pipeline, subscription, why(error)).await;
            gauge!(names::LANE_STATE, &labels(pipeline)).set(f64::from(GAUGE));
        }
    }

    /// What lies on a subject of ours and is no task goes to the dead letters as `foreign`, and stops nothing.
    pub(super) async fn set_aside(
        &self,
        pipeline: &Name,
        subscription: &str,
        message: &SourceMessage,
        error: &DecodeError,
        hold: Hold,
    ) {
        let why = format!("a message that is no task was published to a subject of the engine's: {error}");
        if matches!(self.storing.foreign(pipeline, subscription, message, why).await, Put::Stored(_)) {
            tracing::warn!(%pipeline, subscription, %error, "a message that is no task is dead-lettered as foreign");
            hold.settle().await;
        }
    }

    /// The same for the lane of a pipeline as a whole, if it was left alone.
    pub(super) async fn whole_readable_again(&self, pipeline: &Name) {
        let was_there = {
            let mut known = self.unreadable_whole.lock().unwrap_or_else(PoisonError::into_inner);
            known.remove(pipeline)
        };
        if was_there {
            self.readable_again(pipeline, "_").await;
            gauge!(names::LANE_STATE, &labels(pipeline)).set(0.0);
        }
    }
}

fn why(error: &DecodeError) -> String {
    format!("a task in it can't be read: {error}")
}

fn say(pipeline: &Name, subscription: &str, error: &DecodeError) {
    tracing::error!(
        %pipeline, subscription, %error,
        "a stored task can't be read, its lane is left alone; `hookmill lane resume` makes this engine read it again"
    );
}

fn labels(pipeline: &Name) -> [(&'static str, String); 2] {
    [("pipeline", pipeline.to_string()), ("subscription", "_".to_owned())]
}

/// Takes back at start what an earlier run has said of a lane: this engine reads it anew.
pub(super) async fn forget(
    registry: &Registry,
    pipeline: &Name,
    subscription: &str,
    record: &LaneRecord,
) -> Result<(), RegistryError> {
    if record.state == LaneMode::Unreadable {
        registry.change_lane(pipeline.as_str(), subscription, readable_record).await?;
    }
    Ok(())
}
