//! From a URI to a checked connection: resolve once, check every address, dial, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower_service::Service;

use super::resolve::{LOOKUPS_MAX, dial_first};
use super::{Dial, Error, Phase, Policy, Resolve, TlsFailure};

/// TCP to an address that the policy lets through. Each connection resolves its host once.
#[derive(Clone)]
struct Checked {
    policy: Arc<Policy>,
    resolve: Arc<dyn Resolve>,
    lookups: Arc<Semaphore>,
    dial: Arc<dyn Dial>,
}

impl Checked {
    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, Error> {
        let plain = uri.scheme() == Some(&http::uri::Scheme::HTTP);
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
        let addresses = self.addresses(host).await?;
        // One refused address refuses the host: who controls the name must not get a try at each of them.
        for address in &addresses {
            if let Err(refusal) = self.policy.check(*address, plain) {
                return Err(Error::Refused { host: host.to_owned(), address: *address, refusal });
            }
        }
        let sockets: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        let stream = dial_first(&*self.dial, &sockets).await;
        stream.map(TokioIo::new).map_err(|(address, error)| {
            let host = host.to_owned();
            Error::Connect { host, address, kind: error.kind() }
        })
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let permit = self.lookups.clone().acquire_owned().await.expect("the semaphore is never closed");
        let kind = match self.resolve.resolve(host, permit).await {
            Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
            Ok(_) => io::ErrorKind::NotFound,
            Err(error) => error.kind(),
        };
        Err(Error::Resolve { host: host.to_owned(), kind })
    }
}

impl Service<Uri> for Checked {
    type Response = TokioIo<TcpStream>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// What the HTTP client connects with. Has a deadline of its own: the client lets a connection that it started go on in
/// the background when another one became free first.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Checked>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(
        policy: Policy,
        resolve: Arc<dyn Resolve>,
        dial: Arc<dyn Dial>,
        tls: Arc<ClientConfig>,
        timeout: Duration,
    ) -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        let checked = Checked { policy: Arc::new(policy), resolve, lookups, dial };
        Self { https: HttpsConnector::from((checked, tls)), timeout }
    }

    async fn connect(mut self, uri: Uri) -> Result<Stream, Error> {
        let host = uri.host().unwrap_or_default().to_owned();
        match tokio::time::timeout(self.timeout, self.https.call(uri)).await {
            Ok(Ok(io)) => Ok(Stream { io, answered: Answered::default() }),
            // TCP's errors are ours already; whatever else comes is born in the handshake.
            Ok(Err(error)) => Err(match error.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(other) => Error::Tls { host, failure: TlsFailure::from_connector(&*other) },
            }),
            Err(_) => Err(Error::Timeout { phase: Phase::Connecting, after: self.timeout }),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Stream, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// Whether a connection has brought an answer before, so that its end says nothing about the request sent last.
#[derive(Clone, Default)]
pub(super) struct Answered(Arc<AtomicBool>);

impl Answered {
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn yes(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection, plain or TLS, that remembers whether it was of use.
pub(super) struct Stream {
    io: MaybeHttpsStream<TokioIo<TcpStream>>,
    answered: Answered,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.answered.clone())
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
