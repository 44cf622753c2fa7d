//! The program's stand-in is a shell script here, so that the harness is shown to work without the engine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use hookmill_tests::engine::{run_to_end, sum_of_samples};
use hookmill_tests::process::bound_command;
use hookmill_tests::{Endpoint, Engine, EngineOptions, PipelineFolder, Reply, behaviour};

const SOON: Duration = Duration::from_secs(20);

/// A program that says `address` as its own and ends with 7 on SIGTERM.
fn stand_in(folder: &PipelineFolder, address: &str) -> PathBuf {
    let script = format!(
        r#"#!/bin/sh
trap 'echo "{{\"message\":\"drained\"}}" >&2; exit 7' TERM
echo 'plain text' >&2
echo '{{"level":"INFO","fields":{{"message":"admin port is open","address":"{address}"}}}}' >&2
echo "args: $*"
echo "env: $GREETING"
while :; do sleep 0.05; done
"#
    );
    executable(folder, &script)
}

fn executable(folder: &PipelineFolder, script: &str) -> PathBuf {
    let path = folder.write("hookmill", script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("can be made executable");
    path
}

async fn admin_port() -> Endpoint {
    let metrics = "# HELP x y\nx_total{a=\"1\",b=\"2\"} 3\nx_total{a=\"2\",b=\"2\"} 4\nx_total_more 9\n";
    Endpoint::start(behaviour::custom(move |request| match &*request.target {
        "/metrics" => Reply::Text(200, metrics.into()),
        // Ready at the third look.
        "/readyz" => Reply::Status(if request.attempt < 3 { 503 } else { 200 }),
        _ => Reply::Status(404),
    }))
    .await
}

fn options(folder: &PipelineFolder, address: &str) -> EngineOptions {
    Engine::command(&["run"]).program(stand_in(folder, address)).arg("pipelines/").env("GREETING", "hello")
}

#[tokio::test]
async fn the_engine_is_started_heard_measured_and_ended() {
    let (folder, admin) = (PipelineFolder::new(), admin_port().await);
    let mut engine = options(&folder, &admin.address().to_string()).start().await;
    assert_eq!((engine.address(), admin.received()), (&*admin.address().to_string(), 3));
    engine.wait_for_line("its arguments", SOON, |line| line.text == "args: run pipelines/").await;
    engine.wait_for_line("its environment", SOON, |line| line.text == "env: hello").await;
    assert!((engine.metric("x_total", &["b=\"2\""]).await - 7.0).abs() < f64::EPSILON);
    assert_eq!(engine.terminate().await, 7);
    engine.wait_for_line("its last word", SOON, |line| line.message() == "drained").await;
    assert!(!engine.is_running());

    engine.restart().await;
    engine.kill().await;
    assert_eq!(engine.wait().await, 128 + 9);
    assert_eq!(engine.lines().iter().filter(|line| line.message() == "admin port is open").count(), 2);
}

#[tokio::test]
#[should_panic(expected = "the engine ended without a line with the field address:\nno such server")]
async fn an_engine_that_ends_at_once_is_reported_with_its_last_words() {
    let folder = PipelineFolder::new();
    let program = executable(&folder, "#!/bin/sh\necho 'no such server' >&2\nexit 1\n");
    Engine::command(&["run"]).program(program).start().await;
}

#[tokio::test]
async fn a_paused_engine_says_nothing_until_it_is_resumed() {
    let folder = PipelineFolder::new();
    let engine = options(&folder, "127.0.0.1:1").spawn();
    engine.wait_for_line("a line", SOON, |line| line.text.starts_with("env: ")).await;
    engine.pause().await;
    engine.signal(nix::sys::signal::Signal::SIGTERM);
    let said = engine.wait_for_line("the end", SOON, |line| line.message() == "drained");
    assert!(tokio::time::timeout(Duration::from_millis(300), said).await.is_err());
    engine.resume();
    assert_eq!(engine.wait().await, 7);
}

#[tokio::test]
async fn a_command_tells_its_code_and_both_streams() {
    let mut command = bound_command("sh");
    command.args(["-c", "echo data; echo talk >&2; exit 3"]);
    let said = run_to_end("sh", command).await;
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (3, "data\n", "talk\n"));
}

#[test]
fn samples_are_added_up_by_name_and_labels() {
    let text = "a{p=\"x\"} 1\na{p=\"y\"} 2.5\na_b{p=\"x\"} 7\na 4\n# a 9";
    let sum = |labels: &[&str]| sum_of_samples(text, "a", labels).to_string();
    assert_eq!([sum(&[]), sum(&["p=\"x\""]), sum(&["p=\"z\""])], ["7.5", "1", "0"]);
}
