//! `/v1/trace`: where an event is now, as `hookmill trace` shows it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Admin;
use super::problem::{Checked, Problem};
use crate::model::event::Reading;
use crate::nats::trace::{self, Kind, Wanted};

/// How far back source streams are looked through, unless another time is asked for.
const SINCE: Duration = Duration::from_hours(1);

/// Which event.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// The event's source, where several have this id.
    #[param(example = "/shop")]
    source: Option<String>,
    /// How far back source streams are looked through, `1h` if nothing is said. What a consumer has not settled is always looked at.
    #[param(example = "1h")]
    since: Option<String>,
}

/// Every place in which an event is.
#[derive(Serialize, ToSchema)]
pub(super) struct Trace {
    places: Vec<Place>,
    /// The source streams that were looked through, and from where on.
    looked: Vec<Looked>,
    /// Streams that pipelines take from and that are not there.
    missing: Vec<String>,
}

/// A source stream that was looked through.
#[derive(Serialize, ToSchema)]
pub(super) struct Looked {
    stream: String,
    /// The first sequence that it holds.
    first: u64,
    /// The first sequence that was looked at. What lies before it was only looked at where a task came from it.
    from: u64,
    /// Messages that were looked at, are no CloudEvents, and say no id by which they could be found.
    unread: u64,
}

/// A message of a source stream.
#[derive(Serialize, ToSchema)]
pub(super) struct TracedOrigin {
    stream: String,
    sequence: u64,
}

/// One place in which an event is, or what was made of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Place {
    /// `source`, `wait`, `due`, `lane` or `dead_letter`.
    #[schema(value_type = String, example = "wait")]
    kind: Kind,
    stream: String,
    sequence: u64,
    /// Stored there at this time.
    #[schema(format = "date-time")]
    since: String,
    /// The event; of a task the one that its steps have made of it.
    event: TracedEvent,
    /// The message that it came with.
    origin: TracedOrigin,
    /// None where no pipeline takes it from the source.
    pipeline: Option<String>,
    /// `_`: the pipeline as a whole; none in a source.
    subscription: Option<String>,
    /// In a source `pending` (it will be taken in its turn), `taken` (it is worked on, settled by now, or taken again soon), `settled`
    /// (each subscription that wanted it has had its end, or holds it in another place), `before_start` (it was there before the
    /// pipeline began), `not_its_subject` (no pipeline of the stream has its subject, or had it at its turn) or `unknown`. `parked`
    /// for a wait of a pipeline that is being renamed; a lane's state and why; a dead letter's reason, none if a newer version has
    /// coined it.
    state: Option<String>,
    /// Why the state is `unknown`.
    why: Option<String>,
    /// When a wait falls due: for its next attempt, or, while an attempt runs, because nothing was heard of that.
    #[schema(format = "date-time")]
    until: Option<String>,
    /// What the tolerant reading mends of the message; of a task what was mended when it was admitted. docs/your-publisher.md
    /// explains each.
    #[schema(value_type = Vec<String>, example = json!(["name_case"]))]
    mends: Vec<&'static str>,
    /// How the pipeline reads now, in a source: `tolerant`, or `strict`, which refuses what the other mends; none where no engine
    /// of this version has run it.
    #[schema(value_type = Option<String>, example = "tolerant")]
    reading: Option<Reading>,
    /// Attempts that were begun.
    attempts: Option<u32>,
    /// What the last of them met.
    last_error: Option<String>,
    /// The HTTP status of that.
    status: Option<u16>,
    /// The `webhook-id`.
    delivery_id: Option<String>,
    /// Where it goes on: `source`, `step/<n>` or `deliver`.
    resume: Option<String>,
    /// The modules that have worked on it, with version and digest, the last one last.
    modules: Vec<String>,
}

/// Which event it is.
#[derive(Serialize, ToSchema)]
pub(super) struct TracedEvent {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    /// Nobody has checked these texts: the message can't be read as an event, and this is what it says of itself.
    unverified: bool,
}

impl From<trace::Place> for Place {
    fn from(place: trace::Place) -> Self {
        let trace::EventView { id, source, ty, unverified } = place.event;
        let trace::Origin { stream, sequence } = place.origin;
        Self {
            kind: place.kind,
            stream: place.stream,
            sequence: place.sequence,
            since: place.since.to_string(),
            event: TracedEvent { id, source, kind: ty, unverified },
            origin: TracedOrigin { stream, sequence },
            pipeline: place.pipeline,
            subscription: place.subscription,
            state: place.state,
            why: place.why,
            until: place.until.map(|until| until.to_string()),
            mends: place.mends,
            reading: place.reading,
            attempts: place.attempts,
            last_error: place.last_error,
            status: place.status,
            delivery_id: place.delivery_id,
            resume: place.resume,
            modules: place.modules,
        }
    }
}

/// Where an event is now
///
/// Read from the streams: sources, waits, lanes and dead letters. What was delivered or filtered has left nothing but its
/// message in the source, and neither has a dead letter that was discarded or redriven, or has aged out. Places that are read
/// one after the other may show a task twice that moves meanwhile.
#[utoipa::path(get, path = "/v1/trace/{event}", operation_id = "traceEvent", tag = "events",
    params(("event" = String, Path, description = "The event's id, percent-encoded"), Filter),
    responses((status = 200, description = "Every place in which it was found", body = Trace)))]
pub(super) async fn trace(
    State(admin): State<Arc<Admin>>,
    Checked(Path(id)): Checked<Path<String>>,
    Checked(Query(filter)): Checked<Query<Filter>>,
) -> Result<Json<Trace>, Problem> {
    let since = filter.since.as_deref().map_or(Ok(SINCE), humantime::parse_duration);
    let since = since.map_err(|error| {
        Problem::bad_request(format!("since is no duration: {error}")).hint("write it as 30m, 12h or 7d")
    })?;
    let wanted = Wanted { id, source: filter.source, since };
    let _one_at_a_time = admin.tracing.lock().await;
    let traced = trace::trace(&admin.nats, &admin.registry, &wanted).await;
    let traced = traced.map_err(|error| Problem::storage(&error))?;
    let looked = traced.looked.into_iter();
    let looked =
        looked.map(|trace::Looked { stream, first, from, unread }| Looked { stream, first, from, unread });
    let (places, missing) = (traced.places.into_iter().map(Place::from).collect(), traced.missing);
    Ok(Json(Trace { places, looked: looked.collect(), missing }))
}
