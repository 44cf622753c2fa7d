//! Header blocks that no client library writes, put on the wire by hand: the server stores them as they come.

use data_encoding::BASE64;
use hookmill_tests::{Endpoint, NatsServer, behaviour};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::scene::{SOON, Scene, good, webhook};

/// Publishes `body` with the header block as it is, and waits until the server has it.
async fn publish_raw(server: &NatsServer, subject: &str, block: &[u8], body: &[u8]) {
    let stream = TcpStream::connect(server.address()).await.expect("the server takes connections");
    let (reading, mut writing) = stream.into_split();
    let mut message = b"CONNECT {\"headers\":true,\"verbose\":false}\r\n".to_vec();
    let total = block.len() + body.len();
    message.extend(format!("HPUB {subject} {} {total}\r\n", block.len()).bytes());
    message.extend([block, body, b"\r\nPING\r\n"].concat());
    writing.write_all(&message).await.expect("it can be written to");
    let mut lines = BufReader::new(reading).lines();
    while let Some(line) = lines.next_line().await.expect("it answers") {
        assert!(!line.starts_with("-ERR"), "{line}");
        if line == "PONG" {
            return;
        }
    }
    panic!("the server hung up");
}

/// Each ends the connection of the client that it is delivered to.
const UNREADABLE: [(&[u8], &str); 4] = [
    (b"NATS/1.0\r\nx-latin1: caf\xe9\r\nce-id: latin\r\nce-type: t\r\n\r\n", "not UTF-8"),
    (b"NATS/1.0\r\nno colon here\r\n\r\n", "no colon"),
    (b"NATS/1.0\r\na name: 1\r\n\r\n", "header name"),
    (b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\n", "begin with NATS/1.0"),
];

#[tokio::test]
async fn a_broken_header_block_stops_nobody() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = Scene::start(&webhook("all", &endpoint.url(), "")).await;
    let mut sent = 0;
    for (number, (block, _)) in UNREADABLE.iter().enumerate() {
        scene.publish((0..20).map(|each| good(&format!("before-{number}-{each}")))).await;
        publish_raw(&scene.server, "events.raw", block, b"the body").await;
        scene.publish((0..20).map(|each| good(&format!("after-{number}-{each}")))).await;
        sent += 40;
    }
    endpoint.wait_for_delivered(sent, SOON).await;
    let mut letters = scene.letters(UNREADABLE.len() as u64).await;
    letters.sort_by_key(|letter| letter.0["source"]["sequence"].as_u64());
    for ((block, expected), letter) in UNREADABLE.iter().zip(&letters) {
        assert_eq!(letter.end(), ("_", "not_cloudevent"), "{}", letter.0);
        assert!(letter.error().contains(expected), "{expected:?}: {}", letter.0);
        assert_eq!(letter.text("body"), "the body");
        assert_eq!(letter.0["source"]["subject"], "events.raw");
        let id = if *expected == "not UTF-8" { "latin" } else { "" };
        assert_eq!(letter.0["event"]["id"], id, "as far as it can be read");
        assert_eq!(letter.0["event"]["unverified"], true);
        let kept = letter.header("Hookmill-Source-Header-unreadable-header-block").map(str::to_owned);
        assert_eq!(kept, Some(BASE64.encode(block)));
    }
    scene.publish([good("last")]).await;
    endpoint.wait_for_delivered(sent + 1, SOON).await;
    scene.quiet().await;
}
