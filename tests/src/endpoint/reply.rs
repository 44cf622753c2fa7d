//! One answer and how it is put on the wire.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::Response;
use hyper::body::Frame;

/// An answer's body, which may break off.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How one request is answered.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This status and an empty body.
    Status(u16),
    /// This status, these headers, an empty body.
    Headers(u16, Vec<(String, String)>),
    /// This status and this body.
    Text(u16, String),
    /// Nothing ever; the connection stays open until the client closes it.
    Hang,
    /// The other one, after this time.
    After(Duration, Box<Reply>),
    /// The other one; calls this when it goes out, which it never does once the client is gone.
    Noting(Notice, Box<Reply>),
    /// 200, then one byte each so often, without end.
    Drip(Duration),
    /// 200 with a promise of 1,000 bytes, of which ten come before the connection is closed.
    CloseMidResponse,
    /// 200 and a body without end.
    Endless,
}

/// Is called when an answer goes out.
#[derive(Clone)]
pub struct Notice(Arc<dyn Fn() + Send + Sync>);

impl Notice {
    /// Calls this.
    pub fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }
}

impl std::fmt::Debug for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notice")
    }
}

impl Reply {
    pub(super) async fn response(self) -> Response<Body> {
        let mut reply = self;
        loop {
            reply = match reply {
                Self::After(time, then) => {
                    tokio::time::sleep(time).await;
                    *then
                }
                Self::Noting(Notice(call), then) => {
                    call();
                    *then
                }
                other => break reply = other,
            };
        }
        match reply {
            Self::Status(status) => plain(status),
            Self::Headers(status, headers) => {
                let mut response = plain(status);
                for (name, value) in headers {
                    let name =
                        hyper::header::HeaderName::try_from(name).expect("a script's header name is valid");
                    response
                        .headers_mut()
                        .append(name, value.parse().expect("a script's header value is valid"));
                }
                response
            }
            Self::Text(status, text) => with_body(status, full(text.into())),
            Self::Hang => std::future::pending().await,
            // The loop above has taken these apart.
            Self::After(..) | Self::Noting(..) => plain(500),
            Self::Drip(pause) => with_body(200, drip(pause)),
            Self::CloseMidResponse => {
                let mut response = with_body(200, ten_bytes_then_close());
                response.headers_mut().insert("content-length", 1000.into());
                response
            }
            Self::Endless => with_body(200, endless()),
        }
    }
}

pub(super) fn plain(status: u16) -> Response<Body> {
    with_body(status, full(Bytes::new()))
}

fn with_body(status: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status.try_into().expect("a script's status lies between 100 and 999");
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn drip(pause: Duration) -> Body {
    let bytes = stream::unfold((), move |()| async move {
        tokio::time::sleep(pause).await;
        Some((Ok(Frame::data(Bytes::from_static(b"."))), ()))
    });
    StreamBody::new(bytes).boxed_unsync()
}

fn endless() -> Body {
    static CHUNK: [u8; 64 * 1024] = [b'.'; 64 * 1024];
    StreamBody::new(stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&CHUNK))))).boxed_unsync()
}

fn ten_bytes_then_close() -> Body {
    let ten = stream::once(async { Ok(Frame::data(Bytes::from_static(b"ten bytes."))) });
    let close = stream::once(async {
        // The server flushes what it has when the body makes it wait, and throws it away when the body fails.
        tokio::task::yield_now().await;
        Err(io::Error::other("the script closes here"))
    });
    StreamBody::new(ten.chain(close)).boxed_unsync()
}
