//! Requests of any method whose answers are read: for the command line's own questions, not for deliveries.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::client::request;
use super::{Error, Phase, Pool};

/// One request.
#[derive(Clone)]
pub struct Exchange {
    /// The method.
    pub method: Method,
    /// Where to: an absolute URI that [`super::check_url`] has passed.
    pub uri: Uri,
    /// All headers but `host` and `content-length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no whole answer.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The request failed, or the answer broke off.
    #[error(transparent)]
    Failed(#[from] Error),
    /// The body is longer than was asked for.
    #[error("the answer is longer than {max} bytes")]
    TooLong {
        /// Most bytes of the body.
        max: usize,
    },
}

impl Pool {
    /// Sends a request and reads the answer, of at most `body_bytes_max`. One deadline covers everything; redirects are not
    /// followed.
    pub async fn exchange(&self, ask: &Exchange, body_bytes_max: usize) -> Result<Reply, ExchangeError> {
        let deadline = Instant::now() + self.timeout;
        let host = ask.uri.host().unwrap_or_default().to_owned();
        let late = |phase| Error::Timeout { phase, after: self.timeout };
        let make = || request(ask.method.clone(), ask.uri.clone(), ask.headers.clone(), ask.body.clone());
        let head = timeout_at(deadline, self.head(make(), || Some(make()), &host)).await;
        let (head, body) = head.map_err(|_| late(Phase::Head))??.into_parts();
        let status = head.status.as_u16();
        let body = timeout_at(deadline, collect(body, &host, body_bytes_max)).await;
        let body = body.map_err(|_| late(Phase::Body(status)))??;
        Ok(Reply { status, headers: head.headers, body })
    }
}

async fn collect(mut body: Incoming, host: &str, max: usize) -> Result<Bytes, ExchangeError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::from_client(&error, host, "in the body of the answer"))?;
        let Ok(bytes) = frame.into_data() else { continue };
        if whole.len() + bytes.len() > max {
            return Err(ExchangeError::TooLong { max });
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole.freeze())
}
