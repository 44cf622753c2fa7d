//! What publishers can do wrong. Whatever it is, it ends in the dead letters with a reason, and the events beside it flow.

use std::collections::BTreeSet;

use async_nats::HeaderMap;
use hookmill_tests::events::{Message, structured_message};
use hookmill_tests::{Endpoint, NatsServer, PipelineFolder, behaviour, eventually};

use crate::scene::{SOON, Scene, binary, event, event_id, good, messages_in, retry, webhook};

const KIB: usize = 1024;
/// What an event and its headers must leave free of the server's `max_payload`.
const ROOM: usize = 64 * KIB;
/// Stands in payloads, and nowhere else.
const MARK: &str = "zzPRIVATEzz";

fn without_headers(payload: &'static [u8]) -> Message {
    Message { headers: HeaderMap::new(), ..structured_message(payload) }
}

/// Each message that is no event, and what its dead letter must say.
fn no_events() -> Vec<(Message, &'static str)> {
    let structured = |text: &str| structured_message(text.to_owned().replace("MARK", MARK));
    let one = r#""specversion":"1.0","id":"1","source":"/s","type":"t""#;
    let mut latin1 = format!(r#"{{{one},"data":"{MARK}"#).into_bytes();
    latin1.extend_from_slice(b"\xe9\"}");
    let deep_and_open = format!("{{{one},\"data\":{}", "[".repeat(10_000));
    let mut no_id = binary("1", "t", &[], "x");
    no_id.headers = HeaderMap::new();
    for (name, value) in [("ce-specversion", "1.0"), ("ce-source", "/s"), ("ce-type", "t")] {
        no_id.headers.insert(name, value);
    }
    vec![
        (structured("MARK, not JSON"), "not JSON"),
        (structured(""), "not JSON"),
        (structured("[1]"), "not a JSON object"),
        (structured(&format!("{{{one}")), "not JSON"),
        (structured(&format!("{{{one}}} MARK")), "not JSON"),
        (structured(r#"{"specversion":"0.3","id":"1","source":"/s","type":"t"}"#), "specversion"),
        (structured(r#"{"id":"1","source":"/s","type":"t"}"#), "specversion is missing"),
        (structured(r#"{"specversion":"1.0","source":"/s","type":"t"}"#), "id is missing"),
        (structured(r#"{"specversion":"1.0","id":"1","type":"t"}"#), "source is missing"),
        (structured(r#"{"specversion":"1.0","id":"1","source":"/s"}"#), "type is missing"),
        (structured(r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#), "id is empty"),
        (structured(r#"{"specversion":"1.0","id":7,"source":"/s","type":"t"}"#), "not a string"),
        (structured(&format!(r#"{{{one},"id":"2"}}"#)), "more than once"),
        (structured(&format!(r#"{{{one},"my_ext":"x"}}"#)), "not an attribute name"),
        (structured(&format!(r#"{{{one},"data":"MARK","data_base64":"TUFSSw=="}}"#)), "both there"),
        (structured(&format!(r#"{{{one},"data_base64":"MARK!"}}"#)), "not base64"),
        (structured_message(latin1), "not UTF-8"),
        (structured_message(deep_and_open), "not JSON"),
        (no_id, "ce-id is missing"),
        (binary("1", "t", &[("ce-time", "yesterday")], "x"), "RFC 3339"),
        (binary("1", "t", &[("ce-time", "%zz")], "x"), "hexadecimal"),
        (without_headers(b"plain text"), "neither a header ce-specversion"),
        (without_headers(b""), "neither a header ce-specversion"),
        (without_headers(b"\xff\xfe\x00"), "neither a header ce-specversion"),
    ]
}

#[tokio::test]
async fn what_is_no_event_rests_in_the_dead_letters_and_the_next_event_flows() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let scene = Scene::start(&webhook("all", &endpoint.url(), "")).await;
    let bad = no_events();
    let count = bad.len();
    let mut sequences = Vec::new();
    for (number, (message, _)) in bad.iter().enumerate() {
        sequences.push(scene.publish([message.clone()]).await[0]);
        scene.publish([good(&format!("good-{number}"))]).await;
    }
    endpoint.wait_for_delivered(count, SOON).await;
    let letters = scene.letters(count as u64).await;
    for ((message, expected), sequence) in bad.iter().zip(sequences) {
        let letter = letters.iter().find(|letter| letter.0["source"]["sequence"] == sequence);
        let letter = letter.unwrap_or_else(|| panic!("no dead letter for {sequence}"));
        assert_eq!(letter.end(), ("_", "not_cloudevent"), "{}", letter.0);
        assert!(letter.error().contains(expected), "{:?} should say {expected:?}", letter.error());
        assert!(!letter.error().contains(MARK), "{}", letter.error());
        assert_eq!(letter.text("resume"), "source");
        let body = match &letter.0["body"] {
            serde_json::Value::String(text) => text.clone().into_bytes(),
            other => {
                let text = other["base64"].as_str().expect("base64");
                data_encoding::BASE64.decode(text.as_bytes()).expect("base64")
            }
        };
        assert_eq!(body, message.payload, "the message is kept as it came");
    }
    assert_eq!(endpoint.distinct_ids(), count);
    let log = scene.engine.lines();
    assert!(!log.iter().any(|line| line.text.contains(MARK)), "a payload is in the log");
    scene.quiet().await;
}

#[tokio::test]
async fn ten_thousand_levels_of_nesting_go_through_or_are_refused_by_their_schema() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let schema = "[[validate.schema]]\ntypes = [\"checked\"]\nfile = \"any.json\"\n";
    let matching =
        "[[subscription]]\nname = \"matching\"\nmatch = { type = \"array\" }\n[subscription.deliver]\n";
    let pipeline = format!(
        "{schema}{}{matching}url = \"{}/matching\"\n",
        webhook("all", &endpoint.url(), ""),
        endpoint.url()
    );
    let folder = PipelineFolder::with("p", &pipeline);
    folder.write("any.json", r#"{"type": "array"}"#);
    let scene = Scene::open(NatsServer::start().await, folder).await;
    for opening in ["[", "{\"a\":"] {
        let closing = if opening == "[" { "]" } else { "}" };
        let data = format!(",\"data\":{}1{}", opening.repeat(10_000), closing.repeat(10_000));
        let (free, checked) = (event("deep", "free", &data), event("deep", "checked", &data));
        endpoint.forget();
        scene.publish([free.clone(), checked, good("beside")]).await;
        endpoint.wait_for_delivered(2, SOON).await;
        let bodies: BTreeSet<_> = endpoint.requests().into_iter().map(|request| request.body).collect();
        assert!(bodies.contains(&free.payload), "it is delivered byte for byte");
        assert!(bodies.contains(&good("beside").payload));
    }
    let letters = scene.letters(4).await;
    let (whole, matching): (Vec<_>, Vec<_>) = letters.iter().partition(|letter| letter.subscription() == "_");
    assert_eq!((whole.len(), matching.len()), (2, 2));
    for letter in whole {
        assert_eq!(letter.end(), ("_", "schema"));
        assert!(letter.error().starts_with("schema any.json refuses the event"), "{}", letter.error());
    }
    // What `match` can't judge is no "no": one such as it might have wanted.
    for letter in matching {
        assert_eq!(letter.end(), ("matching", "schema"));
        assert!(letter.error().starts_with("match can't judge the event"), "{}", letter.error());
    }
    scene.ends("matching", "filtered", 2).await;
    let unjudged = scene.engine.metric("hookmill_match_unjudged_total", &["subscription=\"matching\""]).await;
    assert!((unjudged - 2.0).abs() < 0.5, "{unjudged}");
    assert!(endpoint.requests().iter().all(|request| request.target == "/hooks"));
}

/// An event in structured mode whose headers and body are `bytes` together.
fn sized(id: &str, bytes: usize) -> Message {
    let headers = "Content-Type".len() + "application/cloudevents+json".len() + 4;
    let empty = event(id, "sized", r#","data":"""#).payload.len();
    event(id, "sized", &format!(r#","data":"{}""#, "x".repeat(bytes - headers - empty)))
}

async fn the_largest_event_waits_and_larger_ones_are_kept_whole(max_payload: usize) {
    let endpoint = Endpoint::start(behaviour::custom(|request| {
        let large = request.body.len() > 10 * KIB;
        hookmill_tests::Reply::Status(if large { 500 } else { 200 })
    }))
    .await;
    let pipeline = webhook("all", &endpoint.url(), "") + &retry(&["200ms"; 50], "");
    let server = NatsServer::options().max_payload(max_payload).start().await;
    let scene = Scene::open(server, PipelineFolder::with("p", &pipeline)).await;
    let room = max_payload - ROOM;
    let fitting = [sized("below", room - 1), sized("exact", room)];
    let larger = [sized("above", room + 1), sized("far-above", max_payload - 200)];
    scene.publish(fitting.clone()).await;
    let sequences = scene.publish(larger.clone()).await;
    let last = max_payload - 1 - "NATS/1.0\r\n\r\n".len();
    let sequences = [sequences, scene.publish([sized("last", last), good("beside")]).await].concat();
    // Both came again from the stream in which they waited; the small one was not kept from flowing.
    endpoint
        .wait_for("second attempts, and the small event", SOON, |log| {
            log.delivered_ids() == 1 && log.distinct_ids() == 3 && log.repeats() >= 4
        })
        .await;
    let mut letters = scene.letters_among(3).await;
    letters.sort_by_key(|letter| letter.0["source"]["sequence"].as_u64());
    for (letter, sequence) in letters.iter().zip(&sequences) {
        assert_eq!(letter.end(), ("_", "too_large"), "{}", letter.0);
        assert_eq!(letter.0["source"]["sequence"].as_u64(), Some(*sequence));
        assert_eq!(letter.0["source"]["stream"], "HOOKMILL_EVENTS");
    }
    for (letter, message) in letters.iter().zip(&larger) {
        assert_eq!(
            letter.text("body").as_bytes(),
            &*message.payload,
            "what fits into a message is kept whole"
        );
        assert_eq!(letter.0["event"]["type"], "sized", "and whose it is can be told");
        assert_eq!(
            letter.header("Hookmill-Source-Header-Content-Type"),
            Some("application/cloudevents+json")
        );
    }
    endpoint.behave(behaviour::always(200));
    endpoint.wait_for_delivered(3, SOON).await;
    let bodies: BTreeSet<_> = endpoint.requests().into_iter().map(|request| request.body).collect();
    assert!(fitting.iter().all(|message| bodies.contains(&message.payload)), "byte for byte");
    scene.publish([good("after")]).await;
    endpoint.wait_for_delivered(4, SOON).await;
    scene.quiet().await;
}

#[tokio::test]
async fn sizes_around_the_limit_of_a_small_server() {
    the_largest_event_waits_and_larger_ones_are_kept_whole(256 * KIB).await;
}

#[tokio::test]
async fn sizes_around_the_limit_of_a_server_as_it_comes() {
    the_largest_event_waits_and_larger_ones_are_kept_whole(KIB * KIB).await;
}

/// Base64 makes the finished body larger than the event: what is stored is the event, at every attempt.
#[tokio::test]
async fn a_large_binary_event_whose_body_fits_no_message_is_retried_all_the_same() {
    let endpoint = Endpoint::start(behaviour::fail_first(3, 500)).await;
    let pipeline = webhook("all", &endpoint.url(), "") + &retry(&["100ms"; 5], "");
    let server = NatsServer::options().max_payload(256 * KIB).start().await;
    let scene = Scene::open(server, PipelineFolder::with("p", &pipeline)).await;
    let data = vec![0xff_u8; 256 * KIB - ROOM - 200];
    let octets = [("Content-Type", "application/octet-stream")];
    scene.publish([binary("octets", "large", &octets, data.clone())]).await;
    endpoint.wait_for_delivered(1, SOON).await;
    let requests = endpoint.requests();
    assert_eq!((requests.len(), endpoint.distinct_ids()), (4, 1));
    let encoded = data_encoding::BASE64.encode(&data);
    assert!(requests.iter().all(|request| request.json()["data_base64"] == *encoded));
    scene.quiet().await;
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_DLQ").await, 0);
}

#[tokio::test]
async fn headers_may_have_32_kib_and_no_more() {
    let endpoint = Endpoint::start(behaviour::fail_first(1, 500)).await;
    let pipeline = webhook("all", &endpoint.url(), "format = \"binary\"") + &retry(&["100ms"], "");
    let server = NatsServer::options().max_payload(256 * KIB).start().await;
    let scene = Scene::open(server, PipelineFolder::with("p", &pipeline)).await;
    let (fits, too_long) = ("y".repeat(31 * KIB), "n".repeat(33 * KIB));
    let many: Vec<(String, String)> =
        (0..4_000).map(|number| (format!("x-{number}"), "1".to_owned())).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let sequences = scene
        .publish([
            binary("fits", "t", &[("ce-long", &fits)], "data"),
            binary("too-long", "t", &[("ce-long", &too_long)], "data"),
            binary("too-many", "t", &many, "data"),
            binary("good", "t", &[], "data"),
        ])
        .await;
    endpoint.wait_for_delivered(2, SOON).await;
    assert!(endpoint.requests().iter().any(|request| request.header("ce-long") == fits));
    let letters = scene.letters(2).await;
    let mut found: Vec<_> = letters.iter().map(|letter| letter.0["source"]["sequence"].as_u64()).collect();
    found.sort_unstable();
    assert_eq!(found, [Some(sequences[1]), Some(sequences[2])]);
    assert!(letters.iter().all(|letter| letter.end() == ("_", "too_large") && letter.text("body") == "data"));
    assert!(letters.iter().any(|letter| letter.header("Hookmill-Source-Header-ce-long") == Some(&too_long)));
}

/// Copied onto a task, `Nats-Schedule-Next` would purge a wait, `Nats-Expected-*` would make it unstorable, `Nats-Msg-Id`
/// would have it taken for a repeat.
#[tokio::test]
async fn headers_with_a_meaning_for_the_server_are_never_sent_on() {
    const NEXT: &str = "purge";
    let endpoint = Endpoint::start(behaviour::fail_first(2, 500)).await;
    let pipeline = webhook("all", &endpoint.url(), "") + &retry(&["500ms", "100ms"], "");
    let scene = Scene::start(&pipeline).await;
    // Only a stream with schedules of its own takes such headers.
    let source = scene.jetstream.get_stream("HOOKMILL_EVENTS").await.expect("it is there");
    let mut config = source.cached_info().config.clone();
    config.allow_message_schedules = true;
    scene.jetstream.update_stream(config).await.expect("the stream can be changed");
    let odd = |message: Message, number: usize| {
        message
            .header("Nats-Schedule-Next", NEXT)
            .header("Nats-Scheduler", "events.schedule")
            .header("Nats-Expected-Stream", "HOOKMILL_EVENTS")
            .header("Nats-Msg-Id", &format!("m-{number}"))
            .header("Hookmill-Task", "9")
            .header("Hookmill-Key", "../../etc")
            .header("Hookmill-Attempt", "99")
            .header("Status", "503")
    };
    scene.publish([odd(good("odd"), 1), good("plain"), odd(structured_message("broken"), 2)]).await;
    eventually(SOON, "both events wait", || async {
        let stream =
            scene.jetstream.get_stream("HOOKMILL_RETRIES").await.map_err(|error| error.to_string())?;
        let state = &stream.cached_info().state;
        if state.messages < 2 {
            return Err(format!("{} wait", state.messages));
        }
        for sequence in state.first_sequence..=state.last_sequence {
            let Ok(stored) = stream.get_raw_message(sequence).await else { continue };
            for name in
                ["Nats-Schedule-Next", "Nats-Scheduler", "Nats-Expected-Stream", "Nats-Msg-Id", "Status"]
            {
                // What has fired carries the server's own.
                let own = stored.subject.starts_with("hookmill.due.") && name.starts_with("Nats-Schedule");
                assert!(own || stored.headers.get(name).is_none(), "{name} is on {}", stored.subject);
            }
        }
        Ok(())
    })
    .await;
    endpoint.wait_for_delivered(2, SOON).await;
    let ids: BTreeSet<_> = endpoint.requests().iter().map(event_id).collect();
    assert_eq!((ids.len(), endpoint.received()), (2, 6));
    let letters = scene.letters(1).await;
    let headers = letters[0].0["headers"].as_object().expect("headers");
    assert!(!headers.keys().any(|name| name.starts_with("Nats-") || name == "Status"), "{headers:#?}");
    assert_eq!(letters[0].header("Hookmill-Source-Header-Nats-Schedule-Next"), Some(NEXT));
    assert_eq!(letters[0].header("Hookmill-Source-Header-Hookmill-Task"), Some("9"));
    assert_eq!(letters[0].header("Hookmill-Task"), Some("1"));
}
