use std::time::Duration;

use async_nats::jetstream::stream::Config;
use hookmill_tests::{NatsServer, eventually};

const SOON: Duration = Duration::from_secs(20);

async fn publish_one(server: &NatsServer) -> u64 {
    let jetstream = server.jetstream().await;
    let ack = jetstream.publish("kept.one", "x".into()).await.expect("is sent");
    ack.await.expect("is stored").sequence
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_the_port_stays() {
    let mut server = NatsServer::start().await;
    let url = server.url();
    let config = Config { name: "KEPT".into(), subjects: vec!["kept.>".into()], ..Config::default() };
    server.jetstream().await.create_stream(config).await.expect("a stream can be made");
    assert_eq!(publish_one(&server).await, 1);
    server.kill().await;
    server.restart().await;
    assert_eq!(server.url(), url);
    assert_eq!(publish_one(&server).await, 2);
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(server.address()).await.is_err());
    server.restart().await;
    assert_eq!(publish_one(&server).await, 3);
}

#[tokio::test]
async fn options_reach_the_server() {
    let options = NatsServer::options().max_payload(4096).user("shop", "s3cret").extra("max_connections: 17");
    let server = options.start().await;
    assert_eq!(server.client().await.server_info().max_payload, 4096);
    assert!(async_nats::connect(server.url()).await.is_err(), "without a password nobody comes in");
}

#[tokio::test]
async fn a_paused_server_keeps_connections_open_and_answers_later() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    server.pause().await;
    let jetstream = async_nats::jetstream::new(client.clone());
    let asked = jetstream.query_account();
    tokio::pin!(asked);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut asked).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(client.connection_state(), async_nats::connection::State::Connected);
    server.resume();
    tokio::time::timeout(SOON, asked).await.expect("answers again").expect("and well");
}

#[tokio::test]
async fn two_servers_live_side_by_side_and_a_dropped_one_is_gone() {
    let (first, second) = tokio::join!(NatsServer::start(), NatsServer::start());
    assert_ne!(first.address(), second.address());
    let address = first.address();
    drop(first);
    eventually(SOON, "the port is closed", || async {
        match tokio::net::TcpStream::connect(address).await {
            Ok(_) => Err("somebody listens".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    second.client().await;
}
