//! The places in the engine's own streams.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kind, Known, Nats, Origin, Place, Stored, TraceError, Wanted, tasks};
use crate::model::{Name, Task};
use crate::nats::registry::LaneRecord;
use crate::nats::rename;

/// How often the ends of the streams are looked at again: a task that moves while one stream is looked through is stored behind
/// what was looked at of another.
const ROUNDS_MAX: u32 = 4;

/// What is needed to look through them.
pub(super) struct StoredPlaces<'t> {
    pub(super) nats: &'t Nats,
    pub(super) known: &'t Known,
    pub(super) records: &'t BTreeMap<(String, String), LaneRecord>,
    pub(super) wanted: &'t Wanted,
}

impl StoredPlaces<'_> {
    /// Every task and dead letter that is about the event, or came with one of these messages.
    pub(super) async fn look(&self, origins: &BTreeSet<Origin>) -> Result<Vec<Place>, TraceError> {
        let prefix = self.nats.prefix();
        let mut streams = [prefix.retries(), prefix.lanes(), prefix.dlq()].map(|stream| (stream, 0));
        let mut places = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let mut has_new = false;
            for (stream, next) in &mut streams {
                let Some(state) = self.nats.source_stream(stream).await? else { continue };
                let (first, last) = (state.first_sequence.max(*next), state.last_sequence);
                has_new |= last >= *next && last > 0;
                *next = last + 1;
                let picked = |stored: Stored| self.picked(stored, origins);
                let found = self.nats.scan(stream, first, last, picked).await?;
                places.extend(found.into_iter().map(|(stored, task)| self.place(stream, &stored, &task)));
            }
            if !has_new {
                break;
            }
        }
        Ok(places)
    }

    fn picked(&self, stored: Stored, origins: &BTreeSet<Origin>) -> Option<(Stored, Task)> {
        let (pipeline, subscription) = self.nats.prefix().parts(&stored.subject)?;
        let (pipeline, subscription) = (Name::new(pipeline).ok()?, Name::new(subscription).ok());
        let task = tasks::decode(&pipeline, subscription.as_ref(), &stored.headers, &stored.body).ok()?;
        let is_wanted = self.wanted.is_about(&task.event) || origins.contains(&Origin::from(&task.source));
        is_wanted.then_some((stored, task))
    }

    fn place(&self, stream: &str, stored: &Stored, task: &Task) -> Place {
        let prefix = self.nats.prefix();
        let lane = (task.pipeline.to_string(), task.subscription_token().to_owned());
        let kind = match stream {
            _ if stream == prefix.lanes() => Kind::Lane,
            _ if stream == prefix.dlq() => Kind::DeadLetter,
            _ if stored.subject == prefix.due_of(&lane.0, &lane.1) => Kind::Due,
            _ => Kind::Wait,
        };
        let until = tasks::schedule(&stored.headers).map(|(_, due)| due);
        let state = match kind {
            Kind::DeadLetter => tasks::death(&stored.headers).map(|death| death.reason.to_string()),
            Kind::Lane => Some(self.lane_state(&lane)),
            Kind::Wait if rename::is_parked(stored) => Some("parked".to_owned()),
            Kind::Source | Kind::Wait | Kind::Due => None,
        };
        Place {
            pipeline: Some(lane.0),
            subscription: Some(lane.1),
            state,
            until,
            mends: task.mends.names(),
            attempts: Some(task.attempt),
            last_error: task.last.as_ref().map(|last| last.error.clone()),
            status: task.last.as_ref().and_then(|last| last.status),
            delivery_id: Some(task.delivery_id.to_string()),
            resume: Some(task.work.resume()),
            modules: task.modules.clone(),
            ..Place::of(kind, stream, stored, &task.event, Origin::from(&task.source))
        }
    }

    fn lane_state(&self, lane: &(String, String)) -> String {
        let (state, why) = self.known.state(lane, self.records.get(lane));
        if why.is_empty() { state.to_owned() } else { format!("{state}: {why}") }
    }
}
