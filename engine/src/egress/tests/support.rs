//! A scripted endpoint, and stand-ins for resolver and dialer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::egress::{Dial, Resolve};

/// What the endpoint does once it has read a request.
#[derive(Clone)]
pub(crate) enum Act {
    /// Answers and keeps the connection.
    Reply(String),
    /// Answers and closes.
    ReplyThenClose(String),
    /// Says nothing until the other side goes away.
    Hang,
    /// Sends this, then one byte each second.
    Drip(&'static str),
    /// Sends this, then bytes without end.
    Endless(&'static str),
}

/// `200` with an empty body.
pub(crate) fn ok() -> Act {
    answer("200 OK", "")
}

/// A status and further header lines, each ending in CR LF.
pub(crate) fn answer(status: &str, headers: &str) -> Act {
    Act::Reply(format!("HTTP/1.1 {status}\r\n{headers}content-length: 0\r\n\r\n"))
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Which connection it came on, from 0.
    pub(crate) connection: usize,
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        lines.filter_map(|line| line.split_once(": ")).find(|(have, _)| *have == name).map(|(_, value)| value)
    }
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Received>>,
    accepted: AtomicUsize,
}

/// An endpoint on loopback; ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    open: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// `script` says what to do with the request of that number, counted over all connections.
    pub(crate) async fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        Self::start_with(script, None).await
    }

    pub(crate) async fn start_tls(tls: rustls::ServerConfig) -> Self {
        Self::start_with(|_| ok(), Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn start_with(
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (count, open) = watch::channel(0);
        let (count, script) = (Arc::new(count), Arc::new(script));
        let mut tasks = JoinSet::new();
        let shared = seen.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let connection = shared.accepted.fetch_add(1, Ordering::SeqCst);
                let (seen, script, tls, count) = (shared.clone(), script.clone(), tls.clone(), count.clone());
                connections.spawn(async move {
                    count.send_modify(|open| *open += 1);
                    // A client that goes away in the middle is part of many tests.
                    let _ = match tls {
                        None => serve(stream, connection, &seen, &*script).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, connection, &seen, &*script).await,
                            Err(error) => Err(error),
                        },
                    };
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { address, seen, open, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Received> {
        self.seen.requests.lock().unwrap().clone()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.seen.accepted.load(Ordering::SeqCst)
    }

    /// Waits until the client has closed all connections.
    pub(crate) async fn all_closed(&self) {
        self.has_open(0).await;
    }

    /// Waits until the client has so many connections open.
    pub(crate) async fn has_open(&self, count: usize) {
        let mut open = self.open.clone();
        let seen = tokio::time::timeout(Duration::from_secs(10), open.wait_for(|open| *open == count)).await;
        seen.unwrap_or_else(|_| panic!("not {count} connections within 10 s")).unwrap();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: usize,
    seen: &Seen,
    script: &(impl Fn(usize) -> Act + ?Sized),
) -> io::Result<()> {
    while let Some(mut request) = read_request(&mut stream).await? {
        request.connection = connection;
        let number = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(request);
            requests.len() - 1
        };
        match script(number) {
            Act::Reply(text) => stream.write_all(text.as_bytes()).await?,
            Act::ReplyThenClose(text) => {
                stream.write_all(text.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Act::Hang => {
                stream.read_to_end(&mut Vec::new()).await?;
            }
            Act::Drip(start) => {
                stream.write_all(start.as_bytes()).await?;
                let mut more = [0];
                loop {
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => stream.write_all(b"x").await?,
                        gone = stream.read(&mut more) => return gone.map(|_| ()),
                    }
                }
            }
            Act::Endless(start) => {
                stream.write_all(start.as_bytes()).await?;
                loop {
                    stream.write_all(&[b'x'; 16 * 1024]).await?;
                }
            }
        }
    }
    Ok(())
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<Received>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut request = Received { connection: 0, head, body: bytes.split_off(end) };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    while request.body.len() < length {
        if stream.read_buf(&mut request.body).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(request))
}

/// A resolver that gives the answers in turn, the last one for ever.
pub(crate) struct Answers {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Answers {
    pub(crate) fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self { answers: answers.iter().map(parse).collect(), asked: AtomicUsize::new(0) })
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolve for Answers {
    fn resolve<'a>(&'a self, _: &'a str, _: OwnedSemaphorePermit) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        Box::pin(async move { Ok(self.answers[turn].clone()) })
    }
}

/// A resolver that never answers, and whose lookups never end.
#[derive(Default)]
pub(crate) struct Silent(Mutex<Vec<OwnedSemaphorePermit>>);

impl Silent {
    pub(crate) fn under_way(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Resolve for Silent {
    fn resolve<'a>(
        &'a self,
        _: &'a str,
        permit: OwnedSemaphorePermit,
    ) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.0.lock().unwrap().push(permit);
        Box::pin(std::future::pending())
    }
}

/// A dialer that writes down every address and connects, if at all, to another one.
#[derive(Default)]
pub(crate) struct Recorder {
    dialed: Mutex<Vec<SocketAddr>>,
    lead_to: Option<SocketAddr>,
}

impl Recorder {
    pub(crate) fn leading_to(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self { dialed: Mutex::default(), lead_to: Some(address) })
    }

    pub(crate) fn dialed(&self) -> Vec<SocketAddr> {
        self.dialed.lock().unwrap().clone()
    }
}

impl Dial for Recorder {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        self.dialed.lock().unwrap().push(address);
        Box::pin(async move {
            match self.lead_to {
                Some(address) => TcpStream::connect(address).await,
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

/// A certificate authority for tests.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// A server's settings with a good certificate for `host`.
    pub(crate) fn server(&self, host: &str) -> rustls::ServerConfig {
        Certificate::for_host(host).signed_by(self).server()
    }
}

/// A certificate that is not signed yet.
pub(crate) struct Certificate(CertificateParams);

impl Certificate {
    pub(crate) fn for_host(host: &str) -> Self {
        Self(CertificateParams::new([host.to_owned()]).unwrap())
    }

    /// Valid from the first day of this year on.
    pub(crate) fn from(mut self, year: i32) -> Self {
        self.0.not_before = rcgen::date_time_ymd(year, 1, 1);
        self
    }

    /// Valid to the first day of this year.
    pub(crate) fn until(mut self, year: i32) -> Self {
        self.0.not_after = rcgen::date_time_ymd(year, 1, 1);
        self
    }

    /// One that may sign others.
    pub(crate) fn of_an_authority(mut self) -> Self {
        self.0.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self
    }

    pub(crate) fn signed_by(self, authority: &Authority) -> Signed {
        let key = KeyPair::generate().unwrap();
        Signed(self.0.signed_by(&key, &authority.0).unwrap(), key)
    }

    pub(crate) fn self_signed(self) -> Signed {
        let key = KeyPair::generate().unwrap();
        Signed(self.0.self_signed(&key).unwrap(), key)
    }
}

/// A certificate with its key.
pub(crate) struct Signed(rcgen::Certificate, KeyPair);

impl Signed {
    pub(crate) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    pub(crate) fn server(&self) -> rustls::ServerConfig {
        self.server_speaking(rustls::ALL_VERSIONS)
    }

    pub(crate) fn server_speaking(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(versions).unwrap().with_no_client_auth();
        let key = PrivateKeyDer::Pkcs8(self.1.serialize_der().into());
        builder.with_single_cert(vec![self.0.der().clone()], key).unwrap()
    }
}
