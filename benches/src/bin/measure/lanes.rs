//! Prints what thousands of lanes cost, how evenly they flow, and how long they take to flow again; fails when the start takes too
//! long, an empty lane has a consumer, they are too slow, or one of them stands still.
//!
//! `measure lanes [--idle N] [--busy N] [--seconds N] [--rate N] [--events N] [--kill yes|no] [--program PATH | --debug]`:
//! `--idle 0` or `--busy 0` leaves that part out, `--rate` is each lane's a second, `--events` what has to lie in each lane when it begins. An engine of
//! a development build (`--debug`: the one beside this program's folder) has a third of the speed to reach.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hookmill::telemetry::output;
use hookmill_benches::contest::program;
use hookmill_benches::lanes::{Busy, Cost, Idle, Load, busy, idle};

/// Longest start with as many lanes as there are backlogs.
const START_MAX: Duration = Duration::from_secs(10);
/// What 99 of 100 answers of JetStream's API have to come within.
const API_MAX: Duration = Duration::from_secs(1);
/// Times without a delivery that are counted.
const COUNTED: [Duration; 2] = [Duration::from_millis(3_000), Duration::from_millis(5_500)];

struct Options {
    idle: usize,
    load: Load,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let time = Duration::from_mins(1);
        let load = Load { lanes: 1_000, rate: 1, time, events: None, kill: true, program: PathBuf::new() };
        let (mut options, mut program_at) = (Self { idle: 10_000, load }, None);
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            if name == "--debug" {
                program_at = Some(development());
                continue;
            }
            let value = arguments.next().ok_or(format!("{name} has no value"))?;
            let number = |least: usize| match value.parse() {
                Ok(number) if number >= least => Ok(number),
                _ => Err(format!("{name} takes a number of at least {least}, not {value:?}")),
            };
            let load = &mut options.load;
            match (name.as_str(), value.as_str()) {
                ("--idle", _) => options.idle = number(0)?,
                ("--busy", _) => load.lanes = number(0)?,
                ("--seconds", _) => load.time = Duration::from_secs(number(1)? as u64),
                ("--rate", _) => load.rate = u32::try_from(number(1)?).map_err(|error| error.to_string())?,
                ("--events", _) => load.events = Some(number(1)?),
                ("--kill", "yes" | "no") => load.kill = value == "yes",
                ("--program", _) => program_at = Some(value.into()),
                _ => {
                    let all = "--idle, --busy, --seconds, --rate, --events, --kill, --program, --debug";
                    return Err(format!("{name} {value} is none of {all}"));
                }
            }
        }
        options.load.program = program_at.unwrap_or_else(program);
        Ok(options)
    }
}

/// `target/debug/hookmill` beside `target/release/measure`.
fn development() -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    let target = this.ancestors().nth(2).expect("it lies in target/PROFILE");
    target.join("debug/hookmill")
}

pub(super) async fn measure(arguments: &[String]) -> Result<ExitCode, String> {
    let Options { idle: empty, load } = Options::read(arguments)?;
    let mut complaints = Vec::new();
    if empty > 0 {
        let idle = idle(empty, &load.program).await;
        tell_idle(empty, &idle);
        if idle.consumers > 0 {
            complaints.push(format!("{} consumers for empty lanes", idle.consumers));
        }
    }
    if load.lanes > 0 {
        let busy = busy(&load).await;
        tell_busy(&load, &busy);
        complaints.extend(wrong(&load, &busy));
    }
    for complaint in &complaints {
        output::say(format_args!("measure lanes: {complaint}"));
    }
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything that is not as it has to be.
fn wrong(load: &Load, busy: &Busy) -> Vec<String> {
    let demand = load.demand();
    let gap_max = demand.gap.unwrap_or(busy.fair_share().saturating_mul(3));
    let (deliveries, gap) = (busy.cost.deliveries, busy.gaps.most());
    [
        (
            busy.start > START_MAX,
            format!("the start took {}, more than {}", seconds(busy.start), seconds(START_MAX)),
        ),
        (busy.exhausted > 0, format!("{} lanes had nothing left: give more --events", busy.exhausted)),
        (
            deliveries < demand.deliveries,
            format!("{deliveries:.0} deliveries a second, less than {:.0}", demand.deliveries),
        ),
        (
            gap > gap_max,
            format!(
                "{} lanes went without a delivery for more than {}, one for {}",
                busy.gaps.over(gap_max),
                seconds(gap_max),
                seconds(gap)
            ),
        ),
        (
            busy.api.most_of > API_MAX,
            format!(
                "one in a hundred answers of JetStream took {}, more than {}",
                seconds(busy.api.most_of),
                seconds(API_MAX)
            ),
        ),
    ]
    .into_iter()
    .filter_map(|(is_wrong, what)| is_wrong.then_some(what))
    .collect()
}

fn tell_idle(lanes: usize, idle: &Idle) {
    output::line(format_args!("| {lanes} lanes, empty | |\n| --- | ---: |"));
    row("start until ready", &seconds(idle.start));
    row("consumers of lanes", &idle.consumers.to_string());
    tell_cost(&idle.cost);
    output::line("");
}

fn tell_busy(load: &Load, busy: &Busy) {
    let (lanes, rate, events) = (load.lanes, load.rate, busy.events);
    output::line(format_args!("| {lanes} lanes, {rate}/s each, {events} events in each | |\n| --- | ---: |"));
    row("start until ready", &seconds(busy.start));
    row("first event until all lanes flow", &seconds(busy.all_flow));
    row("first event until all lie in their lanes", &seconds(busy.spilled));
    row("measured from then on for", &seconds(load.time));
    tell_cost(&busy.cost);
    row("turn of a lane at equal shares", &millis(busy.fair_share()));
    row("longest time of a lane without a delivery, 99 of 100 lanes", &millis(busy.gaps.share(0.99)));
    row("all lanes", &millis(busy.gaps.most()));
    for bound in COUNTED {
        row(&format!("lanes with one over {}", seconds(bound)), &busy.gaps.over(bound).to_string());
    }
    let thrice = busy.gaps.over(busy.fair_share().saturating_mul(3));
    row("lanes with one over three turns", &thrice.to_string());
    row("JetStream's API, p50", &millis(busy.api.half));
    row("p99", &millis(busy.api.most_of));
    row("at most", &millis(busy.api.most));
    row("not answered", &format!("{} of {}", busy.api.timed_out, busy.api.asked));
    row("p99 until all lay in their lanes", &millis(busy.api_before.most_of));
    row("not answered by then", &format!("{} of {}", busy.api_before.timed_out, busy.api_before.asked));
    if let Some(time) = busy.all_flow_again {
        row("nats-server killed and started until all flow again", &seconds(time));
    }
    let windows: Vec<String> = busy.windows.iter().map(|rate| format!("{rate:.0}")).collect();
    output::line(format_args!("\ndeliveries a second, in windows of 5 s: {}\n", windows.join(" ")));
}

fn tell_cost(cost: &Cost) {
    row("deliveries a second", &format!("{:.0}", cost.deliveries));
    row("engine: cores", &format!("{:.2}", cost.engine_cores));
    row("engine: memory", &format!("{:.0} MiB", cost.engine_mebibytes));
    row("nats-server: cores", &format!("{:.2}", cost.server_cores));
    row("nats-server: memory", &format!("{:.0} MiB", cost.server_mebibytes));
    row("receiver and prober: cores", &format!("{:.2}", cost.receiver_cores));
    row("requests to JetStream a second", &format!("{:.1}", cost.requests));
}

fn row(name: &str, value: &str) {
    output::line(format_args!("| {name} | {value} |"));
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}
