//! Events published onward to a NATS subject.

use async_nats::jetstream::{self, Context};
use hookmill_tests::events::Message;
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, eventually, hookmill};

use crate::scene::{SOON, Scene, binary, event, good, messages_in, retry, webhook};

async fn make_stream(jetstream: &Context, name: &str, subjects: &str) {
    let config = jetstream::stream::Config {
        name: name.into(),
        subjects: vec![subjects.into()],
        ..jetstream::stream::Config::default()
    };
    jetstream.create_stream(config).await.expect("the stream can be made");
}

async fn wait_for_messages(jetstream: &Context, stream: &str, count: u64) {
    eventually(SOON, &format!("{count} messages in {stream}"), || async {
        let found = messages_in(jetstream, stream).await;
        if found == count { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

fn publish(name: &str, subject: &str, more: &str) -> String {
    format!("[[subscription]]\nname = \"{name}\"\n[subscription.publish]\nsubject = \"{subject}\"\n{more}\n")
}

#[tokio::test]
async fn events_arrive_on_the_subject_that_the_template_says() {
    let server = NatsServer::start().await;
    make_stream(&server.jetstream().await, "OUT", "out.>").await;
    let folder = PipelineFolder::with("p", &publish("onward", "out.{type}.{subject}", ""));
    let scene = Scene::open(server, folder).await;
    let subjects = [("plain", "plain"), ("a b", "a%20b"), ("*", "%2A"), (">", "%3E"), ("ü%", "%C3%BC%25")];
    for (subject, _) in subjects {
        scene.publish([event("e", "com.shop.t", &format!(",\"subject\":\"{subject}\""))]).await;
    }
    scene.publish([event("e", "com.shop.t", "")]).await;
    wait_for_messages(&scene.jetstream, "OUT", 6).await;
    let stream = scene.jetstream.get_stream("OUT").await.expect("it is there");
    let mut found = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    for sequence in 1..=6 {
        let stored = stream.get_raw_message(sequence).await.expect("it is there");
        found.push(stored.subject.to_string());
        let header = |name: &str| stored.headers.get(name).map(|value| value.as_str().to_owned());
        assert_eq!(header("Content-Type").as_deref(), Some("application/cloudevents+json"));
        assert_eq!(header("Hookmill-Hops").as_deref(), Some("1"));
        assert!(header("Hookmill-Delivery-Id").is_some_and(|id| id.starts_with("msg_")));
        assert!(ids.insert(header("Nats-Msg-Id").expect("a message id")));
        assert!(stored.payload.starts_with(br#"{"specversion":"1.0","id":"e""#));
    }
    found.sort_unstable();
    let mut expected: Vec<_> = subjects
        .iter()
        .map(|(_, token)| format!("out.com.shop.t.{token}"))
        .chain(["out.com.shop.t._".into()])
        .collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    scene.ends("onward", "delivered", 6).await;
    scene.quiet().await;
}

#[tokio::test]
async fn a_subject_without_a_stream_is_tried_again_until_there_is_one() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let pipeline = [
        webhook("healthy", &endpoint.url(), ""),
        publish("never", "never.{id}", "") + &retry(&["100ms", "100ms"], ""),
        publish("later", "later.{id}", "") + &retry(&["200ms"; 90], ""),
    ]
    .concat();
    let scene = Scene::start(&pipeline).await;
    scene.publish([good("one"), good("two")]).await;
    endpoint.wait_for_delivered(2, SOON).await;
    let letters = scene.letters(2).await;
    for letter in &letters {
        assert_eq!((letter.end(), letter.number("attempts")), (("never", "exhausted"), 3));
        assert!(letter.error().contains("publish to never."), "{}", letter.error());
        assert!(letter.error().contains("no stream"), "{}", letter.error());
    }
    make_stream(&scene.jetstream, "LATER", "later.>").await;
    wait_for_messages(&scene.jetstream, "LATER", 2).await;
    scene.ends("later", "delivered", 2).await;
    scene.quiet().await;
}

#[tokio::test]
async fn what_the_other_stream_does_not_take_for_its_size_is_dead_lettered_at_once() {
    let server = NatsServer::start().await;
    let config = jetstream::stream::Config {
        name: "SMALL".into(),
        subjects: vec!["small.>".into()],
        max_message_size: 1_000,
        ..jetstream::stream::Config::default()
    };
    server.jetstream().await.create_stream(config).await.expect("the stream can be made");
    let pipeline = publish("small", "small.{id}", "") + &retry(&["1h"], "");
    let scene = Scene::open(server, PipelineFolder::with("p", &pipeline)).await;
    let large = event("large", "t", &format!(",\"data\":\"{}\"", "x".repeat(2_000)));
    scene.publish([large, good("fits")]).await;
    wait_for_messages(&scene.jetstream, "SMALL", 1).await;
    let letters = scene.letters(1).await;
    assert_eq!(letters[0].end(), ("small", "target_too_large"));
    assert_eq!(letters[0].0["event"]["id"], "large");
    let body: serde_json::Value = serde_json::from_str(letters[0].text("body")).expect("the body is kept");
    assert_eq!(body["data"].as_str().map(str::len), Some(2_000));
    scene.quiet().await;

    let mut config =
        scene.jetstream.get_stream("SMALL").await.expect("it is there").cached_info().config.clone();
    config.max_message_size = -1;
    scene.jetstream.update_stream(config).await.expect("the stream can be changed");
    let sequence = letters[0].number("sequence").to_string();
    let said = hookmill(&["dlq", "redrive", &sequence, "--nats", &scene.server.url()]).await;
    assert_eq!(said.code, 0, "{said:?}");
    wait_for_messages(&scene.jetstream, "SMALL", 2).await;
}

/// Rendered for the other stream, a binary event grows by a third: beyond what any server takes.
#[tokio::test]
async fn a_binary_event_that_grows_too_large_for_any_stream_is_kept_as_it_came() {
    let server = NatsServer::options().max_payload(256 * 1024).start().await;
    make_stream(&server.jetstream().await, "OUT", "out.>").await;
    let folder = PipelineFolder::with("p", &publish("onward", "out.{id}", ""));
    let scene = Scene::open(server, folder).await;
    let data = vec![0xff_u8; 196_450];
    scene
        .publish([binary("octets", "t", &[("Content-Type", "application/octet-stream")], data.clone())])
        .await;
    let letters = scene.letters(1).await;
    assert_eq!(letters[0].end(), ("onward", "target_too_large"));
    let body = letters[0].0["body"]["base64"].as_str().expect("the body is no text");
    let body = data_encoding::BASE64.decode(body.as_bytes()).expect("it is base64");
    assert!(body.ends_with(&data), "{} bytes", body.len());
    scene.quiet().await;
}

/// In one engine they are refused; two that know nothing of one another are stopped by the count.
#[tokio::test]
async fn a_loop_of_pipelines_in_two_engines_ends() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let source = |subject: &str| format!("[source]\nsubjects = [\"{subject}\"]\n");
    let folder =
        PipelineFolder::with("ping", &(source("events.ping.>") + &publish("on", "events.pong.x", "")));
    folder.write("p.toml", source("events.other.>") + &webhook("all", &endpoint.url(), ""));
    let other =
        PipelineFolder::with("pong", &(source("events.pong.>") + &publish("on", "events.ping.x", "")));
    let scene = Scene::open(NatsServer::start().await, folder).await;
    let _other = Engine::run(&scene.server).arg(other.path()).start().await;
    scene.publish([good("round").on("events.ping.x"), good("other").on("events.other.x")]).await;
    endpoint.wait_for_delivered(1, SOON).await;
    let letters = scene.letters(1).await;
    assert_eq!(letters[0].end(), ("on", "config"));
    assert!(letters[0].error().contains("published onward 16 times already"), "{}", letters[0].error());
    assert_eq!(letters[0].0["event"]["id"], "round");
    scene.quiet().await;
    // Published by hand once, and onward 16 times.
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_EVENTS").await, 2 + 16);
}

/// Structured and binary mode, a redrive, a redrive from the original event, and one of a message that was refused as a whole.
#[tokio::test]
async fn how_often_an_event_was_published_onward_is_known_on_every_way() {
    let server = NatsServer::start().await;
    make_stream(&server.jetstream().await, "OUT", "out.>").await;
    let validate = |required: &str| {
        format!(
            "[validate]\n[[validate.schema]]\nfile = \"{required}.json\"\n{}",
            publish("on", "out.{id}", "")
        )
    };
    let folder = PipelineFolder::with("p", &validate("none"));
    folder.write("none.json", r#"{"$id": "urn:none", "required": ["none"]}"#);
    folder.write("any.json", r#"{"$id": "urn:any"}"#);
    let mut scene = Scene::open(server, folder).await;
    let hops = |message: Message, hops: &str| message.header("Hookmill-Hops", hops);
    scene.publish([hops(good("whole"), "16")]).await;
    let whole = scene.letters(1).await;
    assert_eq!(whole[0].end(), ("_", "schema"));
    scene.engine.terminate().await;
    scene.folder.write("p.toml", validate("any"));
    scene.engine = Engine::run(&scene.server).arg(scene.folder.path()).start().await;
    redrive(&scene, &[]).await;
    let data = "{}";
    let typed = [("ce-datacontenttype", "application/json")];
    scene
        .publish([
            hops(good("structured"), "16"),
            hops(binary("binary", "good", &typed, data), "16"),
            hops(good("many"), "99999999999999999999"),
            hops(good("fits"), "15"),
            hops(good("none"), "none of ours"),
        ])
        .await;
    let stopped = async |count: u64| {
        let letters = scene.letters(count).await;
        for letter in &letters {
            assert_eq!(letter.end(), ("on", "config"), "{letter:?}");
            assert!(letter.error().contains("times already"), "{}", letter.error());
        }
    };
    stopped(4).await;
    for how in [&[][..], &["--rerun"]] {
        redrive(&scene, how).await;
        stopped(4).await;
    }
    wait_for_messages(&scene.jetstream, "OUT", 2).await;
    let out = scene.jetstream.get_stream("OUT").await.expect("it is there");
    let mut counts = Vec::new();
    for sequence in 1..=2 {
        let stored = out.get_raw_message(sequence).await.expect("it is there");
        counts.push(stored.headers.get("Hookmill-Hops").expect("it is counted").as_str().to_owned());
    }
    counts.sort();
    assert_eq!(counts, ["1", "16"]);
}

/// Takes all dead letters out of their stream.
async fn redrive(scene: &Scene, how: &[&str]) {
    let url = scene.server.url();
    let said = hookmill(&[&["dlq", "redrive", "--pipeline", "p", "--nats", &url][..], how].concat()).await;
    assert_eq!(said.code, 0, "{said:?}");
}

/// A template whose first token comes from the event can't be told when the files are checked.
#[tokio::test]
async fn what_an_event_makes_a_subject_of_the_engines_own_is_not_published() {
    let server = NatsServer::start().await;
    make_stream(&server.jetstream().await, "OUT", "out.>").await;
    let folder = PipelineFolder::with("p", &publish("onward", "{type}.x", ""));
    let options = Engine::run(&server).arg("--prefix").arg("my-mill");
    let scene = Scene::open_with(server, folder, options).await;
    let types = ["my-mill.dlq.p.onward", "hookmill.wait.p", "out.fine"];
    scene.publish(types.map(|ty| event(ty, ty, ""))).await;
    wait_for_messages(&scene.jetstream, "OUT", 1).await;
    wait_for_messages(&scene.jetstream, "MY_MILL_DLQ", 2).await;
    let said =
        hookmill(&["dlq", "show", "--json", "--prefix", "my-mill", "--nats", &scene.server.url()]).await;
    let own = |line: &str| line.contains("is a subject of the engine's own") && line.contains("\"config\"");
    assert!(said.stdout.lines().count() == 2 && said.stdout.lines().all(own), "{said:?}");
}

/// The server says so beside the request, which itself is never answered.
#[tokio::test]
async fn a_subject_without_permission_is_dead_lettered_at_once() {
    let permissions = "{ publish: { deny: \"secret.>\" } }";
    let user = format!("{{ user: mill, password: right, permissions: {permissions} }}");
    let accounts =
        format!("accounts {{ A {{ jetstream: enabled, users: [ {user} ] }} }}\nno_auth_user: mill");
    let server = NatsServer::options().extra(&accounts).start().await;
    make_stream(&server.jetstream().await, "OPEN", "open.>").await;
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let pipeline = [
        webhook("healthy", &endpoint.url(), ""),
        publish("denied", "secret.{id}", "") + &retry(&["1h"], ""),
        publish("allowed", "open.{id}", "") + &retry(&["1h"], ""),
    ]
    .concat();
    let scene = Scene::open(server, PipelineFolder::with("p", &pipeline)).await;
    scene.publish([good("one")]).await;
    endpoint.wait_for_delivered(1, SOON).await;
    wait_for_messages(&scene.jetstream, "OPEN", 1).await;
    scene.ends("denied", "dead_lettered", 1).await;
    let letters = scene.letters(1).await;
    assert_eq!((letters[0].end(), letters[0].number("attempts")), (("denied", "config"), 1));
    assert!(letters[0].error().contains("no permission to publish"), "{}", letters[0].error());
    scene.quiet().await;
}
