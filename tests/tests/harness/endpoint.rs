use std::time::{Duration, Instant};

use bytes::Bytes;
use hookmill::model::Timestamp;
use hookmill_tests::{Endpoint, Reply, behaviour, signature};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

const SOON: Duration = Duration::from_secs(20);
const NOT_YET: Duration = Duration::from_millis(300);

type HttpClient = Client<HttpConnector, Full<Bytes>>;

fn client() -> HttpClient {
    Client::builder(TokioExecutor::new()).build_http()
}

fn post(endpoint: &Endpoint, id: &str) -> hyper::Request<Full<Bytes>> {
    let body = Full::new(Bytes::from_static(b"{}"));
    hyper::Request::post(endpoint.url()).header("webhook-id", id).body(body).expect("a valid request")
}

async fn status_of(client: &HttpClient, endpoint: &Endpoint, id: &str) -> u16 {
    let answer = client.request(post(endpoint, id)).await.expect("is answered");
    let status = answer.status().as_u16();
    answer.into_body().collect().await.expect("has a whole body");
    status
}

#[tokio::test]
async fn requests_are_recorded_with_headers_body_and_attempt() {
    let endpoint = Endpoint::start(behaviour::always(204)).await;
    let client = client();
    for id in ["a", "b", "a"] {
        assert_eq!(status_of(&client, &endpoint, id).await, 204);
    }
    let requests = endpoint.requests();
    let attempts: Vec<_> = requests.iter().map(|request| (&*request.webhook_id, request.attempt)).collect();
    assert_eq!(attempts, [("a", 1), ("b", 1), ("a", 2)]);
    assert_eq!((requests[0].target.as_str(), requests[0].json()), ("/hooks", serde_json::json!({})));
    assert_eq!(requests[0].answered, Some(204));
    assert_eq!((endpoint.received(), endpoint.distinct_ids(), endpoint.log().repeats()), (3, 2, 1));
}

#[tokio::test]
async fn failing_scripts_count_attempts_and_draw_alike_each_time() {
    let client = client();
    let endpoint = Endpoint::start(behaviour::fail_first(2, 503)).await;
    for (id, expected) in [("a", 503), ("b", 503), ("a", 503), ("a", 200), ("b", 503), ("b", 200)] {
        assert_eq!(status_of(&client, &endpoint, id).await, expected);
    }
    assert_eq!(endpoint.log().delivered_ids(), 2);

    endpoint.behave(behaviour::fail_share(30, 500));
    let mut runs = Vec::new();
    for _ in 0..2 {
        endpoint.forget();
        let mut statuses = Vec::new();
        for number in 0..300 {
            statuses.push(status_of(&client, &endpoint, &format!("id-{number}")).await);
        }
        runs.push(statuses);
    }
    let failed = runs[0].iter().filter(|status| **status == 500).count();
    assert!((60..=120).contains(&failed), "{failed} of 300 is far from 30 %");
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn answers_with_headers_and_a_script_of_ones_own() {
    let client = client();
    let endpoint = Endpoint::start(behaviour::too_many("7")).await;
    let answer = client.request(post(&endpoint, "a")).await.expect("is answered");
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].as_bytes()), (429, &b"7"[..]));
    endpoint.behave(behaviour::redirect("http://127.0.0.1:1/"));
    let answer = client.request(post(&endpoint, "a")).await.expect("is answered");
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["location"].as_bytes()),
        (302, &b"http://127.0.0.1:1/"[..])
    );
    endpoint.behave(behaviour::gone());
    assert_eq!(status_of(&client, &endpoint, "a").await, 410);
    endpoint.behave(behaviour::custom(|request| Reply::Text(200, request.webhook_id.to_uppercase())));
    let answer = client.request(post(&endpoint, "abc")).await.expect("is answered");
    assert_eq!(answer.into_body().collect().await.expect("a body").to_bytes(), "ABC");
}

#[tokio::test]
async fn hanging_and_slow_answers_do_not_keep_others_waiting() {
    let client = client();
    let endpoint = Endpoint::start(behaviour::hang()).await;
    let hanging = client.request(post(&endpoint, "a"));
    assert!(tokio::time::timeout(NOT_YET, hanging).await.is_err());
    assert_eq!(endpoint.requests()[0].answered, None);
    endpoint.behave(behaviour::slow(NOT_YET));
    let begun = Instant::now();
    assert_eq!(status_of(&client, &endpoint, "b").await, 200);
    assert!(begun.elapsed() >= NOT_YET);
}

#[tokio::test]
async fn bodies_that_drip_break_off_or_never_end() {
    let client = client();
    let endpoint = Endpoint::start(behaviour::drip(Duration::from_millis(1))).await;
    let mut body = client.request(post(&endpoint, "a")).await.expect("is answered").into_body();
    for _ in 0..5 {
        let frame = body.frame().await.expect("goes on").expect("well");
        assert!(!frame.into_data().expect("data").is_empty());
    }
    endpoint.behave(behaviour::close_mid_response());
    let body = client.request(post(&endpoint, "a")).await.expect("is answered").into_body();
    assert!(body.collect().await.is_err());
    endpoint.behave(behaviour::endless());
    let mut body = client.request(post(&endpoint, "a")).await.expect("is answered").into_body();
    let mut read = 0;
    while read < 4 * 1024 * 1024 {
        let frame = body.frame().await.expect("goes on").expect("well");
        read += frame.into_data().expect("data").len();
    }
}

#[tokio::test]
async fn waiting_ends_with_the_request_that_was_waited_for() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let client = client();
    let sending = async {
        for number in 0..50 {
            status_of(&client, &endpoint, &format!("id-{number}")).await;
        }
    };
    tokio::join!(sending, endpoint.wait_for_delivered(50, SOON));
    assert_eq!(endpoint.distinct_ids(), 50);
}

#[tokio::test]
#[should_panic(
    expected = "not within 100ms: one request; recorded: 0 requests, 0 ids, 0 of them answered with 2xx"
)]
async fn waiting_in_vain_says_for_what_and_what_there_was() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    endpoint.wait_for("one request", Duration::from_millis(100), |log| log.received() > 0).await;
}

#[tokio::test]
async fn a_flood_is_taken_without_its_bodies() {
    const REQUESTS: usize = 5_000;
    let endpoint = Endpoint::start_for_flood(behaviour::always(200)).await;
    let client = client();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let sender = || async {
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number >= REQUESTS {
                break;
            }
            status_of(&client, &endpoint, &format!("id-{number}")).await;
        }
    };
    futures_util::future::join_all((0..64).map(|_| sender())).await;
    assert_eq!((endpoint.received(), endpoint.log().delivered_ids()), (REQUESTS, REQUESTS));
    assert!(endpoint.requests()[0].body.is_empty());
}

#[tokio::test]
async fn signatures_are_checked_as_the_standard_says() {
    // The example of the Standard Webhooks reference implementations.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let signed =
        signature::sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
    assert_eq!(signed.as_deref(), Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));

    let at = Timestamp::from_unix_seconds(1_614_265_330);
    let mut headers = hyper::HeaderMap::new();
    headers.insert("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().expect("valid"));
    headers.insert("webhook-timestamp", "1614265330".parse().expect("valid"));
    headers
        .insert("webhook-signature", format!("v1,AAAA {}", signed.expect("signs")).parse().expect("valid"));
    let check = |body: &[u8], at| signature::verify(SECRET, &headers, body, at);
    assert_eq!(check(br#"{"test": 2432232314}"#, at), Ok(()));
    assert_eq!(check(br#"{"test": 2432232315}"#, at), Err("none of 2 signatures fits".into()));
    assert!(check(br#"{"test": 2432232314}"#, at.plus(Duration::from_secs(301))).is_err());
}
