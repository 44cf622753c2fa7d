//! What `module test` says: as text, or as one JSON object a line.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::diff;
use super::Tried;
use super::bench::Figures;
use crate::cli::output;
use crate::model::size;
use crate::transform::{Module, Seen};

pub(super) fn module(json: bool, file: &Path, bytes: usize, ready: Duration, module: &Module) {
    let metadata = module.metadata().map(crate::transform::Metadata::summary);
    if json {
        let object = json!({
            "module": file.display().to_string(),
            "bytes": bytes,
            "digest": module.digest(),
            "ready_milliseconds": milliseconds(ready),
            "metadata": metadata,
        });
        output::line(object);
        return;
    }
    output::line(format_args!(
        "{}: {bytes} bytes, {}, ready in {:.0} ms",
        file.display(),
        module.digest(),
        milliseconds(ready)
    ));
}

/// `whole`: what became of the event is of interest even where nobody expected anything.
pub(super) fn result(json: bool, tried: &Tried, whole: bool) {
    if json {
        output::line(object(tried));
        return;
    }
    let fine = tried.is_fine();
    let word = tried.outcome.word();
    let verdict = match (&tried.wanted, fine) {
        (Some(_), true) => format!("{word}, as expected"),
        (Some(_), false) => format!("{word}, which is not what was expected"),
        (None, _) => word.to_owned(),
    };
    output::line(format_args!("{}: {verdict}; {}", tried.name, costs(tried.took, &tried.seen)));
    let found = pretty(&tried.outcome.to_json());
    match &tried.wanted {
        Some(wanted) if !fine => output::text(indented(&diff::lines(&pretty(wanted), &found))),
        _ if whole || !fine => output::text(indented(&found)),
        _ => {}
    }
    for (level, text) in &tried.seen.log {
        output::line(format_args!("  log {level}: {text}"));
    }
    if !tried.seen.printed.is_empty() {
        output::text(format_args!("  printed:\n{}", indented(&tried.seen.printed)));
    }
    if let Some(figures) = &tried.bench {
        output::line(format_args!("  {}", bench(figures)));
    }
}

fn object(tried: &Tried) -> Value {
    let lines = tried.seen.log.iter().map(|(level, text)| json!({ "level": level, "text": text }));
    json!({
        "name": tried.name,
        "ok": tried.is_fine(),
        "outcome": tried.outcome.to_json(),
        "expected": tried.wanted,
        "microseconds": microseconds(tried.took),
        "setup_microseconds": tried.seen.setup.map(microseconds),
        "memory_bytes": tried.seen.memory_bytes,
        "log": lines.collect::<Vec<_>>(),
        "printed": tried.seen.printed,
        "bench": tried.bench.as_ref().map(|figures| json!({
            "calls": figures.calls,
            "per_second": figures.per_second.round(),
            "p50_microseconds": microseconds(figures.p50),
            "p99_microseconds": microseconds(figures.p99),
            "max_microseconds": microseconds(figures.max),
            "memory_bytes": figures.memory_bytes,
            "broken": figures.broken,
        })),
    })
}

fn costs(took: Duration, seen: &Seen) -> String {
    let memory = mebibytes(seen.memory_bytes);
    let setup =
        seen.setup.map_or_else(String::new, |setup| format!(" (instance {:.0} µs)", microseconds(setup)));
    format!("{:.0} µs{setup}, {memory}", microseconds(took))
}

fn bench(figures: &Figures) -> String {
    let Figures { calls, per_second, p50, p99, max, memory_bytes, broken } = *figures;
    let broken = if broken > 0 { format!("; {broken} ended in a trap or a time-out") } else { String::new() };
    format!(
        "{calls} calls, {per_second:.0} a second; p50 {:.1} µs, p99 {:.1} µs, longest {:.0} µs; at most {}{broken}",
        microseconds(p50),
        microseconds(p99),
        microseconds(max),
        mebibytes(memory_bytes),
    )
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["    ", line, "\n"]).collect()
}

fn mebibytes(bytes: u64) -> String {
    if bytes < 1 << 20 {
        return size::text(bytes);
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{mebibytes:.1} MiB")
}

fn microseconds(time: Duration) -> f64 {
    // One digit behind the point is all that the clock is good for.
    (time.as_secs_f64() * 1e7).round() / 10.0
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}
