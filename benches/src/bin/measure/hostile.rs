//! Measures what modules of strangers do to the others.
//!
//! `measure hostile suite [--healthy N] [--hostile N] [--splits N]`: every case of the hostile suite, as tables.
//! `measure hostile spin [--seconds N] [--subscriptions N] [--rate N]`: what others keep of their throughput beside a guest that spins
//! on every event, compared with the same guest that behaves; fails below 0.90. `--rate 0` offers as many events as the engine
//! takes, any other number so many a second.

use std::process::ExitCode;
use std::time::Duration;

use hookmill::telemetry::output;
use hookmill_benches::contest::program;
use hookmill_benches::spinner;
use hookmill_tests::hostile;
use hookmill_tests::hostile::ground::Scale;
use hookmill_tests::hostile::table::{Row, render};

/// The least share of their throughput that others keep.
const RATIO_MIN: f64 = 0.90;

/// `--name N` pairs; every name must be known.
fn numbers<const N: usize>(arguments: &[&str], known: [(&str, usize); N]) -> Result<[usize; N], String> {
    let mut values = known.map(|(_, default)| default);
    for pair in arguments.chunks(2) {
        let names = known.map(|(name, _)| name);
        let at = names.iter().position(|name| *name == pair[0]);
        let at = at.ok_or_else(|| format!("{} is none of {}", pair[0], names.join(", ")))?;
        let value = pair.get(1).and_then(|value| value.parse().ok());
        values[at] = value.ok_or_else(|| format!("{} takes a number", pair[0]))?;
    }
    Ok(values)
}

pub(super) async fn measure(arguments: &[String]) -> Result<ExitCode, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["suite", ref rest @ ..] => suite(rest).await,
        ["spin", ref rest @ ..] => spin(rest).await,
        _ => Err("it is either suite or spin".to_owned()),
    }
}

async fn suite(arguments: &[&str]) -> Result<ExitCode, String> {
    let known = [("--healthy", 5_000), ("--hostile", 32), ("--splits", 100)];
    let [healthy, hostile, splits] = numbers(arguments, known)?;
    let scale = Scale { healthy, hostile, program: program(), limits: None };
    let refused = hostile::run_refusals(scale.clone()).await;
    output::line(render("at load", &refused));
    let events = hostile::run_events(scale.clone()).await;
    let leak = hostile::run_leak(scale, splits).await;
    let rows: Vec<Row> = events.into_iter().chain([leak]).collect();
    output::line(render("on an event", &rows));
    let wrong: Vec<_> = refused.iter().chain(&rows).filter(|row| !row.wrong.is_empty()).collect();
    for row in &wrong {
        output::say(format_args!("{}: {:#?}", row.case, row.wrong));
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn spin(arguments: &[&str]) -> Result<ExitCode, String> {
    let known = [("--seconds", 60), ("--subscriptions", 3), ("--rate", 3_000)];
    let [seconds, subscriptions, rate] = numbers(arguments, known)?;
    let time = Duration::from_secs(seconds.max(1) as u64);
    let rate = Some(rate).filter(|rate| *rate > 0);
    let options = spinner::Options { time, subscriptions: subscriptions.max(1), rate };
    let measured = spinner::measure(options).await;
    output::line(measured.render());
    output::line(format_args!("others keep {:.2} of their throughput", measured.ratio()));
    output::line(format_args!(
        "({:.2} of what they have where that subscription does not exist)",
        measured.ratio_to_none()
    ));
    Ok(if measured.ratio() < RATIO_MIN { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
