//! Where an event is: every place in which the streams hold it, read from them alone.
//!
//! It never guesses: what was delivered or filtered has left no record, so all that can be said of it is that a pipeline has
//! settled its message; and what is not kept is called unknown.
//!
//! The order of the looks matters. What is settled is asked first, what is stored is looked through after that, so that whatever a
//! settled message has left behind is seen; how far the consumers are is asked last.

mod sources;
mod stored;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::lanes::{Known, LanesError};
use super::registry::RegistryError;
use super::streams::StreamsError;
use super::{ApiError, Nats, Registry, Stored, tasks};
use crate::model::event::Reading;
use crate::model::{EventRef, SourceRef, Timestamp};
pub use sources::Looked;
use sources::Source;
use stored::StoredPlaces;

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
    /// It can't be told which lanes somebody works on.
    #[error(transparent)]
    Lanes(#[from] LanesError),
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
    /// Nobody has checked these texts: the message can't be read as an event, and this is what it says of itself.
    pub unverified: bool,
}

/// What kind of place it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The source stream.
    Source,
    /// It waits for its next attempt, for the end of one that runs, or for the end of a rename.
    Wait,
    /// Its next attempt is due.
    Due,
    /// The lane of its subscription.
    Lane,
    /// The dead letters.
    DeadLetter,
}

/// A message of a source stream.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Origin {
    /// The stream.
    pub stream: String,
    /// The sequence there.
    pub sequence: u64,
}

impl From<&SourceRef> for Origin {
    fn from(source: &SourceRef) -> Self {
        Self { stream: source.stream.to_string(), sequence: source.sequence }
    }
}

/// One place in which an event is, or something that was made of it.
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
    /// The event; of a task the one that its steps have made of it.
    pub event: EventView,
    /// The message that it came with.
    pub origin: Origin,
    /// The pipeline; none where no pipeline takes it from the source.
    pub pipeline: Option<String>,
    /// The subscription, or `_` for the pipeline as a whole; none in a source.
    pub subscription: Option<String>,
    /// In a source a [`Standing`](super::standing::Standing); a lane's state; a dead letter's reason, if this version knows it.
    pub state: Option<String>,
    /// Why it is in this state, where that is `unknown`.
    pub why: Option<String>,
    /// When it falls due, for a wait; none while its pipeline is renamed.
    pub until: Option<Timestamp>,
    /// What the tolerant reading mends of the message; of a task what was mended when it was admitted.
    pub mends: Vec<&'static str>,
    /// How the pipeline reads, in a source; none where no engine of this version has run it.
    pub reading: Option<Reading>,
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
    fn of(kind: Kind, stream: &str, stored: &Stored, event: &EventRef, origin: Origin) -> Self {
        Self {
            kind,
            stream: stream.to_owned(),
            sequence: stored.sequence,
            since: stored.time,
            event: EventView {
                id: event.id.clone(),
                source: event.source.clone(),
                ty: event.ty.clone(),
                unverified: event.unverified,
            },
            origin,
            pipeline: None,
            subscription: None,
            state: None,
            why: None,
            until: None,
            mends: Vec::new(),
            reading: None,
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
    /// The source streams that were looked through.
    pub looked: Vec<Looked>,
    /// Source streams that are not there.
    pub missing: Vec<String>,
}

/// Looks for an event everywhere.
pub async fn trace(nats: &Nats, registry: &Registry, wanted: &Wanted) -> Result<Traced, TraceError> {
    let (mut sources, missing) = sources::all(nats, registry).await?;
    let mut found = BTreeSet::new();
    for source in &mut sources {
        source.look_through(nats, wanted).await?;
        found.extend(source.origins());
    }
    let known = Known::in_force(nats, registry).await?;
    let records = registry.lanes(nats).await?;
    let stored = StoredPlaces { nats, known: &known, records: &records, wanted };
    let mut places = stored.look(&found).await?;
    // Tasks lead to messages from before the time that was looked through, and these to tasks that go by another id by now.
    let before = found.len();
    for source in &mut sources {
        let origins = places.iter().map(|place| &place.origin);
        source.look_at(nats, wanted, origins).await?;
        found.extend(source.origins());
    }
    if found.len() > before {
        places = stored.look(&found).await?;
    }
    for source in &mut sources {
        places.extend(source.places(nats).await?);
    }
    places.sort_by_key(|place| (place.kind, place.sequence));
    let looked = sources.into_iter().map(Source::looked).collect();
    Ok(Traced { places, looked, missing })
}
