//! Measures what a broken endpoint, a slow one and retries that wait cost everybody else; fails when it is more than a tenth.
//!
//! `measure trouble [--events N] [--rounds N] [--waits N] [--only hanging|slow|waiting]`

use std::process::ExitCode;

use hookmill::telemetry::output;
use hookmill_benches::table::{Row, render};
use hookmill_benches::trouble::{Waiting, beside_slow, nine_of_ten};

/// What the others have to keep of their throughput.
const KEPT_MIN: f64 = 0.90;

/// What the slow endpoint may have at once: more than the engine works on, and as many.
const SLOW: [(&str, usize); 2] = [
    ("beside a slow endpoint with concurrency 200 / beside a healthy one", 200),
    ("beside a slow endpoint with concurrency 64 / beside a healthy one", 64),
];

struct Options {
    events: usize,
    rounds: usize,
    waits: usize,
    only: Option<String>,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { events: 30_000, rounds: 5, waits: 100_000, only: None };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} has no value", pair[0])) };
            let number = || match value.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{name} takes a number above 0, not {value:?}")),
            };
            match (name.as_str(), value.as_str()) {
                ("--events", _) => options.events = number()?,
                ("--rounds", _) => options.rounds = number()?,
                ("--waits", _) => options.waits = number()?,
                ("--only", "hanging" | "slow" | "waiting") => options.only = Some(value.clone()),
                ("--only", _) => return Err(format!("--only takes hanging, slow or waiting, not {value:?}")),
                _ => return Err(format!("{name} is none of --events, --rounds, --waits, --only")),
            }
        }
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

pub(super) async fn measure(arguments: &[String]) -> Result<ExitCode, String> {
    let options = Options::read(arguments)?;
    let mut rows = Vec::new();
    if options.wants("hanging") {
        rows.push(hanging(&options).await);
    }
    if options.wants("slow") {
        for (name, concurrency) in SLOW {
            rows.push(slow(&options, name, concurrency).await);
        }
    }
    if options.wants("waiting") {
        rows.push(waiting(&options).await);
    }
    output::line(format_args!(
        "{} orders of 1 KiB a run, median of {} rounds\n\n{}",
        options.events,
        options.rounds,
        render(&rows)
    ));
    let kept = rows.iter().all(|row| row.ratio() >= KEPT_MIN);
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn hanging(options: &Options) -> Row {
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let base = nine_of_ten(options.events, false).await;
        let beside = nine_of_ten(options.events, true).await;
        output::say(format_args!(
            "round {round}, one of ten hangs: {:.0} against {:.0} events/s",
            beside.rate, base.rate
        ));
        rounds.push((base, beside));
    }
    Row { name: "nine endpoints beside one that hangs / beside a healthy one", goal: KEPT_MIN, rounds }
}

async fn slow(options: &Options, name: &'static str, concurrency: usize) -> Row {
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let (base, base_longest) = beside_slow(options.events, concurrency, false).await;
        let (beside, longest) = beside_slow(options.events, concurrency, true).await;
        output::say(format_args!(
            "round {round}, a slow endpoint with concurrency {concurrency}: {:.0} against {:.0} events/s, longest \
             latency {:.0} against {:.0} ms",
            beside.rate,
            base.rate,
            longest.as_secs_f64() * 1e3,
            base_longest.as_secs_f64() * 1e3
        ));
        rounds.push((base, beside));
    }
    Row { name, goal: KEPT_MIN, rounds }
}

async fn waiting(options: &Options) -> Row {
    let (mut none, mut many) =
        (Waiting::new(options.events, 0).await, Waiting::new(options.events, options.waits).await);
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let (base, beside) = (none.run().await, many.run().await);
        output::say(format_args!(
            "round {round}, {} wait: {:.0} against {:.0} events/s",
            options.waits, beside.rate, base.rate
        ));
        rounds.push((base, beside));
    }
    Row { name: "signed webhook while retries wait / while none wait", goal: KEPT_MIN, rounds }
}
