//! Too few file descriptors, or connections: the engine's fault, told apart from the endpoint's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::support::{Act, Answers, Server, ok};
use super::{SystemResolver, TIMEOUT, client, loopback, post_on};
use crate::egress::{Client, ClientSettings, Dial, Error, Policy, Resolve, TcpDialer};

/// A process without descriptors.
struct OutOfFiles;

impl Dial for OutOfFiles {
    fn dial(&self, _: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async { Err(Errno::MFILE.into()) })
    }
}

impl Resolve for OutOfFiles {
    fn resolve<'a>(&'a self, _: &'a str, _: OwnedSemaphorePermit) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async { Err(Errno::NFILE.into()) })
    }
}

#[tokio::test]
async fn a_process_without_descriptors_says_so_and_not_that_the_endpoint_failed() {
    for client in [
        client(Answers::new(&[&["93.184.216.34"]]), Arc::new(OutOfFiles), None),
        client(Arc::new(OutOfFiles), Arc::new(TcpDialer), None),
    ] {
        let pool = client.pool(&Policy::default(), TIMEOUT);
        let error = post_on(&pool, "https://hooks.example/secret").await.unwrap_err();
        assert_eq!(error, Error::OutOfFiles { host: "hooks.example".to_owned() });
        assert_eq!(
            error.to_string(),
            "can't connect to hooks.example: the engine has too many files open; raise its limit (`ulimit -n`)"
        );
    }
}

fn with_room_for(connections: usize) -> Arc<Client> {
    let settings = ClientSettings { connections_max: Some(connections), ..ClientSettings::default() };
    Client::with(settings, Arc::new(SystemResolver), Arc::new(TcpDialer)).unwrap()
}

#[tokio::test]
async fn an_endpoint_that_hangs_leaves_connections_for_others() {
    let (hanging, healthy) = (Server::start(|_| Act::Hang).await, Server::start(|_| ok()).await);
    let client = with_room_for(4);
    let short = Duration::from_secs(1);
    let (greedy, other) = (client.pool(&loopback(), short), client.pool(&loopback(), TIMEOUT));
    let (url, fine) = (hanging.url(), healthy.url());
    let all = futures_util::future::join_all((0..8).map(|_| post_on(&greedy, &url)));
    let (ends, answer) = tokio::join!(all, post_on(&other, &fine));
    assert_eq!(answer.unwrap().status, 200);
    let no_room = Error::NoRoom { host: "127.0.0.1".to_owned(), places: 4 };
    let refused = ends.iter().filter(|end| end.as_ref().is_err_and(|error| *error == no_room)).count();
    let hung = ends.iter().filter(|end| matches!(end, Err(Error::Timeout { .. }))).count();
    assert_eq!((refused, hung, hanging.accepted()), (6, 2, 2), "{ends:?}");
    // What hung has ended, so there is room again.
    hanging.all_closed().await;
    assert!(matches!(post_on(&greedy, &url).await, Err(Error::Timeout { .. })));
}

#[tokio::test]
async fn where_connections_are_scarce_none_is_kept_idle() {
    let (hanging, server) = (Server::start(|_| Act::Hang).await, Server::start(|_| ok()).await);
    let client = with_room_for(4);
    let pool = || client.pool(&loopback(), TIMEOUT);
    let (greedy, one, two) = (pool(), pool(), pool());
    let (hung, url) = (hanging.url(), server.url());
    let rest = async {
        hanging.has_open(2).await;
        // One connection of each stays; with the second of them there is none left.
        for pool in [&one, &two, &two] {
            post_on(pool, &url).await.unwrap();
        }
        server.has_open(1).await;
    };
    tokio::select! {
        _ = futures_util::future::join_all((0..2).map(|_| post_on(&greedy, &hung))) => panic!("they hang"),
        () = rest => {}
    }
    let closing: Vec<_> =
        server.requests().iter().map(|request| request.header("connection").map(str::to_owned)).collect();
    assert_eq!(closing, [None, None, Some("close".to_owned())]);
}
