//! Endpoints that choose HTTP/2. The server is a real one, over TLS on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use h2::Reason;
use http::{Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::support::{Act, Answers, Authority, Server};
use super::{TIMEOUT, client, loopback, post_on};
use crate::egress::client::Pings;
use crate::egress::{Answer, Error, Pool, TcpDialer};

/// A request as it came.
#[derive(Clone, Debug)]
struct Received {
    connection: usize,
    version: Version,
    uri: String,
    host: Option<String>,
    length: Option<String>,
    body: Bytes,
}

type Reply = Arc<dyn Fn(Received) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync>;

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Received>>,
    accepted: AtomicUsize,
    /// Requests under way on one connection, the most so far.
    most: AtomicUsize,
}

/// An HTTP/2 endpoint; ends when dropped.
struct Http2Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    open: watch::Receiver<usize>,
    /// Closes every connection that is open: it takes no more, and ends what is under way (GOAWAY).
    going: Arc<Notify>,
    authority: Authority,
    _tasks: JoinSet<()>,
}

fn ok(_: Received) -> BoxFuture<'static, Response<Full<Bytes>>> {
    Box::pin(async { Response::new(Full::default()) })
}

impl Http2Server {
    /// Takes `streams` requests at once on a connection.
    async fn start(
        streams: u32,
        reply: impl Fn(Received) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync + 'static,
    ) -> Self {
        let authority = Authority::new("known");
        let mut tls = authority.server("h2.example");
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, going) = (Arc::new(Seen::default()), Arc::new(Notify::new()));
        let (count, open) = watch::channel(0);
        let (shared, stop, count) = (seen.clone(), going.clone(), Arc::new(count));
        let reply: Reply = Arc::new(reply);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let connection = shared.accepted.fetch_add(1, Ordering::SeqCst);
                count.send_modify(|open| *open += 1);
                let (tls, seen, stop) = (tls.clone(), shared.clone(), stop.clone());
                let (reply, count) = (reply.clone(), count.clone());
                connections.spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        let stream = TokioIo::new(stream);
                        serve(stream, streams, connection, seen, reply, &stop).await;
                    }
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { address, seen, open, going, authority, _tasks: tasks }
    }

    fn url(&self) -> String {
        format!("https://h2.example:{}/hook?a=b", self.address.port())
    }

    fn pool(&self) -> Pool {
        let resolve = Answers::new(&[&["127.0.0.1"]]);
        let client = client(resolve, Arc::new(TcpDialer), Some(self.authority.pem()));
        client.pool(&loopback(), TIMEOUT)
    }

    fn accepted(&self) -> usize {
        self.seen.accepted.load(Ordering::SeqCst)
    }

    fn requests(&self) -> Vec<Received> {
        self.seen.requests.lock().unwrap().clone()
    }

    async fn all_closed(&self) {
        let mut open = self.open.clone();
        let closed = tokio::time::timeout(Duration::from_secs(10), open.wait_for(|open| *open == 0)).await;
        closed.expect("all connections are closed within 10 s").unwrap();
    }
}

async fn serve<S>(
    stream: TokioIo<S>,
    streams: u32,
    connection: usize,
    seen: Arc<Seen>,
    reply: Reply,
    stop: &Notify,
) where
    TokioIo<S>: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let under_way = Arc::new(AtomicUsize::new(0));
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (seen, reply, under_way) = (seen.clone(), reply.clone(), under_way.clone());
        async move {
            let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
            seen.most.fetch_max(now, Ordering::SeqCst);
            let (head, body) = request.into_parts();
            let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let received = Received {
                connection,
                version: head.version,
                uri: head.uri.to_string(),
                host: header("host"),
                length: header("content-length"),
                body: body.collect().await.unwrap().to_bytes(),
            };
            seen.requests.lock().unwrap().push(received.clone());
            let answer = reply(received).await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_concurrent_streams(streams);
    let mut serving = std::pin::pin!(builder.serve_connection(stream, service));
    tokio::select! {
        _ = &mut serving => return,
        () = stop.notified() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

async fn post_many(pool: &Pool, url: &str, count: usize) -> Vec<Result<Answer, Error>> {
    join_all((0..count).map(|_| post_on(pool, url))).await
}

#[tokio::test]
async fn all_requests_share_one_connection_as_soon_as_there_is_one() {
    let server = Http2Server::start(200, ok).await;
    let pool = server.pool();
    assert_eq!(post_on(&pool, &server.url()).await.unwrap().status, 200);
    for _ in 0..2 {
        for answer in post_many(&pool, &server.url(), 64).await {
            assert_eq!(answer.unwrap().status, 200);
        }
    }
    let requests = server.requests();
    assert_eq!((server.accepted(), requests.len()), (1, 129));
    let first = &requests[0];
    assert_eq!(
        (first.version, &*first.body, first.length.as_deref()),
        (Version::HTTP_2, &b"{}"[..], Some("2"))
    );
    assert_eq!((&first.uri, &first.host), (&server.url(), &None));
}

#[tokio::test]
async fn a_burst_at_an_endpoint_that_nobody_has_met_yet_comes_to_share_one_connection() {
    let server = Http2Server::start(200, ok).await;
    let pool = server.pool();
    assert!(post_many(&pool, &server.url(), 32).await.iter().all(Result::is_ok));
    let met = server.accepted();
    assert!(post_many(&pool, &server.url(), 32).await.iter().all(Result::is_ok));
    assert_eq!((server.accepted(), server.requests().len()), (met, 64));
    let mut later: Vec<_> = server.requests()[32..].iter().map(|request| request.connection).collect();
    later.dedup();
    assert_eq!(later.len(), 1);
}

#[tokio::test]
async fn a_server_that_takes_few_at_once_is_not_overrun() {
    let server = Http2Server::start(3, ok).await;
    let pool = server.pool();
    for _ in 0..2 {
        assert!(post_many(&pool, &server.url(), 40).await.iter().all(Result::is_ok));
    }
    assert!(server.seen.most.load(Ordering::SeqCst) <= 3);
    assert_eq!(server.requests().len(), 80);
}

#[tokio::test]
async fn a_server_that_chooses_http_1_1_gets_it_on_the_connection_that_asked() {
    let authority = Authority::new("known");
    let server = Server::start_tls(authority.server("old.example")).await;
    let client = client(Answers::new(&[&["127.0.0.1"]]), Arc::new(TcpDialer), Some(authority.pem()));
    let pool = client.pool(&loopback(), TIMEOUT);
    let url = format!("https://old.example:{}/hook", server.address.port());
    for _ in 0..3 {
        assert_eq!(post_on(&pool, &url).await.unwrap().status, 200);
    }
    assert_eq!((server.accepted(), server.requests().len()), (1, 3));
    assert!(server.requests()[0].head.starts_with("POST /hook HTTP/1.1\r\n"));
    assert!(post_many(&pool, &url, 8).await.iter().all(Result::is_ok));
    assert!(server.accepted() > 1, "over HTTP/1.1 requests at once need connections of their own");
}

#[tokio::test]
async fn a_connection_that_takes_no_more_is_replaced_without_a_word() {
    let server = Http2Server::start(100, ok).await;
    let pool = server.pool();
    for round in 0..5 {
        assert_eq!(post_on(&pool, &server.url()).await.unwrap().status, 200, "{round}");
        let answers = post_many(&pool, &server.url(), 20).await;
        assert!(answers.iter().all(Result::is_ok), "{round}: {answers:?}");
        server.going.notify_waiters();
    }
    assert!(server.accepted() > 1);
    assert_eq!(server.requests().len(), 105, "none came twice");
}

#[tokio::test]
async fn a_pool_that_is_dropped_closes_its_connections() {
    let server = Http2Server::start(100, ok).await;
    let pool = server.pool();
    assert_eq!(post_on(&pool, &server.url()).await.unwrap().status, 200);
    drop(pool);
    server.all_closed().await;
}

/// A server of HTTP/2 that does `each` with a connection after the handshake of TLS.
struct Scripted {
    url: String,
    accepted: Arc<AtomicUsize>,
    authority: Authority,
    _tasks: JoinSet<()>,
}

type TlsStream = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

impl Scripted {
    async fn start<F>(each: impl Fn(TlsStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let authority = Authority::new("known");
        let mut tls = authority.server("h2.example");
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://h2.example:{}/", listener.local_addr().unwrap().port());
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(each(tls.accept(stream).await.unwrap()));
            }
        });
        Self { url, accepted, authority, _tasks: tasks }
    }

    /// Sends these bytes, then reads to the end.
    async fn sending(bytes: &'static [u8]) -> Self {
        Self::start(move |mut stream| async move {
            stream.write_all(bytes).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await
    }

    /// Resets the first requests, the others are answered. The second value counts them all.
    async fn resetting(first: usize, reason: Reason) -> (Self, Arc<AtomicUsize>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = requests.clone();
        let each = move |stream| {
            let seen = seen.clone();
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    if seen.fetch_add(1, Ordering::SeqCst) < first {
                        respond.send_reset(reason);
                    } else {
                        respond.send_response(Response::new(()), true).unwrap();
                    }
                }
            }
        };
        (Self::start(each).await, requests)
    }

    async fn post(&self) -> Result<Answer, Error> {
        self.post_with(Pings { every: TIMEOUT, timeout: TIMEOUT }).await
    }

    async fn post_with(&self, pings: Pings) -> Result<Answer, Error> {
        let resolve = Answers::new(&[&["127.0.0.1"]]);
        let client = client(resolve, Arc::new(TcpDialer), Some(self.authority.pem()));
        post_on(&client.pool_with(&loopback(), TIMEOUT, pings), &self.url).await
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_given_up_before_the_time_is_up() {
    // An empty SETTINGS frame, and nothing more.
    let server = Scripted::sending(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let (every, timeout) = (Duration::from_millis(50), Duration::from_millis(50));
    let error = server.post_with(Pings { every, timeout }).await.unwrap_err();
    let kind = std::io::ErrorKind::TimedOut;
    assert_eq!(error, Error::Broken { during: "before the answer was complete", kind });
    assert_eq!(server.accepted(), 1, "it may have got the request: not sent twice");
}

#[tokio::test]
async fn a_request_that_the_server_did_not_begin_with_goes_out_once_more_and_no_more() {
    let refused = Error::Http2 { reason: Reason::REFUSED_STREAM, untouched: true };
    let failed = Error::Http2 { reason: Reason::INTERNAL_ERROR, untouched: false };
    for (first, reason, requests, error) in [
        (1, Reason::REFUSED_STREAM, 2, None),
        (9, Reason::REFUSED_STREAM, 2, Some(refused)),
        (1, Reason::INTERNAL_ERROR, 1, Some(failed)),
    ] {
        let (server, seen) = Scripted::resetting(first, reason).await;
        assert_eq!(server.post().await.err(), error, "{first} {reason}");
        assert_eq!((seen.load(Ordering::SeqCst), server.accepted()), (requests, 1), "{first} {reason}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_the_rules_says_so() {
    let server = Scripted::sending(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = server.post().await.unwrap_err();
    assert!(matches!(error, Error::Http2 { untouched: false, .. }), "{error:?}");
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn plain_connections_speak_http_1_1() {
    let server = Server::start(|_| Act::Reply("HTTP/1.1 204 No Content\r\n\r\n".into())).await;
    let pool = client(Answers::new(&[&["127.0.0.1"]]), Arc::new(TcpDialer), None).pool(&loopback(), TIMEOUT);
    assert_eq!(post_on(&pool, &server.url()).await.unwrap().status, 204);
}
