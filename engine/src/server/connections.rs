//! Accepts connections, speaks TLS where that is asked for, and hands requests to the router. Every wait has its bound:
//! the number of connections, the handshake, the head of a request, an answer that nobody reads.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use futures_util::future::{BoxFuture, poll_fn};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::tls::Tls;

/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for the head of a request, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Longest time that the other side may take nothing of an answer.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time that what still comes is read and dropped after the last answer.
const LINGER: Duration = Duration::from_secs(5);
/// How long requests that run may take to end after the stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long it is waited after the system refused a connection (most often: too many open files).
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Who sent a request; every request carries it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Serves until `stop`, at most so many connections at once; more wait in the system's queue.
pub(super) async fn serve(
    listener: TcpListener,
    connections_max: usize,
    tls: Option<Arc<Tls>>,
    router: Router,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(connections_max));
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = running.join_next() => {}
            (stream, peer, place) = accept(&listener, &places) => {
                let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
                running.spawn(async move {
                    connection(stream, peer, tls, router, stop).await;
                    drop(place);
                });
            }
        }
    }
    let _ = timeout(STOP_DEADLINE, async { while running.join_next().await.is_some() {} }).await;
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("nothing closes this semaphore");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, place),
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Tls>>,
    router: Router,
    stop: CancellationToken,
) {
    // Answers are small; without it they may be late, not wrong.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return converse(stream, peer, router, stop).await };
    match timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, peer, router, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn converse<S>(stream: S, peer: SocketAddr, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |mut request: Request<Incoming>| -> BoxFuture<'static, _> {
        request.extensions_mut().insert(Peer(peer));
        let mut router = router.clone();
        Box::pin(async move { router.call(request).await })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Watched::new(stream)), answer);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => break ended,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    match ended {
        Ok(()) => part(connection.into_parts().io.into_inner()).await,
        Err(error) => tracing::debug!(%error, "a connection to the admin address broke"),
    }
}

/// Ends a connection so that the last answer arrives. A request that was refused before its body had come would else be
/// reset by the system, and its client would never see why.
async fn part(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let rest = async {
        stream.shutdown().await?;
        let mut rest = vec![0; 16 << 10];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    // Whoever is gone by now has missed nothing.
    let _ = timeout(LINGER, rest).await;
}

/// A stream whose writes fail when the other side takes nothing for [`STALL_TIMEOUT`].
struct Watched<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    fn new(stream: S) -> Self {
        Self { stream, stalled: None }
    }

    /// Passes on what a write says; one that has to wait begins to be timed, or has waited too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, shut)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch(context, written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_fails_in_time_and_one_that_moves_does_not() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut near = Watched::new(near);
        near.write_all(b"1234").await.unwrap();
        let slow = async {
            for _ in 0..3 {
                sleep(STALL_TIMEOUT.mul_f32(0.9)).await;
                far.read_exact(&mut [0; 4]).await.unwrap();
            }
            far
        };
        let (written, _far) = tokio::join!(near.write_all(b"123412341234"), slow);
        written.unwrap();
        assert_eq!(near.write_all(b"1234").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
