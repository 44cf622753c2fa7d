//! `/v1/modules`: what the registry holds.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::{IntoParams, ToSchema};

use super::access::Caller;
use super::problem::{Checked, Code, Problem};
use super::{Admin, Sent};
use crate::model::{Name, Version};
use crate::nats::modules::{ModulesError, Record, Use};

/// Most modules of one answer.
const PAGE_MAX: usize = 1000;
/// Longest reason of a yank, in characters.
const WHY_CHARS_MAX: usize = 500;
/// Bytes of a module that are handed on at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Which part of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Only modules whose names come after this one: `next` of the answer before.
    after: Option<String>,
    /// Most modules of the answer, up to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Modules, by name.
#[derive(Serialize, ToSchema)]
pub(super) struct ModuleList {
    modules: Vec<Module>,
    /// `after` of the next question; none: this was the end.
    next: Option<String>,
}

/// A module with its versions.
#[derive(Serialize, ToSchema)]
pub(super) struct Module {
    #[schema(example = "redact")]
    name: String,
    /// What its newest version says about itself.
    description: String,
    /// Newest first.
    versions: Vec<VersionSummary>,
}

/// One version, in short.
#[derive(Serialize, ToSchema)]
pub(super) struct VersionSummary {
    #[schema(example = "1.4.2")]
    version: String,
    /// SHA-256 over the bytes as they were uploaded.
    #[schema(example = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    digest: String,
    bytes: u64,
    #[schema(format = "date-time")]
    stored: String,
    yanked: Option<Yanked>,
}

/// When and why a version was yanked: no range chooses it any more.
#[derive(Serialize, ToSchema)]
pub(super) struct Yanked {
    #[schema(format = "date-time")]
    at: String,
    why: String,
}

/// Everything about one version.
#[derive(Serialize, ToSchema)]
pub(super) struct ModuleVersion {
    #[schema(example = "redact")]
    name: String,
    #[serde(flatten)]
    summary: VersionSummary,
    /// What the module says about itself.
    description: String,
    /// What it exports.
    exports: Vec<String>,
    /// What it imports.
    imports: Vec<String>,
    /// How long compiling it took when it was first compiled, in milliseconds.
    compile_ms: Option<u64>,
    /// JSON Schema of its settings, if it has one.
    #[schema(value_type = Option<Object>)]
    settings_schema: Value,
    /// Names of the samples that it carries.
    samples: Vec<String>,
    /// What counts where a pipeline file is silent: `timeout`, `memory`, `output`.
    #[schema(value_type = Object)]
    limits: Value,
    /// Which steps of which engines run it.
    uses: Vec<UseView>,
}

/// A step of an engine that is alive.
#[derive(Serialize, ToSchema)]
pub(super) struct UseView {
    pipeline: String,
    subscription: String,
    /// Counted from 0.
    step: u16,
    engine: String,
    /// As the pipeline file writes it.
    #[schema(example = "redact@1")]
    reference: String,
    version: Option<String>,
    digest: String,
    /// Why the engine doesn't run what the reference means now.
    last_error: Option<String>,
}

/// Why a version is yanked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct YankRequest {
    /// For those who meet it: one line of at most 500 characters.
    #[schema(min_length = 1, max_length = 500, example = "drops the last line")]
    why: String,
}

impl From<&Record> for VersionSummary {
    fn from(record: &Record) -> Self {
        Self {
            version: record.version.to_string(),
            digest: record.digest.to_string(),
            bytes: record.bytes,
            stored: record.stored.to_string(),
            yanked: record
                .yanked
                .as_ref()
                .map(|yanked| Yanked { at: yanked.at.to_string(), why: yanked.why.clone() }),
        }
    }
}

impl From<Use> for UseView {
    fn from(one: Use) -> Self {
        Self {
            pipeline: one.pipeline.to_string(),
            subscription: one.subscription.to_string(),
            step: one.step,
            engine: one.engine,
            reference: one.reference,
            version: one.version.map(|version| version.to_string()),
            digest: one.digest.to_string(),
            last_error: one.last_error,
        }
    }
}

impl ModuleVersion {
    /// `about` is what [`super::upload`] wrote; one that another version wrote may lack parts.
    pub(super) fn new(record: &Record, uses: Vec<Use>) -> Self {
        let about = &record.about;
        let texts = |key: &str| {
            let list = about[key].as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let uses = uses.into_iter().filter(|one| {
            one.name().as_ref() == Some(&record.name)
                && (one.version.as_ref() == Some(&record.version)
                    || (one.version.is_none() && one.digest == record.digest))
        });
        Self {
            name: record.name.to_string(),
            summary: record.into(),
            description: description(record),
            exports: texts("exports"),
            imports: texts("imports"),
            compile_ms: about["compile_ms"].as_u64(),
            settings_schema: about["settings"].clone(),
            samples: texts("samples"),
            limits: if about["limits"].is_object() { about["limits"].clone() } else { json!({}) },
            uses: uses.map(UseView::from).collect(),
        }
    }
}

fn description(record: &Record) -> String {
    record.about["description"].as_str().unwrap_or_default().to_owned()
}

/// All modules with their versions
#[utoipa::path(get, path = "/v1/modules", operation_id = "listModules", tag = "modules", params(Page),
    responses((status = 200, description = "Modules by name, as far as the token is for them", body = ModuleList)))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Query(page)): Checked<Query<Page>>,
) -> Result<Json<ModuleList>, Problem> {
    let limit = page.limit.unwrap_or(100);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is {limit}; give 1 to {PAGE_MAX}")));
    }
    let mut records = admin.modules.names().await.map_err(problem_of)?;
    records.retain(|record| {
        caller.sees(&record.name) && page.after.as_deref().is_none_or(|after| record.name.as_str() > after)
    });
    let by_name = records.chunk_by(|one, other| one.name == other.name);
    let mut modules: Vec<Module> = by_name.take(limit + 1).filter_map(module).collect();
    let next = (modules.len() > limit).then(|| modules.truncate(limit));
    let next = next.and_then(|()| modules.last()).map(|last| last.name.clone());
    Ok(Json(ModuleList { modules, next }))
}

/// Versions of one module, oldest first, as they are shown.
fn module(versions: &[Record]) -> Option<Module> {
    let newest = versions.last()?;
    Some(Module {
        name: newest.name.to_string(),
        description: description(newest),
        versions: versions.iter().rev().map(VersionSummary::from).collect(),
    })
}

/// All versions of a module
#[utoipa::path(get, path = "/v1/modules/{name}", operation_id = "showModule", tag = "modules",
    params(("name" = String, Path, description = "The module's name")),
    responses((status = 200, description = "The module", body = Module),
        (status = 404, description = "No module has this name", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn versions(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path(name)): Checked<Path<String>>,
) -> Result<Json<Module>, Problem> {
    let name = name_of(&caller, &name)?;
    let versions = admin.modules.versions(&name).await.map_err(problem_of)?;
    module(&versions).map(Json).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, Code::ModuleNotFound, format!("there is no module {name}"))
            .hint("GET /v1/modules, or `hookmill module list`, shows what there is")
    })
}

/// Everything about one version
#[utoipa::path(get, path = "/v1/modules/{name}/{version}", operation_id = "showVersion", tag = "modules",
    params(("name" = String, Path, description = "The module's name"), ("version" = String, Path, description = "The version, as in 1.4.2")),
    responses((status = 200, description = "The version", body = ModuleVersion),
        (status = 404, description = "There is no such version", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path((name, version))): Checked<Path<(String, String)>>,
) -> Result<Json<ModuleVersion>, Problem> {
    let record = find(&admin, &caller, &name, &version).await?;
    let uses = admin.modules.uses().await.map_err(problem_of)?;
    Ok(Json(ModuleVersion::new(&record, uses)))
}

/// The bytes of a version
#[utoipa::path(get, path = "/v1/modules/{name}/{version}/wasm", operation_id = "downloadVersion", tag = "modules",
    params(("name" = String, Path, description = "The module's name"), ("version" = String, Path, description = "The version, as in 1.4.2")),
    responses((status = 200, description = "The bytes as they were uploaded; `ETag` is their digest", body = Vec<u8>, content_type = "application/wasm",
            headers(("ETag" = String, description = "`\"sha256:…\"`"))),
        (status = 404, description = "There is no such version", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn wasm(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path((name, version))): Checked<Path<(String, String)>>,
) -> Result<Response, Problem> {
    let record = find(&admin, &caller, &name, &version).await?;
    let place = admin.uploads.download().await?;
    let bytes = admin.modules.bytes(&record.digest).await.map_err(problem_of)?;
    let bytes = bytes.ok_or_else(|| not_found(&record.name, &record.version))?;
    let headers = [
        (CONTENT_TYPE, "application/wasm".to_owned()),
        (CONTENT_LENGTH, bytes.len().to_string()),
        (ETAG, format!("\"{}\"", record.digest)),
        (CACHE_CONTROL, "private, no-cache".to_owned()),
    ];
    Ok((headers, in_pieces(bytes, place)).into_response())
}

/// A body that holds its place until the last piece is taken.
fn in_pieces(bytes: Bytes, place: OwnedSemaphorePermit) -> Body {
    Body::from_stream(stream::unfold((bytes, place), async |(mut bytes, place)| {
        let piece = bytes.split_to(bytes.len().min(CHUNK_BYTES));
        (!piece.is_empty()).then_some((Ok::<_, std::convert::Infallible>(piece), (bytes, place)))
    }))
}

/// Take a version out of use
///
/// Ranges such as `redact@1` choose it no more; engines that follow one change to the next best version. Exact references
/// still load it, with a warning. Yanking again changes nothing.
#[utoipa::path(post, path = "/v1/modules/{name}/{version}/yank", operation_id = "yankVersion", tag = "modules",
    params(("name" = String, Path, description = "The module's name"), ("version" = String, Path, description = "The version, as in 1.4.2")),
    request_body = YankRequest,
    responses((status = 200, description = "The version, yanked", body = ModuleVersion),
        (status = 404, description = "There is no such version", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn yank(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path((name, version))): Checked<Path<(String, String)>>,
    request: Result<Sent<YankRequest>, Problem>,
) -> Result<Json<ModuleVersion>, Problem> {
    // Who may not see the module learns nothing about the body.
    let (name, version) = (name_of(&caller, &name)?, version_of(&version)?);
    let Sent(request) = request?;
    let why = request.map(|request| request.why).unwrap_or_default();
    let why = one_line(&why, "why")?;
    let record = admin.modules.yank(&name, &version, why).await.map_err(problem_of)?;
    tracing::info!(token = caller.label(), %name, %version, "a version of a module was yanked");
    let uses = admin.modules.uses().await.map_err(problem_of)?;
    Ok(Json(ModuleVersion::new(&record, uses)))
}

/// A reason as a person gave it.
pub(super) fn one_line<'t>(text: &'t str, key: &str) -> Result<&'t str, Problem> {
    let text = text.trim();
    let fine = (1..=WHY_CHARS_MAX).contains(&text.chars().count()) && !text.contains(char::is_control);
    let detail = || format!("{key} has to be one line of 1 to {WHY_CHARS_MAX} characters");
    if fine { Ok(text) } else { Err(Problem::bad_request(detail())) }
}

/// Delete a version that no engine uses
///
/// The version stays taken: no other bytes can be uploaded under it.
#[utoipa::path(delete, path = "/v1/modules/{name}/{version}", operation_id = "deleteVersion", tag = "modules",
    params(("name" = String, Path, description = "The module's name"), ("version" = String, Path, description = "The version, as in 1.4.2")),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "There is no such version", body = super::problem::Document, content_type = "application/problem+json"),
        (status = 409, description = "Engines use it; `uses` says which", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path((name, version))): Checked<Path<(String, String)>>,
) -> Result<StatusCode, Problem> {
    let (name, version) = (name_of(&caller, &name)?, version_of(&version)?);
    admin.modules.delete(&name, &version).await.map_err(problem_of)?;
    tracing::info!(token = caller.label(), %name, %version, "a version of a module was deleted");
    Ok(StatusCode::NO_CONTENT)
}

async fn find(admin: &Admin, caller: &Caller, name: &str, version: &str) -> Result<Record, Problem> {
    let (name, version) = (name_of(caller, name)?, version_of(version)?);
    let record = admin.modules.get(&name, &version).await.map_err(problem_of)?;
    record.ok_or_else(|| not_found(&name, &version))
}

/// A name that the caller may use.
pub(super) fn name_of(caller: &Caller, text: &str) -> Result<Name, Problem> {
    let name = Name::new(text).map_err(|error| Problem::bad_request(error.to_string()))?;
    caller.may_touch(&name)?;
    Ok(name)
}

pub(super) fn version_of(text: &str) -> Result<Version, Problem> {
    Version::parse(text).map_err(|error| {
        Problem::bad_request(error.to_string()).hint("a version is three numbers, as in 1.4.2 or 1.4.2-rc.1")
    })
}

fn not_found(name: &Name, version: &Version) -> Problem {
    let detail = format!("there is no {name}@{version} in the registry");
    Problem::new(StatusCode::NOT_FOUND, Code::ModuleNotFound, detail)
        .hint(format!("GET /v1/modules/{name}, or `hookmill module show {name}`, shows its versions"))
}

/// What an error of the registry is to a client.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn problem_of(error: ModulesError) -> Problem {
    let conflict = |code| Problem::new(StatusCode::CONFLICT, code, error.to_string());
    match &error {
        ModulesError::Conflict { digest, .. } => conflict(Code::VersionTaken)
            .hint("raise the version, and upload under that")
            .with("digest", json!(digest)),
        ModulesError::NotFound { name, version } => not_found(name, version),
        ModulesError::InUse(uses) => {
            let uses: Vec<UseView> = uses.iter().cloned().map(UseView::from).collect();
            conflict(Code::ModuleInUse)
                .hint("take it out of these pipelines first, or yank it: then ranges leave it")
                .with("uses", json!(uses))
        }
        ModulesError::Busy { .. } => {
            let detail = error.to_string();
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::Busy, detail)
                .retry_after(std::time::Duration::from_secs(1))
                .hint("try again")
        }
        ModulesError::Streams(_)
        | ModulesError::Object { .. }
        | ModulesError::Damaged { .. }
        | ModulesError::Read(_)
        | ModulesError::Write { .. }
        | ModulesError::Record { .. }
        | ModulesError::Watch(_) => {
            tracing::warn!(
                error = crate::model::fault::chain(&error),
                "the registry of modules can't be used"
            );
            Problem::storage(&error)
        }
    }
}
