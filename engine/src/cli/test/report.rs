//! How tests went, on standard output: for people, or as one JSON object a test.

use std::path::PathBuf;

use serde_json::json;

use super::Done;
use super::compare::Mismatch;
use crate::cli::args::{Colour, Global};
use crate::cli::output;

/// Prints each test as it is done.
pub(super) struct Report {
    json: bool,
    colour: bool,
    /// The file whose tests are being shown.
    file: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum Paint {
    Red,
    Green,
}

impl Report {
    pub(super) fn new(global: &Global) -> Self {
        let wanted = match global.color {
            Colour::Auto => std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty()),
            Colour::Always => true,
            Colour::Never => false,
        };
        Self { json: global.json, colour: wanted && output::data_is_on_terminal(), file: None }
    }

    pub(super) fn show(&mut self, done: &Done<'_>) {
        if self.json {
            output::line(as_json(done));
            return;
        }
        if self.file.as_ref() != Some(&done.suite.file) {
            output::line(done.suite.file.display());
            self.file = Some(done.suite.file.clone());
        }
        if done.mismatches.is_empty() {
            output::line(format_args!("  {}    {}", self.painted("ok", Paint::Green), done.name));
            return;
        }
        output::line(format_args!(
            "  {}  {} (line {})",
            self.painted("FAIL", Paint::Red),
            done.name,
            done.line
        ));
        for Mismatch { place, text, diff } in &done.mismatches {
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            let legend = if diff.is_some() { " (- expected, + found)" } else { "" };
            output::line(format_args!("        {place}{text}{legend}"));
            for line in diff.iter().flat_map(|diff| diff.lines()) {
                let line = match line.chars().next() {
                    Some('-') => self.painted(line, Paint::Red),
                    Some('+') => self.painted(line, Paint::Green),
                    _ => line.to_owned(),
                };
                output::line(format_args!("          {line}"));
            }
        }
    }

    /// The last line; `left_out` tests were not asked for.
    pub(super) fn sum_up(&self, done: &[Done<'_>], left_out: usize) {
        if self.json {
            return;
        }
        let failed = done.iter().filter(|one| !one.mismatches.is_empty()).count();
        let tests = if done.len() == 1 { "1 test".to_owned() } else { format!("{} tests", done.len()) };
        let left_out = if left_out == 0 { String::new() } else { format!(", {left_out} left out") };
        output::line(format_args!("{tests}: {} passed, {failed} failed{left_out}", done.len() - failed));
    }

    fn painted(&self, text: &str, paint: Paint) -> String {
        let code = match paint {
            Paint::Red => 31,
            Paint::Green => 32,
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn as_json(done: &Done<'_>) -> serde_json::Value {
    let mismatch =
        |one: &Mismatch| json!({ "subscription": one.place, "message": one.text, "diff": one.diff });
    json!({
        "file": done.suite.file.display().to_string(),
        "line": done.line,
        "name": done.name,
        "passed": done.mismatches.is_empty(),
        "seconds": done.took.as_secs_f64(),
        "failures": done.mismatches.iter().map(mismatch).collect::<Vec<_>>(),
    })
}
