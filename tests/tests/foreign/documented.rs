//! The code of `docs/your-publisher.md`, run as it stands there: each language's blocks in a small frame of `tests/documented/`,
//! with the client of that language.

use std::path::{Path, PathBuf};
use std::process::Command;

use async_nats::HeaderMap;
use hookmill::telemetry::output;
use hookmill_tests::engine::run_to_end;
use hookmill_tests::process::{bound_command, on_path};
use hookmill_tests::{Endpoint, NatsServer, PipelineFolder, behaviour};
use serde_json::{Value, json};

use super::clients::is_there;
use super::faithful::{Sent, Wire};
use super::{checkout, python};
use crate::scene::{SOON, Scene, messages_in, webhook};

/// The blocks below a heading of the page.
fn blocks(heading: &str) -> Vec<String> {
    let page = std::fs::read_to_string(checkout().join("docs/your-publisher.md")).expect("the page is there");
    let (_, section) = page.split_once(&format!("\n{heading}\n")).expect("the page has that heading");
    let section = section.split("\n### ").next().expect("there is a first part");
    let fenced = section.split("\n```").skip(1).step_by(2);
    // The rest of the fence's line is the language.
    fenced.map(|block| block.split_once('\n').expect("a block has lines").1.to_owned() + "\n").collect()
}

/// The two blocks of a language, structured and binary mode, in its frame: in place of the line that names them.
fn framed(heading: &str, frame: &str) -> String {
    let blocks = blocks(heading);
    assert_eq!(blocks.len(), 2, "{heading}: a block for each mode");
    let frame =
        std::fs::read_to_string(checkout().join("tests/documented").join(frame)).expect("it is there");
    let mut lines = Vec::new();
    for line in frame.lines() {
        match line.split_once("// The blocks.").or_else(|| line.split_once("# The blocks.")) {
            Some((indent, _)) => lines.extend(blocks.concat().lines().map(|line| format!("{indent}{line}"))),
            None => lines.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

/// A program of [`framed`] code in a folder of its own.
fn program(heading: &str, frame: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(frame);
    std::fs::write(&file, framed(heading, frame)).expect("it can be written");
    (folder, file)
}

/// A pipeline, and what becomes of the page's event.
struct Reader {
    scene: Scene,
    endpoint: Endpoint,
}

impl Reader {
    async fn start() -> Self {
        let endpoint = Endpoint::start(behaviour::always(200)).await;
        let folder = PipelineFolder::with("p", &webhook("all", &endpoint.url(), ""));
        let scene = Scene::open(NatsServer::start().await, folder).await;
        Self { scene, endpoint }
    }

    fn url(&self) -> String {
        self.scene.server.url()
    }

    async fn run(&self, name: &str, command: Command) {
        let said = run_to_end(name, command).await;
        assert_eq!(said.code, 0, "{name}: {}", said.stderr);
    }

    /// Waits until the page's event has come in each mode, and sees as what it was published.
    async fn reads(&self, structured: Wire) {
        // It is one event, with one `webhook-id`.
        self.endpoint.wait_for("the event of each block", SOON, |log| log.requests().len() == 2).await;
        let stream = self.scene.jetstream.get_stream("HOOKMILL_EVENTS").await.expect("it is there");
        assert_eq!(stream.cached_info().state.messages, 2, "one message a block");
        for (sequence, wire) in [(1, structured), (2, Wire::Binary)] {
            let message = stream.get_raw_message(sequence).await.expect("it is there");
            assert_eq!(message.subject.as_str(), "events.com.shop.order.created");
            assert_eq!(Sent::new(&message).wire, wire);
        }
        for request in self.endpoint.requests() {
            let event: Value = serde_json::from_slice(&request.body).expect("it is JSON");
            let told = ["specversion", "id", "source", "type", "data"].map(|name| event[name].clone());
            let expected = json!(["1.0", "1", "/shop", "com.shop.order.created", { "total": 19.9 }]);
            assert_eq!(Value::from(told.to_vec()), expected);
        }
        assert_eq!(messages_in(&self.scene.jetstream, "HOOKMILL_DLQ").await, 0);
    }
}

#[tokio::test]
async fn the_code_for_rust_publishes_its_event() {
    let source = include_str!("rust.rs");
    let between = |from: &str, to: &str| {
        let (_, rest) = source.split_once(from).expect("that comment is there");
        rest.split_once(to).expect("and that").0.to_owned()
    };
    let compiled = [
        between("// The first block.\n", "    // The second"),
        between("// The second block.\n", "    // The end"),
    ];
    let indented = |block: &String| format!("    {}\n", block.trim_end().replace('\n', "\n    "));
    let documented: Vec<_> = blocks("### Rust").iter().map(indented).collect();
    assert_eq!(documented, compiled, "docs/your-publisher.md, and what is compiled of it in rust.rs");

    let reader = Reader::start().await;
    super::rust::publish(&reader.scene.jetstream).await.expect("it is published");
    reader.reads(Wire::Bare).await;
}

#[tokio::test]
async fn the_code_for_python_publishes_its_event() {
    let reader = Reader::start().await;
    let (_folder, file) = program("### Python", "frame.py");
    let mut command = bound_command(python());
    command.arg(file).arg(reader.url());
    reader.run("frame.py", command).await;
    reader.reads(Wire::Structured).await;
}

#[tokio::test]
async fn the_code_for_javascript_publishes_its_event() {
    let reader = Reader::start().await;
    let (_folder, file) = program("### JavaScript", "frame.js");
    let packages = checkout().join(".tools/clients/node/node_modules");
    assert!(
        packages.join("@nats-io").is_dir(),
        "no NATS client in {}: run make peers first",
        packages.display()
    );
    let mut command = bound_command("node");
    command.env("NODE_PATH", packages);
    command.arg(file).arg(reader.url());
    reader.run("frame.js", command).await;
    reader.reads(Wire::Structured).await;
}

/// `make peers` has built it, since its modules aren't kept.
#[tokio::test]
async fn the_code_for_go_publishes_its_event() {
    let client = checkout().join(".tools/clients/go/documented");
    if !is_there(&client.join("publish"), "the code of docs/your-publisher.md for Go") {
        return;
    }
    let built = std::fs::read_to_string(client.join("main.go")).expect("its source is kept");
    assert_eq!(built, framed("### Go", "frame.go"), "built from another page: run make peers");

    let reader = Reader::start().await;
    let mut command = bound_command(client.join("publish"));
    command.arg(reader.url());
    reader.run("frame.go", command).await;
    reader.reads(Wire::Bare).await;
}

#[tokio::test]
async fn the_code_for_java_publishes_its_event() {
    let client = checkout().join(".tools/clients/java");
    let java = on_path("java").unwrap_or_else(|| "java".into());
    let what = "the code of docs/your-publisher.md for Java";
    if !is_there(&java, what) || !is_there(&client.join("sources"), what) {
        return;
    }
    let writer = checkout().join("tests/clients/java/NatsMessageWriter.java");
    let writer = std::fs::read_to_string(writer).expect("it is there");
    let shown = blocks("### NatsMessageWriter.java").concat();
    assert!(
        writer.ends_with(&shown),
        "the page shows another NatsMessageWriter than tests/clients/java/ has"
    );

    let reader = Reader::start().await;
    let (_folder, file) = program("### Java", "Frame.java");
    let mut command = bound_command(java);
    command.arg("-cp").arg(format!("{0}/classes:{0}/jars/*", client.display())).arg(file).arg(reader.url());
    reader.run("Frame.java", command).await;
    reader.reads(Wire::Structured).await;
}

/// A `nats pub` after the help of natscli 0.5: `nats publish [<flags>] <subject> [<body>]`, flags also behind the arguments,
/// `-H, --header` in the form `K:V`.
fn publish_of(words: &[String]) -> (String, HeaderMap, String) {
    let (mut headers, mut arguments) = (HeaderMap::new(), Vec::new());
    let mut words = words.iter();
    assert_eq!(words.next().map(String::as_str), Some("pub"));
    while let Some(word) = words.next() {
        match word.as_str() {
            "--jetstream" => {}
            "-H" => {
                let header = words.next().expect("a header comes after it");
                let (name, value) = header.split_once(':').expect("it is K:V");
                headers.insert(name, value);
            }
            flag if flag.starts_with('-') => panic!("{flag} is no flag of the page's commands"),
            argument => arguments.push(argument.to_owned()),
        }
    }
    let [subject, body] = arguments.try_into().expect("a subject and a body");
    (subject, headers, body)
}

/// The words of the commands, as the shell takes them apart.
async fn words_of(block: &str) -> Vec<String> {
    let mut command = bound_command("sh");
    command.arg("-c").arg(format!("nats() {{ printf '%s\\0' \"$@\"; }}\n{block}"));
    let said = run_to_end("sh", command).await;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    said.stdout.split_terminator('\0').map(str::to_owned).collect()
}

#[tokio::test]
async fn what_the_nats_commands_say_is_an_event() {
    let reader = Reader::start().await;
    for block in blocks("### The `nats` command") {
        let (subject, headers, body) = publish_of(&words_of(&block).await);
        let sent = reader.scene.jetstream.publish_with_headers(subject, headers, body.into());
        sent.await.expect("it is sent").await.expect("it is stored");
    }
    reader.reads(Wire::Structured).await;
}

#[tokio::test]
async fn the_nats_commands_publish_their_event() {
    let nats = on_path("nats").unwrap_or_else(|| "nats".into());
    if !Path::new(&nats).exists() {
        output::say(format_args!(
            "\nNOT SHOWN: the page's `nats` commands are read, not run: there is no nats on PATH"
        ));
        return;
    }
    let reader = Reader::start().await;
    for block in blocks("### The `nats` command") {
        let mut command = bound_command("sh");
        command.arg("-ec").arg(block).env("NATS_URL", reader.url());
        reader.run("nats", command).await;
    }
    reader.reads(Wire::Structured).await;
}
