//! One run of a loop or of the engine, timed from outside: how fast what it sends arrives, and what CPU time it takes.

#![expect(clippy::cast_precision_loss, reason = "counts and times are far below 2⁵²")]

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use hookmill::telemetry::output;
use hookmill_tests::process::{Process, bound_command};
use hookmill_tests::{NatsServer, PipelineFolder, events};
use tempfile::NamedTempFile;

use crate::cost::cpu;
use crate::pipelines::{self, SECRET, SECRET_VARIABLE, Stages, Target};
use crate::sink::Sink;

/// The stream that everybody takes from.
const SOURCE: &str = "ORDERS";
/// The stream that relays publish into.
const ONWARD: &str = "ONWARD";
/// The subject that relays publish on.
const ONWARD_SUBJECT: &str = "onward.orders";
/// Longest time of one run.
const RUN_MAX: Duration = Duration::from_mins(5);
/// How often the onward stream is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Who runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contender {
    /// The loop of [`crate::bare`].
    Bare,
    /// `hookmill run` with a pipeline of these stages.
    Engine(Stages),
}

/// Where to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Goal {
    /// The sink.
    Webhook,
    /// Another stream.
    Subject,
}

/// What came out.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Events a second.
    pub rate: f64,
    /// CPU time of the contender alone for an event, in microseconds; none where the system doesn't tell.
    pub cpu_micros: Option<f64>,
}

/// The server with its orders, and what is run against it.
pub struct Arena {
    server: NatsServer,
    jetstream: Context,
    redact: Vec<u8>,
    events: usize,
    runs: usize,
    stored: u64,
}

/// A contender's log and its pipeline's folder, removed when it is over.
type Kept = (NamedTempFile, Option<PipelineFolder>);

/// A place on the way: how many have arrived, after which time, and what CPU time was used by then.
struct Point {
    count: usize,
    seconds: f64,
    cpu: Option<Duration>,
}

impl Arena {
    /// Starts a server and stores so many orders.
    pub async fn new(events: usize) -> Self {
        let redact = checkout().join("transforms/dist/redact.wasm");
        let redact =
            std::fs::read(redact).expect("transforms/dist/redact.wasm is there: run make setup first");
        let server = NatsServer::start().await;
        let jetstream = server.jetstream().await;
        let config = jetstream::stream::Config {
            name: SOURCE.into(),
            subjects: vec!["events.>".into()],
            ..jetstream::stream::Config::default()
        };
        jetstream.create_stream(config).await.expect("the stream can be made");
        events::publish_all(&jetstream, (0..events).map(events::structured)).await;
        Self { server, jetstream, redact, events, runs: 0, stored: 0 }
    }

    /// One run over all orders. The first tenth is for warming up and not timed.
    pub async fn run(&mut self, contender: Contender, goal: Goal) -> Figure {
        self.runs += 1;
        let run = async {
            match goal {
                Goal::Webhook => self.webhooks(contender).await,
                Goal::Subject => self.relay(contender).await,
            }
        };
        let Ok(figure) = tokio::time::timeout(RUN_MAX, run).await else {
            panic!("{contender:?} has not sent {} events within {RUN_MAX:?}", self.events);
        };
        let stored = self.stored().await;
        if stored > self.stored {
            output::say(format_args!(
                "{} tasks did not go the direct way, they waited in a lane or for a retry",
                stored - self.stored
            ));
        }
        self.stored = stored;
        figure
    }

    /// Tasks that engines have stored so far.
    async fn stored(&self) -> u64 {
        let mut stored = 0;
        for stream in ["HOOKMILL_LANES", "HOOKMILL_RETRIES", "HOOKMILL_DLQ"] {
            // Before the first engine there is none.
            if let Ok(stream) = self.jetstream.get_stream(stream).await {
                stored += stream.cached_info().state.last_sequence;
            }
        }
        stored
    }

    async fn webhooks(&self, contender: Contender) -> Figure {
        let sink = Sink::start(&[self.events / 10, self.events]);
        let (child, _kept) = self.start(contender, Target::Webhook(&sink.url()));
        let began = sink.reached(0).await;
        let first = Point { count: sink.count(), seconds: 0.0, cpu: cpu(child.pid()) };
        let ended = sink.reached(1).await;
        let seconds = (ended - began).as_secs_f64();
        let last = Point { count: sink.count(), seconds, cpu: cpu(child.pid()) };
        let rate = (self.events - self.events / 10) as f64 / seconds;
        Figure { rate, ..figure(&first, &last) }
    }

    async fn relay(&self, contender: Contender) -> Figure {
        let _ = self.jetstream.delete_stream(ONWARD).await;
        let config = jetstream::stream::Config {
            name: ONWARD.into(),
            subjects: vec!["onward.>".into()],
            ..jetstream::stream::Config::default()
        };
        let onward = self.jetstream.create_stream(config).await.expect("the stream can be made");
        let (child, _kept) = self.start(contender, Target::Subject(ONWARD_SUBJECT));
        let first = arrived(&onward, self.events / 10, &child).await;
        let last = arrived(&onward, self.events, &child).await;
        figure(&first, &last)
    }

    /// Starts the contender; what it needs lasts as long as what comes with it.
    fn start(&self, contender: Contender, target: Target<'_>) -> (Process, Kept) {
        let url = self.server.url();
        match contender {
            Contender::Bare => {
                let this = std::env::current_exe().expect("this program has a path");
                let (kind, to) = match target {
                    Target::Webhook(to) => ("bare-webhook", to),
                    Target::Subject(to) => ("bare-relay", to),
                };
                let arguments = [kind, &url, SOURCE, to].map(OsString::from);
                let (child, log) = spawn(kind, &this, &arguments);
                (child, (log, None))
            }
            Contender::Engine(stages) => {
                let name = format!("bench-{}", self.runs);
                let folder = pipelines::folder(&name, SOURCE, stages, target, &self.redact);
                let mut arguments =
                    ["run", "--nats", &url, "--listen", "127.0.0.1:0"].map(OsString::from).to_vec();
                arguments.push(folder.path().into());
                let (child, log) = spawn("hookmill", &program(), &arguments);
                (child, (log, Some(folder)))
            }
        }
    }
}

/// The engine that was built with this program, in the same profile.
pub fn program() -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let program = this.with_file_name("hookmill");
    assert!(program.is_file(), "no program at {}: run make bench", program.display());
    program
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("benches/ lies in the checkout")
}

/// Starts a program with the signing secret in its environment; its log is removed when the handle is dropped.
pub fn spawn(name: &str, program: &Path, arguments: &[OsString]) -> (Process, NamedTempFile) {
    let log = NamedTempFile::new().expect("a temporary file");
    let handle = || File::options().append(true).open(log.path()).expect("the log can be opened");
    let mut command = bound_command(program);
    command.args(arguments).env(SECRET_VARIABLE, SECRET);
    command.stdin(Stdio::null()).stdout(handle()).stderr(handle());
    let (process, _) = Process::spawn(name, command).expect("the program can be started");
    (process, log)
}

/// Waits until `stream` has at least `count` messages. The time is that of the server's own clock, so that looking
/// seldom does no harm.
async fn arrived(stream: &jetstream::stream::Stream, count: usize, child: &Process) -> Point {
    let wanted = u64::try_from(count).expect("a count");
    loop {
        assert!(child.exited().is_none(), "the contender ended");
        let state = stream.get_info().await.expect("the stream is there").state;
        if state.messages >= wanted {
            let cpu = cpu(child.pid());
            let message =
                stream.get_raw_message(state.last_sequence).await.expect("the last message is there");
            let seconds = message.time.unix_timestamp_nanos() as f64 / 1e9;
            return Point { count: usize::try_from(state.messages).expect("a count"), seconds, cpu };
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn figure(first: &Point, last: &Point) -> Figure {
    let events = (last.count - first.count) as f64;
    let used = first.cpu.zip(last.cpu).map(|(first, last)| last.saturating_sub(first));
    let cpu_micros = used.map(|used| used.as_secs_f64() * 1e6 / events);
    Figure { rate: events / (last.seconds - first.seconds), cpu_micros }
}
