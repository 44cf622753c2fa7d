//! Spellings of what must never be reached, each with the reason that it is refused for, before any packet leaves.
//!
//! Whatever could lead out of this machine is tried with a resolver and a dialer that only write down what they were asked
//! for. Spellings of loopback are also tried with real connections, against sockets that listen there and must see none.

mod spellings;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use spellings::{HOSTS, LOOPBACK, URLS, Why};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::support::Recorder;
use super::{Call, Client, ClientSettings, Dial, Error, Policy, Pool, Refusal, Resolve, TIMEOUT, allowing};
use super::{check_url, uri};

/// A resolver at its most obliging: whatever could be read as an inner name or address leads inside, all else is public.
#[derive(Default)]
struct Obliging(Mutex<Vec<String>>);

impl Obliging {
    fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Resolve for Obliging {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        _: OwnedSemaphorePermit,
    ) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.0.lock().unwrap().push(host.to_owned());
        let host = host.trim_end_matches('.');
        let contains = |parts: &[&str]| parts.iter().any(|part| host.contains(part));
        let address = if contains(&["169-254", "metadata"]) {
            "169.254.169.254"
        } else if contains(&["localhost", "127.0.0.1", "ip6-loopback", "localtest"]) {
            "127.0.0.1"
        } else {
            "93.184.216.34"
        };
        Box::pin(async move { Ok(vec![address.parse().unwrap()]) })
    }
}

/// Really connects, but to loopback alone, and counts.
#[derive(Default)]
struct WithinLoopback(AtomicUsize);

impl Dial for WithinLoopback {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let ip = address.ip().to_canonical();
        Box::pin(async move {
            if ip.is_loopback() || ip.is_unspecified() {
                TcpStream::connect(address).await
            } else {
                Err(io::ErrorKind::NetworkUnreachable.into())
            }
        })
    }
}

/// Why a request to this URL is refused; `Err` with what came instead if it isn't.
async fn refused(pool: &Pool, url: &str) -> Result<Why, String> {
    let checked = match check_url(url) {
        Ok(checked) => checked,
        Err(error) => return Ok(Why::from(error)),
    };
    let uri = uri(&checked).map_err(|error| error.to_string())?;
    let call = Call { uri, headers: http::HeaderMap::new(), body: bytes::Bytes::new() };
    match pool.post(call, &|| None).await {
        Err(Error::Refused { refusal: Refusal::Range(range), .. }) => Ok(Why::Range(range)),
        other => Err(format!("{checked}: {other:?}")),
    }
}

/// Every URL of the table with its reason, `http` and `https`.
fn table() -> Vec<(String, Why)> {
    let hosts = HOSTS.iter().chain([&LOOPBACK]);
    let hosts = hosts.flat_map(|(why, hosts)| hosts.iter().map(move |host| (host, *why)));
    let of_hosts = hosts
        .flat_map(|(host, why)| ["https", "http"].map(|scheme| (format!("{scheme}://{host}/hook"), why)));
    let whole = URLS.iter().flat_map(|(why, urls)| urls.iter().map(move |url| ((*url).to_owned(), *why)));
    of_hosts.chain(whole).collect()
}

#[tokio::test]
async fn each_spelling_is_refused_for_its_reason_and_nothing_is_sent() {
    let (resolve, dial) = (Arc::new(Obliging::default()), Arc::new(Recorder::default()));
    let client = Client::with(ClientSettings::default(), resolve.clone(), dial.clone()).unwrap();
    let pool = client.pool(&Policy::default(), TIMEOUT);
    let (mut wrong, mut counts) = (Vec::new(), BTreeMap::<String, usize>::new());
    let table = table();
    for (url, why) in &table {
        match refused(&pool, url).await {
            Ok(said) if said == *why => *counts.entry(format!("{why:?}")).or_default() += 1,
            other => wrong.push(format!("{url:?} should be {why:?}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(counts.values().sum::<usize>(), table.len());
    assert!(table.len() >= 240 && counts.len() >= 16, "{} URLs, {counts:#?}", table.len());
    assert_eq!(dial.dialed(), []);
    // An address in whatever spelling is none to look up: that alone would be a packet.
    let asked = resolve.asked();
    let address =
        |name: &&String| name.trim_end_matches('.').parse::<IpAddr>().is_ok() || name.starts_with('[');
    assert_eq!(asked.iter().find(address), None);
    assert!(asked.iter().any(|name| name == "localhost"), "{asked:?}");
}

#[tokio::test]
async fn the_same_client_does_dial_a_public_host() {
    let dial = Arc::new(Recorder::default());
    let client =
        Client::with(ClientSettings::default(), Arc::new(Obliging::default()), dial.clone()).unwrap();
    let said = refused(&client.pool(&Policy::default(), TIMEOUT), "https://example.com/").await;
    assert!(said.is_err_and(|said| said.contains("Connect")));
    assert_eq!(dial.dialed(), ["93.184.216.34:443".parse().unwrap()]);
}

/// Sockets on all addresses that the spellings mean, with one port.
async fn listeners() -> (u16, Vec<TcpListener>) {
    for _ in 0..32 {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        let last = TcpListener::bind(("127.255.255.254", port)).await;
        if let (Ok(last), Ok(v6)) = (last, TcpListener::bind(("::1", port)).await) {
            return (port, vec![first, last, v6]);
        }
    }
    panic!("no port that is free on all of them");
}

/// The URLs of all spellings of loopback, with this port.
fn loopback_urls(port: u16) -> Vec<String> {
    let with_port = |host: &str| {
        let end = host.find(['#', '?']).unwrap_or(host.len());
        format!("{}:{port}{}", &host[..end], &host[end..])
    };
    let hosts = LOOPBACK.1.iter().map(|host| with_port(host));
    hosts.flat_map(|host| ["https", "http"].map(|scheme| format!("{scheme}://{host}/hook"))).collect()
}

#[tokio::test]
async fn no_spelling_of_loopback_reaches_a_socket_that_listens_there() {
    let (port, listeners) = listeners().await;
    let dial = Arc::new(WithinLoopback::default());
    let client =
        Client::with(ClientSettings::default(), Arc::new(Obliging::default()), dial.clone()).unwrap();
    let pool = client.pool(&Policy::default(), TIMEOUT);
    for url in loopback_urls(port) {
        assert_eq!(refused(&pool, &url).await, Ok(LOOPBACK.0), "{url}");
    }
    assert_eq!(dial.0.load(Ordering::SeqCst), 0);
    for listener in listeners {
        // Connections are accepted in the order in which they came: ours is the first.
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_stream, from) = listener.accept().await.unwrap();
        assert_eq!(from, ours.local_addr().unwrap(), "somebody else connected before");
    }
}

#[tokio::test]
async fn every_spelling_of_loopback_does_reach_it_where_it_is_allowed() {
    let (port, listeners) = listeners().await;
    let accepted = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let accepted = accepted.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
    }
    let dial = Arc::new(WithinLoopback::default());
    let client =
        Client::with(ClientSettings::default(), Arc::new(Obliging::default()), dial.clone()).unwrap();
    let pool = client.pool(&allowing(&["0.0.0.0/0", "::/0"]), TIMEOUT);
    let urls = loopback_urls(port);
    for (number, url) in urls.iter().enumerate() {
        // The socket hangs up at once, so when the request has failed its connection was accepted.
        let said = refused(&pool, url).await.unwrap_err();
        assert!(!said.contains("Refused"), "{said}");
        assert_eq!(accepted.load(Ordering::SeqCst), number + 1, "{url}");
    }
    assert_eq!(dial.0.load(Ordering::SeqCst), urls.len());
}
