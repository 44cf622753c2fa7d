//! What a run of the suite has found, and how it is printed.

use std::fmt::Write as _;

use super::memory::mebibytes;

/// One case.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was tried.
    pub case: String,
    /// What became of it.
    pub outcome: String,
    /// Throughput of the other subscriptions meanwhile, as a share of that before and after.
    pub others: Option<f64>,
    /// Resident memory before, at its peak and after, in bytes; none where nobody knows.
    pub memory: Option<[u64; 3]>,
    /// How long it took until the outcome was there.
    pub seconds: f64,
    /// What is not as it should be.
    pub wrong: Vec<String>,
}

/// Longest text of an outcome in the table.
const OUTCOME_CHARS: usize = 96;

/// The rows as a Markdown table.
pub fn render(title: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "| {title} | outcome | seconds | others | MiB before | MiB at most | MiB after |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for row in rows {
        let Row { case, outcome, others, memory, seconds, .. } = row;
        let others = others.map_or_else(|| "-".to_owned(), |others| format!("{others:.2}"));
        let memory = memory.map(|memory| memory.map(|bytes| mebibytes(bytes).to_string()));
        let [before, peak, after] = memory.unwrap_or_else(|| ["-", "-", "-"].map(str::to_owned));
        let outcome = cell(outcome);
        writeln!(text, "| {case} | {outcome} | {seconds:.1} | {others} | {before} | {peak} | {after} |")
            .expect("writing to memory does not fail");
    }
    text
}

fn cell(text: &str) -> String {
    let one_line = text.replace(['\n', '|'], " ");
    match one_line.char_indices().nth(OUTCOME_CHARS) {
        Some((at, _)) => format!("{}…", &one_line[..at]),
        None => one_line,
    }
}
