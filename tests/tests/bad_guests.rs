//! Transforms that misbehave: each harms the event it misbehaves on, and neither the next one nor another subscription.

use std::collections::{BTreeMap, BTreeSet};

use hookmill_tests::{Endpoint, NatsServer, behaviour, hookmill};

use crate::scene::{
    Letter, SOON, Scene, event, event_id, folder_with_modules, good, messages_in, retry, step, webhook,
};

/// A misbehaviour, further settings of the step, and the dead letter that must come of it: reason and a part of the text.
type Case = (&'static str, &'static str, &'static str, Option<(&'static str, &'static str)>);

const CASES: [Case; 17] = [
    ("spin", "", "timeout = \"100ms\"", Some(("step_timeout", "took longer than 100ms"))),
    ("trap", "", "", Some(("rejected", "it trapped"))),
    ("grow", "", "memory = \"8MiB\"", Some(("rejected", "memory = \"8MiB\""))),
    ("recurse", "", "", Some(("rejected", "it trapped"))),
    ("huge_output", ", bytes = 100000000", "memory = \"256MiB\"", Some(("rejected", "output = \"4MiB\""))),
    ("bad_attribute", "", "", Some(("rejected", "breaks the contract"))),
    ("duplicate_attribute", "", "", Some(("rejected", "breaks the contract"))),
    ("empty_id", "", "", Some(("rejected", "id is empty"))),
    ("header_injection", "", "", Some(("rejected", "x-shop"))),
    ("header_injection", ", name = \"webhook-id\", value = \"x\"", "", Some(("rejected", "webhook-id"))),
    ("bad_attribute", ", name = \"specversion\", value = \"1.0\"", "", Some(("rejected", "specversion"))),
    ("many_headers", "", "", Some(("rejected", "headers"))),
    ("retry", "", "", Some(("step_failed", "asks to try again: as the settings say"))),
    ("reject", "", "", Some(("rejected", "rejects the event: as the settings say"))),
    ("drop", "", "", None),
    ("log_flood", "", "timeout = \"10s\"", None),
    ("huge_log", "", "", Some(("rejected", "it trapped"))),
];

/// A step that misbehaves on events with the attribute `boom`.
fn hostile(mode: &str, settings: &str, more: &str) -> String {
    step("hostile", &format!("mode = \"{mode}\", only = \"boom\"{settings}"), more)
}

fn boom(id: &str) -> hookmill_tests::events::Message {
    event(id, "t", r#","boom":true,"data":{"private":"zzPRIVATEzz"}"#)
}

/// The ids of the events that came to `/hooks/<name>`.
fn came_to(endpoint: &Endpoint, name: &str) -> BTreeSet<String> {
    let target = format!("/hooks/{name}");
    endpoint.requests().iter().filter(|request| request.target == target).map(event_id).collect()
}

#[tokio::test]
async fn each_misbehaviour_ends_its_own_event_and_nothing_else() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let name = |number: usize| format!("s{number}");
    let mut pipeline = webhook("healthy", &format!("{}/healthy", endpoint.url()), "");
    for (number, (mode, settings, more, _)) in CASES.iter().enumerate() {
        let url = format!("{}/{}", endpoint.url(), name(number));
        pipeline += &webhook(&name(number), &url, "");
        pipeline += &retry(&["100ms"], "");
        pipeline += &hostile(mode, settings, more);
    }
    let scene = Scene::open(NatsServer::start().await, folder_with_modules(&pipeline)).await;
    let (bad, fine) = (["boom-1", "boom-2"], ["good-1", "good-2"]);
    for number in 0..2 {
        scene.publish([boom(bad[number]), good(fine[number])]).await;
    }
    // Two of each for every subscription but the ends that the table names.
    let dead = CASES.iter().filter(|(.., end)| end.is_some()).count();
    let flow = CASES.iter().filter(|(mode, ..)| *mode == "log_flood").count();
    endpoint.wait_for_delivered(4 + 2 * CASES.len() + 2 * flow, SOON).await;
    let letters = scene.letters(2 * dead as u64).await;
    assert_eq!(came_to(&endpoint, "healthy").len(), 4);
    for (number, (mode, .., end)) in CASES.iter().enumerate() {
        let came = came_to(&endpoint, &name(number));
        assert!(fine.iter().all(|id| came.contains(*id)), "{mode}: {came:?}");
        let own: Vec<_> = letters.iter().filter(|letter| letter.subscription() == name(number)).collect();
        let Some((reason, text)) = end else {
            assert_eq!((own.len(), came.len()), (0, if *mode == "drop" { 2 } else { 4 }), "{mode}");
            continue;
        };
        assert_eq!((own.len(), came.len()), (2, 2), "{mode}: {own:?}");
        for letter in own {
            assert_eq!(letter.reason(), *reason, "{mode}: {}", letter.error());
            assert!(letter.error().contains(text), "{mode}: {:?} should say {text:?}", letter.error());
            assert!(!letter.error().contains("zzPRIVATEzz"), "{mode}");
            let later = ["step_timeout", "step_failed"].contains(reason);
            assert_eq!(letter.number("attempts"), if later { 2 } else { 1 }, "{mode}");
            assert_eq!(letter.text("resume"), "step/0", "{mode}");
        }
    }
    scene.ends("s14", "filtered", 2).await;
    let log = scene.engine.lines();
    assert!(log.len() < 1_000, "a flood of {} lines came through", log.len());
    assert!(!log.iter().any(|line| line.text.contains("zzPRIVATEzz")));
    scene.quiet().await;
}

#[tokio::test]
async fn a_failed_step_drops_is_skipped_or_dead_letters_as_the_file_says() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let mut pipeline = String::new();
    for on_error in ["drop", "skip", "dead-letter"] {
        for mode in ["trap", "spin"] {
            let name = format!("{on_error}-{mode}");
            pipeline += &webhook(&name, &format!("{}/{name}", endpoint.url()), "");
            pipeline += &retry(&["50ms"], "");
            let more = format!("timeout = \"100ms\"\non_error = \"{on_error}\"");
            pipeline += &hostile(mode, "", &more);
            pipeline += &step("redact", "mask = [\"/private\"]", "");
        }
    }
    let scene = Scene::open(NatsServer::start().await, folder_with_modules(&pipeline)).await;
    scene.publish([boom("boom"), good("good")]).await;
    endpoint.wait_for_delivered(6 + 2, SOON).await;
    for mode in ["trap", "spin"] {
        scene.ends(&format!("drop-{mode}"), "filtered", 1).await;
        assert_eq!(came_to(&endpoint, &format!("drop-{mode}")).len(), 1);
        assert_eq!(came_to(&endpoint, &format!("dead-letter-{mode}")).len(), 1);
        let target = format!("/hooks/skip-{mode}");
        let requests = endpoint.requests();
        let skipped = requests.iter().find(|request| request.target == target && event_id(request) == "boom");
        // On as it was before the step that failed, and through the step behind it.
        assert_eq!(skipped.expect("it goes on").json()["data"]["private"], "***");
    }
    let letters = scene.letters(2).await;
    let ends: BTreeMap<_, _> = letters.iter().map(Letter::end).collect();
    assert_eq!(ends["dead-letter-trap"], "rejected");
    assert_eq!(ends["dead-letter-spin"], "step_timeout");
    scene.quiet().await;
}

/// A skipped step goes on in memory; what goes on may be larger than anything that can be stored meanwhile.
#[tokio::test]
async fn an_event_that_grew_and_skips_a_step_survives_a_killed_engine() {
    let endpoint = Endpoint::start(behaviour::hang()).await;
    let grow = hostile("huge_output", ", bytes = 300000", "");
    let skip = hostile("trap", "", "on_error = \"skip\"");
    let pipeline = webhook("grows", &endpoint.url(), "format = \"data\"\ntimeout = \"30s\"") + &grow + &skip;
    let server = NatsServer::options().max_payload(256 * 1024).start().await;
    let mut scene = Scene::open(server, folder_with_modules(&pipeline)).await;
    scene.publish([boom("boom")]).await;
    endpoint.wait_for("a request under way", SOON, |log| log.received() == 1).await;
    scene.engine.kill().await;
    endpoint.behave(behaviour::always(200));
    scene.engine.restart().await;
    endpoint.wait_for_delivered(1, SOON).await;
    let requests = endpoint.requests();
    assert_eq!(
        (requests[0].body.len(), requests[1].body.len(), endpoint.distinct_ids()),
        (300_000, 300_000, 1)
    );
    scene.quiet().await;
}

#[tokio::test]
async fn a_fresh_instance_serves_every_event_where_the_file_asks_for_it() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let mut pipeline = String::new();
    for isolation in ["event", "instance"] {
        pipeline += &webhook(isolation, &format!("{}/{isolation}", endpoint.url()), "concurrency = 1");
        let more = format!("isolation = \"{isolation}\"");
        pipeline += &step("hostile", "mode = \"sleepless_counter\"", &more);
    }
    let scene = Scene::open(NatsServer::start().await, folder_with_modules(&pipeline)).await;
    for number in 0..4 {
        scene.publish([good(&format!("good-{number}"))]).await;
        endpoint.wait_for_delivered(2 * (number + 1), SOON).await;
    }
    let calls = |isolation: &str| -> Vec<i64> {
        let target = format!("/hooks/{isolation}");
        let requests = endpoint.requests();
        let own = requests.iter().filter(|request| request.target == target);
        own.map(|request| request.json()["calls"].as_i64().expect("a count")).collect()
    };
    assert_eq!(calls("event"), [1, 1, 1, 1]);
    assert_eq!(calls("instance").last(), Some(&4));
}

#[tokio::test]
async fn guests_that_fail_on_their_settings_are_refused_at_their_line() {
    let modes = [
        ("spin_in_configure", "took longer than 2s"),
        ("trap_in_configure", "it trapped"),
        ("grow_in_configure", "memory = \"8MiB\""),
        ("refuse_settings", "so these settings are wrong"),
        ("dance", "unknown variant `dance`"),
    ];
    let subscriptions = modes.iter().enumerate().map(|(number, (mode, _))| {
        webhook(&format!("s{number}"), "https://example.com", "")
            + &step("hostile", &format!("mode = \"{mode}\""), "memory = \"8MiB\"")
    });
    let pipeline: String = subscriptions.collect();
    let folder = folder_with_modules(&pipeline);
    let path = folder.path().to_str().expect("a path of text");
    let check = hookmill(&["check", path]).await;
    let run = hookmill(&["run", path, "--nats", "nats://127.0.0.1:1", "--listen", "127.0.0.1:0"]).await;
    for said in [check, run] {
        assert_eq!(said.code, 2, "{}", said.stderr);
        for (mode, text) in modes {
            let line = 1 + pipeline.lines().position(|line| line.contains(mode)).expect("it is there");
            let place = format!("p.toml:{line}: ");
            let about = said.stderr.lines().find(|said| said.contains(&place));
            let about = about.unwrap_or_else(|| panic!("nothing about {place} in\n{}", said.stderr));
            assert!(about.contains(text), "{about:?} should say {text:?}");
        }
    }
}

#[tokio::test]
async fn each_output_of_a_split_is_an_event_and_is_retried_on_its_own() {
    let endpoint = Endpoint::start(behaviour::fail_first(2, 500)).await;
    let pipeline = webhook("parts", &endpoint.url(), "")
        + &retry(&["100ms", "100ms"], "")
        + &step("hostile", "mode = \"split\", count = 4, only = \"boom\"", "")
        + &webhook("none", &format!("{}/none", endpoint.url()), "")
        + &retry(&["100ms", "100ms"], "")
        + &step("hostile", "mode = \"split\", count = 0, only = \"boom\"", "");
    let scene = Scene::open(NatsServer::start().await, folder_with_modules(&pipeline)).await;
    scene.publish([boom("boom"), event("other", "other", "")]).await;
    // Four parts and the whole for one, the whole for the other.
    endpoint.wait_for_delivered(6, SOON).await;
    scene.ends("none", "filtered", 1).await;
    scene.ends("parts", "delivered", 5).await;
    let mut parts = BTreeMap::<String, BTreeSet<String>>::new();
    for request in endpoint.requests() {
        let event = request.json();
        if event["boom"] != true {
            continue;
        }
        assert_eq!(event["data"]["private"], "zzPRIVATEzz");
        assert_eq!(event_id(&request), format!("boom-{}", event["part"]));
        parts.entry(request.webhook_id.clone()).or_default().insert(event_id(&request));
    }
    assert_eq!(parts.len(), 4, "{parts:?}");
    let ids: BTreeSet<_> = parts.values().flatten().cloned().collect();
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), ["boom-0", "boom-1", "boom-2", "boom-3"]);
    for webhook_id in parts.keys() {
        assert_eq!(endpoint.log().attempts(webhook_id), 3, "{webhook_id}");
    }
    scene.quiet().await;
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_DLQ").await, 0);
}

/// One output fails for good, its siblings arrive.
#[tokio::test]
async fn an_output_of_a_split_that_is_refused_leaves_the_others_alone() {
    let endpoint = Endpoint::start(behaviour::custom(|request| {
        let refused = request.body.windows(8).any(|bytes| bytes == b"\"boom-1\"");
        hookmill_tests::Reply::Status(if refused { 422 } else { 200 })
    }))
    .await;
    let pipeline = webhook("parts", &endpoint.url(), "")
        + &retry(&["1h"], "give_up_on = [422]")
        + &step("hostile", "mode = \"split\", count = 3, only = \"boom\"", "");
    let scene = Scene::open(NatsServer::start().await, folder_with_modules(&pipeline)).await;
    scene.publish([boom("boom")]).await;
    endpoint.wait_for_delivered(2, SOON).await;
    let letters = scene.letters(1).await;
    assert_eq!(letters[0].end(), ("parts", "given_up"));
    assert_eq!(letters[0].0["event"]["id"], "boom-1");
    assert_eq!(letters[0].header("Hookmill-Split"), Some("1"));
    scene.quiet().await;
}
