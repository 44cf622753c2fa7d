//! A local webhook receiver that verifies and shows what comes: for trying things out, never for production.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ListenError;
use crate::deliver::signature::{self, Key, VerifyError};
use crate::model::event::Reading;
use crate::model::{Event, Timestamp};

/// How far a signed time may lie from now (Standard Webhooks, "Verifying webhook timestamp").
const TOLERANCE: Duration = Duration::from_secs(300);
/// Webhook ids that are remembered, to tell repeats.
const IDS_MAX: usize = 100_000;
/// Largest body that is taken, in bytes.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Requests that may wait to be shown.
const SHOWN_MAX: usize = 4_096;

/// What the receiver does.
#[derive(Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
    /// Keys that signatures are verified with; none: they are not looked at.
    pub keys: Vec<Key>,
    /// The status of the answers.
    pub status: StatusCode,
    /// The first so many requests of each `webhook-id` are answered 500.
    pub fail: u32,
}

/// What is said of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signature {
    /// It fits one of the keys.
    Verified,
    /// There are no keys to verify it with.
    NotChecked,
    /// It is missing, old or wrong.
    Refused(VerifyError),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Received {
    /// When.
    pub at: Timestamp,
    /// `webhook-id`.
    pub id: String,
    /// The event's `id`, if it can be told.
    pub event_id: String,
    /// The event's `type`, if it can be told.
    pub event_type: String,
    /// How often this `webhook-id` has come, this time included.
    pub times: u32,
    /// What was answered.
    pub status: StatusCode,
    /// What is said of the signature.
    pub signature: Signature,
    /// The path of the URL.
    pub path: String,
}

#[derive(Default)]
struct Seen {
    times: HashMap<String, u32>,
    order: VecDeque<String>,
}

struct Shared {
    settings: Settings,
    seen: Mutex<Seen>,
    shown: mpsc::Sender<Received>,
}

/// A bound receiver.
pub struct Receiver {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Binds; what comes is told on the channel once it is served.
    pub async fn bind(settings: Settings) -> Result<(Self, mpsc::Receiver<Received>), ListenError> {
        let wanted = settings.address;
        let refused = |source| ListenError { address: wanted, source };
        let listener = TcpListener::bind(wanted).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (shown, received) = mpsc::channel(SHOWN_MAX);
        let shared = Arc::new(Shared { settings, seen: Mutex::default(), shown });
        Ok((Self { listener, address, shared }, received))
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let router = Router::new()
            .fallback(receive)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self.shared);
        let served = axum::serve(self.listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::warn!(%error, "the receiver does not answer any more");
        }
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let at = Timestamp::now();
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let id = text(signature::ID);
    let (event_id, event_type) = about(&headers, &body).unwrap_or_else(|| (text("ce-id"), text("ce-type")));
    let signature = match &*shared.settings.keys {
        [] => Signature::NotChecked,
        keys => match signature::verify(&headers, &body, keys, at, TOLERANCE) {
            Ok(()) => Signature::Verified,
            Err(error) => Signature::Refused(error),
        },
    };
    let times = shared.count(&id);
    let status = match signature {
        Signature::Refused(_) => StatusCode::UNAUTHORIZED,
        Signature::Verified | Signature::NotChecked if times <= shared.settings.fail => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Signature::Verified | Signature::NotChecked => shared.settings.status,
    };
    let path = uri.path().to_owned();
    let received = Received { at, id, event_id, event_type, times, status, signature, path };
    // A full channel means that nobody reads what is shown; the answer counts more.
    let _ = shared.shown.try_send(received);
    status
}

/// Id and type of a structured event.
fn about(headers: &HeaderMap, body: &Bytes) -> Option<(String, String)> {
    let content_type = headers.get("content-type")?.to_str().ok()?;
    let headers = [("Content-Type".to_owned(), content_type.to_owned())];
    let (event, _) = Event::parse(&headers, body, Reading::Tolerant).ok()?;
    Some((event.id, event.ty))
}

impl Shared {
    fn count(&self, id: &str) -> u32 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.times.contains_key(id) {
            seen.order.push_back(id.to_owned());
            if seen.order.len() > IDS_MAX
                && let Some(oldest) = seen.order.pop_front()
            {
                seen.times.remove(&oldest);
            }
        }
        let times = seen.times.entry(id.to_owned()).or_default();
        *times += 1;
        *times
    }
}
