//! `PUT /v1/modules/{name}/{version}`: a module is taken piece by piece, checked, and only then stored.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::Admin;
use super::access::Caller;
use super::modules::{ModuleVersion, name_of, problem_of, version_of};
use super::problem::{Checked, Code, Problem};
use crate::model::fault::chain;
use crate::model::{Digest, Name, Version, size};
use crate::nats::modules::{ModulesError, Put};
use crate::transform::{Facts, Host, Metadata, Module, ModuleError};

/// Uploads that are in memory at once.
const RECEIVING_MAX: usize = 4;
/// Downloads that are in memory at once.
const SENDING_MAX: usize = 8;
/// How long one waits for its turn to be received or sent.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one waits for its turn to be compiled: that is done one at a time.
const COMPILE_TURN_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest pause within a body.
const PIECE_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest time for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_mins(5);
/// When to send again what the compiler could not be asked about.
const COMPILER_WAIT: Duration = Duration::from_secs(5);

/// What bounds uploads and downloads.
pub(super) struct Uploads {
    host: Arc<Host>,
    receiving: Arc<Semaphore>,
    sending: Arc<Semaphore>,
    compiling: Arc<Semaphore>,
    /// Checks that go on although whoever asked has gone.
    running: TaskTracker,
}

impl Uploads {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            receiving: Arc::new(Semaphore::new(RECEIVING_MAX)),
            sending: Arc::new(Semaphore::new(SENDING_MAX)),
            compiling: Arc::new(Semaphore::new(1)),
            running: TaskTracker::new(),
        }
    }

    /// A place for one more download.
    pub(super) async fn download(&self) -> Result<OwnedSemaphorePermit, Problem> {
        turn(&self.sending, TURN_TIMEOUT, "downloads run").await
    }
}

async fn turn(places: &Arc<Semaphore>, limit: Duration, what: &str) -> Result<OwnedSemaphorePermit, Problem> {
    let place = timeout(limit, Arc::clone(places).acquire_owned()).await;
    let place = place.map_err(|_| {
        let detail = format!("as many {what} as there may be at once, and none ended within {limit:?}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::Busy, detail)
            .retry_after(Duration::from_secs(10))
            .hint("try again")
    })?;
    Ok(place.expect("nothing closes this semaphore"))
}

/// Upload a module
///
/// The body is a WebAssembly component, or a core module that was built with wit-bindgen. It is checked before it is stored:
/// that it compiles, exports the contract, and imports nothing but the contract and WASI 0.2 with nothing behind it.
#[utoipa::path(put, path = "/v1/modules/{name}/{version}", operation_id = "uploadVersion", tag = "modules",
    params(("name" = String, Path, description = "The module's name: 1 to 48 of a-z, 0-9 and -"),
        ("version" = String, Path, description = "Three numbers, as in 1.4.2; what was uploaded under one never changes")),
    request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses((status = 201, description = "It is stored", body = ModuleVersion),
        (status = 200, description = "The same bytes were there before", body = ModuleVersion),
        (status = 408, description = "The body stopped", body = super::problem::Document, content_type = "application/problem+json"),
        (status = 409, description = "Other bytes have this version; `digest` says which", body = super::problem::Document, content_type = "application/problem+json"),
        (status = 413, description = "It is too large", body = super::problem::Document, content_type = "application/problem+json"),
        (status = 415, description = "It is no WebAssembly, or precompiled", body = super::problem::Document, content_type = "application/problem+json"),
        (status = 422, description = "It is WebAssembly, but no transform", body = super::problem::Document, content_type = "application/problem+json")))]
pub(super) async fn upload(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Checked(Path((name, version))): Checked<Path<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (name, version) = (name_of(&caller, &name)?, version_of(&version)?);
    check_kind(&headers)?;
    let max = admin.uploads.host.settings().module_bytes_max;
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > max as u64) {
        return Err(too_large(max));
    }
    let received = turn(&admin.uploads.receiving, TURN_TIMEOUT, "modules are being received").await?;
    let bytes = receive(body, max).await?;
    // Asked before the costly part; what counts is what the registry says when it stores.
    if let Some(there) = admin.modules.get(&name, &version).await.map_err(problem_of)? {
        let digest = Digest::of(&bytes);
        if there.digest != digest {
            let (digest, deleted) = (there.digest, false);
            return Err(problem_of(ModulesError::Conflict { name, version, digest, deleted }));
        }
    }
    let compiling = turn(&admin.uploads.compiling, COMPILE_TURN_TIMEOUT, "modules are compiled").await?;
    let task = {
        let admin = Arc::clone(&admin);
        async move {
            let stored = check_and_store(&admin, &caller, &name, &version, bytes).await;
            drop((compiling, received));
            stored
        }
    };
    // On its own, so that a client that goes away doesn't let the next one compile beside it.
    admin.uploads.running.spawn(task).await.unwrap_or_else(|_| Err(broken()))
}

/// A module is sent as one, or as bytes.
fn check_kind(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
    let Some(kind) = kind else { return Ok(()) };
    let bare = kind.split(';').next().unwrap_or_default().trim();
    if ["application/wasm", "application/octet-stream"].iter().any(|fine| bare.eq_ignore_ascii_case(fine)) {
        return Ok(());
    }
    let detail = format!("the body is {bare:?}, not application/wasm");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::MediaType, detail)
        .hint("send Content-Type: application/wasm"))
}

fn too_large(max: usize) -> Problem {
    let detail = format!("the module is larger than {}, the most that is taken", size::text(max as u64));
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Code::BodyTooLarge, detail)
        .hint("strip debug information, or build for size")
}

fn broken() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, Code::ModuleInvalid, "the check of this module broke off")
        .hint("the engine's log says more; please report it with the module")
}

/// Reads a body of at most `max` bytes.
async fn receive(body: Body, max: usize) -> Result<Bytes, Problem> {
    let stalled = |after: Duration| {
        let detail = format!("the body did not go on within {after:?}");
        Problem::new(StatusCode::REQUEST_TIMEOUT, Code::UploadStalled, detail).hint("send it again")
    };
    let (mut pieces, mut whole) = (body.into_data_stream(), BytesMut::new());
    let deadline = Instant::now() + BODY_TIMEOUT;
    loop {
        let until = deadline.min(Instant::now() + PIECE_TIMEOUT);
        let piece = timeout_at(until, pieces.next()).await;
        let after = if until == deadline { BODY_TIMEOUT } else { PIECE_TIMEOUT };
        match piece.map_err(|_| stalled(after))? {
            None => return Ok(whole.freeze()),
            Some(Ok(piece)) if whole.len() + piece.len() > max => {
                drop(piece);
                return Err(too_large(max));
            }
            Some(Ok(piece)) => whole.extend_from_slice(&piece),
            Some(Err(error)) => {
                let detail = format!("the body broke off: {}", chain(&error));
                return Err(Problem::bad_request(detail).hint("send it again"));
            }
        }
    }
}

async fn check_and_store(
    admin: &Admin,
    caller: &Caller,
    name: &Name,
    version: &Version,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let module = admin.uploads.host.load_in_background(name.as_str(), bytes.clone()).await;
    let module = module.map_err(|error| refused(&error, admin.uploads.host.settings().module_bytes_max))?;
    let about = about(&module);
    // Whoever wants to run it loads it anew; until then it takes no memory.
    drop(module);
    let put = admin.modules.put(name, version, bytes, about).await.map_err(problem_of)?;
    let (status, record) = match put {
        Put::Created(record) => (StatusCode::CREATED, record),
        Put::Same(record) => (StatusCode::OK, record),
    };
    if status == StatusCode::CREATED {
        let (token, digest, bytes) = (caller.label(), record.digest.as_str(), record.bytes);
        tracing::info!(token, %name, %version, digest, bytes, "a module was uploaded");
    }
    let uses = admin.modules.uses().await.map_err(problem_of)?;
    let mut response = (status, Json(ModuleVersion::new(&record, uses))).into_response();
    let location = HeaderValue::try_from(format!("/v1/modules/{name}/{version}"));
    response.headers_mut().insert(LOCATION, location.expect("names and versions are ASCII"));
    Ok(response)
}

/// What is kept about a module beside its bytes.
fn about(module: &Module) -> Value {
    let mut about = module.metadata().map_or_else(|| json!({}), Metadata::summary);
    let Facts { exports, imports, compile_time, .. } = module.facts();
    about["exports"] = json!(exports);
    about["imports"] = json!(imports);
    about["compile_ms"] = json!(u64::try_from(compile_time.as_millis()).unwrap_or(u64::MAX));
    about
}

/// Why bytes are no module, in the words of the check.
fn refused(error: &ModuleError, max: usize) -> Problem {
    let status = match error {
        ModuleError::TooLarge { .. } => return too_large(max),
        ModuleError::NotWasm { .. } | ModuleError::Precompiled { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ModuleError::NoContract { .. }
        | ModuleError::Encode { .. }
        | ModuleError::Compile { .. }
        | ModuleError::Imports { .. }
        | ModuleError::NoHandler { .. }
        | ModuleError::Contract { .. }
        | ModuleError::Metadata { .. }
        | ModuleError::CompileTime { .. }
        | ModuleError::CompileMemory { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        // The texts say what to do; the same bytes may be fine another time.
        ModuleError::CompilerEnded { .. } | ModuleError::Compiler { .. } => {
            return Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::ModuleInvalid, chain(error))
                .retry_after(COMPILER_WAIT)
                .hint("send it again; if it comes again, the engine's log says more");
        }
    };
    Problem::new(status, Code::ModuleInvalid, chain(error))
        .hint("docs/writing-a-transform.md says how to build one; `hookmill module test` tries it without an engine")
}
