//! `run` and `dev` go on, whatever becomes of their outputs.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hookmill_tests::engine::{built_program, engine_command, sum_of_samples};
use hookmill_tests::nats_server::free_port;
use hookmill_tests::process::{Process, exit_code};
use hookmill_tests::{PipelineFolder, behaviour, events, eventually, http};
use nix::sys::signal::Signal;

use super::Outputs;
use crate::commands::text;
use crate::mill::{LATER, Mill, orders};

/// Longest time from SIGTERM to the end.
const END_MAX: Duration = Duration::from_mins(1);

/// A service with its admin API at a port, on the folder of a mill.
struct Service<'m> {
    mill: &'m Mill,
    process: Process,
    admin: String,
}

fn run(mill: &Mill, port: u16) -> Command {
    let mut command = engine_command(built_program());
    command.args(["run", "--egress-allow", "127.0.0.0/8", "--nats", &mill.server.url()]);
    command.args(["--listen", &format!("127.0.0.1:{port}")]).arg(mill.folder.path());
    command
}

fn dev(mill: &Mill, store: &Path, port: u16) -> Command {
    let mut command = engine_command(built_program());
    command.args(["dev", "--folder", text(store), "--listen", &format!("127.0.0.1:{port}")]);
    command.arg(mill.folder.path());
    command
}

impl Service<'_> {
    async fn ready(&self) {
        eventually(LATER, "it is ready", || async {
            assert!(self.process.exited().is_none(), "it has ended: {:?}", self.process.exited());
            match http::get(&format!("{}/readyz", self.admin)).await? {
                (200, _) => Ok(()),
                (status, body) => Err(format!("{status} {body}")),
            }
        })
        .await;
    }

    /// Waits until the files were loaded again once with this result.
    async fn loaded(&self, result: &str) {
        let label = format!("result=\"{result}\"");
        eventually(LATER, &format!("files are {result}"), || async {
            assert!(self.process.exited().is_none(), "it has ended: {:?}", self.process.exited());
            let (_, text) = http::get(&format!("{}/metrics", self.admin)).await?;
            let count = sum_of_samples(&text, "hookmill_config_reloads_total", &[&label]);
            if (count - 1.0).abs() < 0.1 { Ok(()) } else { Err(count.to_string()) }
        })
        .await;
    }

    /// Breaks the files and mends them; order `number` is delivered after each.
    async fn live_through_a_reload(&self, nats: &str, number: usize, told: bool) {
        let tell = || {
            if told {
                self.process.signal(Signal::SIGHUP);
            }
        };
        let publish = async |number| {
            let client = async_nats::connect(nats).await.expect("the server takes connections");
            let jetstream = async_nats::jetstream::new(client);
            events::publish_all(&jetstream, [events::structured(number)]).await;
            let what = format!("order {number} is delivered");
            let id = crate::mill::delivery_ids(number..=number);
            self.mill.endpoint.wait_for(&what, LATER, |log| id.is_subset(log.delivered())).await;
        };
        publish(number).await;
        self.mill.folder.write("orders.toml", "nonsense = 1\n");
        tell();
        self.loaded("refused").await;
        publish(number + 1).await;
        self.mill.folder.write("orders.toml", orders(&self.mill.endpoint, "max_in_flight = 64", ""));
        tell();
        self.loaded("ok").await;
        publish(number + 2).await;
    }

    async fn end(self) {
        self.process.signal(Signal::SIGTERM);
        assert_eq!(exit_code(self.process.wait(END_MAX).await), 0);
    }
}

/// Reads lines until one is wanted, and closes the stream.
async fn read_until(stream: impl Read + Send + 'static, wanted: &'static str) -> Vec<String> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(stream).lines() {
            let line = line.expect("a line of text");
            let found = line.contains(wanted);
            lines.push(line);
            if found {
                return lines;
            }
        }
        panic!("it ended without {wanted:?}: {lines:#?}");
    });
    reading.await.expect("the reader doesn't panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_log_reader_goes_refuses_files_takes_others_and_delivers() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let port = free_port();
    let (process, pipes) = Outputs::READ.start(run(&mill, port));
    read_until(pipes.stderr.expect("asked for"), "\"ready\"").await;
    drop(pipes.stdout);
    let service = Service { mill: &mill, process, admin: format!("http://127.0.0.1:{port}") };
    service.live_through_a_reload(&mill.server.url(), 1, true).await;
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_with_broken_outputs_refuses_files_takes_others_and_delivers() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    // Problems of files go to standard error, or as JSON to standard output.
    let rounds = Outputs::broken().into_iter().flat_map(|outputs| [(outputs, false), (outputs, true)]);
    for (round, (outputs, json)) in rounds.enumerate() {
        mill.folder.write("orders.toml", orders(&mill.endpoint, "", ""));
        let port = free_port();
        let mut command = run(&mill, port);
        command.args(json.then_some("--json"));
        let (process, pipes) = outputs.start(command);
        let said = super::all_of(pipes.stderr);
        let printed = super::all_of(pipes.stdout);
        let service = Service { mill: &mill, process, admin: format!("http://127.0.0.1:{port}") };
        service.ready().await;
        service.live_through_a_reload(&mill.server.url(), 1 + 3 * round, true).await;
        service.end().await;
        let said = said.await;
        assert!(!said.contains("panicked") && !said.contains("standard output"), "{outputs:?}: {said}");
        let wanted = json && outputs.stdout == super::Stream::Read;
        assert_eq!(printed.await.lines().count() > 0, wanted, "{outputs:?}");
    }
}

/// Two ends of a connection that nothing more can be written to.
fn full_log() -> (UnixStream, UnixStream) {
    let (reader, mut writer) = UnixStream::pair().expect("a pair of sockets");
    writer.set_nonblocking(true).expect("a socket can be asked");
    let full = loop {
        if let Err(error) = writer.write(&[b' '; 4096]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    (reader, writer)
}

fn run_logging_to(mill: &Mill, log: UnixStream) -> Service<'_> {
    let port = free_port();
    let mut command = run(mill, port);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(OwnedFd::from(log));
    let (process, _) = Process::spawn("hookmill", command).expect("the engine can be started");
    Service { mill, process, admin: format!("http://127.0.0.1:{port}") }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_stuck_in_a_full_log_goes_on_when_that_is_given_up() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let (reader, log) = full_log();
    log.set_nonblocking(false).expect("a socket can be asked");
    let service = run_logging_to(&mill, log);
    let address = service.admin.trim_start_matches("http://").to_owned();
    let listens = || async {
        tokio::net::TcpStream::connect(&address).await.map(drop).map_err(|error| error.to_string())
    };
    eventually(LATER, "it listens, which it says next", listens).await;
    drop(reader);
    service.ready().await;
    service.live_through_a_reload(&mill.server.url(), 1, true).await;
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_goes_on_beside_a_log_that_takes_nothing() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let (_reader, log) = full_log();
    let service = run_logging_to(&mill, log);
    service.ready().await;
    service.live_through_a_reload(&mill.server.url(), 1, true).await;
    service.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_goes_on_when_its_terminal_is_gone() {
    let _ports = crate::demo::PORTS.lock().await;
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let (store, port) = (PipelineFolder::new(), free_port());
    let (process, pipes) = Outputs::READ.start(dev(&mill, store.path(), port));
    let lines = read_until(pipes.stdout.expect("asked for"), "stop with Ctrl-C").await;
    drop(pipes.stderr);
    let nats = lines[0].split(' ').nth(2).expect("a URL").to_owned();
    let service = Service { mill: &mill, process, admin: format!("http://127.0.0.1:{port}") };
    service.live_through_a_reload(&nats, 1, false).await;
    service.end().await;
}

/// The URL of the server that `dev` has started, as its log says it.
async fn nats_of(store: &Path) -> String {
    eventually(LATER, "the server says where it listens", || async {
        let log =
            std::fs::read_to_string(store.join("nats-server.log")).map_err(|error| error.to_string())?;
        let line = log.lines().find_map(|line| line.split("client connections on ").nth(1));
        line.map(|address| format!("nats://{}", address.trim())).ok_or(log)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_with_broken_outputs_refuses_files_takes_others_and_delivers() {
    let _ports = crate::demo::PORTS.lock().await;
    let mill = Mill::new(behaviour::always(200), "", "").await;
    for (round, stream) in super::Stream::broken().into_iter().enumerate() {
        mill.folder.write("orders.toml", orders(&mill.endpoint, "", ""));
        let (store, port) = (PipelineFolder::new(), free_port());
        let outputs = Outputs { stdout: stream, stderr: stream };
        let (process, _) = outputs.start(dev(&mill, store.path(), port));
        let service = Service { mill: &mill, process, admin: format!("http://127.0.0.1:{port}") };
        service.ready().await;
        let nats = nats_of(store.path()).await;
        service.live_through_a_reload(&nats, 1 + 3 * round, false).await;
        service.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_comes_to_its_end_though_nobody_reads_it() {
    let _ports = crate::demo::PORTS.lock().await;
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = engine_command(built_program());
    command.args(["dev", "--demo"]).current_dir(checkout);
    let outputs = Outputs { stdout: super::Stream::Unread, stderr: super::Stream::Read };
    let said = outputs.run(command).await;
    assert_eq!((said.code, &*said.stderr), (0, ""));
}
