//! The admin API: modules, dead letters, lanes and where an event is, over HTTP, under `/v1`.
//!
//! Each route is declared once, with the scope that it needs: [`guarded`] puts the guard before it and writes the scope into
//! the OpenAPI document. So no route can be without a guard, nor the document say something else.

mod access;
mod dlq;
mod lanes;
mod modules;
mod openapi;
mod orphans;
mod page;
mod problem;
mod rate;
#[cfg(test)]
mod tests;
mod trace;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRef, FromRequest, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Extension, Router};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

pub use access::{Access, AccessError};

use self::access::Caller;
use self::problem::{Code, Problem};
use self::rate::{Key, Rates};
use self::upload::Uploads;
use super::Current;
use super::connections::Peer;
use crate::model::Scope;
use crate::nats::modules::ModulesError;
use crate::nats::registry::RegistryError;
use crate::nats::{Modules, Nats, Registry};
use crate::transform::Host;

/// Longest time for whatever isn't an upload.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest JSON body, in bytes.
const JSON_BYTES_MAX: usize = 64 << 10;

/// Why the API can't be served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The registry of modules.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// The bucket.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// What the API needs.
pub struct Admin {
    access: Access,
    rates: Rates,
    nats: Nats,
    modules: Modules,
    registry: Registry,
    uploads: Uploads,
    engine: Current,
    /// Who looks for an event reads whole streams: one at a time.
    tracing: Mutex<()>,
}

impl Admin {
    /// Opens the registry of modules, and makes it if it is missing. Uploads are checked by `host`; `rate` is in requests a
    /// second.
    pub async fn open(
        nats: Nats,
        host: Arc<Host>,
        access: Access,
        rate: u32,
        engine: Current,
    ) -> Result<Arc<Self>, AdminError> {
        let modules = Modules::open(&nats).await?;
        let registry = Registry::open(&nats).await?;
        let (rates, uploads) = (Rates::new(rate), Uploads::new(host));
        Ok(Arc::new(Self {
            access,
            rates,
            nats,
            modules,
            registry,
            uploads,
            engine,
            tracing: Mutex::default(),
        }))
    }
}

/// All that handlers share.
#[derive(Clone)]
pub(super) struct App {
    admin: Arc<Admin>,
    pages: Arc<Pages>,
}

/// The description of the API, as it is served.
struct Pages {
    json: String,
    html: String,
}

impl FromRef<App> for Arc<Admin> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.admin)
    }
}

/// The routes below `/v1` and `/docs`, and problem documents for all that has no route.
pub(super) fn router(admin: Arc<Admin>) -> Router {
    let (router, document) = documented(&admin).split_for_parts();
    let pages = Arc::new(Pages {
        json: document.to_json().expect("the document is plain data"),
        html: page::render(&document),
    });
    let described = Router::new()
        .route("/v1/openapi.json", get(document_page))
        .route("/docs", get(docs_page))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&admin), guard_pages));
    router.merge(described).with_state(App { admin, pages }).layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
}

/// Problem documents for requests that no route takes; to be laid around all routes.
pub(super) fn with_problems(router: Router) -> Router {
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(problem::render))
}

/// The same for what is not of the API.
pub(super) fn with_problems_rendered(router: Router) -> Router {
    router.method_not_allowed_fallback(no_method).layer(middleware::from_fn(problem::render))
}

/// The answer while there is no admin API yet, and why.
pub(super) fn not_yet(why: &str) -> Response {
    let detail = format!("the admin API is not open yet: {why}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, problem::Code::StorageUnavailable, detail)
        .retry_after(Duration::from_secs(2))
        .hint("try again; /readyz says what the start waits for")
        .into_response()
}

fn documented(admin: &Arc<Admin>) -> OpenApiRouter<App> {
    let json = |scope| Guard::new(admin, scope);
    let base: OpenApi = openapi::base();
    OpenApiRouter::with_openapi(base)
        .routes(guarded(json(Scope::ModulesRead), routes!(modules::list)))
        .routes(guarded(json(Scope::ModulesRead), routes!(modules::versions)))
        .routes(guarded(json(Scope::ModulesRead), routes!(modules::show)))
        .routes(guarded(json(Scope::ModulesRead).offering("application/wasm"), routes!(modules::wasm)))
        .routes(guarded(json(Scope::ModulesWrite).patient(), routes!(upload::upload)))
        .routes(guarded(json(Scope::ModulesWrite), routes!(modules::yank)))
        .routes(guarded(json(Scope::ModulesWrite), routes!(modules::delete)))
        .routes(guarded(json(Scope::DlqRead), routes!(dlq::list)))
        .routes(guarded(json(Scope::DlqRead).confidential(), routes!(dlq::show)))
        .routes(guarded(json(Scope::DlqWrite), routes!(dlq::redrive)))
        .routes(guarded(json(Scope::DlqWrite), routes!(dlq::discard)))
        .routes(guarded(json(Scope::DlqRead), routes!(lanes::list)))
        .routes(guarded(json(Scope::Admin), routes!(lanes::pause)))
        .routes(guarded(json(Scope::Admin), routes!(lanes::resume)))
        .routes(guarded(json(Scope::Admin), routes!(orphans::adopt)))
        .routes(guarded(json(Scope::Admin), routes!(orphans::dead_letter)))
        .routes(guarded(json(Scope::DlqRead), routes!(trace::trace)))
}

/// What stands before a route.
#[derive(Clone)]
struct Guard {
    admin: Arc<Admin>,
    scope: Scope,
    /// The media type of a success.
    offer: &'static str,
    timeout: Option<Duration>,
    /// Whether being on this machine is enough where no token is configured.
    open_here: bool,
}

impl Guard {
    fn new(admin: &Arc<Admin>, scope: Scope) -> Self {
        let admin = Arc::clone(admin);
        let open_here = match scope {
            Scope::ModulesRead | Scope::DlqRead => true,
            Scope::ModulesWrite | Scope::DlqWrite | Scope::Admin => false,
        };
        Self { admin, scope, offer: "application/json", timeout: Some(REQUEST_TIMEOUT), open_here }
    }

    /// The route shows what events hold.
    fn confidential(self) -> Self {
        Self { open_here: false, ..self }
    }

    fn offering(self, offer: &'static str) -> Self {
        Self { offer, ..self }
    }

    /// The route has deadlines of its own.
    fn patient(self) -> Self {
        Self { timeout: None, ..self }
    }
}

fn guarded(guard: Guard, routes: UtoipaMethodRouter<App>) -> UtoipaMethodRouter<App> {
    let (schemas, mut paths, router) = routes;
    openapi::describe_guard(&mut paths, guard.scope);
    let router: MethodRouter<App> = router.route_layer(middleware::from_fn_with_state(guard, stand_guard));
    (schemas, paths, router)
}

async fn stand_guard(
    State(guard): State<Guard>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Guard { admin, scope, offer, timeout: limit, open_here } = guard;
    let caller = admin.access.caller(peer.ip(), request.uri(), request.headers());
    let token = caller.as_ref().ok().and_then(Caller::token).cloned();
    count(&admin, token.map_or_else(|| Key::peer(peer.ip()), Key::Token))?;
    let caller = caller?;
    caller.may(scope)?;
    if !open_here {
        caller.is_trusted()?;
    }
    acceptable(request.headers(), offer)?;
    request.extensions_mut().insert(caller);
    match limit {
        None => Ok(next.run(request).await),
        Some(limit) => timeout(limit, next.run(request)).await.map_err(|_| too_long(limit)),
    }
}

/// The description needs no token, but without tokens it is for this machine like all the rest.
async fn guard_pages(
    State(admin): State<Arc<Admin>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    count(&admin, Key::peer(peer.ip()))?;
    if admin.access.is_local() {
        admin.access.caller(peer.ip(), request.uri(), request.headers())?;
    }
    Ok(next.run(request).await)
}

fn count(admin: &Admin, key: Key) -> Result<(), Problem> {
    admin.rates.take(key, Instant::now()).map_err(|wait| {
        let detail = format!("too many requests; the next one is taken in {wait:.1?}");
        Problem::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, detail)
            .hint("wait as Retry-After says, or raise [admin] rate in hookmill.toml")
            .retry_after(wait)
    })
}

fn too_long(limit: Duration) -> Problem {
    let detail = format!("there was no end within {limit:?}; what was asked for may have happened or not");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, Code::TookTooLong, detail)
        .retry_after(Duration::from_secs(5))
        .hint("look before you try again; /readyz says whether NATS is in reach")
}

/// Whether `Accept` (RFC 9110, 12.5.1) lets this media type through.
fn acceptable(headers: &HeaderMap, offer: &'static str) -> Result<(), Problem> {
    let mut ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if ranges.peek().is_none() || ranges.flat_map(|value| value.split(',')).any(|range| takes(range, offer)) {
        return Ok(());
    }
    let detail = format!("the answer is {offer}, which Accept doesn't allow");
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, Code::NotAcceptable, detail)
        .hint(format!("send Accept: {offer}, or none")))
}

fn takes(range: &str, offer: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let refused = parts.any(|parameter| {
        let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
        weight.is_some_and(|weight| weight.parse() == Ok(0.0_f32))
    });
    let major = range.strip_suffix("/*").filter(|_| range != "*/*");
    let fits = range == "*/*"
        || range.eq_ignore_ascii_case(offer)
        || major.is_some_and(|major| {
            offer.split('/').next().is_some_and(|offered| offered.eq_ignore_ascii_case(major))
        });
    fits && !refused
}

async fn no_route(request: Request) -> Problem {
    let detail = format!("there is nothing at {}", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, Code::NoSuchPath, detail).hint("/docs lists what there is")
}

async fn no_method(request: Request) -> Problem {
    let detail = format!("{} doesn't take {}", request.uri().path(), request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, detail)
        .hint("Allow names the methods that it takes")
}

async fn document_page(State(app): State<App>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], app.pages.json.clone())
}

async fn docs_page(State(app): State<App>) -> impl IntoResponse {
    (page::HEADERS, app.pages.html.clone())
}

/// A JSON body; an empty one is `None`.
struct Sent<T>(Option<T>);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        let body = Bytes::from_request(request, state).await.map_err(|error| unread(&error))?;
        json_body(&headers, &body).map(Self)
    }
}

fn json_body<T: serde::de::DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<Option<T>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let detail = format!("the body is {kind:?}, not application/json");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::MediaType, detail)
            .hint("send Content-Type: application/json"));
    }
    serde_json::from_slice(body)
        .map(Some)
        .map_err(|error| Problem::bad_request(format!("the body is not what is expected: {error}")))
}

/// A body that could not be read.
fn unread(error: &axum::extract::rejection::BytesRejection) -> Problem {
    let detail = error.body_text();
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let detail = format!("the body is larger than the {JSON_BYTES_MAX} bytes that are taken here");
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, Code::BodyTooLarge, detail);
    }
    Problem::bad_request(detail)
}
