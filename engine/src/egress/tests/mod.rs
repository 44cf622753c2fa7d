//! Which addresses are reached, over which connections. The peers are real sockets on loopback.

mod exchange;
mod http2;
mod proxy;
mod refused;
mod scarcity;
pub(crate) mod support;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use support::{Act, Answers, Authority, Recorder, Server, Silent, ok};

use super::resolve::LOOKUPS_MAX;
use super::{
    Answer, Call, Client, ClientSettings, Dial, Error, Phase, Policy, Pool, Range, Refusal, Resolve, Rule,
    SystemResolver, TcpDialer, TlsSettings, check_url, uri,
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

fn client(resolve: Arc<dyn Resolve>, dial: Arc<dyn Dial>, ca: Option<Vec<u8>>) -> Arc<Client> {
    let tls = TlsSettings { ca, ..TlsSettings::default() };
    Client::with(ClientSettings { tls, ..ClientSettings::default() }, resolve, dial).unwrap()
}

fn allowing(entries: &[&str]) -> Policy {
    let allow = entries.iter().map(|entry| Rule::allowing(entry).unwrap()).collect();
    Policy { allow, deny: Vec::new() }
}

fn denying(entries: &[&str]) -> Policy {
    let deny = entries.iter().map(|entry| entry.parse().unwrap()).collect();
    Policy { allow: Vec::new(), deny }
}

fn loopback() -> Policy {
    allowing(&["127.0.0.0/8"])
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

/// However it is spelled, and whatever is allowed.
#[tokio::test]
async fn the_own_listener_is_never_reached() {
    let dial = Arc::new(Recorder::default());
    let client = client(Answers::new(&[&["127.0.0.1"]]), dial.clone(), None);
    client.never_reach("127.0.0.1:8470".parse().unwrap());
    for url in [
        "http://127.0.0.1:8470/v1/lanes/a/b/pause",
        "http://inside.example:8470/",
        "http://localhost:8470/",
        "http://[::ffff:127.0.0.1]:8470/",
        "http://0.0.0.0:8470/",
    ] {
        let all = Policy {
            allow: ["0.0.0.0/0", "::/0"].map(|net| net.parse().unwrap()).to_vec(),
            ..Policy::default()
        };
        let error = post_on(&client.pool(&all, TIMEOUT), url).await.unwrap_err();
        assert!(matches!(error, Error::Refused { refusal: Refusal::Own, .. }), "{url}: {error}");
    }
    assert!(dial.dialed().is_empty());
    let error = post(&client, "http://127.0.0.1:8471/").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "another port is another's: {error}");
}

#[tokio::test]
async fn a_name_that_changes_its_mind_does_not_change_where_the_connection_goes() {
    let authority = Authority::new("known");
    let server = Server::start_tls(authority.server("rebind.example")).await;
    let resolve = Answers::new(&[&["93.184.216.34"], &["169.254.169.254"]]);
    let dial = Recorder::leading_to(server.address);
    let client = client(resolve.clone(), dial.clone(), Some(authority.pem()));
    let pool = client.pool(&Policy::default(), TIMEOUT);
    for _ in 0..2 {
        assert_eq!(post_on(&pool, "https://rebind.example/").await.unwrap().status, 200);
    }
    assert_eq!(resolve.asked(), 1, "once for a connection");
    assert_eq!(dial.dialed(), ["93.184.216.34:443".parse().unwrap()], "the checked address");

    // The next connection resolves again, and the new answer is refused.
    let error =
        post_on(&client.pool(&Policy::default(), TIMEOUT), "https://rebind.example/").await.unwrap_err();
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
async fn plain_http_goes_only_to_what_allow_names() {
    let dial = Arc::new(Recorder::default());
    let client = client(Answers::new(&[&["1.1.1.1"]]), dial.clone(), None);
    let error =
        post_on(&client.pool(&Policy::default(), TIMEOUT), "http://plain.example/").await.unwrap_err();
    assert!(matches!(error, Error::Refused { refusal: Refusal::Plain, .. }), "{error}");
    assert!(dial.dialed().is_empty());

    let address: SocketAddr = "1.1.1.1:80".parse().unwrap();
    for (number, allow) in ["1.1.1.1/32", "plain.example", "*.example:80"].into_iter().enumerate() {
        let pool = client.pool(&allowing(&[allow]), TIMEOUT);
        let error = post_on(&pool, "http://plain.example/").await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{allow}: {error}");
        assert_eq!(dial.dialed(), vec![address; number + 1], "{allow}");
    }
}

#[tokio::test]
async fn what_the_process_denies_no_endpoint_allows() {
    let settings = ClientSettings { policy: denying(&["127.0.0.1"]), ..ClientSettings::default() };
    let dial = Arc::new(Recorder::default());
    let client = Client::with(settings, Arc::new(SystemResolver), dial.clone()).unwrap();
    let error = post(&client, "http://127.0.0.1:9/").await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 is refused: 127.0.0.1: `deny` has 127.0.0.1/32");
    assert!(dial.dialed().is_empty());
}

#[tokio::test]
async fn a_denied_host_or_port_is_not_even_resolved() {
    let (resolve, dial) = (Answers::new(&[&["1.1.1.1"]]), Arc::new(Recorder::default()));
    let settings = ClientSettings { policy: allowing(&["mail.example"]), ..ClientSettings::default() };
    let client = Client::with(settings, resolve.clone(), dial.clone()).unwrap();
    let pool = client.pool(&denying(&["*.example:8443", ":25", "mail.example"]), TIMEOUT);
    for (url, rule) in [
        ("https://hooks.example:8443/", "*.example:8443"),
        ("https://HOOKS.example.:8443/", "*.example:8443"),
        ("https://other.test:25/", ":25"),
        ("http://mail.example/", "mail.example"),
    ] {
        let error = post_on(&pool, url).await.unwrap_err();
        assert!(error.to_string().ends_with(&format!(" is refused: `deny` has {rule}")), "{url}: {error}");
    }
    assert_eq!((resolve.asked(), dial.dialed()), (0, vec![]));
    let error = post_on(&pool, "https://hooks.example/").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "another port is not denied: {error}");
}

#[tokio::test]
async fn an_allowed_host_is_reached_in_a_network_of_ones_own_but_not_as_a_metadata_service() {
    let server = Server::start(|_| ok()).await;
    let resolve =
        Answers::new(&[&["127.0.0.1"], &["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1", "169.254.1.1"]]);
    let dial = Recorder::leading_to(server.address);
    let client = client(resolve, dial.clone(), None);
    let entry = format!("hooks.example:{}", server.address.port());
    let url = |host: &str| format!("http://{host}:{}/", server.address.port());
    let post = async |host| post_on(&client.pool(&allowing(&[&entry]), TIMEOUT), &url(host)).await;
    assert_eq!(post("hooks.example").await.unwrap().status, 200);
    let other = post("other.example").await.unwrap_err();
    assert!(matches!(other, Error::Refused { refusal: Refusal::Range(Range::Loopback), .. }), "{other}");
    for range in [Range::Metadata, Range::LinkLocal] {
        let error = post("hooks.example").await.unwrap_err();
        assert!(
            matches!(error, Error::Refused { refusal: Refusal::OnlyByAddress(at), .. } if at == range),
            "{error}"
        );
    }
    assert_eq!(dial.dialed(), [SocketAddr::new("127.0.0.1".parse().unwrap(), server.address.port())]);
}

#[tokio::test]
async fn a_connection_that_one_policy_let_through_serves_no_other() {
    let server = Server::start(|_| ok()).await;
    let client = Client::new(ClientSettings::default()).unwrap();
    let open = client.pool(&loopback(), TIMEOUT);
    let shut = client.pool(&Policy::default(), TIMEOUT);
    assert_eq!(post_on(&open, &server.url()).await.unwrap().status, 200);
    let error = post_on(&shut, &server.url()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(post_on(&open, &server.url()).await.unwrap().status, 200);
    assert_eq!((server.accepted(), server.requests().len()), (1, 2));
}

#[tokio::test]
async fn a_resolver_that_never_answers_and_a_name_without_addresses_fail_in_time() {
    let short = Duration::from_millis(200);
    let client_with = |resolve| client(resolve, Arc::new(Recorder::default()), None);
    let pool = client_with(Arc::new(Silent::default())).pool(&Policy::default(), short);
    let error = post_on(&pool, "https://slow.example/").await.unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::Head | Phase::Connecting, .. }), "{error}");
    let pool = client_with(Answers::new(&[&[]])).pool(&Policy::default(), short);
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
    let pool = client.pool(&Policy::default(), Duration::from_millis(50));
    for _ in 0..3 {
        let calls = (0..8).map(|_| post_on(&pool, "https://silent.example/"));
        for result in futures_util::future::join_all(calls).await {
            assert!(matches!(result, Err(Error::Timeout { .. })));
        }
    }
    assert_eq!(silent.under_way(), LOOKUPS_MAX);
}
