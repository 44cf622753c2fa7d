//! A forward proxy. It is a real little one, on loopback, which takes every name for loopback.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::support::{Answers, Authority, Recorder, Server};
use super::{TIMEOUT, allowing, denying, post_on};
use crate::egress::{
    Client, ClientError, ClientSettings, Error, Policy, Proxy, ProxyFailure, Range, Refusal, TcpDialer,
    TlsSettings,
};
use crate::model::SecretRef;

/// What the proxy does with a request.
#[derive(Clone, Copy)]
enum Act {
    /// Leads where it asks to.
    Lead,
    /// Answers with this.
    Answer(&'static str),
    /// Answers never.
    Hang,
}

/// Ends when dropped.
struct TestProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl TestProxy {
    async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let seen = seen.clone();
                connections.spawn(async move {
                    // A client that goes away in the middle is part of some tests.
                    let _ = lead(stream, act, &seen).await;
                });
            }
        });
        Self { address, heads, _tasks: tasks }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Under a name, so that it has to be resolved.
    fn settings(&self) -> Proxy {
        Proxy::parse(&format!("http://proxy.example:{}", self.address.port())).unwrap()
    }
}

async fn lead(mut stream: TcpStream, act: Act, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    seen.lock().unwrap().push(text.clone());
    match act {
        Act::Answer(answer) => stream.write_all(answer.as_bytes()).await?,
        Act::Hang => {
            stream.read_to_end(&mut Vec::new()).await?;
        }
        Act::Lead => {
            let target = text.strip_prefix("CONNECT ").and_then(|text| text.split(' ').next()).unwrap();
            let (_, port) = target.rsplit_once(':').unwrap();
            let mut other = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).await?;
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            tokio::io::copy_bidirectional(&mut stream, &mut other).await?;
        }
    }
    Ok(())
}

/// A client whose resolver knows the proxy alone.
fn client(proxy: Proxy, ca: Option<Vec<u8>>) -> (Arc<Client>, Arc<Answers>) {
    let resolve = Answers::new(&[&["127.0.0.1"]]);
    let tls = TlsSettings { ca, ..TlsSettings::default() };
    let settings = ClientSettings { tls, proxy: Some(proxy), ..ClientSettings::default() };
    (Client::with(settings, resolve.clone(), Arc::new(TcpDialer)).unwrap(), resolve)
}

#[tokio::test]
async fn https_goes_through_a_tunnel_and_needs_no_allow_for_the_proxy() {
    let authority = Authority::new("known");
    let server = Server::start_tls(authority.server("hooks.example")).await;
    let proxy = TestProxy::start(Act::Lead).await;
    let (client, resolve) = client(proxy.settings(), Some(authority.pem()));
    let pool = client.pool(&Policy::default(), TIMEOUT);
    let port = server.address.port();
    for _ in 0..2 {
        let answer = post_on(&pool, &format!("https://hooks.example:{port}/secret?x=y")).await;
        assert_eq!(answer.unwrap().status, 200);
    }
    let head = format!("CONNECT hooks.example:{port} HTTP/1.1\r\nhost: hooks.example:{port}\r\n\r\n");
    assert_eq!(proxy.heads(), [head], "one tunnel for both, and not a word more");
    assert_eq!(resolve.asked(), 1, "the proxy alone is resolved here");
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].head.starts_with("POST /secret?x=y HTTP/1.1\r\n"), "{}", requests[0].head);
    assert_eq!(requests[0].header("host"), Some(&*format!("hooks.example:{port}")));
}

#[tokio::test]
async fn the_certificate_is_the_endpoints_and_is_checked_through_the_tunnel() {
    let authority = Authority::new("known");
    let server = Server::start_tls(authority.server("other.example")).await;
    let proxy = TestProxy::start(Act::Lead).await;
    let (client, _) = client(proxy.settings(), Some(authority.pem()));
    let url = format!("https://hooks.example:{}/", server.address.port());
    let error = post_on(&client.pool(&Policy::default(), TIMEOUT), &url).await.unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn plain_http_is_asked_of_the_proxy_itself_with_the_whole_url() {
    let proxy = TestProxy::start(Act::Answer("HTTP/1.1 204 No Content\r\n\r\n")).await;
    let credentials = Some((SecretRef::Plain("me".into()), SecretRef::Plain("pass".into())));
    let (client, _) = client(Proxy { credentials, ..proxy.settings() }, None);
    let pool = client.pool(&allowing(&["hooks.example"]), TIMEOUT);
    assert_eq!(post_on(&pool, "http://hooks.example/a?b=c").await.unwrap().status, 204);
    let [head] = &proxy.heads()[..] else { panic!("one request") };
    assert!(head.starts_with("POST http://hooks.example/a?b=c HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nproxy-authorization: Basic bWU6cGFzcw==\r\n"), "{head}");
    assert!(head.contains("\r\nhost: hooks.example\r\n"), "{head}");
}

#[tokio::test]
async fn the_credentials_are_for_the_proxy_alone() {
    let authority = Authority::new("known");
    let server = Server::start_tls(authority.server("hooks.example")).await;
    let proxy = TestProxy::start(Act::Lead).await;
    let credentials = Some((SecretRef::Plain("me".into()), SecretRef::Plain("pass".into())));
    let (client, _) = client(Proxy { credentials, ..proxy.settings() }, Some(authority.pem()));
    let url = format!("https://hooks.example:{}/", server.address.port());
    assert_eq!(post_on(&client.pool(&Policy::default(), TIMEOUT), &url).await.unwrap().status, 200);
    assert!(proxy.heads()[0].contains("\r\nproxy-authorization: Basic bWU6cGFzcw==\r\n"));
    assert_eq!(server.requests()[0].header("proxy-authorization"), None);
}

#[tokio::test]
async fn what_the_url_itself_tells_is_refused_before_the_proxy_hears_of_it() {
    let dial = Arc::new(Recorder::default());
    let resolve = Answers::new(&[&["127.0.0.1"]]);
    let proxy = Some(Proxy::parse("http://proxy.example:3128").unwrap());
    let settings =
        ClientSettings { policy: allowing(&["hooks.example"]), proxy, ..ClientSettings::default() };
    let client = Client::with(settings, resolve.clone(), dial.clone()).unwrap();
    let pool = client.pool(&denying(&["*.corp.example", ":25"]), TIMEOUT);
    for url in ["https://127.1/", "https://[::ffff:7f00:1]/", "http://localhost/", "https://a.localhost./"] {
        let error = post_on(&pool, url).await.unwrap_err();
        assert!(
            matches!(error, Error::Refused { refusal: Refusal::Range(Range::Loopback), .. }),
            "{url}: {error}"
        );
    }
    for url in [
        "https://0xa9fea9fe/",
        "https://10.0.0.1/",
        "https://a.corp.example/",
        "https://a.example:25/",
        "http://other.example/",
    ] {
        let error = post_on(&pool, url).await.unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{url}: {error}");
    }
    assert_eq!((resolve.asked(), dial.dialed()), (0, vec![]));
    let error = post_on(&pool, "https://inner.example/").await.unwrap_err();
    assert!(matches!(error, Error::Proxy { .. }), "a name is for the proxy to resolve: {error}");
    assert_eq!(dial.dialed(), ["127.0.0.1:3128".parse().unwrap()]);
}

#[tokio::test]
async fn a_proxy_that_does_not_lead_there_says_why() {
    let long = "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let cases = [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
            ProxyFailure::Status(407),
        ),
        ("HTTP/1.1 403 Forbidden\r\n\r\nbecause", ProxyFailure::Status(403)),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 9\r\n\r\n", ProxyFailure::Status(502)),
        ("SSH-2.0-OpenSSH_9.6\r\n", ProxyFailure::NotHttp),
        ("", ProxyFailure::Broken(io::ErrorKind::UnexpectedEof)),
        (long, ProxyFailure::NotHttp),
    ];
    for (answer, expected) in cases {
        let proxy = TestProxy::start(Act::Answer(answer)).await;
        let credentials = Some((SecretRef::Plain("me".into()), SecretRef::Plain("hunter2".into())));
        let (client, _) = client(Proxy { credentials, ..proxy.settings() }, None);
        let pool = client.pool(&Policy::default(), TIMEOUT);
        let error = post_on(&pool, "https://hooks.example/").await.unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        let name = format!("proxy.example:{}", proxy.address.port());
        let start = format!("the proxy {name} does not lead to hooks.example: {expected}");
        assert_eq!(error.to_string(), start);
        assert_eq!(error, Error::Proxy { proxy: name, host: "hooks.example".into(), failure: expected });
    }
    let refusing = TestProxy::start(Act::Answer("HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n")).await;
    let (client, _) = client(refusing.settings(), None);
    let pool = client.pool(&allowing(&["hooks.example"]), TIMEOUT);
    let error = post_on(&pool, "http://hooks.example/").await.unwrap_err();
    assert!(matches!(error, Error::Proxy { failure: ProxyFailure::Status(407), .. }), "{error}");
}

#[tokio::test]
async fn a_proxy_that_is_not_there_or_says_nothing_fails_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gone = Proxy::parse(&format!("http://{address}")).unwrap();
    let pool = client(gone, None).0.pool(&Policy::default(), TIMEOUT);
    let error = post_on(&pool, "https://hooks.example/").await.unwrap_err();
    let failure = ProxyFailure::Connect(address, io::ErrorKind::ConnectionRefused);
    assert_eq!(error, Error::Proxy { proxy: address.to_string(), host: "hooks.example".into(), failure });

    let silent = TestProxy::start(Act::Hang).await;
    let pool = client(silent.settings(), None).0.pool(&Policy::default(), Duration::from_millis(200));
    let error = post_on(&pool, "https://hooks.example/").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(silent.heads().len(), 1);
}

#[test]
fn credentials_without_a_value_are_found_at_once() {
    let missing = SecretRef::Env { name: "HOOKMILL_TEST_NO_SUCH".into(), prefix: String::new() };
    let credentials = Some((SecretRef::Plain("me".into()), missing));
    let proxy = Proxy { credentials, ..Proxy::parse("http://proxy.example").unwrap() };
    let settings = ClientSettings { proxy: Some(proxy), ..ClientSettings::default() };
    assert!(matches!(Client::new(settings), Err(ClientError::Proxy(_))));
}
