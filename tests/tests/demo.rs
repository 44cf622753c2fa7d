//! The example of the first minutes (`hookmill dev --demo` plays it and adds up), and `hookmill dev` while files change.

use std::path::Path;
use std::process::Command;

use hookmill_tests::engine::{LogLine, built_program, run_to_end};
use hookmill_tests::{Engine, PipelineFolder, behaviour, events};

use crate::mill::{LATER, Mill};

/// Held by who runs `dev`: it looks whether a certain port is free before its server takes it, and the demo's endpoints have certain
/// ports.
pub static PORTS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn the_demo_shows_every_kind_of_end_and_adds_up() {
    let _ports = PORTS.lock().await;
    let mut command = Command::new(built_program());
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    command.args(["dev", "--demo"]).current_dir(checkout);
    let said = run_to_end("hookmill dev --demo", command).await;
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    for shown in [
        "answered 200  signature verified",
        "answered 500  signature verified",
        "attempt 3",
        "filtered: match says no",
        "filtered: dropped by a step: a test order",
        "dead-lettered: schema ",
        "dead-lettered: not a CloudEvent",
        "7 messages published: 5 taken, 2 dead-lettered for the pipeline as a whole",
        "every event has its end",
    ] {
        assert!(said.stdout.contains(shown), "no {shown:?} in:\n{}", said.stdout);
    }
    assert!(!said.stdout.contains("NO\n"), "{}", said.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_to_stop_in_the_middle_of_a_reload_is_the_first_one() {
    let _ports = PORTS.lock().await;
    let mill = Mill::new(behaviour::hang(), "", "").await;
    let store = PipelineFolder::new();
    let store = store.path().to_str().expect("a path of text");
    let dev = Engine::command(&["dev", "--listen", "127.0.0.1:0", "--folder", store])
        .arg(mill.folder.path())
        .spawn();
    let says = |line: &LogLine| line.text.starts_with("nats-server at ");
    let line = dev.wait_for_line("its server", LATER, says).await;
    let url = line.text.split(' ').nth(2).expect("a URL").to_owned();
    let says = |line: &LogLine| line.text == "ready; in other terminals, say";
    dev.wait_for_line("it is ready", LATER, says).await;
    let client = async_nats::connect(&url).await.expect("the server takes connections");
    events::publish_all(&async_nats::jetstream::new(client), [events::structured(1)]).await;
    mill.endpoint.wait_for("a request hangs", LATER, |log| log.received() >= 1).await;
    // The engine can't end before its deadline, and that is when the word comes.
    mill.folder.write("orders.toml", "nonsense = 1\n");
    let says = |line: &LogLine| line.text == "files changed, loading them again";
    dev.wait_for_line("the reload", LATER, says).await;
    assert_eq!(dev.terminate().await, 0);
}
