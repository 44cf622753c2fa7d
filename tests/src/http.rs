//! A plain HTTP client for the tests' own questions.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// `GET url`: status and body. The error says in words what went wrong.
pub async fn get(url: &str) -> Result<(u16, String), String> {
    send(hyper::Request::get(url), Bytes::new()).await
}

/// `POST url` with that body.
pub async fn post(url: &str, body: impl Into<Bytes>) -> Result<(u16, String), String> {
    send(hyper::Request::post(url), body.into()).await
}

/// Sends what was begun with that body; for requests with headers.
pub async fn send(request: hyper::http::request::Builder, body: Bytes) -> Result<(u16, String), String> {
    let answer = answer(request, body).await?;
    Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: hyper::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Sends what was begun with that body, and gives back all of the answer.
pub async fn answer(request: hyper::http::request::Builder, body: Bytes) -> Result<Answer, String> {
    let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await.map_err(|error| format!("{error:?}"))?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    Ok(Answer { status, headers, body })
}
