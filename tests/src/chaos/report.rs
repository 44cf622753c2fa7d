//! What a run has shown, for people and for the test.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Settings;
use super::faults::{Fault, Happened};
use super::ledger::Ledger;
use crate::judge::Left;

/// What was seen beside the books.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Besides {
    /// Requests, or answers, that were held up.
    pub(super) held: u64,
    /// Looks at how many tasks wait, one after each fault.
    pub(super) looks: usize,
    /// Looks at which more waited than one of the engines allows.
    pub(super) full: usize,
    /// Requests whose signature does not fit.
    pub(super) forged: u64,
}

/// The outcome of a run.
pub struct Report {
    settings: Settings,
    ledger: Ledger,
    happened: Vec<Happened>,
    besides: Besides,
    left: Left,
    counters: Result<(), String>,
}

impl Report {
    pub(super) fn new(
        settings: &Settings,
        ledger: Ledger,
        happened: Vec<Happened>,
        besides: Besides,
        (left, counters): (Left, Result<(), String>),
    ) -> Self {
        Self { settings: settings.clone(), ledger, happened, besides, left, counters }
    }

    /// (event, subscription) pairs without an end though nothing is left that could bring one.
    pub fn lost(&self) -> usize {
        if self.left.is_nothing() { self.missing() } else { 0 }
    }

    /// Pairs without an end while something is still under way.
    pub fn unended(&self) -> usize {
        if self.left.is_nothing() { 0 } else { self.missing() }
    }

    /// Ends beyond the first of each pair.
    pub fn duplicates(&self) -> usize {
        self.ledger.rows.iter().map(|row| row.extra).sum()
    }

    /// Processes that were killed.
    pub fn kills(&self) -> usize {
        self.happened.iter().map(|happened| happened.fault.kills()).sum()
    }

    /// Events that the source stream holds.
    pub fn events(&self) -> usize {
        self.ledger.events
    }

    /// Everything that is wrong, a line each; none: nothing is.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for row in self.ledger.rows.iter().filter(|row| !row.missing.is_empty()) {
            let some: Vec<_> = row.missing.iter().take(10).collect();
            complaints.push(format!(
                "{}: {} events without an end, {some:?} among them",
                row.script.name(),
                row.missing.len()
            ));
        }
        if !self.left.is_nothing() {
            complaints.push(format!("not at rest: {:?}", self.left));
        }
        let slow = self.happened.iter().filter(|happened| happened.recovered.is_none());
        complaints.extend(slow.map(|happened| format!("no event came after: {}", happened.fault.name())));
        complaints.extend(self.counters.as_ref().err().cloned());
        let Besides { held, full, forged, .. } = self.besides;
        // A secret that is away for a while is no event's fault.
        let config = self.ledger.reasons.iter().filter(|(reason, _)| reason == "config");
        complaints.extend(config.map(|(_, count)| format!("{count} dead letters for want of a secret")));
        if forged > 0 {
            complaints.push(format!("{forged} requests with a signature that does not fit"));
        }
        if held == 0 {
            complaints.push("no request was held up: this run shows nothing of it".to_owned());
        }
        if full == 0 {
            complaints.push("there was always room to wait: this run shows nothing of a full one".to_owned());
        }
        complaints
    }

    fn missing(&self) -> usize {
        self.ledger.rows.iter().map(|row| row.missing.len()).sum()
    }

    fn pairs(&self) -> usize {
        self.ledger.events * self.ledger.rows.len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { seed, time, rate, .. } = &self.settings;
        writeln!(f, "seed {seed}, faults for {} s, {rate} events/s, two engines\n", time.as_secs())?;
        writeln!(
            f,
            "| subscription | events | delivered | dead letters | extra ends | without an end | requests |"
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
        for row in &self.ledger.rows {
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} |",
                row.script.name(),
                self.ledger.events,
                row.delivered,
                row.dead,
                row.extra,
                row.missing.len(),
                row.requests
            )?;
        }
        writeln!(f, "\n| fault | times | flows again after, median | at most |")?;
        writeln!(f, "| --- | ---: | ---: | ---: |")?;
        let mut times: BTreeMap<Fault, Vec<Option<Duration>>> = BTreeMap::new();
        for happened in &self.happened {
            times.entry(happened.fault).or_default().push(happened.recovered);
        }
        for (fault, mut recovered) in times {
            // What has not recovered comes last.
            recovered.sort_by_key(|time| time.unwrap_or(Duration::MAX));
            let text = |time: Option<Duration>| match time {
                Some(time) => format!("{:.1} s", time.as_secs_f64()),
                None => "never".to_owned(),
            };
            let (median, most) = (recovered[recovered.len() / 2], recovered[recovered.len() - 1]);
            writeln!(f, "| {} | {} | {} | {} |", fault.name(), recovered.len(), text(median), text(most))?;
        }
        let reasons: Vec<_> =
            self.ledger.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        writeln!(f, "\ndead letters by reason: {}", reasons.join(", "))?;
        let pairs = self.pairs();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.duplicates() as f64 / pairs.max(1) as f64;
        let Besides { held, looks, full, .. } = self.besides;
        writeln!(f, "requests or answers held up: {held}; waiting full at {full} of {looks} looks")?;
        writeln!(f, "kills: {}; pairs of event and subscription: {pairs}", self.kills())?;
        writeln!(
            f,
            "lost: {}; unended: {}; duplicates: {} ({:.4} %)",
            self.lost(),
            self.unended(),
            self.duplicates(),
            rate * 100.0
        )?;
        match &self.counters {
            Ok(()) => writeln!(f, "counters of the engines agree with the receivers"),
            Err(why) => writeln!(f, "counters do not agree: {why}"),
        }
    }
}
