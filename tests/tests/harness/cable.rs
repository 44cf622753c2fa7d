use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use hookmill_tests::{Cable, Endpoint, NatsServer, behaviour, events, http};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(20);
const NOT_YET: Duration = Duration::from_millis(300);

/// Both ends of a connection through a new cable: the client's, then the server's.
async fn connected() -> (Cable, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let cable = Cable::to(listener.local_addr().expect("bound")).await;
    let client = TcpStream::connect(cable.address()).await.expect("the cable takes connections");
    let (server, _) = listener.accept().await.expect("the cable connects on");
    (cable, client, server)
}

async fn send(from: &mut TcpStream, to: &mut TcpStream, text: &[u8]) -> Duration {
    let begun = Instant::now();
    from.write_all(text).await.expect("writes");
    let mut arrived = vec![0; text.len()];
    tokio::time::timeout(SOON, to.read_exact(&mut arrived)).await.expect("in time").expect("arrives");
    assert_eq!(arrived, text);
    begun.elapsed()
}

#[tokio::test]
async fn a_whole_cable_carries_both_ways_and_counts() {
    let (cable, mut client, mut server) = connected().await;
    send(&mut client, &mut server, b"ping").await;
    send(&mut server, &mut client, b"pong!").await;
    // The count follows the write, which the reader may see first.
    let counts = || async {
        let seen = (cable.connections(), cable.bytes_up(), cable.bytes_down());
        if seen == (1, 4, 5) { Ok(()) } else { Err(format!("{seen:?}")) }
    };
    hookmill_tests::eventually(SOON, "all is counted", counts).await;
    drop(client);
    assert_eq!(server.read(&mut [0; 8]).await.expect("an orderly end"), 0);
}

#[tokio::test]
async fn a_cut_cable_resets_what_there_is_and_what_comes_until_it_is_healed() {
    let (cable, mut client, mut server) = connected().await;
    cable.cut();
    for end in [&mut client, &mut server] {
        let read = tokio::time::timeout(SOON, end.read(&mut [0; 8])).await.expect("in time");
        assert_eq!(read.expect_err("is reset").kind(), std::io::ErrorKind::ConnectionReset);
    }
    let mut refused = TcpStream::connect(cable.address()).await.expect("is taken for a moment");
    assert!(matches!(
        tokio::time::timeout(SOON, refused.read(&mut [0; 8])).await.expect("in time"),
        Err(_) | Ok(0)
    ));
    assert_eq!((cable.connections(), cable.refused()), (1, 1));

    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let cable = Cable::to(endpoint.address()).await;
    let url = format!("http://{}/", cable.address());
    cable.cut();
    assert!(http::get(&url).await.is_err());
    cable.heal();
    assert_eq!(http::get(&url).await, Ok((200, String::new())));
    cable.blink();
    assert_eq!(http::get(&url).await, Ok((200, String::new())));
}

#[tokio::test]
async fn a_stalled_cable_takes_nothing_and_loses_nothing() {
    let (cable, mut client, mut server) = connected().await;
    cable.stall();
    client.write_all(b"late").await.expect("the kernel takes it");
    let mut arrived = [0; 4];
    assert!(tokio::time::timeout(NOT_YET, server.read_exact(&mut arrived)).await.is_err());
    cable.heal();
    tokio::time::timeout(SOON, server.read_exact(&mut arrived)).await.expect("in time").expect("arrives");
    assert_eq!(&arrived, b"late");
}

#[tokio::test]
async fn a_slow_cable_delays_each_way_without_throttling() {
    let (cable, mut client, mut server) = connected().await;
    cable.delay(NOT_YET);
    assert!(send(&mut client, &mut server, b"up").await >= NOT_YET);
    assert!(send(&mut server, &mut client, b"down").await >= NOT_YET);
    let chunks = 50;
    let begun = Instant::now();
    for _ in 0..chunks {
        client.write_all(&[b'x'; 1000]).await.expect("writes");
        client.flush().await.expect("flushes");
    }
    let mut arrived = vec![0; chunks * 1000];
    tokio::time::timeout(SOON, server.read_exact(&mut arrived)).await.expect("in time").expect("arrives");
    assert!(begun.elapsed() < NOT_YET * 10, "{:?}: the delays add up", begun.elapsed());
    cable.heal();
    send(&mut client, &mut server, b"quick").await;
}

#[tokio::test]
async fn a_half_closed_cable_still_carries_to_the_server() {
    let (cable, mut client, mut server) = connected().await;
    cable.half_close();
    let read = tokio::time::timeout(SOON, client.read(&mut [0; 8])).await.expect("in time");
    assert_eq!(read.expect("an orderly end"), 0);
    send(&mut client, &mut server, b"still here").await;
}

#[tokio::test]
async fn a_nats_client_comes_back_through_a_healed_cable() {
    let server = NatsServer::start().await;
    events::make_source_stream(&server.jetstream().await).await;
    let cable = Cable::to(server.address()).await;
    let client = async_nats::connect(cable.nats_url()).await.expect("connects through the cable");
    let jetstream = async_nats::jetstream::new(client);
    events::publish_all(&jetstream, [events::structured(1)]).await;
    cable.blink();
    hookmill_tests::eventually(SOON, "a publish is acknowledged again", || async {
        let message = events::structured(2);
        let sent = jetstream.publish_with_headers(message.subject, message.headers, message.payload).await;
        let ack = tokio::time::timeout(Duration::from_secs(1), sent.map_err(|error| error.to_string())?);
        ack.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    })
    .await;
    assert!(cable.connections() >= 2);
}

#[tokio::test]
async fn single_requests_and_answers_are_held_up_and_nothing_else() {
    let server = NatsServer::start().await;
    let cable = Cable::to_nats(server.address(), 1).await;
    let client = async_nats::connect(cable.nats_url()).await.expect("the cable leads to the server");
    let mut numbers = client.subscribe("numbers").await.expect("subscribes");
    let ask = async || {
        let begun = Instant::now();
        let answer = client.request("$JS.API.INFO", "".into()).await.expect("is answered");
        assert!(answer.payload.starts_with(b"{"));
        begun.elapsed()
    };
    assert!(ask().await < SOON);
    assert_eq!(cable.held(), 0);
    // Each one, or its answer.
    cable.hold_requests(1, Duration::from_secs(2));
    let asked = async {
        let begun = Instant::now();
        let answers = futures_util::future::join_all((0..40).map(|_| ask())).await;
        (begun.elapsed(), answers)
    };
    let others = async {
        let begun = Instant::now();
        for number in 0..200_u32 {
            client.publish("numbers", number.to_string().into()).await.expect("is sent");
        }
        for number in 0..200_u32 {
            let message = numbers.next().await.expect("arrives");
            assert_eq!(message.payload, number.to_string());
        }
        begun.elapsed()
    };
    let ((_, answers), others) = tokio::join!(asked, others);
    assert_eq!(cable.held(), 40);
    let longest = answers.iter().max().expect("there are some");
    assert!(*longest > Duration::from_secs(1), "one of 40 draws is above the middle: {answers:?}");
    assert!(others < *longest, "what is not held up overtakes: {others:?}");
    assert!(!answers.is_sorted(), "they overtake one another");
    cable.heal();
    ask().await;
    assert_eq!(cable.held(), 40);
}
