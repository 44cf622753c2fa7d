//! A scripted HTTP receiver on loopback that records every request and can be told how to answer.

pub mod behaviour;
mod log;
mod reply;

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use hookmill::model::Timestamp;

pub use behaviour::Behaviour;
pub use log::Log;
pub use reply::{Notice, Reply};

/// One request, as it was recorded.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its body was complete.
    pub at: Timestamp,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body; empty if the endpoint keeps none.
    pub body: Bytes,
    /// `webhook-id`, empty if it has none.
    pub webhook_id: String,
    /// How often this `webhook-id` has come, this time included: 1 for the first.
    pub attempt: usize,
    /// Position among all requests of this endpoint, from 0.
    pub position: usize,
    /// The status that was answered, before its body was sent; none while the answer waits or if it never comes.
    pub answered: Option<u16>,
}

impl Request {
    /// A header's text; empty if it is missing or no text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON. Panics if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the request's body is JSON")
    }

    /// Checks the Standard Webhooks signature as of the time when the request came.
    pub fn verify(&self, secret: &str) -> Result<(), String> {
        crate::signature::verify(secret, &self.headers, &self.body, self.at)
    }
}

/// The receiver. Dropping it closes its port and all connections.
pub struct Endpoint {
    address: SocketAddr,
    shared: Arc<Shared>,
    // Held for its drop, which stops the server.
    _tasks: JoinSet<()>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    log: Mutex<Log>,
    keep_bodies: bool,
    changed: watch::Sender<u64>,
}

impl Endpoint {
    /// Starts a receiver that answers as `behaviour` says.
    pub async fn start(behaviour: Behaviour) -> Self {
        Self::listen(behaviour, true).await
    }

    /// One that forgets headers and bodies, for hundreds of thousands of requests.
    pub async fn start_for_flood(behaviour: Behaviour) -> Self {
        Self::listen(behaviour, false).await
    }

    async fn listen(behaviour: Behaviour, keep_bodies: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            log: Mutex::default(),
            keep_bodies,
            changed: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, _tasks: tasks }
    }

    /// `http://127.0.0.1:PORT/hooks`
    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on answers as `behaviour` says. Requests that are being answered go on as they began.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().expect("no holder panics") = behaviour;
    }

    /// How many requests have come.
    pub fn received(&self) -> usize {
        self.log().received()
    }

    /// How many different `webhook-id`s have come.
    pub fn distinct_ids(&self) -> usize {
        self.log().distinct_ids()
    }

    /// All requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.log().requests().to_vec()
    }

    /// What was recorded so far. Holds up the receiver while the guard lives.
    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.shared.log.lock().expect("no holder panics")
    }

    /// Forgets what was recorded. Attempts are counted from 1 again.
    pub fn forget(&self) {
        self.log().forget();
    }

    /// Waits until `holds` is true of what was recorded; panics with `what` and the counts after `deadline`.
    pub async fn wait_for(&self, what: &str, deadline: Duration, holds: impl Fn(&Log) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let watching = async {
            while !holds(&self.log()) {
                changed.changed().await.expect("the sender lives as long as self");
            }
        };
        let seen = tokio::time::timeout(deadline, watching).await;
        assert!(seen.is_ok(), "not within {deadline:?}: {what}; recorded: {}", self.log().summary());
    }

    /// Waits until `count` different `webhook-id`s were answered with 2xx.
    pub async fn wait_for_delivered(&self, count: usize, deadline: Duration) {
        self.wait_for(&format!("{count} delivered ids"), deadline, |log| log.delivered_ids() >= count).await;
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({}, {})", self.address, self.log().summary())
    }
}

impl Shared {
    /// Records the request; says how to answer it.
    fn record(&self, mut request: Request) -> (usize, Reply) {
        let behaviour = Arc::clone(&self.behaviour.lock().expect("no holder panics"));
        let mut log = self.log.lock().expect("no holder panics");
        log.number(&mut request);
        let reply = behaviour(&request);
        let position = request.position;
        if !self.keep_bodies {
            request.headers = HeaderMap::new();
            request.body = Bytes::new();
        }
        log.push(request);
        drop(log);
        self.changed.send_modify(|count| *count += 1);
        (position, reply)
    }

    fn answered(&self, position: usize, status: u16) {
        self.log.lock().expect("no holder panics").answered(position, status);
        self.changed.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Only reaps: a connection that broke off is the engine's doing or the script's.
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                // Out of file descriptors: the engine sees a connection that isn't taken.
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Without it, small answers wait for the client's delayed ack.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(handle(request, &shared).await) }
    });
    // An error is a client that went away or a script that breaks off: both are looked at through the log.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(request: hyper::Request<Incoming>, shared: &Shared) -> hyper::Response<reply::Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        // The client broke off; it won't read this either.
        return reply::plain(400);
    };
    let webhook_id =
        head.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let (position, reply) = shared.record(Request {
        at: Timestamp::now(),
        method: head.method,
        target: head.uri.to_string(),
        headers: head.headers,
        body: body.to_bytes(),
        webhook_id,
        attempt: 0,
        position: 0,
        answered: None,
    });
    let response = reply.response().await;
    shared.answered(position, response.status().as_u16());
    response
}
