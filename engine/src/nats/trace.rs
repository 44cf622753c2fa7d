//! Where an event is: every place in which the streams hold it, read from them alone.
//!
//! It never guesses: what was delivered or filtered has left no record, so all that can be said of it is that a pipeline has
//! settled its message.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::consumers::Consumer;
use super::registry::{Floor, LaneMode, LaneRecord, RegistryError};
use super::streams::StreamsError;
use super::{ApiError, Nats, Registry, Stored, tasks};
use crate::model::event::Reading;
use crate::model::{Event, EventRef, Name, Task, Timestamp, subject};

/// Why an event can't be looked for.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A stream can't be looked at.
    #[error(transparent)]
    Stream(#[from] StreamsError),
    /// A message can't be read.
    #[error(transparent)]
    Read(#[from] ApiError),
    /// A record can't be read.
    #[error(transparent)]
    Record(#[from] RegistryError),
}

/// Which event.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its `id`.
    pub id: String,
    /// Its `source`; none: any.
    pub source: Option<String>,
    /// How far back the source streams are looked through. What a pipeline has not settled yet is always looked at.
    pub since: Duration,
}

impl Wanted {
    fn is(&self, id: &str, source: &str) -> bool {
        self.id == id && self.source.as_ref().is_none_or(|wanted| wanted == source)
    }

    /// A stored task keeps no more than the beginning of a long id or source.
    fn is_about(&self, event: &EventRef) -> bool {
        event.id == tasks::cut(&self.id)
            && self.source.as_ref().is_none_or(|wanted| event.source == tasks::cut(wanted))
    }
}

/// The event that is in a place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct EventView {
    /// `id`.
    pub id: String,
    /// `source`.
    pub source: String,
    /// `type`.
    #[serde(rename = "type")]
    pub ty: String,
}

/// What kind of place it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The source stream.
    Source,
    /// It waits for its next attempt, or for the end of one that runs.
    Wait,
    /// Its next attempt is due.
    Due,
    /// The lane of its subscription.
    Lane,
    /// The dead letters.
    DeadLetter,
}

/// One place in which an event is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Place {
    /// What kind of place.
    pub kind: Kind,
    /// The stream.
    pub stream: String,
    /// The sequence there.
    pub sequence: u64,
    /// Stored there at this time.
    pub since: Timestamp,
    /// The event.
    pub event: EventView,
    /// The pipeline; none where nobody takes it from the source.
    pub pipeline: Option<String>,
    /// The subscription, or `_` for the pipeline as a whole; none in a source.
    pub subscription: Option<String>,
    /// In a source `pending` (not taken yet), `taken` or `settled`; a lane's state; a dead letter's reason.
    pub state: Option<String>,
    /// When it is attempted next, for a wait.
    pub until: Option<Timestamp>,
    /// Attempts that were begun.
    pub attempts: Option<u32>,
    /// What the last of them met.
    pub last_error: Option<String>,
    /// The HTTP status of that.
    pub status: Option<u16>,
    /// The `webhook-id`.
    pub delivery_id: Option<String>,
    /// Where it goes on: `source`, `step/<n>` or `deliver`.
    pub resume: Option<String>,
    /// The modules that have worked on it, with version and digest, the last one last.
    pub modules: Vec<String>,
}

impl Place {
    /// The place of a message, before anything is known of who has to do with it.
    fn of(kind: Kind, stream: &str, stored: &Stored, event: &EventRef) -> Self {
        Self {
            kind,
            stream: stream.to_owned(),
            sequence: stored.sequence,
            since: stored.time,
            event: EventView { id: event.id.clone(), source: event.source.clone(), ty: event.ty.clone() },
            pipeline: None,
            subscription: None,
            state: None,
            until: None,
            attempts: None,
            last_error: None,
            status: None,
            delivery_id: None,
            resume: None,
            modules: Vec::new(),
        }
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Every place, by kind and sequence.
    pub places: Vec<Place>,
    /// Source streams, and the sequence from which each was looked through.
    pub looked: Vec<(String, u64)>,
}

/// Looks for an event in waits, lanes, dead letters and the sources of all pipelines that have ever run.
pub async fn trace(nats: &Nats, registry: &Registry, wanted: &Wanted) -> Result<Traced, TraceError> {
    let mut places = Vec::new();
    let mut origins: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let records = registry.lanes(nats).await?;
    for stream in [nats.prefix().retries(), nats.prefix().lanes(), nats.prefix().dlq()] {
        let Some(state) = nats.source_stream(&stream).await? else { continue };
        let picked = |stored: Stored| {
            let (pipeline, subscription) = nats.prefix().parts(&stored.subject)?;
            let names = (Name::new(pipeline).ok()?, Name::new(subscription).ok());
            let task = tasks::decode(&names.0, names.1.as_ref(), &stored.headers, &stored.body).ok()?;
            wanted.is_about(&task.event).then_some((stored, task))
        };
        for (stored, task) in nats.scan(&stream, state.first_sequence, state.last_sequence, picked).await? {
            origins.entry(task.source.stream.to_string()).or_default().insert(task.source.sequence);
            places.push(stored_place(nats, &stream, &stored, &task, &records));
        }
    }
    let floors: BTreeMap<String, Floor> = registry.floors(nats).await?;
    let mut looked = Vec::new();
    let streams: BTreeSet<&str> = floors.values().map(|floor| floor.stream.as_str()).collect();
    for stream in streams {
        let readers: Vec<&str> = floors
            .iter()
            .filter(|(_, floor)| floor.stream == stream)
            .map(|(name, _)| name.as_str())
            .collect();
        let origins = origins.remove(stream).unwrap_or_default();
        looked.extend(in_source(nats, stream, &readers, wanted, origins, &mut places).await?);
    }
    places.sort_by_key(|place| (place.kind, place.sequence));
    Ok(Traced { places, looked })
}

/// A place in one of the engine's own streams.
fn stored_place(
    nats: &Nats,
    stream: &str,
    stored: &Stored,
    task: &Task,
    records: &BTreeMap<(String, String), LaneRecord>,
) -> Place {
    let until = tasks::schedule(&stored.headers).map(|(_, due)| due);
    let kind = match stream {
        _ if stream == nats.prefix().lanes() => Kind::Lane,
        _ if stream == nats.prefix().dlq() => Kind::DeadLetter,
        _ if until.is_some() => Kind::Wait,
        _ => Kind::Due,
    };
    let lane = (task.pipeline.to_string(), task.subscription_token().to_owned());
    let state = match kind {
        Kind::DeadLetter => tasks::death(&stored.headers).map(|death| death.reason.to_string()),
        Kind::Lane => Some(records.get(&lane).map_or_else(|| "active".to_owned(), lane_state)),
        Kind::Source | Kind::Wait | Kind::Due => None,
    };
    Place {
        pipeline: Some(lane.0),
        subscription: Some(lane.1),
        state,
        until,
        attempts: Some(task.attempt),
        last_error: task.last.as_ref().map(|last| last.error.clone()),
        status: task.last.as_ref().and_then(|last| last.status),
        delivery_id: Some(task.delivery_id.to_string()),
        resume: Some(task.work.resume()),
        modules: task.modules.clone(),
        ..Place::of(kind, stream, stored, &task.event)
    }
}

fn lane_state(record: &LaneRecord) -> String {
    match record.state {
        LaneMode::Active => "active".to_owned(),
        mode if record.why.is_empty() => mode.as_str().to_owned(),
        mode => format!("{}: {}", mode.as_str(), record.why),
    }
}

/// The places in a source stream, one for each pipeline that takes from there, and from where on it was looked through.
async fn in_source(
    nats: &Nats,
    stream: &str,
    readers: &[&str],
    wanted: &Wanted,
    origins: BTreeSet<u64>,
    places: &mut Vec<Place>,
) -> Result<Option<(String, u64)>, TraceError> {
    let Some(state) = nats.source_stream(stream).await? else { return Ok(None) };
    let mut consumers = Vec::new();
    for reader in readers {
        let Ok(name) = Name::new(reader) else { continue };
        let consumer = nats.consumer(stream, &nats.prefix().source_consumer(&name)).await?;
        // One that says that it is another's tells nothing of this pipeline.
        let us = nats.owner_of(&name);
        let own = consumer.filter(|consumer| consumer.owner.as_ref().is_none_or(|owner| *owner == us));
        consumers.extend(own.map(|consumer| (*reader, consumer)));
    }
    let since = Timestamp::now().minus(wanted.since);
    let (first, last) = (state.first_sequence.max(1), state.last_sequence);
    let unsettled = consumers.iter().map(|(_, consumer)| consumer.floor + 1).min();
    let from = nats.sequence_at(stream, first, last, since).await?;
    let from = from.min(unsettled.unwrap_or(from)).max(first);
    let picked = |stored: Stored| {
        let (event, _) = Event::parse(&stored.headers, &stored.body, Reading::Tolerant).ok()?;
        wanted.is(&event.id, &event.source).then(|| (stored, EventRef::of(&event)))
    };
    let mut found = Vec::new();
    for sequence in origins.into_iter().filter(|sequence| *sequence < from) {
        found.extend(nats.scan(stream, sequence, sequence, picked).await?);
    }
    found.extend(nats.scan(stream, from, last, picked).await?);
    for (stored, event) in found {
        let takes = |filters: &[String]| {
            filters.is_empty() || filters.iter().any(|filter| subject::takes(filter, &stored.subject))
        };
        let place = Place::of(Kind::Source, stream, &stored, &event);
        let mut taken_by_nobody = true;
        for (reader, consumer) in consumers.iter().filter(|(_, consumer)| takes(&consumer.filters)) {
            taken_by_nobody = false;
            let state = standing(stored.sequence, consumer).to_owned();
            places.push(Place { pipeline: Some((*reader).to_owned()), state: Some(state), ..place.clone() });
        }
        if taken_by_nobody {
            places.push(place);
        }
    }
    Ok(Some((stream.to_owned(), from)))
}

/// How far a pipeline is with a message of its source.
fn standing(sequence: u64, consumer: &Consumer) -> &'static str {
    if sequence <= consumer.floor {
        "settled"
    } else if sequence <= consumer.delivered {
        "taken"
    } else {
        "pending"
    }
}
