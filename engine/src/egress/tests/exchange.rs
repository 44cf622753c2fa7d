//! Requests whose answers are read.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::support::{Act, Server};
use super::{TIMEOUT, loopback};
use crate::egress::{Client, ClientSettings, Exchange, ExchangeError, Reply, check_url, uri};

async fn exchange(server: &Server, method: Method, max: usize) -> Result<Reply, ExchangeError> {
    let client = Client::new(ClientSettings::default()).unwrap();
    let uri = uri(&check_url(&server.url()).unwrap()).unwrap();
    let ask = Exchange { method, uri, headers: HeaderMap::new(), body: Bytes::from_static(b"asked") };
    client.pool(&loopback(), TIMEOUT).exchange(&ask, max).await
}

#[tokio::test]
async fn method_and_body_go_out_and_the_answer_comes_back_whole_whatever_its_status() {
    let answer = "HTTP/1.1 404 Not Found\r\nx-a: b\r\ncontent-length: 6\r\n\r\nanswer";
    let server = Server::start(|_| Act::Reply(answer.into())).await;
    let reply = exchange(&server, Method::PUT, 6).await.unwrap();
    assert_eq!((reply.status, &*reply.body), (404, &b"answer"[..]));
    assert_eq!(reply.headers["x-a"], "b");
    let received = server.requests();
    assert!(received[0].head.starts_with("PUT /hook HTTP/1.1"), "{received:?}");
    assert_eq!(received[0].body, b"asked");
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_cut_off() {
    let endless = "HTTP/1.1 200 OK\r\n\r\n";
    let server = Server::start(move |_| Act::Endless(endless)).await;
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nanswer!";
    let other = Server::start(|_| Act::Reply(long.into())).await;
    assert_eq!(
        exchange(&server, Method::GET, 1 << 20).await.unwrap_err(),
        ExchangeError::TooLong { max: 1 << 20 }
    );
    assert_eq!(exchange(&other, Method::GET, 6).await.unwrap_err(), ExchangeError::TooLong { max: 6 });
}
