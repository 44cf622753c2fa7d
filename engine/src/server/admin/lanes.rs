//! `/v1/lanes`: lanes, as `hookmill lane` shows, pauses and resumes them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::Caller;
use super::modules::one_line;
use super::problem::{Checked, Code, Problem};
use super::{Admin, Sent};
use crate::model::Name;
use crate::nats::lanes::{self, Files, Known, LaneView};

/// Lanes, by name.
#[derive(Serialize, ToSchema)]
pub(super) struct LaneList {
    lanes: Vec<Lane>,
}

/// The lane of a subscription.
#[derive(Serialize, ToSchema)]
pub(super) struct Lane {
    pipeline: String,
    /// `_`: tasks for the pipeline as a whole.
    subscription: String,
    /// `active` (nothing is noted that stops it), `open` (its endpoint fails), `paused`, `disabled` (its endpoint is gone), `unreadable` (it holds a task of a
    /// newer version), `misconfigured` (a secret, URL or header value has no usable value: it goes on by itself once that is
    /// mended) or `orphaned` (this engine has no such subscription).
    #[schema(example = "active")]
    state: String,
    /// Why, if it is not active.
    why: String,
    /// Tasks in the lane.
    backlog: u64,
    /// Tasks that wait for a retry or are due, and attempts that have run for more than a second.
    waiting: u64,
    /// When the oldest of these was stored there; looked up for the 256 lanes that hold most.
    #[schema(example = "2026-11-24T03:00:00Z")]
    oldest: Option<String>,
    /// What an engine, or the oldest task, met last.
    last_error: Option<String>,
    /// When an open lane is probed next.
    next_probe: Option<String>,
}

/// Why a lane is paused.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseRequest {
    /// For those who meet it: one line of at most 500 characters.
    #[schema(max_length = 500, example = "the endpoint moves house")]
    why: Option<String>,
}

impl From<LaneView> for Lane {
    fn from(view: LaneView) -> Self {
        let state = view.state.to_owned();
        let LaneView {
            pipeline, subscription, why, backlog, waiting, oldest, last_error, next_probe, ..
        } = view;
        Self { pipeline, subscription, state, why, backlog, waiting, oldest, last_error, next_probe }
    }
}

async fn all(admin: &Admin) -> Result<Vec<LaneView>, Problem> {
    let lanes = admin.engine.get().map(|engine| engine.lane_names()).unwrap_or_default();
    let known = Known { lanes, files: Files::OfThisEngine, ..Known::default() };
    let views = lanes::view(&admin.nats, &admin.registry, &known).await;
    views.map_err(|error| Problem::storage(&error))
}

/// Every lane with its state, backlog and waits
#[utoipa::path(get, path = "/v1/lanes", operation_id = "listLanes", tag = "lanes",
    responses((status = 200, description = "The lanes of this engine's pipelines, and those that something waits in", body = LaneList)))]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<LaneList>, Problem> {
    let lanes = all(&admin).await?.into_iter().map(Lane::from).collect();
    Ok(Json(LaneList { lanes }))
}

/// Stop the attempts of a lane
///
/// Its tasks wait in it, in every engine, until it is resumed.
#[utoipa::path(post, path = "/v1/lanes/{pipeline}/{subscription}/pause", operation_id = "pauseLane", tag = "lanes",
    params(("pipeline" = String, Path, description = "The pipeline"), ("subscription" = String, Path, description = "The subscription")),
    request_body = Option<PauseRequest>,
    responses((status = 200, description = "The lane, paused", body = Lane),
        (status = 404, description = "There is no such lane", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn pause(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path(lane)): Checked<Path<(String, String)>>,
    Sent(request): Sent<PauseRequest>,
) -> Result<Json<Lane>, Problem> {
    let why = request.and_then(|request| request.why);
    let why = why.as_deref().map(|why| one_line(why, "why")).transpose()?.unwrap_or("paused by hand");
    let (pipeline, subscription) = find(&admin, &lane).await?;
    let paused = lanes::pause(&admin.registry, &pipeline, &subscription, why).await;
    paused.map_err(|error| Problem::storage(&error))?;
    tracing::info!(token = caller.label(), %pipeline, %subscription, "a lane was paused");
    now(&admin, &lane).await
}

/// Start the attempts of a lane again
///
/// Whatever stopped them: a pause, an open circuit, or an endpoint that was gone. A misconfigured lane rests until it is mended.
#[utoipa::path(post, path = "/v1/lanes/{pipeline}/{subscription}/resume", operation_id = "resumeLane", tag = "lanes",
    params(("pipeline" = String, Path, description = "The pipeline"), ("subscription" = String, Path, description = "The subscription")),
    responses((status = 200, description = "The lane, active", body = Lane),
        (status = 404, description = "There is no such lane", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn resume(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path(lane)): Checked<Path<(String, String)>>,
) -> Result<Json<Lane>, Problem> {
    let (pipeline, subscription) = find(&admin, &lane).await?;
    let resumed = lanes::resume(&admin.registry, &pipeline, &subscription).await;
    resumed.map_err(|error| Problem::storage(&error))?;
    tracing::info!(token = caller.label(), %pipeline, %subscription, "a lane was resumed");
    now(&admin, &lane).await
}

/// The names of a lane that there is.
async fn find(admin: &Admin, lane: &(String, String)) -> Result<(Name, Name), Problem> {
    let name = |text: &String| Name::new(text).map_err(|error| Problem::bad_request(error.to_string()));
    let names = (name(&lane.0)?, name(&lane.1)?);
    now(admin, lane).await.map(|_| names)
}

async fn now(admin: &Admin, (pipeline, subscription): &(String, String)) -> Result<Json<Lane>, Problem> {
    let mut views = all(admin).await?.into_iter();
    let view = views.find(|view| view.pipeline == *pipeline && view.subscription == *subscription);
    view.map(|view| Json(view.into())).ok_or_else(|| not_found(pipeline, subscription))
}

fn not_found(pipeline: &str, subscription: &str) -> Problem {
    let detail = format!("there is no lane {pipeline}/{subscription}");
    Problem::new(StatusCode::NOT_FOUND, Code::LaneNotFound, detail)
        .hint("GET /v1/lanes, or `hookmill lane list`, shows what there is")
}
