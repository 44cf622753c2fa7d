use std::collections::BTreeSet;

use hookmill_tests::{Engine, NatsServer, PipelineFolder, behaviour, events, hookmill_at_terminal};
use serde_json::{Value, json};

use crate::mill::{LATER, Mill, command, delivery_ids, retry};

const GIVE_UP: &str = "[subscription.retry]\ngive_up_on = [400]";

/// An engine whose endpoint refuses all that comes, and three orders that rest in the dead letters because of it, with
/// the sequences 1 to 3.
async fn three_letters() -> (Mill, Engine) {
    let mill = Mill::new(behaviour::always(400), "", GIVE_UP).await;
    let engine = mill.engine().start().await;
    for number in 1..=3 {
        mill.publish(number..=number).await;
        mill.holds("HOOKMILL_DLQ", number as u64).await;
    }
    (mill, engine)
}

fn sequences(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["sequence"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn a_list_says_of_each_letter_what_when_where_and_why() {
    let (mill, _engine) = three_letters().await;
    let text = mill.command(&["dlq", "list"]).await;
    assert_eq!((text.code, &*text.stderr), (0, "3 dead letters\n"));
    let rows: Vec<Vec<&str>> = text.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["SEQ", "TIME", "LANE", "REASON", "EVENT", "ERROR"]);
    let id = events::order_id(2);
    assert_eq!([rows[2][0], rows[2][2], rows[2][3], rows[2][4]], ["2", "orders/hook", "given_up", &*id]);
    assert_eq!(rows.len(), 4);

    let lines = mill.json(&["dlq", "list"]).await;
    assert_eq!(sequences(&lines), [1, 2, 3]);
    let letter = lines[1].as_object().expect("an object");
    let keys: BTreeSet<&str> = letter.keys().map(String::as_str).collect();
    let expected = "sequence time pipeline subscription reason error status attempts first_attempt delivery_id event \
                    mends source resume modules bytes";
    assert_eq!(keys, expected.split(' ').collect());
    let of = |key: &str| letter[key].clone();
    assert_eq!([of("pipeline"), of("subscription"), of("reason")], ["orders", "hook", "given_up"]);
    assert_eq!([of("status"), of("attempts"), of("bytes")], [400, 1, events::ORDER_BYTES]);
    let event = json!({
        "id": id, "source": events::ORDER_SOURCE, "type": events::ORDER_TYPE, "unverified": false
    });
    assert_eq!((of("event"), of("mends")), (event, json!([])));
    assert_eq!(of("source"), json!({ "stream": "HOOKMILL_EVENTS", "sequence": 2, "subject": null }));
    assert_eq!(of("resume"), "deliver");
    assert!(delivery_ids(2..=2).contains(of("delivery_id").as_str().expect("text")));
    assert!(of("error").as_str().is_some_and(|error| error.contains("400")), "{letter:?}");
    for time in ["time", "first_attempt"] {
        assert!(of(time).as_str().is_some_and(|time| time.ends_with('Z')), "{letter:?}");
    }
}

#[tokio::test]
async fn letters_are_chosen_by_what_they_are() {
    let (mill, _engine) = three_letters().await;
    events::publish_all(&mill.jetstream, [events::structured_message("no event")]).await;
    mill.holds("HOOKMILL_DLQ", 4).await;
    for (arguments, expected) in [
        (&["--reason", "given_up"][..], &[1, 2, 3][..]),
        (&["--reason", "not_cloudevent"], &[4]),
        (&["--subscription", "_"], &[4]),
        (&["--subscription", "hook", "--pipeline", "orders"], &[1, 2, 3]),
        (&["--pipeline", "other"], &[]),
        (&["3", "1"], &[1, 3]),
        (&["1", "4", "--reason", "not_cloudevent"], &[4]),
        (&["--older-than", "1h"], &[]),
        (&["--older-than", "1ms"], &[1, 2, 3, 4]),
    ] {
        let lines = mill.json(&[&["dlq", "list"], arguments].concat()).await;
        assert_eq!(sequences(&lines), expected, "{arguments:?}");
    }
    let said = mill.command(&["dlq", "list", "--reason", "bad_luck"]).await;
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("reasons are not_cloudevent, schema,"), "{said:?}");
}

#[tokio::test]
async fn a_letter_is_shown_with_its_headers_and_body() {
    let (mill, _engine) = three_letters().await;
    let shown = mill.json(&["dlq", "show", "2"]).await;
    assert_eq!(sequences(&shown), [2]);
    assert_eq!(shown[0]["headers"]["Hookmill-Generation"], "0");
    assert_eq!(shown[0]["body"], events::order_json(2));
    let text = mill.command(&["dlq", "show", "2"]).await;
    assert_eq!(serde_json::from_str::<Value>(&text.stdout).ok().as_ref(), Some(&shown[0]));
    let none = mill.command(&["dlq", "show", "17"]).await;
    assert_eq!((none.code, &*none.stdout), (1, ""));
    assert_eq!(none.stderr, "error: no such dead letter; `hookmill dlq list` shows them\n");
}

#[tokio::test]
async fn a_redrive_is_delivered_once_the_endpoint_is_mended() {
    let (mill, _engine) = three_letters().await;
    let said = mill.command(&["dlq", "redrive"]).await;
    assert_eq!(said.code, 2, "nothing chosen is not everything: {said:?}");
    let said = mill.command(&["dlq", "redrive", "--all", "--dry-run"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "3 would be redriven, 0 can't be\n"));
    assert_eq!(sequences(&mill.json(&["dlq", "list"]).await), [1, 2, 3]);
    assert_eq!(mill.endpoint.received(), 3);

    mill.endpoint.behave(behaviour::always(200));
    let lines = mill.json(&["dlq", "redrive", "1", "2"]).await;
    assert_eq!(lines[0], json!({ "sequence": 1, "redriven": true, "error": null }));
    mill.delivered(1..=2).await;
    assert_eq!(sequences(&mill.json(&["dlq", "list"]).await), [3]);
    let said = mill.command(&["dlq", "redrive", "--all"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "1 redriven, 0 can't be\n"));
    mill.delivered(1..=3).await;
    mill.holds("HOOKMILL_DLQ", 0).await;
    mill.holds("HOOKMILL_LANES", 0).await;
    assert_eq!(mill.endpoint.received(), 6);
}

#[tokio::test]
async fn one_letter_is_redriven_again_and_again_each_time_with_its_whole_schedule() {
    let mill = Mill::new(behaviour::fail_first(5, 503), "", &retry(1)).await;
    let _engine = mill.engine().start().await;
    mill.publish(1..=1).await;
    for generation in 0..2 {
        mill.holds("HOOKMILL_DLQ", 1).await;
        let letters = mill.json(&["dlq", "show", "--all"]).await;
        assert_eq!(letters[0]["headers"]["Hookmill-Generation"], generation.to_string());
        assert_eq!([&letters[0]["reason"], &letters[0]["attempts"]], [&json!("exhausted"), &json!(2)]);
        assert_eq!(mill.endpoint.received(), (generation + 1) * 2);
        let sequence = letters[0]["sequence"].to_string();
        let said = mill.command(&["dlq", "redrive", &sequence]).await;
        assert_eq!((said.code, &*said.stderr), (0, "1 redriven, 0 can't be\n"));
    }
    mill.delivered(1..=1).await;
    assert_eq!((mill.endpoint.received(), mill.endpoint.distinct_ids()), (6, 1));
    for stream in ["HOOKMILL_DLQ", "HOOKMILL_LANES", "HOOKMILL_RETRIES"] {
        mill.holds(stream, 0).await;
    }
}

#[tokio::test]
async fn a_letter_of_the_pipeline_as_a_whole_is_looked_at_again_from_the_beginning() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let engine = mill.engine().start().await;
    events::publish_all(&mill.jetstream, [events::structured_message("no event").header("X-Mine", "kept")])
        .await;
    for generation in ["0", "1"] {
        let there = |line: &hookmill_tests::engine::LogLine| {
            line.message() == "message dead-lettered for the pipeline as a whole"
        };
        engine.wait_for_line("it is dead-lettered", LATER, there).await;
        mill.holds("HOOKMILL_DLQ", 1).await;
        let letters = hookmill_tests::eventually(LATER, "the letter of this generation", || async {
            let letters = mill.json(&["dlq", "show", "--all"]).await;
            let found = letters.first().map(|letter| letter["headers"]["Hookmill-Generation"].clone());
            if found == Some(json!(generation)) { Ok(letters) } else { Err(format!("{found:?}")) }
        })
        .await;
        assert_eq!([&letters[0]["subscription"], &letters[0]["resume"]], ["_", "source"]);
        assert_eq!(letters[0]["headers"]["Hookmill-Source-Header-X-Mine"], "kept");
        assert_eq!(letters[0]["body"], "no event");
        assert_eq!(mill.json(&["dlq", "redrive", "--all"]).await.len(), 1);
    }
    mill.holds("HOOKMILL_LANES", 0).await;
}

#[tokio::test]
async fn letters_are_discarded_only_when_it_is_meant() {
    let (mill, _engine) = three_letters().await;
    let said = mill.command(&["dlq", "discard"]).await;
    assert_eq!(said.code, 2, "{said:?}");
    let said = mill.command(&["dlq", "discard", "--all"]).await;
    assert_eq!((said.code, &*said.stdout), (2, ""));
    assert_eq!(said.stderr, "error: 3 dead letters would be lost for good; say --yes to mean it\n");
    let lines = mill.json(&["dlq", "discard", "--all", "--dry-run"]).await;
    assert_eq!(lines[2], json!({ "sequence": 3, "discarded": false }));
    assert_eq!(sequences(&mill.json(&["dlq", "list"]).await), [1, 2, 3]);

    let lines = mill.json(&["dlq", "discard", "2", "--yes"]).await;
    assert_eq!(lines, [json!({ "sequence": 2, "discarded": true })]);
    let said = mill.command(&["dlq", "discard", "--reason", "given_up", "--yes"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "2 discarded\n"));
    mill.holds("HOOKMILL_DLQ", 0).await;
    assert_eq!(mill.endpoint.received(), 3, "none was sent again");
}

#[tokio::test]
async fn at_a_terminal_discard_asks_and_takes_yes_alone_for_a_yes() {
    let (mill, _engine) = three_letters().await;
    let url = mill.server.url();
    let discard = ["dlq", "discard", "1", "2", "--nats", &url];
    let question = "2 dead letters will be lost for good. Discard them? [y/N] ";
    // Ctrl-D at the beginning of a line ends the input.
    for no in ["n\n", "\n", "no\n", "yy\n", "\u{4}"] {
        let said = hookmill_at_terminal(&discard, no).await;
        let expected = format!("{question}nothing discarded\n");
        assert_eq!((said.code, &*said.stdout, &*said.stderr), (1, "", &*expected), "{no:?}");
    }
    assert_eq!(sequences(&mill.json(&["dlq", "list"]).await), [1, 2, 3]);
    let said = hookmill_at_terminal(&discard, "y\n").await;
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, "", &*format!("{question}2 discarded\n")));
    assert_eq!(sequences(&mill.json(&["dlq", "list"]).await), [3]);
    let all = ["dlq", "discard", "--all", "--json", "--nats", &url];
    let said = hookmill_at_terminal(&all, "yes\n").await;
    assert_eq!((said.code, &*said.stdout), (0, "{\"discarded\":true,\"sequence\":3}\n"));
    mill.holds("HOOKMILL_DLQ", 0).await;
}

#[tokio::test]
async fn before_there_are_streams_every_command_says_what_makes_them() {
    let server = NatsServer::start().await;
    let folder = PipelineFolder::new();
    let path = folder.path().to_str().expect("a path of text").to_owned();
    let (dlq, bucket) = ("HOOKMILL_DLQ", "KV_HOOKMILL_REGISTRY");
    for (arguments, missing) in [
        (&["dlq", "list"][..], format!("{dlq} is")),
        (&["dlq", "show", "1"], format!("{dlq} is")),
        (&["dlq", "redrive", "--all"], format!("{dlq}, HOOKMILL_LANES are")),
        (&["dlq", "discard", "--all", "--yes"], format!("{dlq} is")),
        (&["lane", "list", &path], format!("{bucket}, HOOKMILL_LANES, HOOKMILL_RETRIES are")),
        (&["lane", "pause", "orders/hook"], format!("{bucket} is")),
        (&["lane", "resume", "orders/hook"], format!("{bucket} is")),
        (
            &["lane", "adopt", "a/b", "--into", "c/d"],
            format!("{bucket}, HOOKMILL_LANES, HOOKMILL_RETRIES are"),
        ),
        (&["lane", "dead-letter", "a/b"], format!("{bucket}, HOOKMILL_LANES, HOOKMILL_RETRIES, {dlq} are")),
    ] {
        let said = command(&server, arguments).await;
        let expected = format!(
            "error: {missing} not there: no engine has run on this NATS server with the prefix \"hookmill\"\n\
             hint: `hookmill init` makes all streams; or name another server (--nats) or --prefix\n"
        );
        assert_eq!((said.code, &*said.stdout, &*said.stderr), (1, "", &*expected), "{arguments:?}");
    }
    assert_eq!(command(&server, &["init"]).await.code, 0);
    let said = command(&server, &["dlq", "list"]).await;
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, "", "0 dead letters\n"));
    let other = command(&server, &["dlq", "list", "--prefix", "other"]).await;
    assert!(other.stderr.starts_with("error: OTHER_DLQ is not there"), "{other:?}");
}
