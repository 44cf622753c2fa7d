//! Many subscriptions with modules of their own: how long the engine takes to start, and what it holds.

use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};

use hookmill_tests::process::{Process, bound_command};
use hookmill_tests::{NatsServer, PipelineFolder, events, eventually, http};

use crate::contest::program;
use crate::cost::{Held, held};

/// The stream that transformed events are published into.
const ONWARD: &str = "ONWARD";
/// Longest time of a start or of anything else that is waited for: fifty modules of JavaScript take minutes.
const WAIT_MAX: Duration = Duration::from_mins(30);

/// What is run.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Subscriptions of the pipeline.
    pub subscriptions: usize,
    /// Modules that they have in turn, each with a digest of its own.
    pub modules: usize,
    /// The module that all of these are copies of.
    pub wasm: Vec<u8>,
    /// Settings of every step, the inside of a TOML inline table.
    pub settings: String,
    /// How long an instance may be idle.
    pub idle: Duration,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// From the start of the process until it is ready.
    pub start: Duration,
    /// Memory when it is ready.
    pub ready: Held,
    /// Time that one event took to all subscriptions.
    pub spread: Duration,
    /// Memory right after it.
    pub used: Held,
    /// Memory when idle instances have ended.
    pub rested: Held,
}

/// Where runs take place: a server, and the folder of the pipeline and its native code.
pub struct Place {
    server: NatsServer,
    jetstream: Context,
    folder: PipelineFolder,
    crowd: Crowd,
}

impl Place {
    /// Starts a server and writes the files.
    pub async fn new(crowd: Crowd) -> Self {
        let server = NatsServer::start().await;
        let jetstream = server.jetstream().await;
        events::make_source_stream(&jetstream).await;
        let folder = PipelineFolder::with("pipelines/many", &pipeline(&crowd));
        for number in 0..crowd.modules {
            let mut module = crowd.wasm.clone();
            module.extend(custom_section(number));
            folder.write(&format!("pipelines/module-{number}.wasm"), module);
        }
        let idle = format!("{}ms", crowd.idle.as_millis());
        folder.write(
            "hookmill.toml",
            format!("[limits]\nidle = \"{idle}\"\n[cache]\nfolder = \"native\"\nsize = \"64GiB\"\n"),
        );
        Self { server, jetstream, folder, crowd }
    }

    /// Forgets all native code: the next start is a cold one.
    pub fn forget(&self) {
        let native = self.folder.path().join("native");
        if native.exists() {
            std::fs::remove_dir_all(native).expect("the cache can be removed");
        }
    }

    /// Starts the engine, sends one event to every subscription, waits until their instances have ended, and stops it.
    pub async fn run(&self) -> Run {
        let _ = self.jetstream.delete_stream(ONWARD).await;
        let config = jetstream::stream::Config {
            name: ONWARD.into(),
            subjects: vec!["onward.>".into()],
            ..jetstream::stream::Config::default()
        };
        let onward = self.jetstream.create_stream(config).await.expect("the stream can be made");
        let listen = format!("127.0.0.1:{}", free_port());
        let began = Instant::now();
        let engine = self.start(&listen);
        let url = format!("http://{listen}/readyz");
        eventually(WAIT_MAX, "the engine is ready", || async {
            assert!(engine.exited().is_none(), "the engine ended");
            match http::get(&url).await? {
                (200, _) => Ok(()),
                (status, body) => Err(format!("{status} {body}")),
            }
        })
        .await;
        let (start, ready) = (began.elapsed(), held(engine.pid()));
        let published = Instant::now();
        events::publish_all(&self.jetstream, [events::structured(0)]).await;
        let all = self.crowd.subscriptions as u64;
        eventually(WAIT_MAX, "every subscription has sent its event", || async {
            let messages = onward.get_info().await.map_err(|error| error.to_string())?.state.messages;
            if messages >= all { Ok(()) } else { Err(format!("{messages} of {all}")) }
        })
        .await;
        let (spread, used) = (published.elapsed(), held(engine.pid()));
        // A pause, not a wait for something: what is measured is what happens in it.
        tokio::time::sleep(self.crowd.idle * 2).await;
        let rested = held(engine.pid());
        engine.kill().await;
        Run { start, ready, spread, used, rested }
    }

    fn start(&self, listen: &str) -> Process {
        let mut command = bound_command(program());
        command.args(["run", "--listen", listen, "--nats", &self.server.url()]);
        command.arg("--config").arg(self.folder.path().join("hookmill.toml"));
        command.arg(self.folder.path().join("pipelines"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).env("HOOKMILL_LOG", "warn");
        let (process, _) = Process::spawn("hookmill", command).expect("the program can be started");
        process
    }
}

fn pipeline(crowd: &Crowd) -> String {
    let subscription = |number: usize| {
        let module = number % crowd.modules;
        format!(
            "[[subscription]]\nname = \"s{number}\"\n[[subscription.step]]\ntransform = \"./module-{module}.wasm\"\n\
             settings = {{ {} }}\n[subscription.publish]\nsubject = \"onward.s{number}\"\n",
            crowd.settings
        )
    };
    let subscriptions: String = (0..crowd.subscriptions).map(subscription).collect();
    format!("name = \"many\"\n{subscriptions}")
}

/// A section that nobody reads: it makes another module of the same code.
fn custom_section(number: usize) -> Vec<u8> {
    let content = [b"\x06number".as_slice(), &number.to_le_bytes()].concat();
    let length = u8::try_from(content.len()).expect("a few bytes");
    [[0, length].as_slice(), &content].concat()
}

/// A port that nobody listens on just now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port can be had");
    listener.local_addr().expect("it has an address").port()
}
