//! Clients that nobody here wrote: nats-py and the `CloudEvents` SDK publish, the Standard Webhooks library receives.

mod clients;
mod documented;
mod faithful;
mod rust;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use hookmill_tests::engine::run_to_end;
use hookmill_tests::process::bound_command;
use hookmill_tests::{Engine, NatsServer, PipelineFolder, events, eventually};
use serde_json::Value;

/// Events of each mode.
const EACH: usize = 1000;
const SOON: Duration = Duration::from_secs(20);
const ALL_RECEIVED: Duration = Duration::from_mins(2);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout")
}

/// The Python that has the peers.
fn python() -> PathBuf {
    let python = checkout().join(".tools/venv/bin/python3");
    assert!(python.is_file(), "no Python peers at {}: run make peers first", python.display());
    python
}

fn script(name: &str) -> String {
    checkout().join("tests/python").join(name).display().to_string()
}

/// The receiver, and the port on which it listens.
async fn receiver(expect: usize) -> (Engine, u64) {
    let (expect, deadline) = (expect.to_string(), ALL_RECEIVED.as_secs().to_string());
    let arguments =
        [&*script("receive.py"), "--expect", &expect, "--deadline", &deadline].map(ToOwned::to_owned);
    let arguments = arguments.each_ref().map(String::as_str);
    let receiver = Engine::command(&arguments).program(python()).env("WEBHOOK_SECRET", SECRET).spawn();
    let line = receiver.wait_for_line("its port", SOON, |line| line.field("port").is_some()).await;
    let port = line.field("port").and_then(Value::as_u64).expect("a port is a number");
    (receiver, port)
}

async fn publish(server: &NatsServer) -> Value {
    let mut command = bound_command(python());
    command.arg(script("publish.py")).args(["--nats", &server.url(), "--subject", events::ORDER_SUBJECT]);
    command.args(["--count", &EACH.to_string()]);
    let said = run_to_end("publish.py", command).await;
    assert_eq!(said.code, 0, "{}", said.stderr);
    serde_json::from_str(&said.stdout).expect("it prints JSON")
}

fn pipeline(port: u64) -> String {
    format!(
        r#"
[source]
stream = "HOOKMILL_EVENTS"
start = "all"

[[subscription]]
name = "python"

[subscription.deliver]
url = "http://127.0.0.1:{port}/hooks"
sign = [{{ env = "FOREIGN_SECRET" }}]
concurrency = 32
"#
    )
}

/// Waits until the pipeline's consumer has nothing pending and nothing unacknowledged.
async fn all_settled(server: &NatsServer, durable: &str) {
    let stream = server.jetstream().await.get_stream("HOOKMILL_EVENTS").await.expect("the source stream");
    eventually(SOON, "every message is acknowledged", || async {
        let mut consumer: PullConsumer =
            stream.get_consumer(durable).await.map_err(|error| error.to_string())?;
        let info = consumer.info().await.map_err(|error| error.to_string())?;
        match (info.num_pending, info.num_ack_pending) {
            (0, 0) => Ok(()),
            left => Err(format!("{left:?} pending and unacknowledged")),
        }
    })
    .await;
}

#[tokio::test]
async fn events_of_the_python_sdk_reach_a_python_receiver_each_once_and_verified() {
    let server = NatsServer::start().await;
    events::make_source_stream(&server.jetstream().await).await;
    let (receiver, port) = receiver(2 * EACH).await;
    let folder = PipelineFolder::with("foreign", &pipeline(port));
    let engine = Engine::run(&server).arg(folder.path()).env("FOREIGN_SECRET", SECRET).start().await;

    let published = publish(&server).await;
    assert_eq!(published["acknowledged"], 2 * EACH);
    receiver.wait_for_line("all events", ALL_RECEIVED, |line| line.field("reached").is_some()).await;
    // Whatever would come too much has come when the source is settled.
    all_settled(&server, "hookmill-foreign").await;
    assert_eq!(receiver.terminate().await, 0);
    let counts = receiver.wait_for_line("its counts", SOON, |line| line.field("distinct").is_some()).await;
    let count = |name: &str| counts.field(name).and_then(Value::as_u64);
    assert_eq!((count("distinct"), count("events")), (Some(2 * EACH as u64), Some(2 * EACH as u64)));
    assert_eq!((count("refused"), count("malformed")), (Some(0), Some(0)));
    assert_eq!(engine.terminate().await, 0);
}
