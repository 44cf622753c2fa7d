//! Readers that go away after the first line, as `head -1` does.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{ChildStdout, Command, Stdio};

use bytes::Bytes;
use hookmill_tests::engine::{built_program, engine_command};
use hookmill_tests::nats_server::free_port;
use hookmill_tests::process::{Process, exit_code};
use hookmill_tests::{PipelineFolder, behaviour, events, http};

use super::{COMMAND_MAX, Outputs, all_of};
use crate::commands::{text, with_source};
use crate::dlq::stock::put_letters;
use crate::mill::Mill;

/// More lines than a pipe holds (64 KiB), so that something is left to be written when the reader has gone.
const MANY: usize = 1_000;

fn hookmill(arguments: &[&str]) -> Command {
    let mut command = engine_command(built_program());
    command.args(arguments);
    command
}

/// The first line; the pipe is closed then.
async fn first_line(stdout: ChildStdout) -> String {
    let reading = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::with_capacity(1, stdout).read_line(&mut line).expect("a line of text");
        line
    });
    reading.await.expect("the reader doesn't panic")
}

/// Reads one line and goes away; the line, the exit code, and what was said on standard error.
async fn head(arguments: &[&str]) -> (String, i32, String) {
    let (process, pipes) = Outputs::READ.start(hookmill(arguments));
    let stderr = all_of(pipes.stderr);
    let line = first_line(pipes.stdout.expect("asked for")).await;
    (line, exit_code(process.wait(COMMAND_MAX).await), stderr.await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_ends_with_its_reader_and_says_nothing_of_it() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    assert_eq!(mill.command(&["init"]).await.code, 0);
    put_letters(&mill, 1..=MANY).await;
    let url = mill.server.url();
    for command in ["list", "show"] {
        let (line, code, stderr) = head(&["dlq", command, "--json", "--nats", &url]).await;
        assert!(line.starts_with('{') && line.ends_with('\n'), "{line}");
        assert_eq!((code, &*stderr), (0, ""), "{command}");
    }
    let (line, code, stderr) = head(&["dlq", "list", "--nats", &url]).await;
    assert!(line.starts_with("SEQ "), "{line}");
    assert_eq!((code, &*stderr), (0, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_published_though_nobody_reads_the_acks() {
    let server = with_source().await;
    let folder = PipelineFolder::new();
    let lines: Vec<String> = (1..=MANY).map(events::order_json).collect();
    let file = folder.write("many.ndjson", lines.join("\n"));
    let (line, code, stderr) = head(&["publish", text(&file), "--json", "--nats", &server.url()]).await;
    assert!(line.contains("\"sequence\":"), "{line}");
    assert_eq!((code, stderr), (0, format!("{MANY} published\n")));
    let stream = server.jetstream().await.get_stream("HOOKMILL_EVENTS").await.expect("is there");
    assert_eq!(stream.cached_info().state.messages, MANY as u64);
}

/// Sends a webhook until somebody answers; the status.
async fn webhook(port: u16) -> u16 {
    let url = format!("http://127.0.0.1:{port}/hooks");
    let request = || hyper::Request::post(&*url).header("webhook-id", "msg_1");
    http::send(request(), Bytes::from(events::order_json(1))).await.expect("it is answered").0
}

/// Sends webhooks until the receiver has ended; the exit code. One would do, if no other test were about to start a program:
/// for a moment, that has copies of all that is open here, readers of pipes among them.
async fn end_by_webhooks(process: &Process, port: u16) -> i32 {
    let ended = process.wait(COMMAND_MAX);
    let sending = async {
        loop {
            let request = hyper::Request::post(format!("http://127.0.0.1:{port}/hooks"));
            match http::send(request, Bytes::from(events::order_json(1))).await {
                Ok((status, _)) => assert_eq!(status, 200),
                // It is about to end.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::select! {
        status = ended => exit_code(status),
        () = sending => unreachable!("it goes on"),
    }
}

/// `listen` at a free port, started and taking connections.
pub(super) async fn listener(outputs: Outputs) -> (Process, super::Pipes, u16) {
    let port = free_port();
    let (process, pipes) = outputs.start(hookmill(&["listen", "--port", &port.to_string()]));
    hookmill_tests::eventually(COMMAND_MAX, "it listens", || async {
        let connected = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        connected.map(drop).map_err(|error| error.to_string())
    })
    .await;
    (process, pipes, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_answers_what_it_cannot_show_and_ends() {
    let (process, pipes, port) = listener(Outputs::READ).await;
    let stderr = all_of(pipes.stderr);
    assert_eq!(webhook(port).await, 200);
    let line = first_line(pipes.stdout.expect("asked for")).await;
    assert!(line.contains("attempt 1  answered 200"), "{line}");
    assert!(process.exited().is_none());
    assert_eq!(webhook(port).await, 200);
    assert_eq!(end_by_webhooks(&process, port).await, 0);
    let stderr = stderr.await;
    assert_eq!(stderr, format!("listening on http://127.0.0.1:{port}; stop with Ctrl-C\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_with_broken_outputs_answers_and_ends_as_documented() {
    use super::Stream::{Full, Read, Unread};
    for outputs in Outputs::broken() {
        let (process, pipes, port) = listener(outputs).await;
        let (stdout, stderr) = (all_of(pipes.stdout), all_of(pipes.stderr));
        assert_eq!(webhook(port).await, 200, "{outputs:?}");
        let wanted = i32::from(outputs.stdout == Full);
        let code = if [Unread, Full].contains(&outputs.stdout) {
            end_by_webhooks(&process, port).await
        } else {
            // It goes on: nobody hears that a descriptor was closed before the start.
            assert_eq!(webhook(port).await, 200, "{outputs:?}");
            process.signal(nix::sys::signal::Signal::SIGTERM);
            exit_code(process.wait(COMMAND_MAX).await)
        };
        assert_eq!(code, wanted, "{outputs:?}");
        assert_eq!(stdout.await.lines().count(), if outputs.stdout == Read { 2 } else { 0 });
        assert!(!stderr.await.contains("panicked"), "{outputs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_whose_terminal_goes_away_comes_to_its_end() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    assert_eq!(mill.command(&["init"]).await.code, 0);
    put_letters(&mill, 1..=200).await;
    let terminal = nix::pty::openpty(None, None).expect("a pseudo terminal");
    let arguments = ["dlq", "redrive", "--all", "--rate", "200/s", "--nats", &mill.server.url()];
    let mut command = hookmill(&arguments);
    command.env("TERM", "xterm").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(terminal.slave);
    let (process, _pipes) = Process::spawn("hookmill", command).expect("the command can be started");
    let mut screen = std::fs::File::from(terminal.master);
    let drawing = tokio::task::spawn_blocking(move || screen.read(&mut [0; 1]).expect("something is drawn"));
    assert_eq!(drawing.await.expect("the reader doesn't panic"), 1);
    // The screen was closed while the bar is on it.
    assert!(process.exited().is_none());
    assert_eq!(exit_code(process.wait(COMMAND_MAX).await), 0);
    mill.holds("HOOKMILL_LANES", 200).await;
    mill.holds("HOOKMILL_DLQ", 0).await;
}
