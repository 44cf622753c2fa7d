//! What is kept of a pipeline.

use std::fmt;

use serde::Serialize;

use super::RenameError;
use crate::model::Name;
use crate::nats::registry::Floor;
use crate::nats::{ApiError, Nats, Registry};

/// What is kept of a pipeline, or was moved.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Contents {
    /// Its place in the source.
    pub floor: Option<Floor>,
    /// Lanes whose state is kept.
    pub lane_states: u64,
    /// Tasks in lanes.
    pub lane_tasks: u64,
    /// Tasks that wait.
    pub waits: u64,
    /// Tasks that are due.
    pub due: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.floor {
            Some(floor) => write!(f, "floor {} of {}", floor.sequence, floor.stream)?,
            None => f.write_str("no place in a source")?,
        }
        for (count, one, many) in [
            (self.lane_states, "lane state", "lane states"),
            (self.lane_tasks, "task in a lane", "tasks in lanes"),
            (self.waits, "waiting task", "waiting tasks"),
            (self.due, "due task", "due tasks"),
            (self.dead_letters, "dead letter", "dead letters"),
        ] {
            write!(f, ", {count} {}", if count == 1 { one } else { many })?;
        }
        Ok(())
    }
}

/// What is kept of a pipeline.
pub async fn contents(nats: &Nats, registry: &Registry, pipeline: &Name) -> Result<Contents, RenameError> {
    let (prefix, name) = (nats.prefix(), pipeline.as_str());
    let count = async |stream: String, filter: String| {
        Ok::<u64, ApiError>(nats.counts(&stream, &filter).await?.values().sum())
    };
    let states = registry.lanes(nats).await?;
    Ok(Contents {
        floor: registry.floor(pipeline).await?,
        lane_states: states.keys().filter(|(of, _)| of == name).count() as u64,
        lane_tasks: count(prefix.lanes(), prefix.lane_all(name)).await?,
        waits: count(prefix.retries(), prefix.wait_all(name, "*")).await?,
        due: count(prefix.retries(), prefix.due_of(name, "*")).await?,
        dead_letters: count(prefix.dlq(), prefix.dead_letter(name, "*", "*")).await?,
    })
}
