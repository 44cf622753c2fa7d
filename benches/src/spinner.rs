//! What the others keep of their throughput while one subscription's guest spins on every event: the same engine, the
//! same events, the same subscriptions and the same module, a while in which it behaves, a while in which it spins, a while
//! in which it behaves again. And, to compare with, a while without that subscription.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};
use hookmill_tests::guest::built;
use hookmill_tests::{NatsServer, PipelineFolder, events};

use crate::bare::IN_FLIGHT;
use crate::contest::{program, spawn};
use crate::cost::cpu;
use crate::pipelines::{SECRET_VARIABLE, redact_step, source};
use crate::sink::Sink;

/// The stream that everybody takes from.
const SOURCE: &str = "ORDERS";
/// How often is counted.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Events that are published at once, between two looks at how far the engine is.
const BATCH: usize = 5_000;

/// How the measurement is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Length of each part.
    pub time: Duration,
    /// Healthy subscriptions, each with a transform.
    pub subscriptions: usize,
    /// Events a second; none: as many as the engine takes.
    pub rate: Option<usize>,
}

/// One part of the measurement.
#[derive(Clone, Debug)]
pub struct Part {
    /// Deliveries of the healthy subscriptions a second, over the whole time.
    pub rate: f64,
    /// The same for each stretch of [`LOOK_EVERY`].
    pub course: Vec<f64>,
    /// CPU time of the engine, as a share of one core.
    pub cores: Option<f64>,
}

/// What the guest of the one subscription does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Guest {
    Behaves,
    Spins,
    /// There is no such subscription.
    Absent,
}

impl Guest {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Behaves => "behaves",
            Self::Spins => "spins",
            Self::Absent => "is not there",
        }
    }
}

/// The parts, in their order.
const PARTS: [Guest; 4] = [Guest::Behaves, Guest::Spins, Guest::Behaves, Guest::Absent];

/// What came out for each of them.
#[derive(Clone, Debug)]
pub struct Measured {
    parts: [Part; 4],
}

impl Measured {
    /// What the others keep of what they have beside a guest that behaves.
    pub fn ratio(&self) -> f64 {
        let [before, beside, after, _] = &self.parts;
        beside.rate / f64::midpoint(before.rate, after.rate)
    }

    /// What they keep of what they have by themselves.
    pub fn ratio_to_none(&self) -> f64 {
        let [_, beside, _, alone] = &self.parts;
        beside.rate / alone.rate
    }

    /// As a Markdown table.
    pub fn render(&self) -> String {
        let mut text = String::from(
            "| the guest | deliveries/s of the others | engine, cores | each 5 s |\n| --- | ---: | ---: | --- |\n",
        );
        for (guest, part) in PARTS.iter().zip(&self.parts) {
            let cores = part.cores.map_or_else(|| "-".to_owned(), |cores| format!("{cores:.2}"));
            let course: Vec<_> = part.course.iter().map(|rate| format!("{rate:.0}")).collect();
            writeln!(text, "| {} | {:.0} | {cores} | {} |", guest.as_str(), part.rate, course.join(" "))
                .expect("writing to memory does not fail");
        }
        text
    }
}

/// Measures.
pub async fn measure(options: Options) -> Measured {
    let [one, two, three, four] = PARTS;
    let parts = [
        part("one", options, one).await,
        part("two", options, two).await,
        part("three", options, three).await,
        part("four", options, four).await,
    ];
    Measured { parts }
}

async fn part(name: &str, options: Options, guest: Guest) -> Part {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    let config = jetstream::stream::Config {
        name: SOURCE.into(),
        subjects: vec!["events.>".into()],
        ..jetstream::stream::Config::default()
    };
    jetstream.create_stream(config).await.expect("the stream can be made");
    // What the one subscription delivers isn't counted.
    let (sink, other) = (Sink::start(&[]), Sink::start(&[]));
    let folder = folder(&format!("spin-{name}"), options, [&sink.url(), &other.url()], guest);
    let arguments = ["run", "--nats", &server.url(), "--listen", "127.0.0.1:0"].map(OsString::from);
    let mut arguments = arguments.to_vec();
    arguments.push(folder.path().into());
    events::publish_all(&jetstream, (0..BATCH).map(events::structured)).await;
    let (child, _log) = spawn("hookmill", &program(), &arguments);
    while sink.count() == 0 {
        assert!(child.exited().is_none(), "the engine ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let used = cpu(child.pid());
    let begun = Instant::now();
    let publish = publish(&jetstream, options, begun, &sink);
    let (course, ()) = futures_util::join!(course(&sink, options, begun), publish);
    let seconds = begun.elapsed().as_secs_f64();
    let cores = used
        .zip(cpu(child.pid()))
        .map(|(before, after)| after.saturating_sub(before).as_secs_f64() / seconds);
    let total: f64 = course.iter().map(|(count, _)| count).sum();
    let time: f64 = course.iter().map(|(_, seconds)| seconds).sum();
    Part {
        rate: total / time,
        course: course.into_iter().map(|(count, seconds)| count / seconds).collect(),
        cores,
    }
}

/// Deliveries and length of each stretch.
async fn course(sink: &Sink, options: Options, begun: Instant) -> Vec<(f64, f64)> {
    let mut course = Vec::new();
    let (mut count, mut at) = (sink.count(), begun);
    while begun.elapsed() < options.time {
        tokio::time::sleep(LOOK_EVERY.min(options.time)).await;
        let (count_now, now) = (sink.count(), Instant::now());
        course.push((f64::from(u32::try_from(count_now - count).expect("few")), (now - at).as_secs_f64()));
        (count, at) = (count_now, now);
    }
    course
}

/// Keeps the source from running dry, or publishes at its rate.
async fn publish(jetstream: &Context, options: Options, begun: Instant, sink: &Sink) {
    let mut published = BATCH;
    while begun.elapsed() < options.time {
        let taken = match options.rate {
            Some(rate) => {
                BATCH + usize::try_from(begun.elapsed().as_millis()).expect("an hour") * rate / 1000
            }
            None => sink.count() / options.subscriptions + 4 * BATCH,
        };
        if published < taken {
            let until = (published + BATCH).min(taken);
            events::publish_all(jetstream, (published..until).map(events::structured)).await;
            published = until;
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn folder(name: &str, options: Options, [url, other]: [&str; 2], guest: Guest) -> PipelineFolder {
    let subscription = |name: &str, step: &str, url: &str| {
        format!(
            "[[subscription]]\nname = \"{name}\"\n{step}\n[subscription.deliver]\nurl = \"{url}\"\n\
             sign = [{{ env = \"{SECRET_VARIABLE}\" }}]\nallow = [\"127.0.0.0/8\"]\nconcurrency = {IN_FLIGHT}\n"
        )
    };
    let mut text = source(SOURCE);
    for number in 0..options.subscriptions {
        text += &subscription(&format!("healthy-{number}"), redact_step(), url);
    }
    let mode = match guest {
        Guest::Behaves => Some("keep"),
        Guest::Spins => Some("spin"),
        Guest::Absent => None,
    };
    if let Some(mode) = mode {
        let step = format!(
            "[[subscription.step]]\ntransform = \"./hostile.wasm\"\nsettings = {{ mode = \"{mode}\" }}"
        );
        text += &subscription("guest", &step, other);
    }
    let folder = PipelineFolder::with(name, &text);
    folder.write("redact.wasm", built("redact"));
    folder.write("hostile.wasm", built("hostile"));
    folder
}
