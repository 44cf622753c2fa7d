//! The built program as a child process: `hookmill run`, its log, its metrics; and its other commands, run to their end.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::sync::watch;

use crate::eventually::eventually;
use crate::nats_server::end_run;
use crate::process::{Process, bound_command, exit_code};
use crate::{NatsServer, http};

/// Longest time from the start until `/readyz` says 200.
const READY_MAX: Duration = Duration::from_secs(30);
/// Longest time from SIGTERM to the end.
const DRAIN_MAX: Duration = Duration::from_mins(1);
/// Longest time of a command that ends by itself.
const COMMAND_MAX: Duration = Duration::from_mins(1);

/// One line of the engine's log.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// As it was written.
    pub text: String,
    json: Option<Value>,
}

impl LogLine {
    fn new(text: String) -> Self {
        let json = serde_json::from_str(&text).ok();
        Self { text, json }
    }

    /// A field of the event: at the top or under `fields`. None if the line is no JSON.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let json = self.json.as_ref()?;
        json.get("fields").and_then(|fields| fields.get(name)).or_else(|| json.get(name))
    }

    /// The constant text.
    pub fn message(&self) -> &str {
        self.field("message").and_then(Value::as_str).unwrap_or_default()
    }
}

/// All lines so far, with a bell for each new one.
#[derive(Debug, Default)]
struct Lines {
    lines: Mutex<Vec<LogLine>>,
    changed: watch::Sender<usize>,
}

impl Lines {
    /// Reads on a thread of its own until the stream ends.
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let lines = Arc::clone(self);
        std::thread::spawn(move || {
            // A line that can't be read is the end of the process.
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                lines.lines.lock().expect("no holder panics").push(LogLine::new(line));
                lines.changed.send_modify(|count| *count += 1);
            }
        });
    }
}

/// How the engine is started.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    program: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    ready_max: Duration,
}

impl EngineOptions {
    /// One more argument (a path, `--egress-allow=127.0.0.0/8`).
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another longest wait for it to be ready, for modules that take long to compile.
    #[must_use]
    pub fn patience(mut self, ready_max: Duration) -> Self {
        self.ready_max = ready_max;
        self
    }

    /// Another program in place of the built one.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Engine {
        let mut engine = self.spawn();
        engine.ready().await;
        engine
    }

    /// Starts it and doesn't wait: for what is expected to fail.
    pub fn spawn(self) -> Engine {
        let lines = Arc::new(Lines::default());
        let process = self.launch(&lines);
        Engine { options: self, process, lines, from: 0, address: None }
    }

    fn launch(&self, lines: &Arc<Lines>) -> Process {
        let program = self.program.clone().unwrap_or_else(built_program);
        let mut command = engine_command(program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (process, pipes) = Process::spawn("hookmill", command).expect("the engine can be started");
        lines.follow(pipes.stdout.expect("asked for"));
        lines.follow(pipes.stderr.expect("asked for"));
        process
    }
}

/// A running (or ended) engine. Dropping it kills it.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    process: Process,
    lines: Arc<Lines>,
    // First line of the present process.
    from: usize,
    address: Option<String>,
}

impl Engine {
    /// `hookmill run` against `server`, with deliveries to loopback allowed. Add the paths with
    /// [`arg`](EngineOptions::arg).
    pub fn run(server: &NatsServer) -> EngineOptions {
        Self::run_at(&server.url())
    }

    /// The same with any NATS URL, such as a cable's.
    pub fn run_at(nats_url: &str) -> EngineOptions {
        let arguments =
            ["run", "--nats", nats_url, "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"];
        Self::command(&arguments)
    }

    /// Any arguments.
    pub fn command(arguments: &[&str]) -> EngineOptions {
        let arguments = arguments.iter().map(Into::into).collect();
        EngineOptions { program: None, arguments, environment: Vec::new(), ready_max: READY_MAX }
    }

    /// Waits until it has said where it listens, ready or not.
    pub async fn listens(&mut self) {
        self.address = Some(self.announced_address().await);
    }

    /// Waits until `/readyz` says 200.
    pub async fn ready(&mut self) {
        self.listens().await;
        let url = self.url("/readyz");
        eventually(self.options.ready_max, "the engine is ready", || async {
            assert!(self.process.exited().is_none(), "the engine ended:\n{}", self.log_tail());
            match http::get(&url).await? {
                (200, _) => Ok(()),
                (status, body) => Err(format!("{status} {body}")),
            }
        })
        .await;
    }

    /// The field `address` of the line in which it says where it listens.
    async fn announced_address(&self) -> String {
        let address = |line: &LogLine| line.field("address").and_then(Value::as_str).map(ToOwned::to_owned);
        let wait = self.options.ready_max;
        let line = self.wait_for_line("a line with the field address", wait, |line| address(line).is_some());
        address(&line.await).expect("looked for")
    }

    /// Where its admin port listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        self.address.as_deref().expect("the engine has said where it listens")
    }

    /// A URL of its admin port.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        let (status, text) = http::get(&self.url("/metrics")).await.expect("the engine answers");
        assert_eq!(status, 200, "{text}");
        text
    }

    /// The sum of all samples of metric `name` whose labels hold each of `labels` (`pipeline="orders"`).
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum_of_samples(&self.metrics().await, name, labels)
    }

    /// SIGKILL.
    pub async fn kill(&self) {
        self.process.kill().await;
    }

    /// SIGTERM, then waits for the end; the exit code.
    pub async fn terminate(&self) -> i32 {
        self.process.signal(Signal::SIGTERM);
        self.wait().await
    }

    /// Waits for an end that comes by itself; the exit code.
    pub async fn wait(&self) -> i32 {
        exit_code(self.process.wait(DRAIN_MAX).await)
    }

    /// The process id.
    pub fn process_id(&self) -> i32 {
        self.process.pid()
    }

    /// True as long as the process lives.
    pub fn is_running(&self) -> bool {
        self.process.exited().is_none()
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGSTOP: it stands still, its connections stay open.
    pub async fn pause(&self) {
        self.process.pause().await;
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Starts again with the same options, killing it first if it runs, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.launch_again();
        self.ready().await;
    }

    /// The same, and waits until it listens: for one that is not to become ready.
    pub async fn restart_unready(&mut self) {
        self.kill().await;
        self.launch_again();
        self.listens().await;
    }

    fn launch_again(&mut self) {
        self.from = self.lines.lines.lock().expect("no holder panics").len();
        self.process = self.options.launch(&self.lines);
    }

    /// Starts again until it is ready, as a supervisor would: an engine whose server does not answer in time ends by itself.
    pub async fn restart_supervised(&mut self, deadline: Duration) {
        let until = tokio::time::Instant::now() + deadline;
        self.kill().await;
        loop {
            assert!(
                tokio::time::Instant::now() < until,
                "not ready within {deadline:?}:\n{}",
                self.log_tail()
            );
            if !self.is_running() {
                self.launch_again();
            }
            let said = self.find_line(|line| line.field("address").is_some());
            if let Some(address) = said.as_ref().and_then(|line| line.field("address")?.as_str()) {
                self.address = Some(address.to_owned());
                if matches!(http::get(&self.url("/readyz")).await, Ok((200, _))) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All lines of all processes so far, both streams.
    pub fn lines(&self) -> Vec<LogLine> {
        self.lines.lines.lock().expect("no holder panics").clone()
    }

    /// Waits for a line of the present process; panics with `what` and the end of the log after `deadline`, or as soon as
    /// the process has ended without it.
    pub async fn wait_for_line(
        &self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&LogLine) -> bool,
    ) -> LogLine {
        let mut changed = self.lines.changed.subscribe();
        let looking = async {
            loop {
                if let Some(line) = self.find_line(&wanted) {
                    return Some(line);
                }
                tokio::select! {
                    told = changed.changed() => told.expect("the sender lives as long as self"),
                    _ = self.process.wait(deadline + Duration::from_secs(1)) => return self.last_look(&wanted).await,
                }
            }
        };
        let Ok(found) = tokio::time::timeout(deadline, looking).await else {
            panic!("not within {deadline:?}: {what}:\n{}", self.log_tail());
        };
        found.unwrap_or_else(|| panic!("the engine ended without {what}:\n{}", self.log_tail()))
    }

    fn find_line(&self, wanted: impl Fn(&LogLine) -> bool) -> Option<LogLine> {
        let lines = self.lines.lines.lock().expect("no holder panics");
        lines.iter().skip(self.from).find(|line| wanted(line)).cloned()
    }

    /// After the process has ended: its last lines may still be on their way through the pipe.
    async fn last_look(&self, wanted: impl Fn(&LogLine) -> bool) -> Option<LogLine> {
        // The two reading threads hold the lines as long as their pipes are open.
        let pipes_closed = || async {
            if Arc::strong_count(&self.lines) == 1 { Ok(()) } else { Err("a pipe is open".to_owned()) }
        };
        eventually(Duration::from_secs(5), "the log has been read", pipes_closed).await;
        self.find_line(wanted)
    }

    fn log_tail(&self) -> String {
        let lines = self.lines();
        let last = lines[lines.len().saturating_sub(40)..].iter().map(|line| line.text.as_str());
        last.collect::<Vec<_>>().join("\n")
    }
}

/// What a command said.
#[derive(Clone, Debug)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Its data.
    pub stdout: String,
    /// All else.
    pub stderr: String,
}

/// Runs the built program to its end, with nothing on its input.
pub async fn hookmill(arguments: &[&str]) -> Said {
    let mut command = engine_command(built_program());
    command.args(arguments);
    run_to_end("hookmill", command).await
}

/// Runs the built program to its end, with `input` on its standard input.
pub async fn hookmill_reading(arguments: &[&str], input: &str) -> Said {
    let mut command = bound_command(built_program());
    command.args(arguments);
    read_to_end("hookmill", command, COMMAND_MAX, Stdio::piped(), input).await
}

/// Runs the built program to its end at a terminal of its own, where somebody types `typed`.
pub async fn hookmill_at_terminal(arguments: &[&str], typed: &str) -> Said {
    let terminal = nix::pty::openpty(None, None).expect("a pseudo terminal");
    let mut keyboard = std::fs::File::from(terminal.master);
    // It is kept by the terminal until somebody reads.
    keyboard.write_all(typed.as_bytes()).expect("a terminal can be typed at");
    let mut command = bound_command(built_program());
    command.args(arguments);
    read_to_end("hookmill", command, COMMAND_MAX, Stdio::from(terminal.slave), "").await
}

/// Runs the built program to its end with its standard error at a terminal of its own; `stderr` is all that was drawn there.
pub async fn hookmill_watched_at_terminal(arguments: &[&str]) -> Said {
    let size = nix::pty::Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = nix::pty::openpty(Some(&size), None).expect("a pseudo terminal");
    let mut command = bound_command(built_program());
    command.args(arguments).env("TERM", "xterm").env_remove("NO_COLOR");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(terminal.slave));
    let (process, pipes) = Process::spawn("hookmill", command).expect("the command can be started");
    let stdout = read_all(pipes.stdout.expect("asked for"));
    let mut screen = std::fs::File::from(terminal.master);
    let drawn = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        // A terminal that nobody has open any more ends with an error (EIO).
        let _ = screen.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let code = exit_code(process.wait(COMMAND_MAX).await);
    Said { code, stdout: stdout.await, stderr: drawn.await.expect("the reader doesn't panic") }
}

/// Runs any command, called `name` in messages, to its end, with nothing on its input.
pub async fn run_to_end(name: &str, command: Command) -> Said {
    run_within(name, command, COMMAND_MAX).await
}

/// The same with a longest time of one's own.
pub async fn run_within(name: &str, command: Command, deadline: Duration) -> Said {
    read_to_end(name, command, deadline, Stdio::null(), "").await
}

async fn read_to_end(
    name: &str,
    mut command: Command,
    deadline: Duration,
    stdin: Stdio,
    input: &str,
) -> Said {
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (process, pipes) = Process::spawn(name, command).expect("the command can be started");
    if let Some(mut stdin) = pipes.stdin {
        // Far less than a pipe holds. A command that ends without reading it breaks the pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let stdout = read_all(pipes.stdout.expect("asked for"));
    let stderr = read_all(pipes.stderr.expect("asked for"));
    let code = exit_code(process.wait(deadline).await);
    Said { code, stdout: stdout.await, stderr: stderr.await }
}

fn read_all(mut stream: impl Read + Send + 'static) -> impl Future<Output = String> {
    // Started now, so that a full pipe stops nobody.
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    });
    async { reading.await.expect("the reader doesn't panic") }
}

/// `hookmill` beside this program (`target/PROFILE/chaos`), or beside its folder (`target/PROFILE/deps/all-…`).
pub fn built_program() -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let folders = this.ancestors().skip(1).take(2);
    let mut programs = folders.map(|folder| folder.join("hookmill"));
    let found = programs.find(|program| program.is_file());
    found.unwrap_or_else(|| {
        end_run(&format!("no program hookmill near {}: run make build first", this.display()))
    })
}

/// A command for the program whose native code of modules lies beside it: nothing is left in the home of who runs the
/// tests, and each module is compiled once for all of them.
pub fn engine_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = bound_command(program);
    command.env("XDG_CACHE_HOME", built_program().with_file_name("test-cache"));
    command
}

/// Adds up the samples of `name` in a Prometheus text.
pub fn sum_of_samples(text: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (series, value) = rest.rsplit_once(' ')?;
        let named = series.is_empty() || series.starts_with('{');
        let labelled = labels.iter().all(|label| series.contains(label));
        if named && labelled { value.parse::<f64>().ok() } else { None }
    });
    // `sum` of nothing is -0.
    samples.fold(0.0, |sum, sample| sum + sample)
}
