//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config;
use crate::egress::Rule;
use crate::lane::Rate;
use crate::model::{Name, Reason};

/// Gets `CloudEvents` from NATS JetStream, checked, filtered and reshaped, to webhooks.
#[derive(Parser, Debug)]
#[command(name = "hookmill", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The process's own settings [default: hookmill.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// NATS servers, comma separated [default: <nats://127.0.0.1:4222>]
    #[arg(long, global = true, env = "NATS_URL", value_name = "URL")]
    pub(crate) nats: Option<String>,
    /// Prefix of streams, subjects and consumers [default: hookmill]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) prefix: Option<String>,
    /// Print data as one JSON object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Colour in logs
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    pub(crate) color: Colour,
}

/// When to use colour.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Colour {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// On every terminal
    Always,
    /// Never
    Never,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run pipelines until told to stop
    Run(RunArgs),
    /// Report every problem of every pipeline file
    Check(CheckArgs),
    /// Run the unit tests of pipelines (`orders.test.toml` beside `orders.toml`); needs no server
    Test(TestArgs),
    /// Make all streams, `HOOKMILL_EVENTS` among them
    Init,
    /// Publish CloudEvents from files and wait for the acks
    Publish(PublishArgs),
    /// A local receiver that verifies and shows webhooks
    Listen(ListenArgs),
    /// Own nats-server, pipelines loaded and watched, deliveries shown as they happen
    Dev(DevArgs),
    /// Engines that run, the modules that they use, and how each lane stands
    Status,
    /// Where an event is now: source, wait, lane or dead letter
    Trace(TraceArgs),
    /// List, show, redrive and discard dead letters
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// List, pause and resume lanes; move what orphaned ones hold
    #[command(subcommand)]
    Lane(LaneCommand),
    /// Give a pipeline another name
    #[command(subcommand)]
    Pipeline(PipelineCommand),
    /// Start, try out, upload, look at and withdraw transforms
    #[command(subcommand)]
    Module(super::module::ModuleCommand),
}

/// Pipeline files or folders of them.
#[derive(Args, Debug)]
pub(crate) struct Paths {
    /// Pipeline files, or folders of them
    #[arg(value_name = "PATH", default_value = "pipelines")]
    pub(crate) paths: Vec<PathBuf>,
}

/// `run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) paths: Paths,
    /// Address of health, metrics and admin API [default: 127.0.0.1:8470]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Network or host that endpoints may be although it is private, and without TLS: 10.1.0.0/16, hooks.example.com:8080
    /// (repeatable)
    #[arg(long, value_name = "ENTRY", value_parser = Rule::allowing)]
    pub(crate) egress_allow: Vec<Rule>,
    /// Load the files again whenever they, or the schemas and modules that they name, change (as SIGHUP does)
    #[arg(long)]
    pub(crate) watch: bool,
}

/// `publish`.
#[derive(Args, Debug)]
pub(crate) struct PublishArgs {
    /// JSON objects, arrays of them, or one a line; - is standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Where to [default: events.<type of the event>]
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// How the events are encoded
    #[arg(long, value_enum, default_value_t = Mode::Structured)]
    pub(crate) mode: Mode,
}

/// Content modes of the NATS protocol binding.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// The whole event as JSON
    Structured,
    /// Attributes as headers, data as the body
    Binary,
}

/// `listen`.
#[derive(Args, Debug)]
pub(crate) struct ListenArgs {
    /// Port on the loopback; 0 takes any free one
    #[arg(long, default_value_t = 8471)]
    pub(crate) port: u16,
    /// Secret to verify signatures with, whsec_… (repeatable)
    #[arg(long)]
    pub(crate) secret: Vec<String>,
    /// Status of the answers
    #[arg(long, default_value = "200")]
    pub(crate) status: http::StatusCode,
    /// Answer the first N requests of each webhook with 500
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) fail: u32,
}

/// `dev`.
#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    pub(crate) paths: Paths,
    /// Folder that keeps the events [default: .hookmill]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Address of health, metrics and admin API [default: 127.0.0.1:8470, or another port if that one is taken]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Play the example from beginning to end, then stop
    #[arg(long)]
    pub(crate) demo: bool,
}

/// `check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) paths: Paths,
    /// Take it for an error, not a warning, where a secret, URL or header value that stands elsewhere can't be used
    #[arg(long)]
    pub(crate) references: bool,
}

/// `test`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// Test files, pipeline files that have one, or folders of them
    #[arg(value_name = "PATH", default_value = "pipelines")]
    pub(crate) paths: Vec<PathBuf>,
    /// Only tests with this in their name
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Also write the results as a JUnit file (XML)
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

/// `trace`.
#[derive(Args, Debug)]
pub(crate) struct TraceArgs {
    /// The event's id
    #[arg(value_name = "EVENT-ID")]
    pub(crate) id: String,
    /// The event's source, where several have this id
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
    /// How far back to look through source streams; what a consumer has not settled is always looked at
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) since: Duration,
}

/// Which dead letters.
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// Sequences in the dead-letter stream
    #[arg(value_name = "SEQ")]
    pub(crate) sequences: Vec<u64>,
    /// Of this pipeline
    #[arg(long)]
    pub(crate) pipeline: Option<String>,
    /// Of this subscription; _ is the pipeline as a whole
    #[arg(long)]
    pub(crate) subscription: Option<String>,
    /// With this reason
    #[arg(long, value_parser = reason)]
    pub(crate) reason: Option<Reason>,
    /// About an event of this id
    #[arg(long, value_name = "ID")]
    pub(crate) event: Option<String>,
    /// About an event of this source
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// About an event of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) ty: Option<String>,
    /// Of a pipeline as a whole, from this subject; * and > stand for any
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// Stored at least this long ago, as in 2h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) older_than: Option<Duration>,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
}

/// How what is chosen is gone through.
#[derive(Args, Debug)]
pub(crate) struct Pacing {
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// No more than so many in a time, as in 500/s, 30/m or 500/h
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: Option<Rate>,
}

/// Dead letters.
#[derive(Subcommand, Debug)]
pub(crate) enum DlqCommand {
    /// One line each
    List(Which),
    /// Everything about some
    Show(Which),
    /// Put them back into their lanes
    Redrive {
        #[command(flatten)]
        which: Which,
        /// Take the original event again, through today's schemas, filters and modules
        #[arg(long)]
        rerun: bool,
        #[command(flatten)]
        pacing: Pacing,
    },
    /// Remove them for good
    Discard {
        #[command(flatten)]
        which: Which,
        /// Don't ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        pacing: Pacing,
    },
}

/// Lanes.
#[derive(Subcommand, Debug)]
pub(crate) enum LaneCommand {
    /// Every lane with its state, backlog and waits
    List(Paths),
    /// Stop attempting; tasks wait in the lane
    Pause {
        /// PIPELINE/SUBSCRIPTION
        lane: String,
    },
    /// Start attempting again
    Resume {
        /// PIPELINE/SUBSCRIPTION
        lane: String,
    },
    /// Move what a lane holds whose subscription is gone into another subscription's lane
    Adopt {
        /// PIPELINE/SUBSCRIPTION that is gone; PIPELINE/_ is the pipeline as a whole
        lane: String,
        /// PIPELINE/SUBSCRIPTION that takes over
        #[arg(long, value_name = "LANE")]
        into: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Move what a lane holds whose subscription is gone to the dead letters
    DeadLetter {
        /// PIPELINE/SUBSCRIPTION that is gone; PIPELINE/_ is the pipeline as a whole
        lane: String,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

fn rate(text: &str) -> Result<Rate, String> {
    config::speed(text)
        .ok_or_else(|| "a rate is a number from 1 to 100000 and a time: 500/s, 30/m or 500/h".to_owned())
}

/// Pipelines.
#[derive(Subcommand, Debug)]
pub(crate) enum PipelineCommand {
    /// Carry over all that is kept of a pipeline: place in the source, lanes, waits, dead letters. No engine may run it
    /// meanwhile. If it is interrupted, run it again
    Rename {
        /// The name it has
        #[arg(value_parser = Name::new)]
        old: Name,
        /// The name it gets
        #[arg(value_parser = Name::new)]
        new: Name,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Take again, with other webhook-ids, what an engine that is gone has taken from the source and not settled
        #[arg(long)]
        repeat: bool,
    },
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::parse(text).ok_or_else(|| {
        let all: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("reasons are {}", all.join(", "))
    })
}
