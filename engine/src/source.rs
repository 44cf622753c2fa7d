//! A pipeline's place in its source stream: the durable consumer, and the floor by which a lost one is made again.
//!
//! It never pulls and never acknowledges: the worker does.

mod durable;

use std::sync::Arc;
use std::time::Duration;

use crate::model::event::Reading;
use crate::model::{DeliveryId, Event, Name, SourceRef, SplitPath, Timestamp};
use crate::nats::consumers::StartAt;
use crate::nats::owner::NotOurs;
use crate::nats::registry::{Floor, RegistryError};
use crate::nats::streams::{Retention, SourceStream, StreamsError};
use crate::nats::unreadable::Unreadable;
use crate::nats::{ApiError, Delivered, Nats, Registry};
use durable::Durable;

/// Where a pipeline starts in its stream when nothing is known of an earlier run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// With what is published from now on.
    New,
    /// With the oldest message there is.
    All,
    /// With the first message stored at or after this time.
    Time(Timestamp),
}

/// What a delivery id is made of, beside the names of pipeline and subscription and the split path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryIdFrom {
    /// The event's source and id: whoever publishes an event twice has one delivery of it, as receivers see it.
    Event,
    /// The message's stream, sequence and stored time: no two messages have the same, whatever their events' ids are.
    Message,
}

impl DeliveryIdFrom {
    /// The id of a delivery of `event`, which came in the message `source`.
    pub fn derive(
        self,
        event: &Event,
        source: &SourceRef,
        pipeline: &Name,
        subscription: &str,
        path: &SplitPath,
    ) -> DeliveryId {
        match self {
            Self::Event => DeliveryId::derive(&event.source, &event.id, pipeline, subscription, path),
            Self::Message => DeliveryId::of_message(source, pipeline, subscription, path),
        }
    }
}

/// A pipeline's source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The stream.
    pub stream: Arc<str>,
    /// Subjects to take from it; none: all.
    pub subjects: Vec<String>,
    /// Where to start.
    pub start: Start,
    /// Messages held at once by one engine.
    pub max_in_flight: usize,
    /// How its messages are read.
    pub reading: Reading,
    /// What delivery ids are made of.
    pub webhook_id: DeliveryIdFrom,
}

/// Why a pipeline can't take from its source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The stream is missing.
    #[error(
        "pipeline {pipeline}: source stream {stream} does not exist; make it with `{command}`, or name another in [source] stream"
    )]
    MissingStream {
        /// The pipeline.
        pipeline: Name,
        /// The stream.
        stream: String,
        /// A command that makes it.
        command: String,
    },
    /// The stream forces its consumers to go away.
    #[error(
        "pipeline {pipeline}: source stream {stream} forces an inactive_threshold on its consumers, so the pipeline's place in it would be forgotten; take consumer_limits.inactive_threshold off the stream"
    )]
    ForcedInactivity {
        /// The pipeline.
        pipeline: Name,
        /// The stream.
        stream: String,
    },
    /// What is in the stream comes from the engine itself.
    #[error(
        "pipeline {pipeline}: source stream {stream} {what}: what the engine stores would come back to it without end; name another stream in [source] stream"
    )]
    Own {
        /// The pipeline.
        pipeline: Name,
        /// The stream.
        stream: String,
        /// How that comes.
        what: String,
    },
    /// The stream can't be read.
    #[error("pipeline {pipeline}: source stream can't be read")]
    Stream {
        /// The pipeline.
        pipeline: Name,
        /// Why not.
        #[source]
        source: StreamsError,
    },
    /// The consumer can't be read or made.
    #[error("pipeline {pipeline}: consumer {consumer} on {stream} can't be {verb}")]
    Consumer {
        /// The pipeline.
        pipeline: Name,
        /// The stream.
        stream: String,
        /// The consumer.
        consumer: String,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        #[source]
        source: ApiError,
    },
    /// The consumer is somebody else's.
    #[error("pipeline {pipeline} can't take from its source")]
    NotOurs {
        /// The pipeline.
        pipeline: Name,
        /// Whose it is, and what to do.
        #[source]
        source: NotOurs,
    },
    /// The floor can't be read or kept.
    #[error("pipeline {pipeline}: the source floor can't be kept")]
    Floor {
        /// The pipeline.
        pipeline: Name,
        /// Why not.
        #[source]
        source: RegistryError,
    },
}

impl SourceError {
    /// Whether trying again by itself may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::MissingStream { .. }
            | Self::ForcedInactivity { .. }
            | Self::Own { .. }
            | Self::NotOurs { .. } => false,
            Self::Stream { source, .. } => source.is_passing(),
            Self::Consumer { source, .. } => source.is_passing(),
            Self::Floor { source, .. } => source.is_passing(),
        }
    }
}

/// A pipeline's durable consumer, ready to be pulled from.
#[derive(Clone, Debug)]
pub struct Place {
    /// The stream.
    pub stream: Arc<str>,
    /// The consumer.
    pub consumer: String,
    created: String,
}

/// Where to start a consumer that has to be made. Pure: the one decision here that can lose events.
fn start_at(settings: &Settings, stream: &SourceStream, floor: Option<&Floor>) -> StartAt {
    let Some(floor) = floor.filter(|floor| *floor.stream == *settings.stream) else {
        return match settings.start {
            _ if stream.retention == Retention::WorkQueue => StartAt::First,
            Start::New => StartAt::New,
            Start::All => StartAt::First,
            Start::Time(time) => StartAt::Time(time),
        };
    };
    // What is settled is gone from a work queue, and its consumers may not start elsewhere.
    if stream.retention == Retention::WorkQueue || floor.created != stream.created {
        return StartAt::First;
    }
    StartAt::Sequence(floor.sequence.saturating_add(1))
}

/// Finds or makes the pipeline's durable and keeps its floor, all before the first pull.
pub async fn prepare(
    nats: &Nats,
    registry: &Registry,
    pipeline: &Name,
    settings: &Settings,
) -> Result<Place, SourceError> {
    // In a box, as below: futures that hold it are moved whole.
    let (place, stream) = Box::pin(ensure(nats, registry, pipeline, settings, Filters::Update)).await?;
    explain(pipeline, &stream);
    Ok(place)
}

/// The same before it is known that this file of the pipeline comes into force: a durable that is there stays as it is. Others
/// may take by it, and its new subjects would be lost on them. The subjects that the source takes.
pub async fn examine(
    nats: &Nats,
    registry: &Registry,
    pipeline: &Name,
    settings: &Settings,
) -> Result<Vec<String>, SourceError> {
    // Before a consumer is made there.
    let taken = Box::pin(not_of_our_own(nats, pipeline, &settings.stream)).await?;
    Box::pin(ensure(nats, registry, pipeline, settings, Filters::Leave)).await?;
    Ok(if settings.subjects.is_empty() { taken } else { settings.subjects.clone() })
}

/// The subjects of a source stream, and of those that it is filled from. None of them may be the engine's own.
async fn not_of_our_own(nats: &Nats, pipeline: &Name, stream: &str) -> Result<Vec<String>, SourceError> {
    let origins = nats.origins(stream).await;
    let origins = origins.map_err(|source| SourceError::Stream { pipeline: pipeline.clone(), source })?;
    let Some(way) = origins.own else { return Ok(origins.subjects) };
    let what = match &way[..] {
        [_] => "is the engine's own".to_owned(),
        [_, through @ ..] => format!("is filled from {}, the engine's own", through.join(", from ")),
        [] => String::new(),
    };
    Err(SourceError::Own { pipeline: pipeline.clone(), stream: stream.to_owned(), what })
}

/// What becomes of the subjects of a durable that is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filters {
    Update,
    Leave,
}

async fn ensure(
    nats: &Nats,
    registry: &Registry,
    pipeline: &Name,
    settings: &Settings,
    subjects: Filters,
) -> Result<(Place, SourceStream), SourceError> {
    let name = settings.stream.to_string();
    let stream = nats.source_stream(&name).await;
    let stream = stream.map_err(|source| SourceError::Stream { pipeline: pipeline.clone(), source })?;
    let Some(stream) = stream else {
        let command = make_command(nats, &name);
        return Err(SourceError::MissingStream { pipeline: pipeline.clone(), stream: name, command });
    };
    if stream.forces_inactive_threshold {
        return Err(SourceError::ForcedInactivity { pipeline: pipeline.clone(), stream: name });
    }
    let consumer = nats.prefix().source_consumer(pipeline);
    let place = Place { stream: settings.stream.clone(), consumer, created: stream.created.clone() };
    let durable = Durable { nats, registry, pipeline, settings, stream: &stream, place: &place };
    durable.ensure(subjects).await?;
    Ok((place, stream))
}

/// The place of a pipeline whose consumer is there already.
pub async fn find(nats: &Nats, pipeline: &Name, settings: &Settings) -> Result<Place, SourceError> {
    let stream = nats.source_stream(&settings.stream).await;
    let stream = stream.map_err(|source| SourceError::Stream { pipeline: pipeline.clone(), source })?;
    let Some(stream) = stream else {
        let (stream, pipeline) = (settings.stream.to_string(), pipeline.clone());
        let command = make_command(nats, &stream);
        return Err(SourceError::MissingStream { pipeline, stream, command });
    };
    let consumer = nats.prefix().source_consumer(pipeline);
    Ok(Place { stream: settings.stream.clone(), consumer, created: stream.created })
}

impl Place {
    /// What was delivered from here and could not be taken from the wire, with the reason.
    pub async fn unreadable(
        &self,
        nats: &Nats,
        settings: &Settings,
    ) -> Result<Vec<(Delivered, Unreadable)>, ApiError> {
        let Some(state) = nats.consumer(&self.stream, &self.consumer).await? else { return Ok(Vec::new()) };
        nats.unreadable(&self.stream, &self.consumer, &state, &settings.subjects).await
    }

    fn floor(&self, sequence: u64) -> Floor {
        Floor { stream: self.stream.to_string(), created: self.created.clone(), sequence }
    }

    /// Looks at the durable, and keeps its floor as it is now. Called every few seconds and at shutdown.
    pub async fn look(&self, nats: &Nats, registry: &Registry, pipeline: &Name, settings: &Settings) -> Look {
        let Ok(Some(state)) = nats.consumer(&self.stream, &self.consumer).await else { return Look::Unknown };
        if state.owner.as_ref().is_some_and(|owner| *owner != nats.owner_of(pipeline)) {
            return Look::SomebodyElses;
        }
        if let Err(error) = registry.put_floor(pipeline, &self.floor(state.floor)).await {
            tracing::debug!(%pipeline, %error, "source floor not kept, the older one stands");
        }
        if let Some(edited) = state.misfits.iter().find(|misfit| !misfit.is_pause) {
            return Look::Edited(edited.what.clone());
        }
        let paused = state.misfits.into_iter().map(|misfit| misfit.what).next();
        let Ok(Some(stream)) = nats.source_stream(&self.stream).await else { return Look::Unknown };
        Look::Ours(paused.or_else(|| matches_nothing(settings, &stream)))
    }
}

/// What a look at a pipeline's durable has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look {
    /// It can't be told now.
    Unknown,
    /// It has come to be somebody else's, and its floor is none of this pipeline.
    SomebodyElses,
    /// Somebody has changed it in a way that keeps it from its work, or would lose something.
    Edited(String),
    /// It is as it has to be, but for what keeps messages from coming, if something does.
    Ours(Option<String>),
}

/// Why nothing can come from a stream, if its subjects say so.
fn matches_nothing(settings: &Settings, stream: &SourceStream) -> Option<String> {
    let there = stream.subjects.as_ref().filter(|_| !settings.subjects.is_empty())?;
    let meets = |wanted: &String| there.iter().any(|subject| crate::model::subject::overlap(wanted, subject));
    if settings.subjects.iter().any(meets) {
        return None;
    }
    Some(format!(
        "nothing can come: source.subjects names {}, and stream {} takes {}; change one of them",
        settings.subjects.join(", "),
        stream.name,
        if there.is_empty() { "no subjects".to_owned() } else { there.join(", ") },
    ))
}

fn make_command(nats: &Nats, stream: &str) -> String {
    if stream == nats.prefix().events() {
        "hookmill init".to_owned()
    } else {
        format!("nats stream add {stream} --subjects 'SUBJECT.>'")
    }
}

/// Says what the kind of stream means for the user, once at start.
fn explain(pipeline: &Name, stream: &SourceStream) {
    let name = &stream.name;
    match stream.retention {
        Retention::Limits => {}
        Retention::WorkQueue => tracing::info!(
            %pipeline, stream = name,
            "source is a work queue: what is settled is deleted from it, and no other consumer may take the same subjects"
        ),
        Retention::Interest => tracing::info!(
            %pipeline, stream = name,
            "source keeps messages only while a consumer is interested: what is published before this pipeline's consumer exists is not kept for it"
        ),
    }
    if let Some(age) = stream.max_age.filter(|age| *age < Duration::from_secs(3_600)) {
        tracing::warn!(
            %pipeline, stream = name, max_age_seconds = age.as_secs(),
            "source forgets messages soon: what the engine has not taken by then is lost; give the stream a longer max_age"
        );
    }
    if stream.discards_old {
        tracing::warn!(
            %pipeline, stream = name,
            "source drops its oldest messages when it is full, taken or not; use discard=new to refuse new ones instead"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(start: Start) -> Settings {
        Settings {
            stream: "S".into(),
            subjects: vec![],
            start,
            max_in_flight: 1,
            reading: Reading::Tolerant,
            webhook_id: DeliveryIdFrom::Event,
        }
    }

    fn stream(retention: Retention) -> SourceStream {
        SourceStream {
            name: "S".into(),
            created: "now".into(),
            last_sequence: 100,
            first_sequence: 1,
            retention,
            max_age: None,
            discards_old: false,
            forces_inactive_threshold: false,
            replicas: 1,
            subjects: None,
        }
    }

    fn floor(stream: &str, created: &str) -> Floor {
        Floor { stream: stream.into(), created: created.into(), sequence: 41 }
    }

    #[test]
    fn a_lost_consumer_goes_on_behind_its_floor() {
        let limits = stream(Retention::Limits);
        let at = |start, floor: Option<Floor>| start_at(&settings(start), &limits, floor.as_ref());
        assert_eq!(at(Start::New, None), StartAt::New);
        assert_eq!(at(Start::All, None), StartAt::First);
        assert_eq!(at(Start::New, Some(floor("S", "now"))), StartAt::Sequence(42));
        assert_eq!(at(Start::New, Some(floor("S", "before"))), StartAt::First, "the stream was made anew");
        assert_eq!(at(Start::New, Some(floor("OTHER", "now"))), StartAt::New, "another stream");
    }

    #[test]
    fn an_id_is_of_the_event_or_of_its_message() {
        let pipeline = Name::new("p").unwrap();
        let root = SplitPath::root();
        let event = |id: &str| {
            let text = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t"}}"#);
            Event::from_structured(&text.into()).unwrap()
        };
        let message =
            |sequence| SourceRef { stream: "S".into(), sequence, time: Timestamp::from_unix_nanos(1) };
        let id = |from: DeliveryIdFrom, event: &Event, source: &SourceRef| {
            from.derive(event, source, &pipeline, "a", &root)
        };
        let (one, two) = (event("1"), event("2"));
        let of_event = DeliveryIdFrom::Event;
        assert_eq!(id(of_event, &one, &message(1)), DeliveryId::derive("/s", "1", &pipeline, "a", &root));
        assert_eq!(id(of_event, &one, &message(1)), id(of_event, &one, &message(2)));
        assert_ne!(id(of_event, &one, &message(1)), id(of_event, &two, &message(1)));
        let of_message = DeliveryIdFrom::Message;
        assert_ne!(id(of_message, &one, &message(1)), id(of_message, &one, &message(2)), "published twice");
        assert_eq!(id(of_message, &one, &message(1)), id(of_message, &two, &message(1)));
        assert_ne!(id(of_message, &one, &message(1)), id(of_event, &one, &message(1)));
    }

    #[test]
    fn a_work_queue_is_taken_from_its_first_message() {
        let queue = stream(Retention::WorkQueue);
        assert_eq!(start_at(&settings(Start::New), &queue, None), StartAt::First);
        assert_eq!(start_at(&settings(Start::New), &queue, Some(&floor("S", "now"))), StartAt::First);
    }
}
