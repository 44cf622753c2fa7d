//! Loops of pipelines at start: the same question as when the files are checked, asked with what the sources really hold.

use std::sync::Arc;

use super::StartError;
use crate::model::loops::{self, Publishing};
use crate::pipeline::{Pipeline, Target};

/// Refuses pipelines whose events surely come back to them, and says in the log where they may. `takes`: the subjects that the
/// source of each takes.
pub(super) fn refuse(pipelines: &[Arc<Pipeline>], takes: &[Vec<String>]) -> Result<(), StartError> {
    let publishing: Vec<Publishing<'_>> = pipelines
        .iter()
        .zip(takes)
        .flat_map(|(pipeline, takes)| {
            pipeline.subscriptions().iter().filter_map(|subscription| {
                let Target::Publish(publisher) = &subscription.target else { return None };
                Some(Publishing {
                    pipeline: &pipeline.name,
                    subscription: &subscription.name,
                    subject: &publisher.settings().subject,
                    types: subscription.filter.types(),
                    has_steps: !subscription.steps.is_empty(),
                    takes,
                })
            })
        })
        .collect();
    for found in loops::find(&publishing) {
        let way = found.describe(&publishing);
        if found.is_sure {
            return Err(StartError::Loop(way));
        }
        tracing::warn!(way, "events may come back to the pipeline that publishes them, up to 16 times");
    }
    Ok(())
}
