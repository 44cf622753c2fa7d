//! Endpoints that misbehave. Bad certificates, refused addresses of all kinds and names that lead to the metadata service
//! are tested beside the client, in `engine/src/egress/tests`.

use std::time::Duration;

use hookmill::model::Timestamp;
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour};

use crate::scene::{Letter, SOON, Scene, event_id, good, messages_in, retry, webhook};

#[tokio::test]
async fn whatever_an_endpoint_does_its_events_end_and_others_flow() {
    let healthy = Endpoint::start(behaviour::always(200)).await;
    let elsewhere = Endpoint::start(behaviour::always(200)).await;
    let pause = Duration::from_secs(1);
    let cases = [
        ("hangs", behaviour::hang(), "within 500ms", None),
        ("drips", behaviour::drip(pause), "within 500ms", Some(200)),
        ("breaks-off", behaviour::close_mid_response(), "in the body of the answer", None),
        (
            "redirects",
            behaviour::redirect(&elsewhere.url()),
            "302: redirects are not followed (to 127",
            Some(302),
        ),
        ("fails", behaviour::always(500), "answered 500", Some(500)),
    ];
    let mut pipeline = webhook("healthy", &healthy.url(), "");
    let mut endpoints = Vec::new();
    for (name, behaviour, ..) in &cases {
        let endpoint = Endpoint::start(behaviour.clone()).await;
        pipeline += &webhook(name, &endpoint.url(), "timeout = \"500ms\"");
        pipeline += &retry(&["100ms"], "");
        endpoints.push(endpoint);
    }
    let endless = Endpoint::start(behaviour::endless()).await;
    pipeline += &(webhook("endless", &endless.url(), "") + &retry(&[], ""));
    pipeline += &(webhook("no-tls", &healthy.url().replace("http:", "https:"), "") + &retry(&[], ""));
    let nobody = "http://127.0.0.1:1/";
    pipeline += &(webhook("nobody", nobody, "") + &retry(&[], ""));
    let scene = Scene::start(&pipeline).await;
    scene.publish([good("one"), good("two")]).await;
    healthy.wait_for_delivered(2, SOON).await;
    // All that it sends within the cap counts as taken.
    endless.wait_for_delivered(2, SOON).await;
    scene.ends("endless", "delivered", 2).await;
    let letters = scene.letters(2 * (cases.len() as u64 + 2)).await;
    for ((name, _, text, status), endpoint) in cases.iter().zip(&endpoints) {
        let own: Vec<_> = letters.iter().filter(|letter| letter.subscription() == *name).collect();
        assert_eq!(own.len(), 2, "{name}");
        for letter in own {
            assert_eq!((letter.reason(), letter.number("attempts")), ("exhausted", 2), "{name}");
            assert!(letter.error().contains(text), "{name}: {:?} should say {text:?}", letter.error());
            assert_eq!(letter.0["status"].as_u64(), *status, "{name}: {}", letter.error());
            assert_eq!(letter.text("resume"), "deliver");
        }
        assert_eq!((endpoint.distinct_ids(), endpoint.received()), (2, 4), "{name}");
    }
    for (name, text) in [("no-tls", "TLS"), ("nobody", "127.0.0.1")] {
        let letter = letters.iter().find(|letter| letter.subscription() == name).expect("a dead letter");
        assert_eq!(letter.reason(), "exhausted", "{name}");
        assert!(letter.error().contains(text), "{name}: {:?}", letter.error());
    }
    assert_eq!(elsewhere.received(), 0, "a redirect is not followed");
    scene.quiet().await;
}

/// What no waiting mends is dead-lettered at the first attempt.
#[tokio::test]
async fn what_waiting_does_not_mend_is_dead_lettered_at_once() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let url = endpoint.url();
    let allow = "allow = [\"127.0.0.0/8\"]\n";
    let pipeline = [
        webhook("healthy", &url, allow),
        webhook("not-allowed", &url, ""),
        webhook("metadata", "http://169.254.169.254/latest", allow),
    ]
    .concat();
    let server = NatsServer::start().await;
    // Unlike the others: the process as a whole allows nothing.
    let options = Engine::command(&["run", "--nats", &server.url(), "--listen", "127.0.0.1:0"]);
    let scene = Scene::open_with(server, PipelineFolder::with("p", &pipeline), options).await;
    scene.publish([good("one")]).await;
    endpoint.wait_for_delivered(1, SOON).await;
    let letters = scene.letters(2).await;
    let mut ends: Vec<_> = letters.iter().map(Letter::end).collect();
    ends.sort_unstable();
    assert_eq!(ends, [("metadata", "egress"), ("not-allowed", "egress")]);
    assert!(letters.iter().all(|letter| letter.number("attempts") == 1), "{letters:?}");
    assert_eq!(endpoint.received(), 1);
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_RETRIES").await, 0);
}

fn gap(endpoint: &Endpoint) -> Duration {
    let at: Vec<Timestamp> = endpoint.requests().iter().map(|request| request.at).collect();
    at[1].since(at[0])
}

#[tokio::test]
async fn retry_after_is_honoured_up_to_its_limit() {
    let once = |retry_after: &'static str| {
        Endpoint::start(behaviour::custom(move |request| {
            let headers = vec![("retry-after".to_owned(), retry_after.to_owned())];
            let reply = hookmill_tests::Reply::Headers(429, headers);
            if request.attempt == 1 { reply } else { hookmill_tests::Reply::Status(200) }
        }))
    };
    let (asks, greedy, impatient) = (once("3").await, once("86400").await, once("0").await);
    let pipeline = [
        webhook("asks", &asks.url(), "") + &retry(&["10ms"], ""),
        webhook("greedy", &greedy.url(), "") + &retry(&["10ms"], "retry_after_max = \"2s\""),
        webhook("impatient", &impatient.url(), "") + &retry(&["10ms"], ""),
    ]
    .concat();
    let scene = Scene::start(&pipeline).await;
    scene.publish([good("one")]).await;
    for endpoint in [&asks, &greedy, &impatient] {
        endpoint.wait_for_delivered(1, SOON).await;
    }
    assert!(gap(&asks) >= Duration::from_secs(3), "{:?}", gap(&asks));
    assert!(gap(&greedy) >= Duration::from_secs(2) && gap(&greedy) < Duration::from_secs(20));
    scene.quiet().await;
}

#[tokio::test]
async fn what_the_endpoint_refuses_for_good_is_given_up_and_the_next_event_flows() {
    let endpoint = Endpoint::start(behaviour::custom(|request| {
        hookmill_tests::Reply::Status(if event_id(request) == "refused" { 422 } else { 200 })
    }))
    .await;
    let pipeline = webhook("all", &endpoint.url(), "") + &retry(&["1h"], "give_up_on = [400, 422]");
    let scene = Scene::start(&pipeline).await;
    scene.publish([good("refused"), good("fine")]).await;
    endpoint.wait_for_delivered(1, SOON).await;
    let letters = scene.letters(1).await;
    assert_eq!(letters[0].end(), ("all", "given_up"));
    assert_eq!((letters[0].number("attempts"), letters[0].number("status")), (1, 422));
    assert_eq!(letters[0].0["event"]["id"], "refused");
    scene.quiet().await;
}

#[tokio::test]
async fn two_secrets_give_two_signatures_and_each_verifies() {
    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB";
    const NEWEST: &str = "whsec_QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC";
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let signed = "sign = [{ env = \"OLD_SECRET\" }, { file = \"new.secret\" }]\n\
                  headers = { authorization = { env = \"TOKEN\", prefix = \"Bearer \" } }";
    let folder = PipelineFolder::with("p", &webhook("all", &endpoint.url(), signed));
    folder.write("new.secret", format!("{NEW}\n"));
    let server = NatsServer::start().await;
    let options = Engine::run(&server).env("OLD_SECRET", OLD).env("TOKEN", "abc");
    let scene = Scene::open_with(server, folder, options).await;
    scene.publish([good("one")]).await;
    endpoint.wait_for_delivered(1, SOON).await;
    let request = &endpoint.requests()[0];
    assert_eq!(request.header("webhook-signature").split(' ').count(), 2);
    assert_eq!((request.verify(OLD), request.verify(NEW)), (Ok(()), Ok(())));
    assert!(request.verify(NEWEST).is_err());
    assert_eq!(request.header("authorization"), "Bearer abc");

    // The file is rotated while the engine runs.
    scene.folder.write("new.secret", NEWEST);
    let mut number = 0;
    hookmill_tests::eventually(SOON, "the rotated secret signs", || {
        number += 1;
        let id = format!("rotated-{number}");
        let (scene, endpoint) = (&scene, &endpoint);
        async move {
            scene.publish([good(&id)]).await;
            endpoint.wait_for_delivered(number + 1, SOON).await;
            endpoint.requests()[number].verify(NEWEST)
        }
    })
    .await;
    assert!(endpoint.requests().iter().all(|request| request.verify(OLD).is_ok()));
}
