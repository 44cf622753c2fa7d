//! Events that fit nowhere, or hardly: whatever the reason of their end, they are kept.

use async_nats::jetstream;
use hookmill_tests::events::Message;
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, eventually, hookmill};

use crate::scene::{
    Letter, SOON, Scene, event, folder_with_modules, good, messages_in, retry, step, webhook,
};

const KIB: usize = 1024;

fn large(id: &str, bytes: usize) -> Message {
    event(id, "large", &format!(",\"data\":\"{}\"", "x".repeat(bytes)))
}

/// Runs a command that has to succeed.
async fn done(arguments: &[&str]) {
    let said = hookmill(arguments).await;
    assert_eq!(said.code, 0, "{said:?}");
}

/// In the order of their messages: the larger one takes longer to be stored.
fn in_order(mut letters: Vec<Letter>) -> Vec<Letter> {
    letters.sort_by_key(|letter| letter.0["source"]["sequence"].as_u64());
    letters
}

async fn edit_stream(scene: &Scene, name: &str, change: impl Fn(&mut jetstream::stream::Config)) {
    let stream = scene.jetstream.get_stream(name).await.expect("it is there");
    let mut config = stream.cached_info().config.clone();
    change(&mut config);
    scene.jetstream.update_stream(config).await.expect("the stream can be changed");
}

/// A work queue forgets what is acknowledged: the dead letter is the only copy.
#[tokio::test]
async fn what_its_source_forgets_is_kept_whole_and_can_be_redriven() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    let retention = jetstream::stream::RetentionPolicy::WorkQueue;
    let config = jetstream::stream::Config { retention, ..jetstream::stream::Config::default() };
    hookmill_tests::events::make_source_stream_like(&jetstream, config).await;
    let folder = PipelineFolder::with("p", &webhook("all", &endpoint.url(), ""));
    let engine = Engine::run(&server).arg(folder.path()).start().await;
    let mut scene = Scene { server, jetstream, folder, engine };
    let message = large("whole", 990 * KIB);
    scene.publish([message.clone(), good("beside")]).await;
    endpoint.wait_for_delivered(1, SOON).await;
    let letters = scene.letters(1).await;
    assert_eq!(letters[0].end(), ("_", "too_large"));
    assert_eq!(letters[0].0["event"]["id"], "whole");
    assert_eq!(letters[0].text("body").as_bytes(), &*message.payload);
    scene.quiet().await;
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_EVENTS").await, 0, "its source has forgotten it");

    // Once the server takes more, it goes its way.
    scene.server.restart_with_payload(2 * KIB * KIB).await;
    scene.engine.restart().await;
    let sequence = letters[0].number("sequence").to_string();
    done(&["dlq", "redrive", &sequence, "--nats", &scene.server.url()]).await;
    endpoint.wait_for_delivered(2, SOON).await;
    assert!(endpoint.requests().iter().any(|request| request.body == message.payload), "byte for byte");
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_DLQ").await, 0);
}

/// The server's limit was lowered behind the event: it fits into no message any more.
#[tokio::test]
async fn what_fits_into_no_message_is_kept_in_parts_and_put_together() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let folder = PipelineFolder::with("p", &webhook("all", &endpoint.url(), ""));
    let mut scene = Scene::open(NatsServer::start().await, folder).await;
    assert_eq!(scene.engine.terminate().await, 0);
    let messages = [large("parts", 900 * KIB), large("other", 700 * KIB)];
    scene.publish(messages.clone()).await;
    scene.publish([good("beside")]).await;
    scene.server.restart_with_payload(160 * KIB).await;
    scene.engine.restart().await;
    endpoint.wait_for_delivered(1, SOON).await;
    let letters = in_order(scene.letters_among(2).await);
    for (letter, message) in letters.iter().zip(&messages) {
        assert_eq!(letter.end(), ("_", "too_large"));
        assert!(letter.text("body").as_bytes() == &*message.payload, "put together byte for byte");
        assert!(letter.number("bytes") > message.payload.len() as u64);
    }
    let listed = hookmill(&["dlq", "list", "--json", "--nats", &scene.server.url()]).await;
    assert_eq!(listed.stdout.lines().count(), 2, "parts are no letters: {}", listed.stdout);
    assert!(messages_in(&scene.jetstream, "HOOKMILL_DLQ").await >= 2 + 6 + 5);

    // They go along when their pipeline gets another name.
    assert_eq!(scene.engine.terminate().await, 0);
    for [old, new] in [["p", "q"], ["q", "p"]] {
        done(&["pipeline", "rename", old, new, "--nats", &scene.server.url()]).await;
        let letters = in_order(scene.letters_among(2).await);
        assert!(letters.iter().all(|letter| letter.text("pipeline") == new));
        assert!(letters[0].text("body").as_bytes() == &*messages[0].payload, "put together byte for byte");
    }
    let letters = in_order(scene.letters_among(2).await);
    let sequence = letters[0].number("sequence").to_string();
    let redrive = ["dlq", "redrive", sequence.as_str(), "--nats"];
    let refused = hookmill(&[&redrive[..], &[&scene.server.url()]].concat()).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("larger than the server or the stream takes"), "{}", refused.stderr);

    scene.server.restart_with_payload(2 * KIB * KIB).await;
    scene.engine.restart().await;
    done(&[&redrive[..], &[&scene.server.url()]].concat()).await;
    endpoint.wait_for_delivered(2, SOON).await;
    assert!(endpoint.requests().iter().any(|request| request.body == messages[0].payload), "byte for byte");
    let discard = ["dlq", "discard", "--all", "--yes", "--nats"];
    done(&[&discard[..], &[&scene.server.url()]].concat()).await;
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_DLQ").await, 0, "the parts go with their letters");
}

/// Where nothing of it can be stored, the message itself stays, and everything else goes on.
#[tokio::test]
async fn what_can_be_stored_in_no_form_stays_where_it_is_and_others_go_on() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = Scene::start(&webhook("all", &endpoint.url(), "")).await;
    edit_stream(&scene, "HOOKMILL_DLQ", |config| config.max_message_size = 300).await;
    scene.publish([hookmill_tests::events::structured_message("no event"), good("beside")]).await;
    endpoint.wait_for_delivered(1, SOON).await;
    let held = async |count: f64| {
        let found = scene.engine.metric("hookmill_unstorable", &[]).await;
        if (found - count).abs() < 0.5 { Ok(()) } else { Err(found.to_string()) }
    };
    eventually(SOON, "it is held, and said so", || held(1.0)).await;
    let (code, ready) = hookmill_tests::http::get(&scene.engine.url("/readyz")).await.expect("it answers");
    assert_eq!(code, 200, "intake goes on: {ready}");
    scene.publish([good("after")]).await;
    endpoint.wait_for_delivered(2, SOON).await;
    let letters = messages_in(&scene.jetstream, "HOOKMILL_DLQ").await;
    assert_eq!(letters, 0);
    edit_stream(&scene, "HOOKMILL_DLQ", |config| config.max_message_size = -1).await;
    let letters = scene.letters(1).await;
    assert_eq!((letters[0].end(), letters[0].text("body")), (("_", "not_cloudevent"), "no event"));
    eventually(SOON, "nothing is held", || held(0.0)).await;
    scene.quiet().await;
}

#[tokio::test]
async fn a_server_whose_messages_are_too_small_is_refused_with_the_number_it_needs() {
    let server = NatsServer::options().max_payload(64 * KIB).start().await;
    hookmill_tests::events::make_source_stream(&server.jetstream().await).await;
    let folder = PipelineFolder::with("p", &webhook("all", "http://127.0.0.1:9/", ""));
    let engine = Engine::run(&server).arg(folder.path()).spawn();
    assert_eq!(engine.wait().await, 1);
    let said = engine.lines().iter().map(|line| line.message().to_owned()).collect::<Vec<_>>().join("\n");
    let whole = format!("{said}{:?}", engine.lines());
    assert!(whole.contains("at most 65536 bytes") && whole.contains("at least 131072"), "{whole}");
}

/// Published to a subject of the engine's by somebody who may: it is set aside, and stops nothing.
#[tokio::test]
async fn what_is_no_task_on_a_subject_of_the_engine_is_set_aside_as_foreign() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = Scene::start(&webhook("all", &endpoint.url(), "")).await;
    for subject in ["hookmill.lane.p.all", "hookmill.due.p.all", "hookmill.lane.p._"] {
        let published = scene.jetstream.publish(subject, "rubbish".into()).await.expect("it is sent");
        published.await.expect("it is stored");
    }
    let letters = scene.letters(3).await;
    let mut ends: Vec<_> = letters.iter().map(|letter| (letter.end(), letter.text("body"))).collect();
    ends.sort_unstable();
    let foreign = |lane| ((lane, "foreign"), "rubbish");
    assert_eq!(ends, [foreign("_"), foreign("all"), foreign("all")]);
    assert!(letters.iter().all(|letter| letter.error().contains("no task")), "{letters:?}");
    scene.publish([good("after")]).await;
    endpoint.wait_for_delivered(1, SOON).await;
    scene.quiet().await;
    let lanes = hookmill(&["lane", "list", "--json", "--nats", &scene.server.url()]).await;
    assert!(!lanes.stdout.contains("unreadable"), "{}", lanes.stdout);
}

/// What a step makes larger than can be stored waits, and dies, as it was before that step: not as it came.
#[tokio::test]
async fn what_a_step_makes_too_large_is_kept_as_it_was_before_it() {
    let endpoint = Endpoint::start(behaviour::always(500)).await;
    let mark = step("reshape", "start = \"payload\", data = { \"/marked\" = { value = true } }", "");
    let blob = "x".repeat(300 * KIB);
    let grow = step(
        "reshape",
        &format!("start = \"payload\", data = {{ \"/blob\" = {{ value = \"{blob}\" }} }}"),
        "",
    );
    // Steps stand before `deliver`.
    let (name, deliver) = ("[[subscription]]\nname = \"all\"\n", "[subscription.deliver]\n");
    let url = format!("url = \"{}\"\n", endpoint.url());
    let folder =
        folder_with_modules(&[name, &mark, &grow, deliver, &url, &retry(&["100ms", "100ms"], "")].concat());
    let scene = Scene::open(NatsServer::options().max_payload(256 * KIB).start().await, folder).await;
    scene.publish([event("grows", "t", ",\"data\":{\"small\":1}")]).await;
    let letters = scene.letters(1).await;
    assert_eq!((letters[0].end(), letters[0].text("resume")), (("all", "exhausted"), "step/1"));
    assert_eq!(letters[0].number("attempts"), 3);
    let body = letters[0].text("body");
    assert!(body.contains("\"marked\":true") && body.contains("\"small\":1"), "{}", body.len());
    assert!(endpoint.requests().iter().all(|request| request.body.len() > 300 * KIB));
    scene.quiet().await;
}
