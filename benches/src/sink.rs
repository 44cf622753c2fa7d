//! An endpoint that does nothing but count: 204 to everything, on a thread of its own.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Counts requests and notes when the counts of interest are reached.
#[derive(Debug)]
struct Tally {
    count: AtomicUsize,
    marks: Vec<usize>,
    reached: watch::Sender<Vec<Instant>>,
}

impl Tally {
    fn add(&self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if self.marks.contains(&count) {
            self.reached.send_modify(|reached| reached.push(Instant::now()));
        }
    }
}

/// The endpoint. Dropping it ends it.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    tally: Arc<Tally>,
    runtime: Option<Runtime>,
}

impl Sink {
    /// Starts an endpoint that notes when it has had as many requests as each of `marks` says, which rise.
    pub fn start(marks: &[usize]) -> Self {
        let tally =
            Tally { count: AtomicUsize::new(0), marks: marks.to_vec(), reached: watch::Sender::default() };
        let tally = Arc::new(tally);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket of ours");
        let serving = Arc::clone(&tally);
        runtime.spawn(async move {
            serve(TcpListener::from_std(listener).expect("within the runtime"), serving).await;
        });
        Self { address, tally, runtime: Some(runtime) }
    }

    /// Where it takes webhooks.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Requests so far.
    pub fn count(&self) -> usize {
        self.tally.count.load(Ordering::Relaxed)
    }

    /// When the mark at `index` was reached; waits for it.
    pub async fn reached(&self, index: usize) -> Instant {
        let mut reached = self.tally.reached.subscribe();
        let reached =
            reached.wait_for(|reached| reached.len() > index).await.expect("the tally lives as long as self");
        reached[index]
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, tally: Arc<Tally>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("the listener stays");
        stream.set_nodelay(true).expect("a socket of ours");
        let tally = Arc::clone(&tally);
        let answer = service_fn(move |request| answer(request, Arc::clone(&tally)));
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>, tally: Arc<Tally>) -> Result<Response<Empty<Bytes>>, Infallible> {
    // A request whose body breaks off is none.
    if request.into_body().collect().await.is_ok() {
        tally.add();
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
