//! What `hookmill trace` says of messages that have left no record: nothing of it is untrue.

use std::time::Duration;

use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::Config;
use hookmill_tests::events::{self, Message};
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, eventually, hookmill};
use serde_json::{Value, json};

use super::{place, places, said};
use crate::scene::{
    SOON, Scene, event, event_id, folder_with_modules, good, messages_in, retry, step, webhook,
};

const DONE: &str = "nothing is left to do: each subscription that wanted it has delivered it or filtered it out, or has left \
                    a task or a dead letter that is gone since\n";
const A: &str = "subjects = [\"events.a\"]";
const A_AND_B: &str = "subjects = [\"events.a\", \"events.b\"]";

fn pipeline(endpoint: &Endpoint, source: &str) -> String {
    format!("[source]\n{source}\n") + &webhook("all", &endpoint.url(), "")
}

fn on_a(id: &str) -> Message {
    good(id).on("events.a")
}

fn on_b(id: &str) -> Message {
    good(id).on("events.b")
}

/// A scene in whose stream something lies before there is an engine.
async fn behind(messages: impl IntoIterator<Item = Message>, pipeline: &str) -> Scene {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    events::publish_all(&jetstream, messages).await;
    Scene::open(server, PipelineFolder::with("p", pipeline)).await
}

async fn start_again(scene: &mut Scene) {
    scene.engine = Engine::run(&scene.server).arg(scene.folder.path()).start().await;
}

/// The one place in the source says so, and names the pipeline unless none takes it.
async fn is(scene: &Scene, id: &str, state: &str) {
    let found = places(scene, &[id], "source").await;
    let [place] = found.as_slice() else { panic!("{id}: {found:?}") };
    assert_eq!(place["state"], state, "{place}");
    assert_eq!(place["pipeline"].is_null(), state == "not_its_subject", "{place}");
    assert_eq!(place["why"].is_null(), state != "unknown", "{place}");
}

async fn settles(scene: &Scene, id: &str) {
    place(scene, id, "source", |place| place["state"] == "settled").await;
}

async fn text_of(scene: &Scene, id: &str) -> String {
    let said = said(scene, &[id]).await;
    assert_eq!(said.code, 0, "{said:?}");
    said.stdout
}

async fn bucket(scene: &Scene) -> Store {
    scene.jetstream.get_key_value("HOOKMILL_REGISTRY").await.expect("the engine has made it")
}

async fn delete_durable(scene: &Scene) {
    let stream = scene.jetstream.get_stream("HOOKMILL_EVENTS").await.expect("it is there");
    stream.delete_consumer("hookmill-p").await.expect("it can be deleted");
}

/// Whether the endpoint has accepted the event.
fn has(endpoint: &Endpoint, id: &str) -> bool {
    endpoint.requests().iter().any(|request| event_id(request) == id)
}

#[tokio::test]
async fn what_was_there_before_the_pipeline_was_never_taken() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = behind([good("before")], &pipeline(&endpoint, "start = \"new\"")).await;
    scene.publish([good("after")]).await;
    settles(&scene, "after").await;
    is(&scene, "before", "before_start").await;
    assert!(!has(&endpoint, "before") && has(&endpoint, "after"));
    let text = text_of(&scene, "before").await;
    assert!(text.contains("never taken: it was there before the pipeline began"), "{text}");
    assert!(!text.contains("nothing is left"), "{text}");
    assert!(text_of(&scene, "after").await.contains(DONE));
}

#[tokio::test]
async fn what_nobody_wanted_is_settled_in_words_that_leave_that_open() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let source = pipeline(&endpoint, A).replace("name", "types = [\"good\"]\nname");
    let scene = Scene::start(&source).await;
    scene.publish([event("unmatched", "other", "").on("events.a"), on_b("elsewhere"), on_a("last")]).await;
    settles(&scene, "unmatched").await;
    settles(&scene, "last").await;
    assert!(text_of(&scene, "unmatched").await.contains(DONE));
    is(&scene, "elsewhere", "not_its_subject").await;
    let text = text_of(&scene, "elsewhere").await;
    assert!(text.contains("taken by no pipeline of this stream: its subject is none of theirs"), "{text}");
    assert!(!text.contains("nothing is left"), "{text}");
    assert_eq!(endpoint.received(), 1);
}

#[tokio::test]
async fn a_dead_letter_that_was_discarded_is_spoken_of_as_one_that_may_be_gone() {
    let endpoint = Endpoint::start(behaviour::always(400)).await;
    let scene =
        Scene::start(&(webhook("all", &endpoint.url(), "") + &retry(&["1h"], "give_up_on = [400]"))).await;
    scene.publish([good("dies")]).await;
    scene.letters(1).await;
    settles(&scene, "dies").await;
    assert!(!text_of(&scene, "dies").await.contains("nothing is left"));
    let discarded = hookmill(&["dlq", "discard", "--all", "--yes", "--nats", &scene.server.url()]).await;
    assert_eq!(discarded.code, 0, "{discarded:?}");
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_DLQ").await, 0);
    assert!(text_of(&scene, "dies").await.contains(DONE));
}

#[tokio::test]
async fn what_has_left_its_stream_by_age_is_not_said_to_be_unpublished_or_settled() {
    let endpoint = Endpoint::start(behaviour::always(503)).await;
    let server = NatsServer::start().await;
    let scene = Scene::open(
        server,
        PipelineFolder::with("p", &(webhook("all", &endpoint.url(), "") + &retry(&["1h"], ""))),
    )
    .await;
    scene.publish([good("waits")]).await;
    place(&scene, "waits", "wait", |_| true).await;
    scene.engine.terminate().await;
    scene.publish([good("never taken")]).await;
    let (name, subjects) = ("HOOKMILL_EVENTS".to_owned(), vec!["events.>".to_owned()]);
    let aging = Config { name, subjects, max_age: Duration::from_millis(100), ..Config::default() };
    scene.jetstream.update_stream(aging).await.expect("it can be changed");
    eventually(SOON, "the source is empty", || async {
        let left = messages_in(&scene.jetstream, "HOOKMILL_EVENTS").await;
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    })
    .await;
    let gone = said(&scene, &["never taken"]).await;
    assert_eq!(gone.code, 1, "{gone:?}");
    for part in ["may have left its stream: by age, by a limit", "may not have been published"] {
        assert!(gone.stderr.contains(part), "{part:?} in {gone:?}");
    }
    assert!(places(&scene, &["waits"], "source").await.is_empty());
    let text = text_of(&scene, "waits").await;
    assert!(text.contains("due at ") && !text.contains("nothing is left"), "{text}");
}

#[tokio::test]
async fn a_message_is_judged_by_the_subjects_that_held_at_its_turn() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let mut scene = Scene::start(&pipeline(&endpoint, A)).await;
    scene.publish([on_b("b, unwanted"), on_a("a, wanted")]).await;
    settles(&scene, "a, wanted").await;
    scene.engine.terminate().await;
    is(&scene, "b, unwanted", "not_its_subject").await;

    // Wider: what was passed before stays as it was.
    scene.folder.write("p.toml", pipeline(&endpoint, A_AND_B));
    start_again(&mut scene).await;
    scene.publish([on_b("b, wanted now")]).await;
    settles(&scene, "b, wanted now").await;
    is(&scene, "b, unwanted", "not_its_subject").await;
    is(&scene, "a, wanted", "settled").await;
    assert!(!text_of(&scene, "b, unwanted").await.contains("nothing is left"));

    // Narrower, with something that is not taken yet.
    scene.engine.terminate().await;
    scene.publish([on_b("b, too late")]).await;
    is(&scene, "b, too late", "pending").await;
    scene.folder.write("p.toml", pipeline(&endpoint, A));
    start_again(&mut scene).await;
    scene.publish([on_a("a, still")]).await;
    settles(&scene, "a, still").await;
    is(&scene, "b, too late", "not_its_subject").await;
    is(&scene, "b, wanted now", "settled").await;
    is(&scene, "b, unwanted", "not_its_subject").await;
    assert!(!has(&endpoint, "b, unwanted") && !has(&endpoint, "b, too late"));
    assert_eq!(endpoint.received(), 3);
}

/// What is not wanted and lies behind the last message that was delivered has not had its turn: later subjects may well take it. Whatever
/// a server does there, also one that was killed: of what was delivered trace never says that nobody took it, nor the other way round.
#[tokio::test]
async fn trace_and_endpoint_agree_when_subjects_change_and_the_server_is_killed() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let mut scene = Scene::start(&pipeline(&endpoint, A)).await;
    let ids: Vec<String> = (0..6).map(|number| format!("b{number}")).collect();
    scene.publish([on_a("first")]).await;
    settles(&scene, "first").await;
    scene.publish(ids[..3].iter().map(|id| on_b(id))).await;
    scene.publish([on_a("second")]).await;
    settles(&scene, "second").await;
    scene.publish(ids[3..].iter().map(|id| on_b(id))).await;
    scene.engine.terminate().await;
    scene.folder.write("p.toml", pipeline(&endpoint, A_AND_B));
    start_again(&mut scene).await;
    scene.engine.terminate().await;
    scene.server.kill().await;
    scene.server.restart().await;
    scene.jetstream = scene.server.jetstream().await;
    start_again(&mut scene).await;
    scene.publish([on_b("last")]).await;
    settles(&scene, "last").await;
    for id in &ids {
        let found = places(&scene, &[id], "source").await;
        let [place] = found.as_slice() else { panic!("{id}: {found:?}") };
        let state = place["state"].as_str().expect("a state");
        let fits = match state {
            "settled" => has(&endpoint, id),
            "not_its_subject" => !has(&endpoint, id),
            other => other == "unknown",
        };
        assert!(fits, "{id} is {state}, delivered: {}", has(&endpoint, id));
    }
}

#[tokio::test]
async fn a_lost_durable_is_said_to_be_lost_and_has_begun_where_it_began() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let mut scene = behind([good("before")], &pipeline(&endpoint, "start = \"new\"")).await;
    scene.publish([good("one")]).await;
    settles(&scene, "one").await;
    scene.engine.terminate().await;
    delete_durable(&scene).await;
    scene.publish([good("two")]).await;
    is(&scene, "before", "before_start").await;
    is(&scene, "one", "settled").await;
    is(&scene, "two", "unknown").await;
    let text = text_of(&scene, "two").await;
    assert!(text.contains("not known: the pipeline's consumer is not there, or is another's"), "{text}");
    start_again(&mut scene).await;
    settles(&scene, "two").await;
    is(&scene, "before", "before_start").await;
    is(&scene, "one", "settled").await;
    assert!(!has(&endpoint, "before"));
}

#[tokio::test]
async fn a_renamed_pipeline_has_begun_where_it_began_under_its_old_name() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let source = format!("{A}\nstart = \"new\"");
    let mut scene = behind([on_a("before")], &pipeline(&endpoint, &source)).await;
    scene.publish([on_b("elsewhere"), on_a("one")]).await;
    settles(&scene, "one").await;
    scene.engine.terminate().await;
    let renamed = hookmill(&["pipeline", "rename", "p", "q", "--nats", &scene.server.url()]).await;
    assert_eq!(renamed.code, 0, "{renamed:?}");
    std::fs::remove_file(scene.folder.path().join("p.toml")).expect("it is there");
    scene.folder.write("q.toml", pipeline(&endpoint, &format!("{A_AND_B}\nstart = \"new\"")));
    start_again(&mut scene).await;
    scene.publish([on_b("two")]).await;
    settles(&scene, "two").await;
    for (id, state) in [("before", "before_start"), ("one", "settled"), ("elsewhere", "not_its_subject")] {
        is(&scene, id, state).await;
    }
    let found = places(&scene, &["before"], "source").await;
    assert_eq!(found[0]["pipeline"], "q");
    let bucket = bucket(&scene).await;
    assert!(bucket.get("history.p").await.expect("it can be read").is_none());
    assert!(bucket.get("history.q").await.expect("it can be read").is_some());
}

#[tokio::test]
async fn without_a_record_what_was_passed_is_unknown_and_what_comes_is_not() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let mut scene = behind([good("before")], &pipeline(&endpoint, "start = \"new\"")).await;
    scene.publish([good("one")]).await;
    settles(&scene, "one").await;
    // As an earlier version has left it, and then as a process that died between making the durable and writing of it.
    for lost in [&["history.p"][..], &["history.p", "floor.p"]] {
        scene.engine.terminate().await;
        for key in lost {
            bucket(&scene).await.purge(key).await.expect("it can be removed");
        }
        if lost.len() == 1 {
            is(&scene, "before", "unknown").await;
            is(&scene, "one", "unknown").await;
        }
        start_again(&mut scene).await;
        let id = format!("after {}", lost.len());
        scene.publish([good(&id)]).await;
        settles(&scene, &id).await;
        is(&scene, "before", "unknown").await;
        is(&scene, "one", "unknown").await;
    }
    let text = text_of(&scene, "one").await;
    assert!(text.contains("not known: the pipeline's consumer has passed it"), "{text}");
    assert!(!text.contains("nothing is left"), "{text}");
}

#[tokio::test]
async fn what_a_step_gives_another_id_is_found_by_the_id_that_was_published() {
    let endpoint = Endpoint::start(behaviour::always(503)).await;
    let pipeline = webhook("all", &endpoint.url(), "")
        + &retry(&["1h"], "")
        + &step("hostile", "mode = \"as_told\"", "");
    let scene = Scene::open(NatsServer::start().await, folder_with_modules(&pipeline)).await;
    let told = r#","data":{"attributes":[["id","new"]],"headers":[]}"#;
    scene.publish([event("old", "good", told)]).await;
    let wait = place(&scene, "old", "wait", |_| true).await;
    assert_eq!(wait["event"]["id"], "new");
    assert_eq!(wait["origin"], json!({ "stream": "HOOKMILL_EVENTS", "sequence": 1 }));
    settles(&scene, "old").await;
    let text = text_of(&scene, "old").await;
    assert!(text.contains("new of /tests (good)\n") && !text.contains("nothing is left"), "{text}");
    // Also where the message lies further back than is looked, and the task alone leads there.
    let by_new: Vec<Value> = places(&scene, &["new", "--since", "0s"], "wait").await;
    assert_eq!(by_new.len(), 1, "{by_new:?}");
}

#[tokio::test]
async fn messages_that_cant_be_read_are_counted_where_nothing_is_found() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = Scene::start(&pipeline(&endpoint, "")).await;
    let unreadable = events::structured_message("{}".to_owned());
    scene.publish([unreadable, good("one")]).await;
    settles(&scene, "one").await;
    let missing = said(&scene, &["none", "--source", "/nowhere"]).await;
    for part in [
        "no event with the id \"none\" and the source \"/nowhere\" was found in waits, lanes and dead letters, HOOKMILL_EVENTS from 1 on\n",
        "1 of the messages in HOOKMILL_EVENTS can't be read as CloudEvents",
    ] {
        assert!(missing.stderr.contains(part), "{part:?} in {missing:?}");
    }
    assert!(!missing.stderr.contains("--since"), "all was looked through: {missing:?}");
    scene.engine.terminate().await;
    scene.jetstream.delete_stream("HOOKMILL_EVENTS").await.expect("it can be deleted");
    let missing = said(&scene, &["none"]).await;
    assert!(missing.stderr.contains("there is no such stream: HOOKMILL_EVENTS"), "{missing:?}");
}
