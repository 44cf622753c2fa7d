//! What a run has shown, for people and for the test.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Settings;
use super::faults::Fault;
use super::ledger::{Ledger, Noted, Row};
use super::silence::{SILENCE_MAX, STOP_AFTER, Silence, Span};
use crate::judge::Left;

/// What was seen beside the books.
#[derive(Clone, Debug, Default)]
pub(super) struct Besides {
    /// Requests, or answers, that were held up.
    pub(super) held: u64,
    /// Looks at how many tasks wait, one after each fault.
    pub(super) looks: usize,
    /// Looks at which more waited than one of the engines allows.
    pub(super) full: usize,
    /// How often engines loaded a changed file.
    pub(super) loads: usize,
    /// When JetStream did not answer its API.
    pub(super) api_outages: Vec<Span>,
}

/// The outcome of a run.
pub struct Report {
    settings: Settings,
    ledger: Ledger,
    noted: Noted,
    besides: Besides,
    left: Left,
    counters: Result<(), String>,
}

impl Report {
    pub(super) fn new(
        settings: &Settings,
        ledger: Ledger,
        noted: Noted,
        besides: Besides,
        (left, counters): (Left, Result<(), String>),
    ) -> Self {
        Self { settings: settings.clone(), ledger, noted, besides, left, counters }
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
        self.rows().map(|row| row.extra).sum()
    }

    /// Processes that were killed.
    pub fn kills(&self) -> usize {
        self.noted.happened.iter().map(|happened| happened.fault.kills()).sum()
    }

    /// Events that the publisher was acknowledged.
    pub fn events(&self) -> usize {
        self.ledger.source.acked
    }

    /// Subscriptions that stood still for longer than an engine may take.
    pub fn stalled(&self) -> Vec<&str> {
        self.rows()
            .filter(|row| row.silence.is_some_and(|silence| silence.is_stall()))
            .map(|row| row.name.as_str())
            .collect()
    }

    /// Everything that is wrong, a line each; none: nothing is.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = self.complaints_of_events();
        complaints.extend(self.rows().filter_map(stall));
        complaints.extend(self.rows().filter_map(broken_stop));
        let slow = self.noted.happened.iter().filter(|happened| !happened.recovered);
        complaints.extend(slow.map(|happened| format!("no event came after: {}", happened.fault.name())));
        complaints.extend(self.counters.as_ref().err().cloned());
        complaints.extend(self.shows_nothing());
        complaints
    }

    /// What has no end, or the wrong one.
    fn complaints_of_events(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let source = &self.ledger.source;
        if !source.lost.is_empty() {
            let some: Vec<_> = source.lost.iter().take(10).collect();
            complaints.push(format!(
                "{} events that the publisher was acknowledged don't lie in the stream, {some:?} among them",
                source.lost.len()
            ));
        }
        if source.messages != source.acked as u64 {
            let (messages, acked) = (source.messages, source.acked);
            complaints.push(format!("the stream has {messages} messages, {acked} were acknowledged"));
        }
        for row in self.rows().filter(|row| !row.missing.is_empty()) {
            let some: Vec<_> = row.missing.iter().take(10).collect();
            let (name, count) = (&row.name, row.missing.len());
            complaints.push(format!("{name}: {count} events without an end, {some:?} among them"));
        }
        if !self.left.is_nothing() {
            complaints.push(format!("not at rest: {:?}", self.left));
        }
        // A secret that is away for a while is no event's fault.
        let config = self.ledger.reasons.iter().filter(|(reason, _)| reason == "config");
        complaints.extend(config.map(|(_, count)| format!("{count} dead letters for want of a secret")));
        let (_, strange) = self.ledger.gone;
        if strange > 0 {
            complaints.push(format!("{strange} dead letters say gone of events that were not answered so"));
        }
        if self.ledger.forged > 0 {
            complaints.push(format!("{} requests with a signature that does not fit", self.ledger.forged));
        }
        complaints
    }

    /// What did not happen although the run is there to show it.
    fn shows_nothing(&self) -> Vec<String> {
        if self.settings.calm {
            return Vec::new();
        }
        let judged: usize = self.rows().map(|row| row.stops_judged).sum();
        [
            (self.besides.held == 0, "no request was held up"),
            (self.besides.full == 0, "there was always room to wait"),
            (judged == 0, "no lane was stopped for long"),
            (self.ledger.gone.0 == 0, "no lane was disabled by its endpoint"),
            (self.besides.loads == 0, "no file was loaded again"),
        ]
        .into_iter()
        .filter(|(is_missing, _)| *is_missing)
        .map(|(_, what)| format!("{what}: this run shows nothing of the opposite"))
        .collect()
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.ledger.rows.iter().chain(&self.ledger.many)
    }

    fn missing(&self) -> usize {
        self.rows().map(|row| row.missing.len()).sum()
    }

    fn pairs(&self) -> usize {
        self.rows().map(|row| row.events).sum()
    }

    /// The many lanes as one row: sums, and the longest silence of all.
    fn many(&self) -> Option<Row> {
        let mut lanes = self.ledger.many.iter();
        let mut sum = lanes.next()?.clone();
        for lane in lanes {
            sum.events += lane.events;
            sum.delivered += lane.delivered;
            sum.dead += lane.dead;
            sum.extra += lane.extra;
            sum.missing.extend(&lane.missing);
            sum.requests += lane.requests;
            sum.silence = longer(sum.silence, lane.silence);
            sum.stops += lane.stops;
            sum.stops_judged += lane.stops_judged;
            sum.stops_broken.extend(&lane.stops_broken);
        }
        sum.name = format!("{} lanes, 6/m", self.ledger.many.len());
        Some(sum)
    }
}

fn longer(one: Option<Silence>, other: Option<Silence>) -> Option<Silence> {
    one.into_iter().chain(other).max_by_key(|silence| (silence.beside_faults, silence.in_all))
}

fn stall(row: &Row) -> Option<String> {
    let silence = row.silence.filter(Silence::is_stall)?;
    Some(format!(
        "{}: stood still for {} from {} on, {} of it beside faults (at most {})",
        row.name,
        seconds(silence.in_all),
        seconds(silence.from),
        seconds(silence.beside_faults),
        seconds(SILENCE_MAX)
    ))
}

fn broken_stop(row: &Row) -> Option<String> {
    let first = row.stops_broken.first()?;
    Some(format!(
        "{}: {} requests though its lane was stopped more than {} ago and nobody had resumed it, the first at {}",
        row.name,
        row.stops_broken.len(),
        seconds(STOP_AFTER),
        seconds(*first)
    ))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The middle one and the longest; what never came is longer than all else.
fn median_and_most(mut times: Vec<Option<Duration>>) -> [String; 2] {
    times.sort_by_key(|time| time.unwrap_or(Duration::MAX));
    [times[times.len() / 2], times[times.len() - 1]].map(|time| time.map_or("never".to_owned(), seconds))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { seed, time, rate, .. } = &self.settings;
        writeln!(f, "seed {seed}, faults for {} s, {rate} events/s, two engines\n", time.as_secs())?;
        self.subscriptions(f)?;
        self.faults(f)?;
        self.sums(f)
    }
}

impl Report {
    fn subscriptions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| subscription | events | delivered | dead letters | extra ends | without an end | requests | stops | longest silence | of it beside faults |"
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")?;
        let many = self.many();
        for row in self.ledger.rows.iter().chain(&many) {
            let silence = row.silence.map(|silence| [silence.in_all, silence.beside_faults].map(seconds));
            let [in_all, beside] = silence.unwrap_or_else(|| ["-".to_owned(), "-".to_owned()]);
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {in_all} | {beside} |",
                row.name,
                row.events,
                row.delivered,
                row.dead,
                row.extra,
                row.missing.len(),
                row.requests,
                row.stops
            )?;
        }
        Ok(())
    }

    fn faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n| fault | times | lasted, at most | flows again after, median | at most | caught up after, median | at most |"
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
        let mut kinds: BTreeMap<Fault, Vec<usize>> = BTreeMap::new();
        for (number, happened) in self.noted.happened.iter().enumerate() {
            kinds.entry(happened.fault).or_default().push(number);
        }
        for (fault, numbers) in kinds {
            let happened = |number: &usize| &self.noted.happened[*number];
            let lasted = numbers.iter().map(|number| happened(number).span.length());
            let lasted = seconds(lasted.max().unwrap_or_default());
            let got_over = |number: &usize| self.ledger.recoveries[*number];
            let flows = numbers.iter().map(|number| got_over(number).flows).collect();
            let caught_up = numbers.iter().map(|number| got_over(number).caught_up).collect();
            let ([median, most], [all_median, all_most]) =
                (median_and_most(flows), median_and_most(caught_up));
            let (name, times) = (fault.name(), numbers.len());
            writeln!(f, "| {name} | {times} | {lasted} | {median} | {most} | {all_median} | {all_most} |")?;
        }
        Ok(())
    }

    fn sums(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.ledger.source;
        writeln!(
            f,
            "\nthe publisher was acknowledged {} events, {} of them are not in the stream; it holds {} messages, {} to {}",
            source.acked,
            source.lost.len(),
            source.messages,
            source.first_sequence,
            source.last_sequence
        )?;
        let reasons: Vec<_> =
            self.ledger.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        writeln!(f, "dead letters by reason: {}", reasons.join(", "))?;
        let (stops, judged, broken) = self.rows().fold((0, 0, 0), |(stops, judged, broken), row| {
            (stops + row.stops, judged + row.stops_judged, broken + row.stops_broken.len())
        });
        writeln!(
            f,
            "lanes stopped: {stops}, of these judged: {judged}; requests to stopped lanes: {broken}"
        )?;
        let outages = &self.besides.api_outages;
        let longest = outages.iter().map(|outage| outage.length()).max().unwrap_or_default();
        writeln!(
            f,
            "JetStream did not answer its API: {} times, at most {}",
            outages.len(),
            seconds(longest)
        )?;
        let pairs = self.pairs();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.duplicates() as f64 / pairs.max(1) as f64;
        let Besides { held, looks, full, loads, .. } = self.besides;
        writeln!(
            f,
            "requests or answers held up: {held}; waiting full at {full} of {looks} looks; files loaded again: {loads}"
        )?;
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
