//! Attempts against a scripted endpoint on loopback.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::signature::{self, Key};
use super::{Endpoint, Format, Settings};
use crate::egress::support::{Act, Received, Server, answer, ok};
use crate::egress::{self, ANSWER_BYTES_MAX, Answer, Call, Client, ClientSettings, Outlet, Policy};
use crate::model::{
    Again, Code, DeliveryId, Event, Fault, Findings, Finished, Reason, SecretError, SecretRef, Timestamp,
    Whose,
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_489_075);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn settings(url: &str) -> Settings {
    Settings {
        url: SecretRef::Plain(url.to_owned()),
        format: Format::Structured,
        headers: Vec::new(),
        sign: Vec::new(),
        timeout: Duration::from_secs(10),
        give_up_on: vec![400, 422],
        retry_on: None,
        retry_after_max: Duration::from_hours(1),
        reach: Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], deny: Vec::new() },
    }
}

fn endpoint(settings: Settings) -> Endpoint {
    Endpoint::new(settings, &Client::new(ClientSettings::default()).unwrap())
}

fn finished() -> Finished {
    let headers = vec![("ce-id".to_owned(), "1".to_owned()), ("x-step".to_owned(), "set".to_owned())];
    Finished {
        content_type: Some("application/json".into()),
        headers,
        body: Bytes::from_static(b"{\"n\": 1.0}"),
    }
}

async fn send(endpoint: &Endpoint) -> Result<u16, Fault> {
    endpoint.send(&finished(), &DeliveryId::from_stored("msg_test"), Some("00-ab-cd-01"), NOW).await
}

async fn send_to(settings: Settings) -> Result<u16, Fault> {
    send(&endpoint(settings)).await
}

/// One attempt against an endpoint that does `act`.
async fn attempt(act: Act) -> Result<u16, Fault> {
    let server = Server::start(move |_| act.clone()).await;
    send_to(settings(&server.url())).await
}

fn later(fault: &Fault) -> Option<Duration> {
    match fault.again {
        Again::Later { after, exhausted: Reason::Exhausted } => after,
        again => panic!("{again:?}: {fault}"),
    }
}

fn headers_of(request: &Received) -> HeaderMap {
    let lines = request.head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let pair = |(name, value): (&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    lines.map(pair).collect()
}

#[tokio::test]
async fn a_delivery_is_one_post_with_the_promised_headers() {
    let server = Server::start(|_| answer("202 Accepted", "")).await;
    let mut settings = settings(&server.url());
    settings.sign = vec![SecretRef::Plain(SECRET.into())];
    settings.headers = vec![("X-Shop".into(), SecretRef::Plain("eu".into()))];
    assert_eq!(send_to(settings).await, Ok(202));
    let [request] = <[Received; 1]>::try_from(server.requests()).unwrap();
    assert!(request.head.starts_with("POST /hook HTTP/1.1\r\n"), "{}", request.head);
    assert_eq!(request.body, b"{\"n\": 1.0}");
    let host = server.address.to_string();
    for (name, value) in [
        ("host", host.as_str()),
        ("content-type", "application/json"),
        ("content-length", "10"),
        ("accept-encoding", "identity"),
        ("user-agent", concat!("hookmill/", env!("CARGO_PKG_VERSION"))),
        ("webhook-id", "msg_test"),
        ("webhook-timestamp", "1795489075"),
        ("traceparent", "00-ab-cd-01"),
        ("ce-id", "1"),
        ("x-step", "set"),
        ("x-shop", "eu"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    let keys = [Key::parse(SECRET).unwrap()];
    let verdict = signature::verify(&headers_of(&request), &request.body, &keys, NOW, Duration::from_mins(5));
    assert_eq!(verdict, Ok(()));
}

#[tokio::test]
async fn without_secrets_identity_and_time_are_sent_all_the_same() {
    let server = Server::start(|_| ok()).await;
    assert_eq!(send_to(settings(&server.url())).await, Ok(200));
    let request = &server.requests()[0];
    assert_eq!(request.header("webhook-id"), Some("msg_test"));
    assert_eq!(request.header("webhook-timestamp"), Some("1795489075"));
    assert_eq!(request.header("webhook-signature"), None);
}

#[tokio::test]
async fn two_attempts_share_a_connection() {
    let server = Server::start(|_| ok()).await;
    let endpoint = endpoint(settings(&server.url()));
    for _ in 0..2 {
        assert_eq!(send(&endpoint).await, Ok(200));
    }
    assert_eq!((server.accepted(), server.requests().len()), (1, 2));
}

/// An attempt that must end at its deadline, although bytes keep coming.
async fn too_slow(act: Act, status: Option<u16>) {
    let server = Server::start(move |_| act.clone()).await;
    let mut settings = settings(&server.url());
    settings.timeout = Duration::from_millis(2500);
    let began = Instant::now();
    let fault = send_to(settings).await.unwrap_err();
    let took = began.elapsed();
    assert_eq!((fault.code, fault.whose, fault.status), (Code::Timeout, Whose::Endpoint, status), "{fault}");
    assert_eq!(later(&fault), None);
    assert!(fault.detail.ends_with("within 2.5s"), "{fault}");
    assert!(took >= Duration::from_millis(2500) && took < Duration::from_secs(10), "{took:?}");
    server.all_closed().await;
}

#[tokio::test]
async fn what_takes_too_long_ends_at_the_deadline() {
    tokio::join!(
        too_slow(Act::Hang, None),
        too_slow(Act::Drip("HTTP/1.1 200 "), None),
        too_slow(Act::Drip("HTTP/1.1 200 OK\r\nx-slow: "), None),
        too_slow(Act::Drip("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"), Some(200)),
        too_slow(Act::Drip("HTTP/1.1 200 OK\r\n\r\n"), Some(200)),
    );
}

#[tokio::test]
async fn a_failure_whose_body_breaks_off_or_drips_is_judged_by_its_status() {
    let broken = "HTTP/1.1 410 Gone\r\ncontent-length: 10\r\n\r\nabc".to_owned();
    let fault = attempt(Act::ReplyThenClose(broken)).await.unwrap_err();
    assert_eq!(fault.again, Again::Never(Reason::Gone));
    let server = Server::start(|_| Act::Drip("HTTP/1.1 503 Busy\r\nretry-after: 7\r\n\r\n")).await;
    let settings = Settings { timeout: Duration::from_millis(300), ..settings(&server.url()) };
    let fault = send_to(settings).await.unwrap_err();
    assert_eq!((fault.code, later(&fault)), (Code::Status, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn what_is_broken_or_no_http_may_be_tried_again() {
    for (text, detail) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
            "the connection broke in the body of the answer",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-le", "the connection broke before the answer was complete"),
        ("", "the connection broke before the answer was complete"),
        ("SSH-2.0-OpenSSH_9.9\r\n", "the answer is not HTTP"),
        ("garbage\r\n\r\n", "the answer is not HTTP"),
        ("HTTP/1.1 999999 OK\r\n\r\n", "the answer is not HTTP"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "the connection broke in the body"),
    ] {
        let fault = attempt(Act::ReplyThenClose(text.to_owned())).await.unwrap_err();
        assert_eq!((fault.code, fault.whose), (Code::Protocol, Whose::Endpoint), "{text:?}: {fault}");
        assert!(fault.detail.starts_with(detail), "{text:?}: {fault}");
        assert_eq!(later(&fault), None);
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_off_and_the_status_decides() {
    for (status, expected) in [("200 OK", Ok(200)), ("500 Oh", Err(Some(500)))] {
        let head: &'static str = format!("HTTP/1.1 {status}\r\n\r\n").leak();
        let server = Server::start(move |_| Act::Endless(head)).await;
        let endpoint = endpoint(settings(&server.url()));
        assert_eq!(send(&endpoint).await.map_err(|fault| fault.status), expected);
        server.all_closed().await;
    }
    let long = "x".repeat(ANSWER_BYTES_MAX + 1);
    let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{long}", long.len());
    assert_eq!(attempt(Act::Reply(text)).await, Ok(200));
}

#[tokio::test]
async fn endless_headers_are_no_answer() {
    let fault = attempt(Act::Endless("HTTP/1.1 200 OK\r\nx-long: ")).await.unwrap_err();
    assert_eq!(fault.code, Code::Protocol, "{fault}");
}

#[tokio::test]
async fn a_redirect_is_a_failure_that_names_the_host_and_is_not_followed() {
    let other = Server::start(|_| ok()).await;
    let location = format!("location: http://{}/token\r\n", other.address);
    let server = Server::start(move |_| answer("307 Temporary Redirect", &location)).await;
    let fault = send_to(settings(&server.url())).await.unwrap_err();
    assert_eq!(fault.detail, "the endpoint answered 307: redirects are not followed (to 127.0.0.1)");
    assert_eq!((fault.status, later(&fault)), (Some(307), None));
    assert_eq!((server.requests().len(), other.accepted()), (1, 0));

    let long = format!("location: https://{}/\r\n", "a".repeat(5000));
    let fault = attempt(answer("302 Found", &long)).await.unwrap_err();
    assert!(fault.detail.len() < 200, "{fault}");
}

#[tokio::test]
async fn retry_after_comes_through_as_seconds_and_as_a_date() {
    for (value, seconds) in [("120", 120), ("Tue, 24 Nov 2026 02:58:35 GMT", 40), ("999999", 3600)] {
        let fault = attempt(answer("429 Slow Down", &format!("retry-after: {value}\r\n"))).await.unwrap_err();
        assert_eq!(later(&fault), Some(Duration::from_secs(seconds)), "{value}");
    }
}

#[tokio::test]
async fn gone_and_given_up_end_at_once() {
    for (status, reason) in
        [("410 Gone", Reason::Gone), ("400 Bad", Reason::GivenUp), ("422 No", Reason::GivenUp)]
    {
        let fault = attempt(answer(status, "retry-after: 5\r\n")).await.unwrap_err();
        assert_eq!(fault.again, Again::Never(reason), "{status}");
    }
    assert_eq!(later(&attempt(answer("404 Not Found", "")).await.unwrap_err()), None);
}

#[tokio::test]
async fn a_refused_address_ends_at_once() {
    let server = Server::start(|_| ok()).await;
    let mut settings = settings(&server.url());
    settings.reach.allow.clear();
    let fault = send_to(settings).await.unwrap_err();
    assert_eq!(
        (fault.code, fault.whose, fault.again),
        (Code::Egress, Whose::Operator, Again::Never(Reason::Egress))
    );
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_and_a_closed_port_are_tried_again() {
    let fault = send_to(settings("https://does-not-exist.invalid/")).await.unwrap_err();
    assert_eq!((fault.code, later(&fault)), (Code::Resolve, None), "{fault}");
    let closed = Server::start(|_| ok()).await.url();
    let fault = send_to(settings(&closed)).await.unwrap_err();
    assert_eq!((fault.code, later(&fault)), (Code::Connect, None), "{fault}");
}

#[tokio::test]
async fn what_the_settings_refer_to_must_be_there_and_usable() {
    let server = Server::start(|_| ok()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("value");
    std::fs::write(&path, "sec\u{7}ret").unwrap();
    let other = folder.path().join("other");
    let file = |text: &str| {
        std::fs::write(&other, text).unwrap();
        SecretRef::File { path: other.clone(), prefix: String::new() }
    };
    let missing = || SecretRef::Env { name: "HOOKMILL_TEST_NOT_SET".into(), prefix: String::new() };
    let broken = || SecretRef::File { path: path.clone(), prefix: String::new() };
    let base = || settings(&server.url());
    let header = |name: &str, value| Settings { headers: vec![(name.into(), value)], ..base() };
    for (settings, starts) in [
        (Settings { url: missing(), ..base() }, "url: environment variable HOOKMILL_TEST_NOT_SET is not set"),
        (Settings { url: broken(), ..base() }, "url (file "),
        (settings("ftp://example.com/"), "url: the scheme is \"ftp\""),
        (settings("http://user:secret@example.com/"), "url: it has a user name"),
        (
            // What was meant to be the token of a header may be a URL by mistake: not even its beginning is shown.
            Settings { url: file("tok:abc"), ..base() },
            "url (file ",
        ),
        (
            header("authorization", missing()),
            "headers.authorization: environment variable HOOKMILL_TEST_NOT_SET is not set",
        ),
        (header("authorization", broken()), "headers.authorization (file "),
        (header("webhook-id", SecretRef::Plain("x".into())), "webhook-id is set by the engine"),
        (
            header("x-a", SecretRef::Plain("a\r\nb: secret".into())),
            "headers.x-a: the value has a character at byte 1",
        ),
        (
            Settings { sign: vec![missing()], ..base() },
            "sign: environment variable HOOKMILL_TEST_NOT_SET is not set",
        ),
        (Settings { sign: vec![broken()], ..base() }, "sign (file "),
        (
            Settings { sign: vec![SecretRef::Plain("whsec_".into())], ..base() },
            "sign: the signing secret is empty",
        ),
    ] {
        let endpoint = endpoint(settings);
        let fault = send(&endpoint).await.unwrap_err();
        assert_eq!((fault.code, fault.whose, fault.again), (Code::Config, Whose::Operator, Again::Held));
        let Findings { wrong, served_on } = endpoint.look_at_references(NOW);
        assert_eq!((Findings::joined(&wrong), served_on.len()), (fault.detail.clone(), 0));
        assert!(fault.detail.starts_with(starts), "{fault}");
        for part in ["sec\u{7}", "secret@", "tok"] {
            assert!(!fault.detail.contains(part), "{fault}");
        }
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_secret_that_is_gone_signs_on_for_ten_minutes_and_then_holds_what_comes() {
    let server = Server::start(|_| ok()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    let mut settings = settings(&server.url());
    settings.sign = vec![SecretRef::File { path: path.clone(), prefix: String::new() }];
    let (endpoint, id) = (endpoint(settings), DeliveryId::from_stored("msg_test"));
    let after = |minutes| NOW.plus(Duration::from_mins(minutes));
    assert_eq!(endpoint.send(&finished(), &id, None, NOW).await, Ok(200));
    std::fs::remove_file(&path).unwrap();
    for now in [after(1), after(10)] {
        assert_eq!(endpoint.send(&finished(), &id, None, now).await, Ok(200));
        let request = server.requests().pop().unwrap();
        let keys = [Key::parse(SECRET).unwrap()];
        let verdict = signature::verify(&headers_of(&request), &request.body, &keys, now, Duration::ZERO);
        assert_eq!(verdict, Ok(()));
    }
    let Findings { wrong, served_on } = endpoint.look_at_references(after(10));
    assert_eq!((wrong.len(), served_on.len()), (0, 1));
    let fault = endpoint.send(&finished(), &id, None, after(11)).await.unwrap_err();
    assert_eq!((fault.code, fault.again), (Code::Config, Again::Held), "{fault}");
    assert_eq!(server.requests().len(), 3);
}

/// Fails as the way to the endpoint does.
struct Failing(egress::Error);

impl Outlet for Failing {
    fn post<'a>(&'a self, _: Call, _: egress::Again<'a>) -> BoxFuture<'a, Result<Answer, egress::Error>> {
        let error = self.0.clone();
        Box::pin(async { Err(error) })
    }
}

#[tokio::test]
async fn what_the_engine_lacks_itself_costs_no_attempt() {
    let host = || "hooks.example".to_owned();
    let unset = SecretError::EnvMissing("X".to_owned());
    let failure = egress::ProxyFailure::Credentials(egress::CredentialsError::Missing(unset));
    for (error, code) in [
        (egress::Error::OutOfFiles { host: host() }, Code::OutOfFiles),
        (egress::Error::NoRoom { host: host(), places: 64 }, Code::OutOfFiles),
        (egress::Error::Proxy { proxy: "p:1".to_owned(), host: host(), failure }, Code::Config),
    ] {
        let endpoint = Endpoint::over(settings("https://hooks.example/"), Box::new(Failing(error.clone())));
        let fault = send(&endpoint).await.unwrap_err();
        assert_eq!((fault.code, fault.again, fault.detail), (code, Again::Held, error.to_string()));
        assert_ne!(fault.whose, Whose::Endpoint);
    }
}

#[tokio::test]
async fn a_stored_result_can_not_set_what_is_the_engines() {
    let server = Server::start(|_| ok()).await;
    let endpoint = endpoint(settings(&server.url()));
    for name in ["host", "content-length", "transfer-encoding", "webhook-signature", "x y"] {
        let mut finished = finished();
        finished.headers.push((name.into(), "1".into()));
        let fault = endpoint.send(&finished, &DeliveryId::from_stored("m"), None, NOW).await.unwrap_err();
        assert_eq!(fault.code, Code::Config, "{name}");
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn what_goes_out_again_on_another_connection_is_the_same_to_the_byte() {
    // The second request arrives on the first connection and gets no answer.
    let unanswered = || Act::ReplyThenClose(String::new());
    let server = Server::start(move |number| if number == 1 { unanswered() } else { ok() }).await;
    let mut settings = settings(&server.url());
    settings.sign = vec![SecretRef::Plain(SECRET.into())];
    let endpoint = endpoint(settings);
    for _ in 0..2 {
        assert_eq!(send(&endpoint).await, Ok(200));
    }
    let requests = server.requests();
    let [_, first, again] = requests.as_slice() else { panic!("{} requests", requests.len()) };
    assert!(first.header("webhook-signature").is_some());
    assert_eq!((first.connection, again.connection), (0, 1));
    assert_eq!((&first.head, &first.body), (&again.head, &again.body));
}

#[tokio::test]
async fn the_settings_win_over_what_a_step_has_set() {
    let server = Server::start(|_| ok()).await;
    let mut settings = settings(&server.url());
    settings.headers = vec![("x-step".into(), SecretRef::Plain("configured".into()))];
    assert_eq!(send_to(settings).await, Ok(200));
    assert_eq!(server.requests()[0].header("x-step"), Some("configured"));
}

#[tokio::test]
async fn a_rotated_secret_takes_effect_and_both_sign_meanwhile() {
    let server = Server::start(|_| ok()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    let mut settings = settings(&server.url());
    let file = SecretRef::File { path: path.clone(), prefix: String::new() };
    settings.sign = vec![SecretRef::Plain(OTHER_SECRET.into()), file];
    let endpoint = endpoint(settings);
    let third = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let id = DeliveryId::from_stored("msg_test");
    for (secret, seconds) in [(SECRET, 0), (third, 2)] {
        std::fs::write(&path, secret).unwrap();
        let now = NOW.plus(Duration::from_secs(seconds));
        assert_eq!(endpoint.send(&finished(), &id, None, now).await, Ok(200));
        let request = server.requests().pop().unwrap();
        assert_eq!(request.header("webhook-signature").unwrap().split(' ').count(), 2);
        for secret in [OTHER_SECRET, secret] {
            let keys = [Key::parse(secret).unwrap()];
            let verdict = signature::verify(&headers_of(&request), &request.body, &keys, now, Duration::ZERO);
            assert_eq!(verdict, Ok(()));
        }
    }
    assert_eq!(server.accepted(), 1);
}

#[test]
fn each_format_renders_the_event_in_its_own_way() {
    let text = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"application/json","data":{"n": 1.00}}"#;
    let event = Event::from_structured(&Bytes::from_static(text)).unwrap();
    let rendered = |format| {
        let settings = Settings { format, ..settings("https://example.com/") };
        endpoint(settings).render(&event, &[("x-step".to_owned(), "1".to_owned())])
    };
    let structured = rendered(Format::Structured);
    assert_eq!(structured.content_type.as_deref(), Some("application/cloudevents+json"));
    assert_eq!((structured.headers.len(), &structured.body[..]), (1, &text[..]));
    let binary = rendered(Format::Binary);
    assert_eq!(binary.content_type.as_deref(), Some("application/json"));
    assert!(binary.headers.contains(&("ce-id".to_owned(), "1".to_owned())), "{:?}", binary.headers);
    assert!(binary.headers.contains(&("x-step".to_owned(), "1".to_owned())));
    assert_eq!(&binary.body[..], b"{\"n\": 1.00}");
    let data = rendered(Format::Data);
    assert_eq!(data.content_type.as_deref(), Some("application/json"));
    assert_eq!(data.headers, [("x-step".to_owned(), "1".to_owned())]);
    assert_eq!(&data.body[..], b"{\"n\": 1.00}");
}
