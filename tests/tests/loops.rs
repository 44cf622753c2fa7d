//! What would take its own output without end is refused before the first event is taken.

use async_nats::jetstream::stream::{Config, Republish, Source};
use hookmill_tests::engine::LogLine;
use hookmill_tests::{Engine, behaviour, hookmill};

use crate::mill::{Mill, SOON, orders};

fn publishing(stream: &str, subject: &str) -> String {
    format!(
        "[source]\nstream = \"{stream}\"\n[[subscription]]\nname = \"on\"\n[subscription.publish]\nsubject = \"{subject}\"\n"
    )
}

/// The error of an engine with these files, which ends at once.
async fn refusal(mill: &Mill) -> String {
    let engine = mill.engine().spawn();
    let line =
        engine.wait_for_line("an error", SOON, |line: &LogLine| line.text.starts_with("error: ")).await;
    assert_eq!(engine.wait().await, 1);
    line.text
}

async fn make(mill: &Mill, config: Config) {
    mill.jetstream.create_stream(config).await.expect("the stream can be made");
}

fn source(name: &str) -> Source {
    Source { name: name.to_owned(), ..Source::default() }
}

/// A mill whose engine has run once: its streams are there.
async fn mill() -> Mill {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    assert_eq!(mill.engine().start().await.terminate().await, 0);
    mill
}

#[tokio::test]
async fn a_mirror_of_what_the_engine_stores_is_no_source_however_far_it_is() {
    let mill = mill().await;
    make(&mill, Config { name: "MIRROR".into(), mirror: Some(source("HOOKMILL_DLQ")), ..Config::default() })
        .await;
    let sources = |names: &[&str]| Some(names.iter().map(|name| source(name)).collect());
    let plain = Config { name: "PLAIN".into(), subjects: vec!["plain.>".into()], ..Config::default() };
    make(&mill, plain).await;
    make(&mill, Config { name: "ALL".into(), sources: sources(&["PLAIN", "MIRROR"]), ..Config::default() })
        .await;
    for (stream, way) in [("MIRROR", "HOOKMILL_DLQ"), ("ALL", "MIRROR, from HOOKMILL_DLQ")] {
        mill.folder.write("orders.toml", orders(&mill.endpoint, &format!("stream = \"{stream}\""), ""));
        let expected = format!(
            "error: pipeline orders: source stream {stream} is filled from {way}, the engine's own: what the engine stores would \
             come back to it without end; name another stream in [source] stream"
        );
        assert_eq!(refusal(&mill).await, expected);
        let found = mill.jetstream.get_stream(stream).await.expect("it is there");
        assert_eq!(found.cached_info().state.consumer_count, 0, "nothing was made there");
    }
    // A copy of what is not the engine's is a source as any other.
    make(&mill, Config { name: "COPY".into(), sources: sources(&["PLAIN"]), ..Config::default() }).await;
    mill.folder.write("orders.toml", orders(&mill.endpoint, "stream = \"COPY\"", ""));
    assert_eq!(mill.engine().start().await.terminate().await, 0);
}

#[tokio::test]
async fn dead_letters_that_are_said_again_on_a_subject_of_the_source_make_it_none() {
    let mill = mill().await;
    let letters = mill.jetstream.get_stream("HOOKMILL_DLQ").await.expect("it is there");
    let republish = |destination: &str| {
        let again = Republish { source: ">".into(), destination: destination.into(), headers_only: false };
        Config { republish: Some(again), ..letters.cached_info().config.clone() }
    };
    mill.jetstream.update_stream(republish("watch.>")).await.expect("it can be changed");
    assert_eq!(mill.engine().start().await.terminate().await, 0);
    mill.jetstream.update_stream(republish("events.dead.>")).await.expect("it can be changed");
    let expected = "source stream HOOKMILL_EVENTS is filled from HOOKMILL_DLQ, the engine's own";
    assert!(refusal(&mill).await.contains(expected));
}

/// What a stream holds is known to the server alone: the files say nothing of a loop.
#[tokio::test]
async fn a_loop_over_whole_streams_is_refused_at_start_and_when_files_are_loaded_again() {
    let mill = mill().await;
    let stream = |name: &str, subject: &str| Config {
        name: name.into(),
        subjects: vec![subject.into()],
        ..Config::default()
    };
    make(&mill, stream("PING", "ping.>")).await;
    make(&mill, stream("PONG", "pong.>")).await;
    make(&mill, Config { name: "GATHERED".into(), sources: Some(vec![source("PONG")]), ..Config::default() })
        .await;
    mill.folder.write("ping.toml", publishing("PING", "pong.{type}"));
    mill.folder.write("pong.toml", publishing("GATHERED", "ping.x"));
    let checked = hookmill(&["check", mill.folder.path().to_str().expect("text")]).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{checked:?}");
    let way = "ping/on publishes to \"pong.{type}\", which the source of pong takes by \"pong.>\"; pong/on publishes to \
               \"ping.x\", which the source of ping takes by \"ping.>\"";
    let expected = format!(
        "error: pipelines take their own output: {way}; publish to a subject that none of these sources takes, or let one of \
         them take fewer"
    );
    assert_eq!(refusal(&mill).await, expected);

    mill.folder.write("pong.toml", publishing("GATHERED", "out.x"));
    let engine: Engine = mill.engine().start().await;
    mill.folder.write("pong.toml", publishing("GATHERED", "ping.x"));
    engine.signal(nix::sys::signal::Signal::SIGHUP);
    let refused = |line: &LogLine| line.message().starts_with("the files were not loaded again");
    let line = engine.wait_for_line("they are refused", SOON, refused).await;
    assert!(line.text.contains("pipelines take their own output"), "{}", line.text);
    // What depends on the event is only said.
    mill.folder.write("pong.toml", publishing("GATHERED", "{type}.x"));
    engine.signal(nix::sys::signal::Signal::SIGHUP);
    let warned = |line: &LogLine| line.message().starts_with("events may come back to the pipeline");
    let line = engine.wait_for_line("it is warned of", SOON, warned).await;
    assert!(line.text.contains("may take by"), "{}", line.text);
}

#[tokio::test]
async fn nothing_is_published_by_hand_where_the_engine_stores() {
    let mill = mill().await;
    let event = mill.folder.write("event.json", r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#);
    let event = event.to_str().expect("text");
    let said = mill.command(&["publish", "--subject", "hookmill.wait.x", event]).await;
    let expected = "--subject hookmill.wait.x is a subject of the engine's own; events go to subjects of a source stream";
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains(expected), "{said:?}");
}
