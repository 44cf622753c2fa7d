//! The other commands: what they print, and what they end with.

mod module;
mod outputs;

use std::time::Duration;

use bytes::Bytes;
use hookmill_tests::engine::LogLine;
use hookmill_tests::{
    Cable, Engine, NatsServer, PipelineFolder, events, hookmill, hookmill_reading, http, signature,
};
use serde_json::json;

use crate::mill::{SOON, command, json_lines};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

async fn with_source() -> NatsServer {
    let server = NatsServer::start().await;
    let said = command(&server, &["init"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    server
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a path of text")
}

/// A message of the default source stream.
async fn stored(server: &NatsServer, sequence: u64) -> async_nats::jetstream::message::StreamMessage {
    let stream = server.jetstream().await.get_stream("HOOKMILL_EVENTS").await.expect("is there");
    stream.get_raw_message(sequence).await.expect("the message is there")
}

#[tokio::test]
async fn wrong_usage_is_2_and_asking_for_help_is_0() {
    for wrong in [
        &["fly"][..],
        &[],
        &["run", "--listen", "nowhere"],
        &["run", "--egress-allow", "all"],
        &["publish"],
        &["publish", "x", "--mode", "loud"],
        &["listen", "--status", "9"],
        &["dlq"],
        &["dlq", "list", "--older-than", "soon"],
        &["init", "--prefix", "Not A Name"],
        &["init", "--nats", "not a url"],
        &["init", "--config", "/nowhere/hookmill.toml"],
    ] {
        let said = hookmill(wrong).await;
        assert_eq!((said.code, &*said.stdout), (2, ""), "{wrong:?}: {said:?}");
        assert!(!said.stderr.is_empty(), "{wrong:?}");
    }
    for right in [&["--help"][..], &["--version"], &["dlq", "--help"]] {
        let said = hookmill(right).await;
        assert_eq!((said.code, &*said.stderr), (0, ""), "{right:?}");
    }
}

#[tokio::test]
async fn a_command_without_a_server_is_1_after_connect_timeout() {
    let server = NatsServer::start().await;
    let cable = Cable::to(server.address()).await;
    cable.cut();
    let folder = PipelineFolder::new();
    let settings = folder.write("hookmill.toml", "[nats]\nconnect_timeout = \"1s\"\n");
    let file = folder.write("one.json", events::order_json(1));
    for arguments in [&["init"][..], &["publish", text(&file)], &["dlq", "list"], &["lane", "list"]] {
        let more = ["--nats", &cable.nats_url(), "--config", text(&settings)];
        let said = hookmill(&[arguments, &more].concat()).await;
        assert_eq!((said.code, &*said.stdout), (1, ""), "{said:?}");
        assert!(said.stderr.starts_with("error: no NATS server answers at "), "{said:?}");
    }
}

#[tokio::test]
async fn init_makes_what_is_missing_and_changes_nothing_else() {
    let server = NatsServer::start().await;
    let names = [
        "HOOKMILL_EVENTS",
        "HOOKMILL_RETRIES",
        "HOOKMILL_LANES",
        "HOOKMILL_DLQ",
        "HOOKMILL_REGISTRY",
        "HOOKMILL_MODULES",
    ];
    for _ in 0..2 {
        let said = command(&server, &["init"]).await;
        assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, &*(names.join("\n") + "\n"), ""));
    }
    let said = command(&server, &["init", "--json"]).await;
    assert_eq!(json_lines(&said), names.map(|name| json!({ "stream": name })));
    let said = command(&server, &["init", "--prefix", "my-mill"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("HOOKMILL_EVENTS takes events.> already"), "{said:?}");
    let jetstream = server.jetstream().await;
    let dlq = jetstream.get_stream("HOOKMILL_DLQ").await.expect("is there").cached_info().config.clone();
    assert_eq!(dlq.max_age, Duration::from_secs(30 * 86_400));
}

#[tokio::test]
async fn publish_takes_objects_arrays_and_lines_in_both_modes() {
    let server = with_source().await;
    let folder = PipelineFolder::new();
    let one = folder.write("one.json", events::order_json(1));
    let array = folder.write("two.json", format!("[{},\n{}]", events::order_json(2), events::order_json(3)));
    let lines =
        folder.write("more.ndjson", format!("{}\n\n{}\n", events::order_json(4), events::order_json(5)));
    let said = command(&server, &["publish", text(&one), text(&array), text(&lines), "--json"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "5 published\n"));
    let mut told = json_lines(&said);
    told.sort_by_key(|line| line["id"].to_string());
    let ids: Vec<&str> = told.iter().filter_map(|line| line["id"].as_str()).collect();
    assert_eq!(ids, (1..=5).map(events::order_id).collect::<Vec<_>>());
    assert_eq!(told[0]["subject"], events::ORDER_SUBJECT);
    let first = stored(&server, told[0]["sequence"].as_u64().expect("a number")).await;
    assert_eq!(first.payload, events::order_json(1));

    let binary = ["publish", text(&one), "--mode", "binary", "--subject", "events.by.hand"];
    let said = command(&server, &binary).await;
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, "", "1 published\n"));
    let sixth = stored(&server, 6).await;
    let header = |name: &str| sixth.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(sixth.subject.as_str(), "events.by.hand");
    assert_eq!(header("ce-id"), Some(events::order_id(1)));
    assert_eq!(header("ce-datacontenttype").as_deref(), Some("application/json"));
    assert_eq!(sixth.payload, events::order_data(1));
}

#[tokio::test]
async fn publish_reads_standard_input_where_a_file_is_called_dash() {
    let server = with_source().await;
    let url = server.url();
    let lines = format!("{}\n{}\n", events::order_json(1), events::order_json(2));
    let said = hookmill_reading(&["publish", "-", "--json", "--nats", &url], &lines).await;
    assert_eq!((said.code, &*said.stderr), (0, "2 published\n"));
    assert_eq!(json_lines(&said)[1]["id"], events::order_id(2));
    assert_eq!(stored(&server, 2).await.payload, events::order_json(2));
    let said = hookmill_reading(&["publish", "-", "--nats", &url], "").await;
    assert_eq!((said.code, &*said.stderr), (0, "0 published\n"));
    let said = hookmill_reading(&["publish", "-", "--nats", &url], "{}").await;
    assert_eq!(said.code, 2);
    assert!(said.stderr.starts_with("error: standard input:1: "), "{said:?}");
}

#[tokio::test]
async fn publish_sends_nothing_when_one_event_is_none_and_says_what_no_stream_takes() {
    let server = with_source().await;
    let folder = PipelineFolder::new();
    let mixed = folder.write("mixed.ndjson", format!("{}\n{{\"id\":\"2\"}}\n", events::order_json(1)));
    let said = command(&server, &["publish", text(&mixed)]).await;
    assert_eq!((said.code, &*said.stdout), (2, ""));
    assert!(said.stderr.starts_with(&format!("error: {}:2: ", mixed.display())), "{said:?}");
    assert!(said.stderr.ends_with("error: nothing published: 1 of the events can't be read\n"), "{said:?}");
    let said = command(&server, &["publish", "/nowhere.json"]).await;
    assert_eq!(said.code, 2, "{said:?}");
    let one = folder.write("one.json", events::order_json(1));
    let said = command(&server, &["publish", text(&one), "--subject", "nobody.listens"]).await;
    assert_eq!((said.code, &*said.stdout), (1, ""));
    assert!(said.stderr.contains("no stream takes messages on this subject"), "{said:?}");
    let stream = server.jetstream().await.get_stream("HOOKMILL_EVENTS").await.expect("is there");
    assert_eq!(stream.cached_info().state.messages, 0);
}

#[tokio::test]
async fn listen_verifies_fails_as_often_as_told_and_shows_each_request() {
    let arguments = ["listen", "--port", "0", "--json", "--secret", SECRET, "--fail", "1", "--status", "202"];
    let listener = Engine::command(&arguments).spawn();
    let listening = |line: &LogLine| line.text.starts_with("listening on http://127.0.0.1:");
    let line = listener.wait_for_line("its address", SOON, listening).await;
    let url = line.text.split([' ', ';']).nth(2).map(|url| format!("{url}/hooks")).expect("an address");
    let body = Bytes::from(events::order_json(1));
    let now = hookmill::model::Timestamp::now().unix_seconds();
    let signed = |secret: &str| {
        let signature = signature::sign(secret, "msg_1", now, &body).expect("the secret is one");
        hyper::Request::post(&*url)
            .header("content-type", "application/cloudevents+json")
            .header("webhook-id", "msg_1")
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", signature)
    };
    let mut statuses = Vec::new();
    for secret in [SECRET, SECRET, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
        statuses.push(http::send(signed(secret), body.clone()).await.expect("it answers").0);
    }
    assert_eq!(statuses, [500, 202, 401]);
    let third = |line: &LogLine| line.field("times") == Some(&json!(3));
    listener.wait_for_line("the third request", SOON, third).await;
    let lines = listener.lines();
    let shown: Vec<&LogLine> = lines.iter().filter(|line| line.field("times").is_some()).collect();
    let of = |field: &str| shown.iter().map(|line| line.field(field).cloned()).collect::<Option<Vec<_>>>();
    assert_eq!(of("status"), Some(vec![json!(500), json!(202), json!(401)]));
    assert_eq!(of("event_id"), Some(vec![json!(events::order_id(1)); 3]));
    assert_eq!(of("path"), Some(vec![json!("/hooks"); 3]));
    assert_eq!(shown[1].field("signature"), Some(&json!("verified")));
    assert!(shown[2].text.contains("\"signature\":\"refused: "), "{}", shown[2].text);
    assert_eq!(listener.terminate().await, 0);
}

#[tokio::test]
async fn listen_refuses_what_is_no_secret_and_a_port_that_is_taken() {
    let said = hookmill(&["listen", "--port", "0", "--secret", "hunter2"]).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.starts_with("error: --secret: ") && !said.stderr.contains("hunter2"), "{said:?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let said = hookmill(&["listen", "--port", &port]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("Address already in use"), "{said:?}");
}

#[tokio::test]
async fn check_counts_what_is_right_and_lists_what_is_wrong() {
    let good = "[[subscription]]\nname = \"hook\"\n[subscription.deliver]\nurl = \"https://example.com\"\n";
    let folder = PipelineFolder::with("orders", good);
    let path = text(folder.path());
    let said = hookmill(&["check", path]).await;
    assert_eq!(
        (said.code, &*said.stdout, &*said.stderr),
        (0, "1 pipeline, 1 subscription: no problems\n", "")
    );
    folder.write("more.toml", good.replace("name", "nme"));
    folder.write("third.toml", good.replace("https://", "ftp://"));
    let said = hookmill(&["check", path]).await;
    assert_eq!((said.code, &*said.stdout), (2, ""));
    assert!(said.stderr.contains("in 2 files"), "{said:?}");
    let said = hookmill(&["check", path, "--json"]).await;
    assert_eq!((said.code, &*said.stderr), (2, ""));
    let problems = json_lines(&said);
    assert!(problems.len() >= 2, "{problems:?}");
    for problem in &problems {
        let keys: Vec<&str> = problem.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["code", "column", "file", "hint", "key", "line", "message"]);
    }
    // `run` refuses the same files in the same words, without asking for a server.
    let run = hookmill(&["run", path, "--json", "--nats", "nats://127.0.0.1:1"]).await;
    assert_eq!((run.code, json_lines(&run)), (2, problems));
}
