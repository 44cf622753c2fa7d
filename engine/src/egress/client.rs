//! One client for the process, one pool of kept-alive connections for each endpoint: one HTTP/2 connection for all its requests
//! where it chooses that, one HTTP/1.1 connection for each request under way otherwise.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::CONNECTION;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::Connected;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use super::connect::{Answered, Connector};
use super::own::OwnListeners;
use super::proxy::Gate;
use super::room::{Own, Room};
use super::{
    ClientError, Dial, Error, Phase, Policy, Proxy, ProxyFailure, Resolve, SystemResolver, TcpDialer,
    TlsSettings, tls,
};
use crate::model::{Findings, Timestamp};

/// Most bytes of a response body that are read. The status decides; a longer body costs its connection, over HTTP/2 its stream.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of a response's status line and headers.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// Most kept-alive connections that one endpoint keeps while they are idle. As many as a subscription commonly uses at once
/// at the most: below that each burst would connect anew.
const IDLE_CONNECTIONS_MAX: usize = 1024;

/// Longest time that a connection is kept idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How an HTTP/2 connection is looked after while requests are under way on it.
const PINGS: Pings = Pings { every: Duration::from_secs(10), timeout: Duration::from_secs(10) };

/// How it is found out that an HTTP/2 connection is dead, before the requests on it run out of time one by one.
#[derive(Clone, Copy)]
pub(super) struct Pings {
    /// How often one is sent.
    pub(super) every: Duration,
    /// Longest time until it is answered; then the connection is given up, with all that is under way on it.
    pub(super) timeout: Duration,
}

/// What holds for every endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientSettings {
    /// What every endpoint may reach and what none ever reaches, beside its own rules.
    pub policy: Policy,
    /// Whom to trust.
    pub tls: TlsSettings,
    /// The proxy that everything goes through.
    pub proxy: Option<Proxy>,
    /// Connections of all endpoints together; none: as many as there may be.
    pub connections_max: Option<usize>,
}

/// What all endpoints share: resolver, TLS settings with their session cache, and the rules of the process.
pub struct Client {
    base: Policy,
    tls: Arc<ClientConfig>,
    proxy: Option<Arc<Gate>>,
    resolve: Arc<dyn Resolve>,
    dial: Arc<dyn Dial>,
    room: Arc<Room>,
    listeners: Arc<OwnListeners>,
}

impl Client {
    /// A client that uses the system's resolver and real connections. Reads the system's certificate authorities, if they are
    /// trusted.
    pub fn new(settings: ClientSettings) -> Result<Arc<Self>, ClientError> {
        Self::with(settings, Arc::new(SystemResolver), Arc::new(TcpDialer))
    }

    /// A client with the given resolver and dialer.
    pub fn with(
        settings: ClientSettings,
        resolve: Arc<dyn Resolve>,
        dial: Arc<dyn Dial>,
    ) -> Result<Arc<Self>, ClientError> {
        let tls = tls::config(&settings.tls)?;
        let gate = settings.proxy.as_ref().map(|proxy| Gate::new(proxy).map(Arc::new));
        let proxy = gate.transpose().map_err(ClientError::Proxy)?;
        let room = Room::of(settings.connections_max);
        let listeners = Arc::default();
        Ok(Arc::new(Self { base: settings.policy, tls, proxy, resolve, dial, room, listeners }))
    }

    /// No connection goes to this address any more, whatever is allowed: this process listens there itself.
    pub fn never_reach(&self, listener: SocketAddr) {
        self.listeners.add(listener);
    }

    /// A pool of connections for one endpoint with `own` rules beside those of the process. `timeout` bounds each request
    /// as a whole.
    ///
    /// A pool belongs to one policy, so a request never rides on a connection that another policy let through; and an
    /// endpoint that hoards connections takes none from another one.
    pub fn pool(&self, own: &Policy, timeout: Duration) -> Pool {
        self.pool_with(own, timeout, PINGS)
    }

    pub(super) fn pool_with(&self, own: &Policy, timeout: Duration, pings: Pings) -> Pool {
        let policy = self.base.with(own);
        let connector = Connector::new(
            policy,
            self.resolve.clone(),
            self.dial.clone(),
            self.tls.clone(),
            (self.proxy.clone(), self.listeners.clone()),
            (self.room.clone(), Own::default()),
            timeout,
        );
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX as usize)
            .http2_max_header_list_size(HEAD_BYTES_MAX)
            .http2_keep_alive_interval(pings.every)
            .http2_keep_alive_timeout(pings.timeout)
            .build(connector);
        Pool { http, proxy: self.proxy.clone(), room: self.room.clone(), timeout }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

/// One `POST`.
pub struct Call {
    /// Where to: an absolute URI that [`super::check_url`] has passed.
    pub uri: Uri,
    /// All headers but `host` and `content-length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Call {
    fn request(self) -> Request<Full<Bytes>> {
        request(Method::POST, self.uri, self.headers, self.body)
    }
}

/// A request of these parts.
pub(super) fn request(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// Makes a [`Call`] once more, if it has to go out again.
pub type Again<'a> = &'a (dyn Fn() -> Option<Call> + Sync);

/// What came back. The body has been read and dropped.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
}

/// The connections of one endpoint.
pub struct Pool {
    http: legacy::Client<Connector, Full<Bytes>>,
    proxy: Option<Arc<Gate>>,
    room: Arc<Room>,
    pub(super) timeout: Duration,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Takes a finished request to where it goes, and brings the answer back: the network, or what stands in for it where
/// nothing may be sent (`hookmill test`).
pub trait Outlet: Send + Sync {
    /// One request, one answer. `again` makes the same request for another connection.
    fn post<'a>(&'a self, call: Call, again: Again<'a>) -> BoxFuture<'a, Result<Answer, Error>>;

    /// Adds how the references stand that are needed on the way.
    fn look_at_references(&self, _now: Timestamp, _findings: &mut Findings) {}
}

impl Outlet for Pool {
    fn post<'a>(&'a self, call: Call, again: Again<'a>) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(self.post(call, again))
    }

    fn look_at_references(&self, now: Timestamp, findings: &mut Findings) {
        if let Some(proxy) = &self.proxy {
            proxy.look_at_references(now, findings);
        }
    }
}

impl Pool {
    /// Sends a request and waits for the whole answer, redirects not followed. One deadline covers resolving, connecting,
    /// TLS, headers and body.
    pub async fn post(&self, call: Call, again: Again<'_>) -> Result<Answer, Error> {
        let deadline = Instant::now() + self.timeout;
        let uri = call.uri.clone();
        let host = uri.host().unwrap_or_default();
        let late = |phase| Error::Timeout { phase, after: self.timeout };
        let again = || again().map(Call::request);
        let head = timeout_at(deadline, self.head(call.request(), again, host)).await;
        let (head, body) = head.map_err(|_| late(Phase::Head))??.into_parts();
        let status = head.status.as_u16();
        let whole = timeout_at(deadline, read(body, host)).await;
        let whole = whole.unwrap_or_else(|_| Err(late(Phase::Body(status))));
        // A refusal is a refusal, whatever becomes of its body; a success is one only when all of it has come.
        if head.status.is_success() {
            whole?;
        }
        Ok(Answer { status, headers: head.headers })
    }

    /// Sends until a response header comes. A server may close a kept-alive connection in the moment that it is used again:
    /// then the request goes out once more on another one. A receiver that did see it knows it by its `webhook-id`.
    pub(super) async fn head(
        &self,
        mut request: Request<Full<Bytes>>,
        again: impl Fn() -> Option<Request<Full<Bytes>>>,
        host: &str,
    ) -> Result<Response<Incoming>, Error> {
        // What goes through a tunnel is none of the proxy's business.
        let reader = self.proxy.as_deref().filter(|_| request.uri().scheme() == Some(&Scheme::HTTP));
        let mut sent_again = false;
        loop {
            if let Some(proxy) = reader {
                proxy.authorize(&mut request).map_err(|failure| proxy.failed(host, failure))?;
            }
            if self.room.is_scarce() {
                request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            match self.http.request(request).await {
                Ok(response) if reader.is_some() && response.status() == 407 => {
                    let failed = |proxy: &Gate| proxy.failed(host, ProxyFailure::Status(407));
                    return Err(reader.map_or(Error::Http, failed));
                }
                Ok(response) => {
                    if let Some(answered) = response.extensions().get::<Answered>() {
                        answered.mark();
                    }
                    return Ok(response);
                }
                Err(error) => {
                    let failed = Error::from_client(&error, host, "before the answer was complete");
                    let connection = error.connect_info();
                    let may_go_again = match &failed {
                        Error::Http2 { untouched, .. } => *untouched && !sent_again,
                        // Others share an HTTP/2 connection, so that it may bring answers though this request ends each: once.
                        // Over HTTP/1.1 each turn uses up one that had brought an answer, and a new one has brought none.
                        Error::Broken { .. } => connection
                            .is_some_and(|it| was_of_use(it) && !(it.is_negotiated_h2() && sent_again)),
                        _ => false,
                    };
                    let made = if may_go_again { again() } else { None };
                    let Some(made) = made else { return Err(failed) };
                    request = made;
                    sent_again = true;
                }
            }
        }
    }
}

/// Whether a connection has brought an answer before.
fn was_of_use(connection: &Connected) -> bool {
    let mut extras = http::Extensions::new();
    connection.get_extras(&mut extras);
    extras.get::<Answered>().is_some_and(Answered::yes)
}

/// Reads a body to its end or to the cap. Unread rest makes the HTTP client drop the connection.
async fn read(mut body: Incoming, host: &str) -> Result<(), Error> {
    let mut left = ANSWER_BYTES_MAX;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::from_client(&error, host, "in the body of the answer"))?;
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(bytes) else { return Ok(()) };
        left = rest;
    }
    Ok(())
}
