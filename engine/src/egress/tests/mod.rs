//! Which addresses are reached, over which connections. The peers are real sockets on loopback.

mod exchange;
mod refused;
pub(crate) mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use support::{Act, Answers, Authority, Recorder, Server, Silent, ok, self_signed};

use super::resolve::LOOKUPS_MAX;
use super::{
    Answer, Call, Client, ClientSettings, Dial, Error, Phase, Pool, Refusal, Resolve, SystemResolver,
    TcpDialer, TlsFailure, check_url, uri,
};

const TIMEOUT: Duration = Duration::from_secs(5);

fn call(url: &str) -> Call {
    let uri = uri(&check_url(url).unwrap()).unwrap();
    Call { uri, headers: HeaderMap::new(), body: Bytes::from_static(b"{}") }
}

/// One `POST`, made anew if it has to go out again.
async fn post_on(pool: &Pool, url: &str) -> Result<Answer, Error> {
    pool.post(call(url), &|| Some(call(url))).await
}

fn client(resolve: Arc<dyn Resolve>, dial: Arc<dyn Dial>, extra_ca: Option<Vec<u8>>) -> Arc<Client> {
    Client::with(ClientSettings { extra_ca, ..ClientSettings::default() }, resolve, dial).unwrap()
}

fn loopback() -> Vec<ipnet::IpNet> {
    vec!["127.0.0.0/8".parse().unwrap()]
}

async fn post(client: &Client, url: &str) -> Result<Answer, Error> {
    post_on(&client.pool(&loopback(), TIMEOUT), url).await
}

#[tokio::test]
async fn a_name_that_leads_to_the_metadata_service_is_refused_before_any_packet() {
    let dial = Arc::new(Recorder::default());
    let client = client(Answers::new(&[&["169.254.169.254"]]), dial.clone(), None);
    let error = post(&client, "https://innocent.example/").await.unwrap_err();
    let says = "innocent.example is refused: 169.254.169.254: it is a cloud metadata address and `allow` does not name it";
    assert_eq!(error.to_string(), says);
    assert!(dial.dialed().is_empty());
}

#[tokio::test]
async fn one_refused_address_among_good_ones_refuses_the_host() {
    for addresses in
        [["1.1.1.1", "10.0.0.1"], ["10.0.0.1", "1.1.1.1"], ["2606:4700::1111", "::ffff:10.0.0.1"]]
    {
        let dial = Arc::new(Recorder::default());
        let client = client(Answers::new(&[&addresses]), dial.clone(), None);
        let error = post(&client, "https://two.example/").await.unwrap_err();
        assert!(matches!(error, Error::Refused { refusal: Refusal::Range(_), .. }), "{error}");
        assert!(dial.dialed().is_empty());
    }
}

#[tokio::test]
async fn a_name_that_changes_its_mind_does_not_change_where_the_connection_goes() {
    let authority = Authority::new("known");
    let server = Server::start_tls(authority.server("rebind.example", 4000)).await;
    let resolve = Answers::new(&[&["93.184.216.34"], &["169.254.169.254"]]);
    let dial = Recorder::leading_to(server.address);
    let client = client(resolve.clone(), dial.clone(), Some(authority.pem()));
    let pool = client.pool(&[], TIMEOUT);
    for _ in 0..2 {
        assert_eq!(post_on(&pool, "https://rebind.example/").await.unwrap().status, 200);
    }
    assert_eq!(resolve.asked(), 1, "once for a connection");
    assert_eq!(dial.dialed(), ["93.184.216.34:443".parse().unwrap()], "the checked address");

    // The next connection resolves again, and the new answer is refused.
    let error = post_on(&client.pool(&[], TIMEOUT), "https://rebind.example/").await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(dial.dialed().len(), 1);
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_take_the_connection() {
    let server = Server::start(|_| ok()).await;
    let resolve = Answers::new(&[&["127.0.0.2", "127.0.0.1"]]);
    let client = client(resolve, Arc::new(TcpDialer), None);
    let url = format!("http://both.example:{}/", server.address.port());
    assert_eq!(post(&client, &url).await.unwrap().status, 200);
}

#[tokio::test]
async fn plain_http_goes_only_to_addresses_that_allow_names() {
    let dial = Arc::new(Recorder::default());
    let client = client(Answers::new(&[&["1.1.1.1"]]), dial.clone(), None);
    let error = post_on(&client.pool(&[], TIMEOUT), "http://plain.example/").await.unwrap_err();
    assert!(matches!(error, Error::Refused { refusal: Refusal::Plain, .. }), "{error}");
    assert!(dial.dialed().is_empty());

    let allow = ["1.1.1.1/32".parse().unwrap()];
    let error = post_on(&client.pool(&allow, TIMEOUT), "http://plain.example/").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert_eq!(dial.dialed(), ["1.1.1.1:80".parse().unwrap()]);
}

#[tokio::test]
async fn what_the_process_denies_no_endpoint_allows() {
    let deny = vec!["127.0.0.1/32".parse().unwrap()];
    let settings = ClientSettings { deny, ..ClientSettings::default() };
    let dial = Arc::new(Recorder::default());
    let client = Client::with(settings, Arc::new(SystemResolver), dial.clone()).unwrap();
    let error = post(&client, "http://127.0.0.1:9/").await.unwrap_err();
    assert!(matches!(error, Error::Refused { refusal: Refusal::Denied, .. }), "{error}");
    assert!(dial.dialed().is_empty());
}

#[tokio::test]
async fn a_connection_that_one_policy_let_through_serves_no_other() {
    let server = Server::start(|_| ok()).await;
    let client = Client::new(ClientSettings::default()).unwrap();
    let open = client.pool(&loopback(), TIMEOUT);
    let shut = client.pool(&[], TIMEOUT);
    assert_eq!(post_on(&open, &server.url()).await.unwrap().status, 200);
    let error = post_on(&shut, &server.url()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(post_on(&open, &server.url()).await.unwrap().status, 200);
    assert_eq!((server.accepted(), server.requests().len()), (1, 2));
}

#[tokio::test]
async fn a_good_certificate_of_an_extra_authority_is_accepted() {
    let authority = Authority::new("known");
    let server = Server::start_tls(authority.server("good.example", 4000)).await;
    let client = client(Answers::new(&[&["127.0.0.1"]]), Arc::new(TcpDialer), Some(authority.pem()));
    let url = format!("https://good.example:{}/", server.address.port());
    assert_eq!(post(&client, &url).await.unwrap().status, 200);
}

#[tokio::test]
async fn each_bad_certificate_says_what_is_wrong_with_it() {
    let authority = Authority::new("known");
    for (tls, failure) in [
        (authority.server("tls.example", 2001), TlsFailure::Expired),
        (authority.server("other.example", 4000), TlsFailure::WrongHost),
        (self_signed("tls.example"), TlsFailure::UnknownIssuer),
        (Authority::new("unknown").server("tls.example", 4000), TlsFailure::UnknownIssuer),
    ] {
        let server = Server::start_tls(tls).await;
        let client = client(Answers::new(&[&["127.0.0.1"]]), Arc::new(TcpDialer), Some(authority.pem()));
        let url = format!("https://tls.example:{}/", server.address.port());
        let error = post(&client, &url).await.unwrap_err();
        assert_eq!(error, Error::Tls { host: "tls.example".into(), failure });
        assert!(server.requests().is_empty());
    }
}

#[tokio::test]
async fn https_to_a_server_without_tls_says_so() {
    let server = Server::start(|_| ok()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = Client::new(ClientSettings::default()).unwrap();
    let url = format!("https://127.0.0.1:{port}/");
    // Answers a TLS hello in plain text.
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        stream
    };
    let (error, _stream) = tokio::join!(post(&client, &url), plain);
    let failure = TlsFailure::NotTls;
    assert_eq!(error.unwrap_err(), Error::Tls { host: "127.0.0.1".into(), failure });
    drop(server);
}

#[tokio::test]
async fn a_resolver_that_never_answers_and_a_name_without_addresses_fail_in_time() {
    let short = Duration::from_millis(200);
    let client_with = |resolve| client(resolve, Arc::new(Recorder::default()), None);
    let pool = client_with(Arc::new(Silent::default())).pool(&[], short);
    let error = post_on(&pool, "https://slow.example/").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::Head | Phase::Connecting, .. }), "{error}");
    let pool = client_with(Answers::new(&[&[]])).pool(&[], short);
    let error = post_on(&pool, "https://no.example/").await.unwrap_err();
    assert_eq!(error.to_string(), "no.example does not resolve: entity not found");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_a_failed_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(ClientSettings::default()).unwrap();
    let error = post(&client, &format!("http://{address}/secret-path")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("can't connect to 127.0.0.1 at {address}: connection refused"));
}

#[tokio::test]
async fn a_server_that_closes_a_kept_connection_as_it_is_used_again_costs_no_attempt() {
    // The second request arrives on the first connection and gets no answer: the race of a keep-alive that runs out.
    let server = Server::start(|number| match number {
        1 => Act::ReplyThenClose(String::new()),
        _ => ok(),
    })
    .await;
    let pool = Client::new(ClientSettings::default()).unwrap().pool(&loopback(), TIMEOUT);
    for _ in 0..2 {
        assert_eq!(post_on(&pool, &server.url()).await.unwrap().status, 200);
    }
    let on: Vec<_> = server.requests().iter().map(|request| request.connection).collect();
    assert_eq!(on, [0, 0, 1]);
}

#[tokio::test]
async fn connections_closed_while_idle_are_replaced_without_a_word() {
    let closing = || Act::ReplyThenClose("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into());
    let server = Server::start(move |_| closing()).await;
    let pool = Client::new(ClientSettings::default()).unwrap().pool(&loopback(), TIMEOUT);
    for _ in 0..50 {
        assert_eq!(post_on(&pool, &server.url()).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_fresh_connection_that_is_closed_without_an_answer_is_not_tried_twice() {
    let server = Server::start(|_| Act::ReplyThenClose(String::new())).await;
    let client = Client::new(ClientSettings::default()).unwrap();
    let error = post(&client, &server.url()).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_name_whose_servers_are_silent_takes_few_threads() {
    let silent = Arc::new(Silent::default());
    let client = client(silent.clone(), Arc::new(Recorder::default()), None);
    let pool = client.pool(&[], Duration::from_millis(50));
    for _ in 0..3 {
        let calls = (0..8).map(|_| post_on(&pool, "https://silent.example/"));
        for result in futures_util::future::join_all(calls).await {
            assert!(matches!(result, Err(Error::Timeout { .. })));
        }
    }
    assert_eq!(silent.under_way(), LOOKUPS_MAX);
}
