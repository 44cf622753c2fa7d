//! Measures the engine against bare loops, prints a table, and fails when the main path is too slow.
//!
//! `measure ratios [--events N] [--rounds N] [--only LETTERS]`

use std::process::ExitCode;

use hookmill::telemetry::output;
use hookmill_benches::contest::{Arena, Contender, Goal};
use hookmill_benches::pipelines::Stages;
use hookmill_benches::table::{Row, render};

/// The ratio of validate → transform → signed webhook below which the run fails.
const MAIN_RATIO_MIN: f64 = 0.55;

/// One line of the table.
struct Comparison {
    letter: char,
    name: &'static str,
    goal: f64,
    to: Goal,
    base: Contender,
    engine: Stages,
}

fn comparisons() -> [Comparison; 5] {
    let plain = Stages { validate: false, transform: false, others: 0 };
    let validate = Stages { validate: true, ..plain };
    let transform = Stages { validate: true, transform: true, ..plain };
    let thousand = Stages { others: 999, ..plain };
    let (bare, webhook) = (Contender::Bare, Goal::Webhook);
    let one = Contender::Engine(plain);
    [
        ('a', "signed webhook / bare webhook", 0.90, webhook, bare, plain),
        ('b', "validate → signed webhook / bare webhook", 0.85, webhook, bare, validate),
        ('c', "validate → transform → signed webhook / bare webhook", 0.80, webhook, bare, transform),
        ('d', "validate → transform → NATS / bare relay", 0.60, Goal::Subject, bare, transform),
        ('e', "1,000 subscriptions of which one matches / one subscription", 0.80, webhook, one, thousand),
    ]
    .map(|(letter, name, goal, to, base, engine)| Comparison { letter, name, goal, to, base, engine })
}

struct Options {
    events: usize,
    rounds: usize,
    only: String,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { events: 30_000, rounds: 5, only: "abcde".to_owned() };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} has no value", pair[0])) };
            let number = || match value.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{name} takes a number above 0, not {value:?}")),
            };
            match name.as_str() {
                "--events" => options.events = number()?,
                "--rounds" => options.rounds = number()?,
                "--only" => options.only.clone_from(value),
                _ => return Err(format!("{name} is none of --events, --rounds, --only")),
            }
        }
        Ok(options)
    }
}

pub(super) async fn measure(arguments: &[String]) -> Result<ExitCode, String> {
    Ok(compare(&Options::read(arguments)?).await)
}

async fn compare(options: &Options) -> ExitCode {
    let mut arena = Arena::new(options.events).await;
    let chosen = comparisons().into_iter().filter(|comparison| options.only.contains(comparison.letter));
    let mut measured: Vec<(Comparison, Row)> = chosen
        .map(|comparison| {
            let row = Row { name: comparison.name, goal: comparison.goal, rounds: Vec::new() };
            (comparison, row)
        })
        .collect();
    for round in 1..=options.rounds {
        for (comparison, row) in &mut measured {
            let base = arena.run(comparison.base, comparison.to).await;
            let engine = arena.run(Contender::Engine(comparison.engine), comparison.to).await;
            output::say(format_args!(
                "round {round} {}: {:.0} against {:.0} events/s",
                comparison.letter, engine.rate, base.rate
            ));
            row.rounds.push((base, engine));
        }
    }
    let main = measured.iter().find(|(comparison, _)| comparison.letter == 'c').map(|(_, row)| row.ratio());
    let rows: Vec<Row> = measured.into_iter().map(|(_, row)| row).collect();
    let (events, rounds) = (options.events, options.rounds);
    output::line(format_args!(
        "{events} orders of 1 KiB a run, median of {rounds} rounds\n\n{}",
        render(&rows)
    ));
    match main {
        Some(ratio) if ratio < MAIN_RATIO_MIN => {
            output::say(format_args!(
                "validate → transform → signed webhook is at {ratio:.2}, below {MAIN_RATIO_MIN}"
            ));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
