//! What went wrong with a request, as a problem document (RFC 9457) with the same codes as the command line.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub(super) use crate::config::Code;
use crate::model::fault::chain;

/// The media type of problem documents.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong. Handlers return it; [`render`] makes the document of it.
#[derive(Clone, Debug)]
pub(super) struct Problem(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    status: StatusCode,
    code: Code,
    detail: String,
    hint: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    more: Map<String, Value>,
}

/// A problem document (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document {
    /// Where the kind of problem is explained.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    kind: String,
    /// What kind of problem it is, in a few words; the same for every problem with this code.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What went wrong this time.
    detail: String,
    /// The path that was asked for.
    instance: String,
    /// The stable code, as on the command line.
    #[schema(example = "E218")]
    code: &'static str,
    /// How to mend it; may be empty.
    hint: String,
    /// More about it, for some codes: `uses` with E217, `scope` with E202.
    #[serde(flatten)]
    #[schema(ignore)]
    more: Map<String, Value>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        let (detail, hint) = (detail.into(), String::new());
        Self(Box::new(Inner { status, code, detail, hint, headers: Vec::new(), more: Map::new() }))
    }

    /// A part of the request that can't be understood.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::BadRequest, detail)
    }

    /// The server behind us can't do it.
    pub(super) fn storage(error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, Code::StorageUnavailable, chain(error))
            .retry_after(Duration::from_secs(5))
            .hint("try again; /readyz and the engine's log say more")
    }

    /// Says how to mend it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = hint.into();
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// When it may work, in whole seconds.
    pub(super) fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// A member of its own in the document.
    pub(super) fn with(mut self, key: &str, value: Value) -> Self {
        self.0.more.insert(key.to_owned(), value);
        self
    }

    #[cfg(test)]
    pub(super) fn said(&self) -> (u16, Code, &str) {
        (self.0.status.as_u16(), self.0.code, &self.0.detail)
    }

    fn document(self, instance: String) -> Response {
        let Inner { status, code, detail, hint, headers, more } = *self.0;
        let (kind, title, code) = (format!("/docs#{code}"), code.title(), code.as_str());
        let document = Document { kind, title, status: status.as_u16(), detail, instance, code, hint, more };
        let mut response = (status, Json(document)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response.headers_mut().extend(headers);
        response
    }
}

impl IntoResponse for Problem {
    /// An empty answer that [`render`] completes: only there the path is known.
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Makes documents of the problems that come out of the routes below. Keeps headers that were set on the way (`Allow`).
pub(super) async fn render(request: Request, next: Next) -> Response {
    let instance = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let mut document = problem.document(instance);
    for (name, value) in response.headers() {
        if !document.headers().contains_key(name) && *name != axum::http::header::CONTENT_LENGTH {
            document.headers_mut().append(name, value.clone());
        }
    }
    document
}

/// An extractor whose refusal is a problem.
pub(super) struct Checked<E>(pub(super) E);

impl<S, E> FromRequestParts<S> for Checked<E>
where
    S: Send + Sync,
    E: FromRequestParts<S>,
    E::Rejection: std::fmt::Display,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let taken = E::from_request_parts(parts, state).await;
        taken.map(Self).map_err(|error| Problem::bad_request(error.to_string()))
    }
}
