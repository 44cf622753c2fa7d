//! Medians, and what is printed.

use std::fmt::Write as _;

use crate::contest::Figure;

/// The middle one; of an even number the lower of the two.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    assert!(!values.is_empty(), "there was at least one round");
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

/// All rounds of one comparison, each with its own run of the baseline.
#[derive(Debug)]
pub struct Row {
    /// What is compared.
    pub name: &'static str,
    /// The ratio to reach.
    pub goal: f64,
    /// Baseline and contender, a pair a round.
    pub rounds: Vec<(Figure, Figure)>,
}

impl Row {
    /// The median of the rounds' ratios: a pair was measured in the same minute, the rounds were not.
    pub fn ratio(&self) -> f64 {
        median(self.rounds.iter().map(|(base, figure)| figure.rate / base.rate))
    }

    fn cpu(&self, pick: impl Fn(&(Figure, Figure)) -> Figure) -> String {
        let values: Vec<f64> = self.rounds.iter().filter_map(|round| pick(round).cpu_micros).collect();
        if values.is_empty() { "-".to_owned() } else { format!("{:.0}", median(values)) }
    }

    fn spread(&self) -> (f64, f64) {
        let ratios = self.rounds.iter().map(|(base, figure)| figure.rate / base.rate);
        ratios.fold((f64::MAX, f64::MIN), |(least, most), ratio| (least.min(ratio), most.max(ratio)))
    }
}

/// The rows as a Markdown table.
pub fn render(rows: &[Row]) -> String {
    let mut text = String::from(
        "| comparison | baseline, events/s | engine, events/s | baseline, CPU µs | engine, CPU µs | ratio | least to most | goal | |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
    );
    for row in rows {
        let base = median(row.rounds.iter().map(|(base, _)| base.rate));
        let engine = median(row.rounds.iter().map(|(_, engine)| engine.rate));
        let (least, most) = row.spread();
        let (base_cpu, engine_cpu) = (row.cpu(|round| round.0), row.cpu(|round| round.1));
        let met = if row.ratio() >= row.goal { "met" } else { "not met" };
        writeln!(
            text,
            "| {} | {base:.0} | {engine:.0} | {base_cpu} | {engine_cpu} | {:.2} | {least:.2} to {most:.2} | {:.2} | {met} |",
            row.name,
            row.ratio(),
            row.goal,
        )
        .expect("writing to memory does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(base: f64, rate: f64) -> (Figure, Figure) {
        let figure = |rate| Figure { rate, cpu_micros: Some(50.0) };
        (figure(base), figure(rate))
    }

    #[test]
    fn the_ratio_is_the_median_of_pairs_that_ran_side_by_side() {
        let rounds = vec![pair(100.0, 80.0), pair(50.0, 45.0), pair(100.0, 10.0)];
        let row = Row { name: "x", goal: 0.8, rounds };
        assert!((row.ratio() - 0.8).abs() < 1e-9);
        assert!(render(&[row]).contains("| x | 100 | 45 | 50 | 50 | 0.80 | 0.10 to 0.90 | 0.80 | met |"));
    }
}
