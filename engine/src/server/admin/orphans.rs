//! `/v1/lanes/…/adopt` and `/dead-letter`: what a lane holds whose subscription is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::access::Caller;
use super::problem::{Checked, Code, Problem};
use super::{Admin, Sent};
use crate::model::fault::chain;
use crate::nats::orphans::{self, Fate, LaneName, OwnedError};

/// Longest time that one request moves tasks; less than requests may take.
const MOVE_MAX: Duration = Duration::from_secs(20);

/// Who takes over.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdoptRequest {
    /// `PIPELINE/SUBSCRIPTION`.
    #[schema(example = "orders/warehouse")]
    into: String,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// How.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterRequest {
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// How far a move has got.
#[derive(Serialize, ToSchema)]
pub(super) struct Moves {
    /// Tasks that were moved; with `dry_run`: that could be.
    moved: u64,
    /// Tasks that stay where they are, each for a reason of its own.
    stays: u64,
    /// Why the first of these stays, or why the move stopped.
    problem: Option<String>,
    /// Whether all was looked at. If not, and nothing is the matter, time was up: ask again.
    done: bool,
    dry_run: bool,
}

/// Move what an orphaned lane holds into another lane
///
/// Tasks in the lane, waits and what is due, with their whole schedule. Each is stored there before it is removed here. A
/// request moves for 20 seconds at most: ask again until it is done.
#[utoipa::path(post, path = "/v1/lanes/{pipeline}/{subscription}/adopt", operation_id = "adoptLane", tag = "lanes",
    params(("pipeline" = String, Path, description = "The pipeline"), ("subscription" = String, Path, description = "The subscription that is gone; `_`: the pipeline as a whole")),
    request_body = AdoptRequest,
    responses((status = 200, description = "How far it has got", body = Moves),
        (status = 409, description = "The lane is no orphan, or nobody is there to adopt it", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn adopt(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path(lane)): Checked<Path<(String, String)>>,
    Sent(request): Sent<AdoptRequest>,
) -> Result<Json<Moves>, Problem> {
    let AdoptRequest { into, dry_run } = request.ok_or_else(|| {
        Problem::bad_request("the body is empty")
            .hint("say who adopts, as in {\"into\":\"orders/warehouse\"}")
    })?;
    let into = LaneName::parse(&into).ok_or_else(|| {
        Problem::bad_request(format!("into is {into:?}")).hint("a lane is PIPELINE/SUBSCRIPTION")
    })?;
    relocate(&admin, &caller, &lane, &Fate::Adopted(into), dry_run).await
}

/// Move what an orphaned lane holds to the dead letters
///
/// With the reason `config`. A request moves for 20 seconds at most: ask again until it is done.
#[utoipa::path(post, path = "/v1/lanes/{pipeline}/{subscription}/dead-letter", operation_id = "deadLetterLane", tag = "lanes",
    params(("pipeline" = String, Path, description = "The pipeline"), ("subscription" = String, Path, description = "The subscription that is gone; `_`: the pipeline as a whole")),
    request_body = Option<DeadLetterRequest>,
    responses((status = 200, description = "How far it has got", body = Moves),
        (status = 409, description = "The lane is no orphan", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn dead_letter(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path(lane)): Checked<Path<(String, String)>>,
    Sent(request): Sent<DeadLetterRequest>,
) -> Result<Json<Moves>, Problem> {
    relocate(&admin, &caller, &lane, &Fate::DeadLettered, request.unwrap_or_default().dry_run).await
}

async fn relocate(
    admin: &Admin,
    caller: &Caller,
    (pipeline, subscription): &(String, String),
    fate: &Fate,
    dry_run: bool,
) -> Result<Json<Moves>, Problem> {
    let until = Instant::now() + MOVE_MAX;
    let from = LaneName::new(pipeline, subscription);
    let from = from.map_err(|error| Problem::bad_request(error.to_string()))?;
    let may = orphans::may_move(&admin.nats, &admin.registry, &from, fate).await;
    may.map_err(|error| not_moved(&error))?;
    let go_on = AtomicBool::new(true);
    let mut moves = Moves { moved: 0, stays: 0, problem: None, done: false, dry_run };
    let mut worked = std::pin::pin!(orphans::moves(&admin.nats, &from, fate, &go_on, dry_run));
    while let Ok(next) = timeout_at(until, worked.try_next()).await {
        match next {
            Ok(Some((_, Ok(())))) => moves.moved += 1,
            Ok(Some((_, Err(error)))) => {
                moves.stays += 1;
                if !error.is_of_this_one() || moves.problem.is_none() {
                    moves.problem = Some(chain(&error));
                }
            }
            Ok(None) => {
                moves.done = go_on.load(Ordering::Relaxed);
                break;
            }
            Err(error) if moves.moved == 0 => return Err(Problem::storage(&error)),
            Err(error) => {
                moves.problem = Some(chain(&error));
                break;
            }
        }
    }
    if let Fate::Adopted(into) = fate {
        admin.nats.nudge_pipeline(&into.pipeline).await;
    }
    let (lane, moved, stays, done) = (from.to_string(), moves.moved, moves.stays, moves.done);
    tracing::info!(
        token = caller.label(),
        lane,
        ?fate,
        moved,
        stays,
        done,
        dry_run,
        "what an orphaned lane held was moved"
    );
    Ok(Json(moves))
}

fn not_moved(error: &OwnedError) -> Problem {
    match error.hint() {
        Some(hint) => Problem::new(StatusCode::CONFLICT, Code::LaneOwned, chain(error)).hint(hint),
        None => Problem::storage(error),
    }
}
