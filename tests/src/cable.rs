//! A TCP cable between two ends that can be cut, stalled, slowed and half closed; one to a nats-server can also hold up single
//! requests and answers.

mod operations;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use operations::{Holding, Operation, Picker};

/// Chunks under way in one direction while the cable is slow.
const CHUNKS_MAX: usize = 1024;
/// Largest chunk, in bytes.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// A proxy on a loopback port in front of a server. Dropping it cuts everything.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    control: watch::Sender<Control>,
    counts: Arc<Counts>,
    // Held for its drop, which stops the proxy.
    _tasks: JoinSet<()>,
}

/// What the cable is told to do. Counters grow with each command, so that none is missed.
#[derive(Clone, Copy, Debug, Default)]
struct Control {
    is_cut: bool,
    cuts: u64,
    half_closes: u64,
    stalled: bool,
    delay: Duration,
    holding: Option<Holding>,
}

#[derive(Debug, Default)]
struct Counts {
    held: AtomicU64,
    connections: AtomicU64,
    refused: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

impl Cable {
    /// A cable to `server`; clients connect to [`address`](Self::address).
    pub async fn to(server: SocketAddr) -> Self {
        Self::lay(server, None).await
    }

    /// A cable to a nats-server, which can [`hold_requests`](Self::hold_requests). What is held up follows from `seed`, and from
    /// what is sent.
    pub async fn to_nats(server: SocketAddr, seed: u64) -> Self {
        Self::lay(server, Some(seed)).await
    }

    async fn lay(server: SocketAddr, seed: Option<u64>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free loopback port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (control, orders) = watch::channel(Control::default());
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, (server, seed), orders, Arc::clone(&counts)));
        Self { address, control, counts, _tasks: tasks }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `nats://127.0.0.1:PORT`
    pub fn nats_url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Resets all connections; new ones are reset at once, until [`heal`](Self::heal).
    pub fn cut(&self) {
        self.order(|control| {
            control.is_cut = true;
            control.cuts += 1;
        });
    }

    /// Resets all connections that there are; new ones are taken.
    pub fn blink(&self) {
        self.order(|control| control.cuts += 1);
    }

    /// The server's side of all connections that there are is closed (FIN to the client) while what the client sends
    /// still arrives.
    pub fn half_close(&self) {
        self.order(|control| control.half_closes += 1);
    }

    /// Takes no byte from either end, and drops none: connections stay open and nothing moves, until [`heal`](Self::heal).
    pub fn stall(&self) {
        self.order(|control| control.stalled = true);
    }

    /// Each byte that is read from now on arrives so much later, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.order(|control| control.delay = delay);
    }

    /// One in so many requests to JetStream and stores of an engine arrives late, by up to `most`, or the answer to it does. All
    /// else goes on in its order.
    pub fn hold_requests(&self, one_in: u32, most: Duration) {
        self.order(|control| control.holding = Some(Holding { one_in, most }));
    }

    /// Undoes cut, stall, delay and holding. Connections that were reset stay so, what is held up comes when it is due.
    pub fn heal(&self) {
        self.order(|control| {
            control.holding = None;
            control.is_cut = false;
            control.stalled = false;
            control.delay = Duration::ZERO;
        });
    }

    /// Connections that were taken so far.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Connections that were reset at once because the cable was cut.
    pub fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }

    /// Requests and answers that were held up.
    pub fn held(&self) -> u64 {
        self.counts.held.load(Ordering::Relaxed)
    }

    /// Bytes that arrived at the server.
    pub fn bytes_up(&self) -> u64 {
        self.counts.bytes_up.load(Ordering::Relaxed)
    }

    /// Bytes that arrived at clients.
    pub fn bytes_down(&self) -> u64 {
        self.counts.bytes_down.load(Ordering::Relaxed)
    }

    fn order(&self, change: impl FnOnce(&mut Control)) {
        self.control.send_modify(change);
    }
}

async fn accept(
    listener: TcpListener,
    (server, seed): (SocketAddr, Option<u64>),
    orders: watch::Receiver<Control>,
    counts: Arc<Counts>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Only reaps: connections end as the script or the two ends want it.
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                if orders.borrow().is_cut {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                    reset(&client);
                    continue;
                }
                let number = counts.connections.fetch_add(1, Ordering::Relaxed);
                let picker = seed.map(|seed| Mutex::new(Picker::new(StdRng::seed_from_u64(seed ^ (number << 32)))));
                connections.spawn(connect(client, server, picker, orders.clone(), Arc::clone(&counts)));
            }
        }
    }
}

async fn connect(
    mut client: TcpStream,
    server: SocketAddr,
    picker: Option<Mutex<Picker>>,
    mut orders: watch::Receiver<Control>,
    counts: Arc<Counts>,
) {
    let begun = *orders.borrow_and_update();
    // A server that is away: the client sees its connection closed, as by a proxy.
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        // `u64::MAX`: what the client sends is never half closed.
        let sent =
            Way { picker: picker.as_ref(), pick: Picker::sent, half_closes: u64::MAX, counts: &counts };
        let answered = Way { pick: Picker::answered, half_closes: begun.half_closes, ..sent };
        let up = pump(from_client, to_server, orders.clone(), sent, &counts.bytes_up);
        let down = pump(from_server, to_client, orders.clone(), answered, &counts.bytes_down);
        tokio::select! {
            _ = async { tokio::join!(up, down) } => return,
            _ = orders.wait_for(|control| control.cuts > begun.cuts) => {}
        }
    }
    reset(&client);
    reset(&server);
}

fn reset(stream: &TcpStream) {
    // It fails only on a socket that is gone already.
    let _ = stream.set_zero_linger();
}

/// What is particular to one direction.
#[derive(Clone, Copy)]
struct Way<'w> {
    /// None: single messages are not told apart.
    picker: Option<&'w Mutex<Picker>>,
    pick: fn(&mut Picker, &Operation, Holding) -> Option<Duration>,
    half_closes: u64,
    counts: &'w Counts,
}

/// Bytes under way.
struct Chunk {
    due: Instant,
    bytes: Bytes,
    /// Whether what comes behind it goes before it.
    is_held: bool,
}

/// Carries bytes one way until the sender closes, then closes towards the receiver.
async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    orders: watch::Receiver<Control>,
    way: Way<'_>,
    count: &AtomicU64,
) {
    let (chunks, inbox) = mpsc::channel(CHUNKS_MAX);
    tokio::join!(read(from, chunks, orders.clone(), way), write(to, inbox, orders, way.half_closes, count));
}

async fn read(
    mut from: ReadHalf<'_>,
    chunks: mpsc::Sender<Chunk>,
    mut orders: watch::Receiver<Control>,
    way: Way<'_>,
) {
    let mut buffer = BytesMut::new();
    loop {
        if orders.wait_for(|control| !control.stalled).await.is_err() {
            return;
        }
        buffer.reserve(CHUNK_BYTES_MAX);
        let read = tokio::select! {
            read = from.read_buf(&mut buffer) => read,
            _ = orders.wait_for(|control| control.stalled) => continue,
        };
        if read.unwrap_or(0) == 0 {
            return;
        }
        let Control { delay, holding, .. } = *orders.borrow();
        for chunk in way.chunks(&mut buffer, Instant::now() + delay, holding) {
            if chunks.send(chunk).await.is_err() {
                return;
            }
        }
    }
}

impl Way<'_> {
    /// What has come, as it is to go on. What is left in the buffer is the beginning of an operation.
    fn chunks(&self, buffer: &mut BytesMut, due: Instant, holding: Option<Holding>) -> Vec<Chunk> {
        let Some(picker) = self.picker else {
            return vec![Chunk { due, bytes: buffer.split().freeze(), is_held: false }];
        };
        let mut picker = picker.lock().expect("no holder panics");
        let (mut chunks, mut plain) = (Vec::new(), BytesMut::new());
        while let Some(operation) = operations::next(buffer) {
            let Some(time) = holding.and_then(|holding| (self.pick)(&mut picker, &operation, holding)) else {
                plain.extend_from_slice(&operation.bytes);
                continue;
            };
            self.counts.held.fetch_add(1, Ordering::Relaxed);
            chunks.push(Chunk { due: due + time, bytes: operation.bytes, is_held: true });
        }
        if !plain.is_empty() {
            chunks.push(Chunk { due, bytes: plain.freeze(), is_held: false });
        }
        chunks
    }
}

async fn write(
    mut to: WriteHalf<'_>,
    mut inbox: mpsc::Receiver<Chunk>,
    mut orders: watch::Receiver<Control>,
    half_closes: u64,
    count: &AtomicU64,
) {
    let mut closing = orders.clone();
    let carrying = async {
        let mut held = BinaryHeap::new();
        let mut number = 0_u64;
        loop {
            let next = held.peek().map(|Reverse((due, ..)): &Reverse<(Instant, u64, Bytes)>| *due);
            let bytes = tokio::select! {
                chunk = inbox.recv() => match chunk {
                    // What is still held up goes with the connection.
                    None => return,
                    Some(Chunk { due, bytes, is_held: true }) => {
                        held.push(Reverse((due, number, bytes)));
                        number += 1;
                        continue;
                    }
                    Some(Chunk { due, bytes, is_held: false }) => {
                        tokio::time::sleep_until(due).await;
                        bytes
                    }
                },
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    let Some(Reverse((_, _, bytes))) = held.pop() else { continue };
                    bytes
                }
            };
            let flows = orders.wait_for(|control| !control.stalled).await.is_ok();
            if !flows || to.write_all(&bytes).await.is_err() {
                return;
            }
            count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
    };
    tokio::select! {
        () = carrying => {}
        _ = closing.wait_for(|control| control.half_closes > half_closes) => {}
    }
    // It fails only on a socket that is gone already.
    let _ = to.shutdown().await;
}
