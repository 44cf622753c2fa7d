//! `/v1/dlq`: dead letters, as `hookmill dlq` shows and redrives them.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::Admin;
use super::access::Caller;
use super::problem::{Checked, Code, Problem};
use crate::model::{Name, Reason, Timestamp};
use crate::nats::letters::{Letter, RedriveError, Selection, Take};
use crate::nats::{Looked, StoreError, Walk};

/// Most dead letters of one answer.
const PAGE_MAX: usize = 1000;
/// Most dead letters that are looked at for one answer.
const LOOKS_MAX: usize = 2000;

/// Which dead letters.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Of this pipeline.
    pipeline: Option<String>,
    /// Of this subscription; `_` is the pipeline as a whole.
    subscription: Option<String>,
    /// With this reason.
    #[param(example = "exhausted")]
    reason: Option<String>,
    /// About an event of this id.
    event: Option<String>,
    /// About an event of this source.
    source: Option<String>,
    /// About an event of this type.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    ty: Option<String>,
    /// Of a pipeline as a whole, from a subject that this pattern takes.
    #[param(example = "events.shop.>")]
    subject: Option<String>,
    /// Stored at least this long ago, as in `2h`.
    #[param(example = "2h")]
    older_than: Option<String>,
    /// Only those behind this sequence: `next` of the answer before.
    after: Option<u64>,
    /// Most dead letters of the answer, up to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// What a dead letter goes on with.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Take the original event again.
    #[serde(default)]
    rerun: bool,
}

/// Dead letters, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct LetterList {
    #[schema(value_type = Vec<DeadLetter>)]
    letters: Vec<Value>,
    /// `after` of the next question; none: this was the end. There may be more even where `letters` is short or empty.
    next: Option<u64>,
}

/// A dead letter, without what is in it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what Letter::summary makes; a test compares the two")]
pub(super) struct DeadLetter {
    /// Its sequence in the dead-letter stream: its name in this API.
    sequence: u64,
    #[schema(format = "date-time")]
    time: String,
    pipeline: String,
    /// `_`: the pipeline as a whole.
    subscription: String,
    /// A closed set; docs/dead-letters.md explains each.
    #[schema(example = "exhausted")]
    reason: String,
    error: String,
    /// HTTP status of the last answer.
    status: Option<u16>,
    attempts: Option<u32>,
    #[schema(format = "date-time")]
    first_attempt: Option<String>,
    delivery_id: Option<String>,
    /// The modules that have worked on it, the last one last; none where its task can't be read.
    modules: Option<Vec<String>>,
    event: Option<EventView>,
    /// What was mended of the event when it was admitted; docs/your-publisher.md explains each.
    #[schema(example = json!(["name_case"]))]
    mends: Option<Vec<String>>,
    source: Option<SourceView>,
    /// Where it goes on: `source`, `step/<n>` or `deliver`.
    resume: Option<String>,
    /// Size of its body.
    bytes: u64,
}

/// Which event it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
pub(super) struct EventView {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    /// Nobody has checked these texts: the message can't be read as an event, and this is what it says of itself. Empty where
    /// it says nothing.
    unverified: bool,
}

/// Where the event came from.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
pub(super) struct SourceView {
    stream: String,
    sequence: u64,
    /// Kept for a pipeline as a whole alone.
    subject: Option<String>,
}

/// A dead letter with headers and body.
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "as above")]
pub(super) struct WholeLetter {
    #[serde(flatten)]
    summary: DeadLetter,
    /// As the stream holds them.
    #[schema(value_type = Object)]
    headers: Value,
    /// Text, or `{"base64": …}` for bytes that are none.
    pub(super) body: Value,
}

/// What became of a dead letter.
#[derive(Serialize, ToSchema)]
pub(super) struct Redriven {
    sequence: u64,
    redriven: bool,
}

impl Filter {
    fn selection(&self) -> Result<(Selection, Option<Timestamp>), Problem> {
        let name = |text: &String| Name::new(text).map_err(|error| Problem::bad_request(error.to_string()));
        self.pipeline.as_ref().map(name).transpose()?;
        self.subscription.as_ref().filter(|text| *text != "_").map(name).transpose()?;
        let reason = self.reason.as_deref().map(|text| {
            Reason::parse(text).ok_or_else(|| {
                let all: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
                Problem::bad_request(format!("there is no reason {text:?}"))
                    .hint(format!("reasons are {}", all.join(", ")))
            })
        });
        let before = self.older_than.as_deref().map(|text| {
            let age = humantime::parse_duration(text);
            age.map(|age| Timestamp::now().minus(age)).map_err(|_| {
                Problem::bad_request(format!("older_than is {text:?}"))
                    .hint("a duration has units, as in 2h or 3d")
            })
        });
        let selection = Selection {
            pipeline: self.pipeline.clone(),
            subscription: self.subscription.clone(),
            reason: reason.transpose()?,
            event: self.event.clone(),
            source: self.source.clone(),
            ty: self.ty.clone(),
            subject: self.subject.clone(),
            sequences: Vec::new(),
        };
        Ok((selection, before.transpose()?))
    }
}

/// Dead letters, page by page
#[utoipa::path(get, path = "/v1/dlq", operation_id = "listDeadLetters", tag = "dead letters", params(Filter),
    responses((status = 200, description = "Dead letters, oldest first", body = LetterList)))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Checked(Query(filter)): Checked<Query<Filter>>,
) -> Result<Json<LetterList>, Problem> {
    let limit = filter.limit.unwrap_or(100);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is {limit}; give 1 to {PAGE_MAX}")));
    }
    let (selection, before) = filter.selection()?;
    let walk = Walk::new(&admin.nats, selection, before).await.map_err(|error| Problem::storage(&error))?;
    let mut walk = walk.from(filter.after.unwrap_or(0).saturating_add(1)).at_once(limit);
    let mut letters = Vec::new();
    for _ in 0..LOOKS_MAX {
        if letters.len() == limit {
            break;
        }
        match walk.look().await.map_err(|error| Problem::storage(&error))? {
            None => return Ok(Json(LetterList { letters, next: None })),
            Some(Looked::Meant(letter)) => letters.push(letter.summary()),
            Some(Looked::Other) => {}
        }
    }
    Ok(Json(LetterList { letters, next: Some(walk.position() - 1) }))
}

/// One dead letter, with all that is in it
#[utoipa::path(get, path = "/v1/dlq/{seq}", operation_id = "showDeadLetter", tag = "dead letters", params(("seq" = u64, Path, description = "Its sequence")),
    responses((status = 200, description = "The dead letter", body = WholeLetter),
        (status = 404, description = "There is no such dead letter", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Checked(Path(sequence)): Checked<Path<u64>>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(find(&admin, sequence).await?.put_together(&admin.nats).await))
}

/// Put a dead letter back into its lane
///
/// It goes on where it stopped, with its whole schedule of attempts. With `rerun` its original event is taken again from
/// the source stream, through today's schemas, filters and modules.
#[utoipa::path(post, path = "/v1/dlq/{seq}/redrive", operation_id = "redriveDeadLetter", tag = "dead letters", params(("seq" = u64, Path, description = "Its sequence"), How),
    responses((status = 200, description = "It is in its lane", body = Redriven),
        (status = 404, description = "There is no such dead letter", body = super::problem::Document, content_type = "application/problem+json"),
        (status = 409, description = "It can't be redriven, or its lane is full", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn redrive(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path(sequence)): Checked<Path<u64>>,
    Checked(Query(how)): Checked<Query<How>>,
) -> Result<Json<Redriven>, Problem> {
    let letter = find(&admin, sequence).await?;
    let take = if how.rerun { Take::Original } else { Take::Stored };
    admin.nats.redrive(&letter, take).await.map_err(|error| not_redriven(&error))?;
    if let Ok(pipeline) = Name::new(&letter.pipeline) {
        admin.nats.nudge_pipeline(&pipeline).await;
    }
    let (pipeline, subscription) = (&letter.pipeline, &letter.subscription);
    tracing::info!(token = caller.label(), sequence, pipeline, subscription, "a dead letter was redriven");
    Ok(Json(Redriven { sequence, redriven: true }))
}

fn not_redriven(error: &RedriveError) -> Problem {
    let refused = |hint| {
        let detail = crate::model::fault::chain(error);
        Problem::new(StatusCode::CONFLICT, Code::RedriveRefused, detail).hint(hint)
    };
    match error {
        RedriveError::NoBody | RedriveError::Parts(_) => refused("the event has to be published again"),
        RedriveError::Unreadable(error) if error.is_foreign() => {
            refused("it is no task, and nobody can deliver it: look who published it, then discard it")
        }
        RedriveError::Unreadable(_) => refused("a newer version of hookmill may be able to read it"),
        RedriveError::Aged { .. } | RedriveError::Headers(_) => {
            refused("redrive it without rerun, or publish the event again")
        }
        RedriveError::Store(StoreError::TooLarge) => {
            refused("raise max_payload of nats-server, and max_msg_size of the stream of lanes if it has one")
        }
        RedriveError::Store(StoreError::Refused(_)) => refused("try again once the lane has room"),
        RedriveError::Store(
            StoreError::WrongLast | StoreError::Unknown | StoreError::NoStream | StoreError::Forbidden,
        )
        | RedriveError::ReadParts(_)
        | RedriveError::Original(_)
        | RedriveError::NotRemoved(_) => Problem::storage(error),
    }
}

/// Discard a dead letter for good
#[utoipa::path(delete, path = "/v1/dlq/{seq}", operation_id = "discardDeadLetter", tag = "dead letters", params(("seq" = u64, Path, description = "Its sequence")),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "There is no such dead letter", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn discard(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path(sequence)): Checked<Path<u64>>,
) -> Result<StatusCode, Problem> {
    let letter = find(&admin, sequence).await?;
    admin.nats.discard(&letter).await.map_err(|error| Problem::storage(&error))?;
    let (pipeline, subscription) = (&letter.pipeline, &letter.subscription);
    tracing::info!(token = caller.label(), sequence, pipeline, subscription, "a dead letter was discarded");
    Ok(StatusCode::NO_CONTENT)
}

async fn find(admin: &Admin, sequence: u64) -> Result<Letter, Problem> {
    let letter = admin.nats.letter(sequence).await;
    letter.map_err(|error| Problem::storage(&error))?.ok_or_else(|| {
        let detail = format!("there is no dead letter {sequence}");
        Problem::new(StatusCode::NOT_FOUND, Code::LetterNotFound, detail)
            .hint("GET /v1/dlq, or `hookmill dlq list`, shows what there is")
            .with("sequence", json!(sequence))
    })
}
