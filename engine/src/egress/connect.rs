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
use http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower_service::Service;

use super::own::OwnListeners;
use super::policy::{Refusal, literal, loopback_by_name};
use super::proxy::Gate;
use super::resolve::{LOOKUPS_MAX, dial_first};
use super::room::{Own, Place, Room};
use super::{Destination, Dial, Error, Phase, Policy, ProxyFailure, Resolve, TlsFailure};
use crate::model::is_out_of_files;

/// TCP to where the policy lets through. Each connection resolves its host once.
#[derive(Clone)]
struct Checked {
    policy: Arc<Policy>,
    resolve: Arc<dyn Resolve>,
    lookups: Arc<Semaphore>,
    dial: Arc<dyn Dial>,
    proxy: Option<Arc<Gate>>,
    listeners: Arc<OwnListeners>,
}

impl Checked {
    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, Error> {
        let plain = uri.scheme() == Some(&Scheme::HTTP);
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
        let to = Destination { host, port, plain };
        let stream = match &self.proxy {
            Some(proxy) => self.through(proxy, &to).await?,
            None => self.direct(&to).await?,
        };
        Ok(TokioIo::new(stream))
    }

    async fn direct(&self, to: &Destination<'_>) -> Result<TcpStream, Error> {
        let host = || to.host.to_owned();
        let refused = |address, refusal| Error::Refused { host: host(), address, refusal };
        self.policy.check_name(to).map_err(|refusal| refused(None, refusal))?;
        let addresses = self.addresses(to.host).await;
        let unresolved = |kind| Error::Resolve { host: host(), kind };
        let addresses = addresses.map_err(|error| failed(to.host, &error, unresolved))?;
        // One refused address refuses the host: who controls the name must not get a try at each of them.
        for address in &addresses {
            self.policy.check(to, *address).map_err(|refusal| refused(Some(*address), refusal))?;
            if self.listeners.has(SocketAddr::new(*address, to.port)) {
                return Err(refused(Some(*address), Refusal::Own));
            }
        }
        let stream = self.dial(addresses, to.port).await;
        stream.map_err(|(address, error)| {
            failed(to.host, &error, |kind| Error::Connect { host: host(), address, kind })
        })
    }

    /// By the proxy, which resolves the host: what is known here is what the URL says. Its own address is not checked: who
    /// runs the engine has named it.
    async fn through(&self, proxy: &Gate, to: &Destination<'_>) -> Result<TcpStream, Error> {
        let refused = |(address, refusal)| Error::Refused { host: to.host.to_owned(), address, refusal };
        self.policy.check_unresolved(to).map_err(refused)?;
        let known = literal(to.host).or_else(|| loopback_by_name(to.host));
        if let Some(address) = known.filter(|address| self.listeners.has(SocketAddr::new(*address, to.port)))
        {
            return Err(refused((Some(address), Refusal::Own)));
        }
        let unresolved = |kind| proxy.failed(to.host, ProxyFailure::Resolve(kind));
        let addresses = self.addresses(&proxy.host).await;
        let addresses = addresses.map_err(|error| failed(to.host, &error, unresolved))?;
        let stream = self.dial(addresses, proxy.port).await.map_err(|(address, error)| {
            failed(to.host, &error, |kind| proxy.failed(to.host, ProxyFailure::Connect(address, kind)))
        })?;
        if to.plain {
            return Ok(stream);
        }
        let led = proxy.tunnel(stream, to.host, to.port).await;
        led.map_err(|failure| proxy.failed(to.host, failure))
    }

    async fn dial(&self, addresses: Vec<IpAddr>, port: u16) -> Result<TcpStream, (SocketAddr, io::Error)> {
        let sockets: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        dial_first(&*self.dial, &sockets).await
    }

    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Some(address) = literal(host) {
            return Ok(vec![address]);
        }
        let permit = self.lookups.clone().acquire_owned().await.expect("the semaphore is never closed");
        match self.resolve.resolve(host, permit).await {
            Ok(addresses) if !addresses.is_empty() => Ok(addresses),
            Ok(_) => Err(io::ErrorKind::NotFound.into()),
            Err(error) => Err(error),
        }
    }
}

/// What the system's error means on the way to `host`: that this process has too many files open, or something `other`.
fn failed(host: &str, error: &io::Error, other: impl FnOnce(io::ErrorKind) -> Error) -> Error {
    if is_out_of_files(error) { Error::OutOfFiles { host: host.to_owned() } } else { other(error.kind()) }
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
    room: Arc<Room>,
    own: Own,
    timeout: Duration,
    proxied: bool,
}

impl Connector {
    pub(super) fn new(
        policy: Policy,
        resolve: Arc<dyn Resolve>,
        dial: Arc<dyn Dial>,
        tls: Arc<ClientConfig>,
        (proxy, listeners): (Option<Arc<Gate>>, Arc<OwnListeners>),
        (room, own): (Arc<Room>, Own),
        timeout: Duration,
    ) -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        let proxied = proxy.is_some();
        let checked = Checked { policy: Arc::new(policy), resolve, lookups, dial, proxy, listeners };
        Self { https: HttpsConnector::from((checked, tls)), room, own, timeout, proxied }
    }

    async fn connect(mut self, uri: Uri) -> Result<Stream, Error> {
        let host = uri.host().unwrap_or_default().to_owned();
        let Some(place) = self.room.place(&self.own, self.timeout).await else {
            return Err(Error::NoRoom { host, places: self.room.places() });
        };
        match tokio::time::timeout(self.timeout, self.https.call(uri)).await {
            Ok(Ok(io)) => {
                let by_proxy = self.proxied && matches!(io, MaybeHttpsStream::Http(_));
                Ok(Stream { io, answered: Answered::default(), by_proxy, _place: place })
            }
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
    /// Whether the proxy itself reads the requests, which then name their host in full.
    by_proxy: bool,
    _place: Place,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.by_proxy).extra(self.answered.clone())
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
