//! Measures what live swaps of a module cost: the same steady load before and during many uploads. Prints latencies and
//! their ratio, and fails when anything is lost, fails, or takes more than twice as long.
//!
//! `measure swaps [--rate N] [--seconds N] [--uploads N] [--functions N]`

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookmill::model::{Name, Version};
use hookmill::nats::{Modules, Nats, Settings};
use hookmill::telemetry::output;
use hookmill_benches::contest::program;
use hookmill_benches::steady::{self, Arrival, Arrivals};
use hookmill_tests::stamp::Stamp;
use hookmill_tests::{Engine, NatsServer, PipelineFolder, events, eventually};
use tokio::sync::watch;

/// The ratio of the 99th percentiles that must not be exceeded.
const RATIO_MAX: f64 = 2.0;
/// How long the engine may take to warm up, to swap, to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Load before anything is measured.
const WARM_UP: Duration = Duration::from_secs(5);

struct Options {
    /// Events a second.
    rate: usize,
    /// How long it is measured before the uploads, and how long these take.
    seconds: usize,
    uploads: usize,
    /// Functions in each module beside those that work: the compiler's share of a real one.
    functions: usize,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { rate: 2_000, seconds: 25, uploads: 50, functions: 300 };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} has no value", pair[0])) };
            let number: usize = value.parse().map_err(|_| format!("{name} takes a number, not {value:?}"))?;
            match name.as_str() {
                "--rate" => options.rate = number.max(1),
                "--seconds" => options.seconds = number.max(1),
                "--uploads" => options.uploads = number.max(1),
                "--functions" => options.functions = number,
                _ => return Err(format!("{name} is none of --rate, --seconds, --uploads, --functions")),
            }
        }
        Ok(options)
    }
}

/// What came out.
struct Measured {
    published: Vec<Instant>,
    arrivals: Vec<Arrival>,
    /// When the measured load began, the uploads began, and they were done.
    marks: [Instant; 3],
    /// From upload to the first event that the new version made.
    swaps: Vec<Duration>,
    module_bytes: usize,
    stored: u64,
}

pub(super) async fn measure(arguments: &[String]) -> Result<ExitCode, String> {
    let options = Options::read(arguments)?;
    let measured = run(&options).await;
    Ok(report(&options, &measured))
}

/// What upload `number` stamps its events with: two builds by turns, each with its number.
fn says(number: usize) -> String {
    format!("{}-{number}", if number.is_multiple_of(2) { "even" } else { "odd" })
}

async fn run(options: &Options) -> Measured {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    let source = events::make_source_stream(&jetstream).await;
    let nats = Nats::connect(&Settings::for_url(server.url())).await.expect("the server takes connections");
    let modules = Modules::open(&nats).await.expect("the registry can be opened");
    // All of them beforehand: making one takes this program longer than the engine needs to swap it in.
    let builds: Vec<Bytes> = (0..=options.uploads).map(|number| build(options, number)).collect();
    upload(&modules, &builds, 0).await;
    let arrivals = Arrivals::start();
    let folder = PipelineFolder::with("p", &pipeline(&arrivals.url()));
    let engine = Engine::run(&server).program(program()).arg(folder.path()).start().await;

    let (stop, stopped) = watch::channel(false);
    let client = server.client().await;
    let published = Mutex::default();
    let load = steady::publish(&client, options.rate, &published, stopped);
    let work = async {
        tokio::time::sleep(WARM_UP).await;
        let seconds = u32::try_from(options.seconds).expect("a small number");
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(1) * seconds).await;
        let uploads_began = Instant::now();
        let pause =
            Duration::from_secs(1) * seconds / u32::try_from(options.uploads).expect("a small number");
        let mut swaps = Vec::new();
        for number in 1..=options.uploads {
            let next = tokio::time::Instant::now() + pause;
            let before = Instant::now();
            upload(&modules, &builds, number).await;
            let swapped = arrivals.wait_for_version(&says(number), PATIENCE).await;
            let lines = engine.lines();
            let log =
                lines.iter().rev().take(10).map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
            assert!(
                swapped,
                "upload {number} was not swapped in within {PATIENCE:?}; the log, last line first:\n{log}"
            );
            swaps.push(before.elapsed());
            tokio::time::sleep_until(next).await;
        }
        stop.send_replace(true);
        (swaps, [began, uploads_began, Instant::now()])
    };
    let ((), (swaps, marks)) = tokio::join!(load, work);
    let published = published.into_inner().unwrap_or_else(PoisonError::into_inner);
    // They were sent without waiting for acks.
    eventually(PATIENCE, "the source stream has every order", || async {
        let held = source.get_info().await.map_err(|error| error.to_string())?.state.messages;
        if held == published.len() as u64 { Ok(()) } else { Err(format!("{held} of {}", published.len())) }
    })
    .await;
    arrivals.wait_for(published.len(), PATIENCE).await;
    let mut stored = 0;
    for stream in ["HOOKMILL_LANES", "HOOKMILL_RETRIES", "HOOKMILL_DLQ"] {
        stored += jetstream.get_stream(stream).await.expect("it is there").cached_info().state.last_sequence;
    }
    engine.terminate().await;
    let module_bytes = builds.last().map_or(0, Bytes::len);
    Measured { published, arrivals: arrivals.all(), marks, swaps, module_bytes, stored }
}

fn pipeline(url: &str) -> String {
    format!(
        "[[subscription]]\nname = \"shop\"\n[subscription.deliver]\nurl = \"{url}\"\nformat = \"binary\"\n\
         concurrency = 256\n[[subscription.step]]\ntransform = \"stamp@1\"\n"
    )
}

fn build(options: &Options, number: usize) -> Bytes {
    let version = says(number);
    Stamp { version: &version, functions: options.functions, ..Stamp::fine() }.module().into()
}

async fn upload(modules: &Modules, builds: &[Bytes], number: usize) {
    let (name, version) = (Name::new("stamp").expect("a name"), Version::parse(&format!("1.0.{number}")));
    let bytes = builds[number].clone();
    let put = modules.put(&name, &version.expect("a version"), bytes, serde_json::Value::Null).await;
    put.expect("it can be stored");
}

/// The `share` of latencies that are not above it, in milliseconds.
fn percentile(sorted: &[Duration], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[at].as_secs_f64() * 1e3
}

fn report(options: &Options, measured: &Measured) -> ExitCode {
    let Measured { published, arrivals, marks, swaps, module_bytes, stored } = measured;
    let mut first: HashMap<usize, &Arrival> = HashMap::new();
    let mut versions: HashMap<usize, HashSet<&str>> = HashMap::new();
    for arrival in arrivals {
        first.entry(arrival.order).or_insert(arrival);
        versions.entry(arrival.order).or_default().insert(&arrival.version);
    }
    let latencies = |from: Instant, to: Instant| {
        let within = published.iter().enumerate().filter(|(_, at)| (from..to).contains(*at));
        let latencies = within.filter_map(|(order, at)| Some(first.get(&order)?.at - *at));
        let mut latencies: Vec<Duration> = latencies.collect();
        latencies.sort();
        latencies
    };
    let (before, during) = (latencies(marks[0], marks[1]), latencies(marks[1], marks[2]));
    let known: HashSet<String> = (0..=options.uploads).map(says).collect();
    let by_one = versions.values().all(|made| made.len() == 1 && made.iter().all(|one| known.contains(*one)));
    let lost = published.len() - first.len();
    let repeated = arrivals.len() - first.len();
    let ratio = percentile(&during, 0.99) / percentile(&before, 0.99);
    output::line(format_args!(
        "{} events/s, {} uploads of a module of {} KiB in {:.1} s\n\n\
         | | events | p50, ms | p99, ms | most, ms |\n| --- | ---: | ---: | ---: | ---: |",
        options.rate,
        options.uploads,
        module_bytes / 1024,
        (marks[2] - marks[1]).as_secs_f64()
    ));
    for (name, latencies) in [("before", &before), ("during the swaps", &during)] {
        let [half, most_of, most] = [0.5, 0.99, 1.0].map(|share| percentile(latencies, share));
        output::line(format_args!("| {name} | {} | {half:.2} | {most_of:.2} | {most:.2} |", latencies.len()));
    }
    let mut swaps = swaps.clone();
    swaps.sort();
    output::line(format_args!(
        "\np99 during against before: {ratio:.2} (at most {RATIO_MAX:.1})\n\
         upload to the first event by the new version: p50 {:.0} ms, most {:.0} ms\n\
         {} published, {lost} lost, {repeated} repeated, {stored} stored on the way, each made by one version: {by_one}",
        percentile(&swaps, 0.5),
        percentile(&swaps, 1.0),
        published.len()
    ));
    if lost == 0 && by_one && *stored == 0 && ratio <= RATIO_MAX {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
