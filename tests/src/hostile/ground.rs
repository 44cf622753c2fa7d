//! A running engine with two healthy subscriptions beside whatever else it has to bear, and how they fare.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use serde_json::Value;

use super::memory;
use crate::engine::{self, Said};
use crate::events::{self, Message};
use crate::guest::built;
use crate::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, eventually};

/// Longest wait for something that must come.
pub const SOON: Duration = Duration::from_mins(2);
/// Deliveries of each healthy event.
const HEALTHY: usize = 2;

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Healthy events of one measurement.
    pub healthy: usize,
    /// Hostile events of one case.
    pub hostile: usize,
    /// The engine's program.
    pub program: PathBuf,
    /// The process file that modules are checked with; none: the defaults.
    pub limits: Option<&'static str>,
}

/// The engine and its surroundings.
#[derive(Debug)]
pub struct Ground {
    /// How much of everything.
    pub scale: Scale,
    /// The engine.
    pub engine: Engine,
    server: NatsServer,
    jetstream: Context,
    healthy: Endpoint,
    others: Endpoint,
    published: AtomicUsize,
    // Held for its drop, which removes it.
    _folder: PipelineFolder,
}

impl Ground {
    /// Starts an engine. `subscriptions` is given the URL where everything is taken and nothing is looked at.
    pub async fn start(
        scale: Scale,
        files: &[(String, Vec<u8>)],
        subscriptions: impl FnOnce(&str) -> String,
    ) -> Self {
        let server = NatsServer::start().await;
        let jetstream = server.jetstream().await;
        events::make_source_stream(&jetstream).await;
        let healthy = Endpoint::start_for_flood(behaviour::always(200)).await;
        let others = Endpoint::start_for_flood(behaviour::always(200)).await;
        let text = [
            "[source]\nstream = \"HOOKMILL_EVENTS\"\n".to_owned(),
            subscription("plain", &["good"], &healthy.url(), ""),
            subscription("redacted", &["good"], &healthy.url(), &redact()),
            subscriptions(&others.url()),
        ]
        .concat();
        let folder = PipelineFolder::with("p", &text);
        folder.write("redact.wasm", built("redact"));
        for (name, bytes) in files {
            folder.write(name, bytes);
        }
        let options = Engine::run(&server).arg(folder.path()).program(&scale.program);
        let engine = options.start().await;
        let published = AtomicUsize::new(0);
        Self { scale, engine, server, jetstream, healthy, others, published, _folder: folder }
    }

    /// Publishes healthy events with these among them, at even distances; healthy events a second until all healthy
    /// ones are delivered.
    pub async fn rate(&self, among: Vec<Message>) -> f64 {
        let count = self.scale.healthy;
        self.healthy.forget();
        self.others.forget();
        let every = (count / (among.len() + 1)).max(1);
        let mut among = among.into_iter();
        let from = self.published.fetch_add(count, Ordering::Relaxed);
        let mut messages = Vec::new();
        for number in from..from + count {
            if number % every == 0 {
                messages.extend(among.next());
            }
            messages.push(good(number));
        }
        messages.extend(among);
        let begun = Instant::now();
        events::publish_all(&self.jetstream, messages).await;
        self.healthy.wait_for_delivered(HEALTHY * count, SOON).await;
        f64::from(u32::try_from(count).expect("few")) / begun.elapsed().as_secs_f64()
    }

    /// Waits until `count` events of a subscription have an end; how many were delivered, dropped and dead-lettered.
    pub async fn ends(&self, subscription: &str, count: usize, deadline: Duration) -> [usize; 3] {
        eventually(deadline, &format!("{count} ends of {subscription}"), || async {
            let metrics = self.engine.metrics().await;
            let ends = ["delivered", "filtered", "dead_lettered"].map(|outcome| {
                let labels = [format!("subscription=\"{subscription}\""), format!("outcome=\"{outcome}\"")];
                let labels = labels.each_ref().map(String::as_str);
                let found = engine::sum_of_samples(&metrics, "hookmill_deliveries_total", &labels);
                // A counter of the engine: whole, and far below 2⁵².
                format!("{found:.0}").parse::<usize>().unwrap_or_default()
            });
            if ends.iter().sum::<usize>() >= count { Ok(ends) } else { Err(format!("{ends:?}")) }
        })
        .await
    }

    /// The dead letters of a subscription, as `dlq list --json` has them.
    pub async fn letters(&self, subscription: &str) -> Vec<Value> {
        let url = self.server.url();
        let said =
            self.hookmill(&["dlq", "list", "--json", "--nats", &url, "--subscription", subscription]).await;
        assert_eq!(said.code, 0, "{}", said.stderr);
        said.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// Runs a command of the same program to its end.
    pub async fn hookmill(&self, arguments: &[&str]) -> Said {
        let mut command = engine::engine_command(&self.scale.program);
        command.args(arguments);
        engine::run_to_end("hookmill", command).await
    }

    /// Resident memory of the engine now and at most since [`Self::forget_peak`].
    pub fn memory(&self) -> Option<memory::Memory> {
        memory::of_process(self.engine.process_id())
    }

    /// The peak starts anew.
    pub fn forget_peak(&self) {
        memory::forget_peak(self.engine.process_id());
    }
}

/// A subscription to these types, with a step.
pub fn subscription(name: &str, types: &[&str], url: &str, step: &str) -> String {
    format!(
        "[[subscription]]\nname = \"{name}\"\ntypes = {types:?}\n[subscription.deliver]\nurl = \"{url}\"\n\
         [subscription.retry]\nschedule = [\"100ms\"]\njitter = 0.0\n{step}\n"
    )
}

/// A step. `settings` is the inside of an inline table.
pub fn step(file: &str, settings: &str, more: &str) -> String {
    format!("[[subscription.step]]\ntransform = \"./{file}\"\nsettings = {{ {settings} }}\n{more}\n")
}

fn redact() -> String {
    // A machine that is busy with other things must not cost a healthy event its turn.
    step("redact.wasm", "remove = [\"/customer/email\"], mask = [\"/card/number\"]", "timeout = \"30s\"")
}

fn good(number: usize) -> Message {
    let data = events::order_data(number);
    event(&format!("good-{number}"), "good", &data)
}

/// An event with this JSON as its data.
pub fn event(id: &str, ty: &str, data: &str) -> Message {
    events::structured_message(format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/tests","type":"{ty}","data":{data}}}"#
    ))
}

/// The mean of two rates.
pub fn between(one: f64, other: f64) -> f64 {
    f64::midpoint(one, other)
}
