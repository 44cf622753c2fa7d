//! Names to addresses, and addresses to sockets. Two traits, so that a test can answer in their place and see that
//! nothing leaves.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// Most lookups that one endpoint has under way. A lookup holds a thread until the system gives up, also when nobody waits for
/// it any more: a name whose servers are silent must not take the threads that the other endpoints need.
pub(super) const LOOKUPS_MAX: usize = 4;

/// Turns a host name into addresses, best first.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of `host`. An empty answer counts as "no such host". `permit` is kept until the lookup has really
    /// ended, even when the future is dropped before.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        permit: OwnedSemaphorePermit,
    ) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// Opens a TCP connection.
pub trait Dial: Send + Sync + 'static {
    /// A connection to exactly this address.
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// The system's resolver (hosts file, DNS, sorted after RFC 6724 by the C library).
#[derive(Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        permit: OwnedSemaphorePermit,
    ) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        let lookup = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let addresses = (host.as_str(), 0).to_socket_addrs()?;
            Ok(addresses.map(|address| address.ip()).collect())
        });
        Box::pin(async move { lookup.await.map_err(io::Error::other)? })
    }
}

/// Real TCP.
#[derive(Debug, Default)]
pub struct TcpDialer;

impl Dial for TcpDialer {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            // One request is one write; waiting for more of it would only add delay.
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

/// Most addresses of one host that are tried for one connection.
const ADDRESSES_MAX: usize = 8;

/// The next address is tried when one failed or has not answered for this long (RFC 8305, section 5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Connects to the first of `addresses` that answers. All of them have been checked.
pub(super) async fn dial_first(
    dial: &dyn Dial,
    addresses: &[SocketAddr],
) -> Result<TcpStream, (SocketAddr, io::Error)> {
    let mut waiting = addresses.iter().copied().take(ADDRESSES_MAX).peekable();
    let mut running = FuturesUnordered::new();
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let mut last = (nowhere, io::Error::from(io::ErrorKind::AddrNotAvailable));
    loop {
        if let Some(address) = waiting.next() {
            running.push(async move { dial.dial(address).await.map_err(|error| (address, error)) });
        }
        tokio::select! {
            done = running.next() => match done {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = error,
                None => return Err(last),
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if waiting.peek().is_some() => {}
        }
    }
}
