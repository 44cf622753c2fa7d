//! The circuit breaker of a lane: when to stop trying for every task, when to probe, how to come back.

use std::time::Duration;

use crate::model::Timestamp;

/// When a circuit opens, and how it is probed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// Attempts that must fail in a row before it opens.
    pub failures: u32,
    /// Age of the first of them by then.
    pub failing_for: Duration,
    /// It opens too when this share of the attempts of the last `failing_for` failed, `failures` of them at least.
    pub ratio: Option<f64>,
    /// The first wait for a probe; each further one is twice as long.
    pub probe_first: Duration,
    /// The longest wait between probes.
    pub probe_max: Duration,
    /// A lane whose attempts have gone on failing for so long without a break is disabled.
    pub disable_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            failures: 20,
            failing_for: Duration::from_secs(10),
            ratio: None,
            probe_first: Duration::from_secs(1),
            probe_max: Duration::from_secs(30),
            disable_after: Duration::from_secs(5 * 86_400),
        }
    }
}

/// Parts of the time over which the share of failures is taken.
const PARTS: usize = 10;

/// Successes and failures of the last while, part by part.
#[derive(Clone, Debug, Default)]
struct Recent {
    parts: [(u32, u32); PARTS],
    /// Number of the newest part since the epoch.
    newest: u64,
}

impl Recent {
    /// Counts an attempt in the part that `now` lies in, and forgets parts that are over.
    fn count(&mut self, now: Timestamp, window: Duration, failed: bool) {
        let part = u64::try_from(window.as_nanos() / PARTS as u128).unwrap_or(u64::MAX).max(1);
        let number = now.unix_nanos() / part;
        for gone in self.newest.saturating_add(1)..=number.min(self.newest.saturating_add(PARTS as u64)) {
            self.parts[place(gone)] = (0, 0);
        }
        self.newest = self.newest.max(number);
        let (good, bad) = &mut self.parts[place(number)];
        let counter = if failed { bad } else { good };
        *counter = counter.saturating_add(1);
    }

    /// Successes and failures in all parts.
    fn sums(&self) -> (u64, u64) {
        self.parts.iter().fold((0, 0), |sums, part| (sums.0 + u64::from(part.0), sums.1 + u64::from(part.1)))
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number % PARTS as u64).unwrap_or(0)
}

/// Whether attempts go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CircuitState {
    /// They do, at most `ramp` at once while it is recovering.
    Closed,
    /// Only a probe does, once its time has come.
    Open {
        /// Since when without a break.
        since: Timestamp,
        /// When the next probe may run.
        probe_at: Timestamp,
    },
}

/// One lane's circuit. The caller passes the time in.
#[derive(Clone, Debug)]
pub struct Circuit {
    settings: Settings,
    state: CircuitState,
    recent: Recent,
    failures: u32,
    failing_since: Option<Timestamp>,
    probe_wait: Duration,
    /// Attempts allowed at once after an opening; `None`: no limit of the circuit's.
    ramp: Option<usize>,
    /// When the endpoint asked last to be left alone, if the circuit is open because of that.
    held_since: Option<Timestamp>,
    /// The wait until the next probe as it was planned.
    planned: Duration,
    /// When an attempt failed last while it is open.
    failed_last: Timestamp,
    /// How long attempts have gone on failing while it is open. Time in which nothing was attempted is no part of it.
    failing: Duration,
}

/// What a record changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing that anyone must hear of.
    None,
    /// It opened.
    Opened,
    /// It closed.
    Closed,
}

impl Circuit {
    /// A closed one.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: CircuitState::Closed,
            recent: Recent::default(),
            failures: 0,
            failing_since: None,
            probe_wait: settings.probe_first,
            ramp: None,
            held_since: None,
            planned: settings.probe_first,
            failed_last: Timestamp::default(),
            failing: Duration::ZERO,
        }
    }

    /// An open circuit as another run of the engine left it: the time of the opening counts on, and so does how long attempts
    /// have gone on failing. The probe is due.
    pub fn reopened(settings: Settings, since: Timestamp, failing: Duration, now: Timestamp) -> Self {
        let state = CircuitState::Open { since: since.min(now), probe_at: now };
        Self { state, failing, failed_last: now, ..Self::new(settings) }
    }

    /// The same with other settings, at once to be probed; a hold goes on.
    #[must_use]
    pub fn with(self, settings: Settings, now: Timestamp) -> Self {
        match self.state {
            CircuitState::Open { since, probe_at } => {
                let probe_at = if self.held_since.is_some() { probe_at } else { now };
                let state = CircuitState::Open { since, probe_at };
                Self { settings, state, probe_wait: settings.probe_first, ..self }
            }
            CircuitState::Closed => Self::new(settings),
        }
    }

    /// Closed again, with nothing remembered.
    pub fn reset(&mut self) {
        *self = Self::new(self.settings);
    }

    /// Whether attempts have gone on failing for so long that its lane should be disabled.
    pub fn is_hopeless(&self) -> bool {
        self.is_open() && self.failing >= self.settings.disable_after
    }

    /// How long attempts have gone on failing while it is open.
    pub fn failing(&self) -> Duration {
        self.failing
    }

    /// Whether it is open because the endpoint asked to be left alone, and until when.
    pub fn held_until(&self) -> Option<Timestamp> {
        match (self.held_since, self.state) {
            (Some(_), CircuitState::Open { probe_at, .. }) => Some(probe_at),
            _ => None,
        }
    }

    /// The endpoint asks to be left alone for `wait`: open until then, then a single request probes.
    pub fn hold(&mut self, wait: Duration, now: Timestamp) -> Change {
        let was_open = self.is_open();
        let until = now.plus(wait);
        let (since, probe_at) = match self.state {
            CircuitState::Open { since, probe_at } if self.held_since.is_some() => {
                (since, probe_at.max(until))
            }
            CircuitState::Open { since, .. } => (since, until),
            CircuitState::Closed => (now, until),
        };
        self.open(since, probe_at, now);
        self.held_since = Some(now);
        self.planned = probe_at.since(now);
        if was_open { Change::None } else { Change::Opened }
    }

    /// Somebody says that the endpoint need not be left alone any more: it is probed at once.
    pub fn end_hold(&mut self, now: Timestamp) {
        if self.held_since.take().is_some()
            && let CircuitState::Open { since, .. } = self.state
        {
            self.state = CircuitState::Open { since, probe_at: now };
        }
    }

    fn open(&mut self, since: Timestamp, probe_at: Timestamp, now: Timestamp) {
        if !self.is_open() {
            (self.failing, self.failed_last) = (Duration::ZERO, now);
        }
        self.state = CircuitState::Open { since, probe_at };
        self.probe_wait = self.settings.probe_first;
        self.ramp = None;
    }

    /// Where it stands.
    pub fn state(&self) -> CircuitState {
        self.state
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        matches!(self.state, CircuitState::Open { .. })
    }

    /// Attempts allowed at once out of `slots`.
    pub fn allowed(&self, slots: usize) -> usize {
        match self.state {
            CircuitState::Open { .. } => 1,
            CircuitState::Closed => self.ramp.map_or(slots, |ramp| ramp.min(slots)),
        }
    }

    /// A probe begins: the next one waits twice as long.
    pub fn probing(&mut self, now: Timestamp) {
        if let CircuitState::Open { since, .. } = self.state {
            self.probe_wait = (self.probe_wait * 2).min(self.settings.probe_max);
            self.planned = self.planned.max(self.probe_wait);
            self.state = CircuitState::Open { since, probe_at: now.plus(self.probe_wait) };
        }
    }

    /// An attempt that began at `began` succeeded at `now`. One that was sent before the endpoint asked to be left alone says
    /// nothing against that.
    pub fn succeeded(&mut self, slots: usize, began: Timestamp, now: Timestamp) -> Change {
        if self.held_since.is_some_and(|held| began < held) {
            return Change::None;
        }
        self.failures = 0;
        self.failing_since = None;
        match self.state {
            CircuitState::Open { .. } => {
                self.reset();
                self.ramp = Some(1);
                Change::Closed
            }
            CircuitState::Closed => {
                self.count(now, false);
                self.ramp = self.ramp.map(|ramp| ramp * 2).filter(|ramp| *ramp < slots);
                Change::None
            }
        }
    }

    /// An attempt that began at `began` failed at `now`.
    pub fn failed(&mut self, began: Timestamp, now: Timestamp) -> Change {
        if self.is_open() {
            // Twice the planned wait: a longer pause was not about the endpoint, nothing was there to be attempted.
            self.failing += now.since(self.failed_last).min(self.planned * 2);
            (self.failed_last, self.planned) = (now, self.probe_wait);
            return Change::None;
        }
        self.failures = self.failures.saturating_add(1);
        let first = *self.failing_since.get_or_insert(began);
        self.count(now, true);
        let Settings { failures, failing_for, probe_first, .. } = self.settings;
        let in_a_row = self.failures >= failures && now.since(first) >= failing_for;
        if !in_a_row && !self.fails_too_often() {
            return Change::None;
        }
        self.open(now, now.plus(probe_first), now);
        self.planned = probe_first;
        Change::Opened
    }

    fn count(&mut self, now: Timestamp, failed: bool) {
        if self.settings.ratio.is_some() {
            self.recent.count(now, self.settings.failing_for, failed);
        }
    }

    fn fails_too_often(&self) -> bool {
        let Some(ratio) = self.settings.ratio else { return false };
        let (good, bad) = self.recent.sums();
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of attempts within a while are far below 2^52"
        )]
        let share = bad as f64 / (good + bad).max(1) as f64;
        bad >= u64::from(self.settings.failures) && share >= ratio
    }
}

/// Whether a task that has waited in a lane since `stored` has used up what was left of its schedule, the circuit being open
/// without a break for `open_for`. The server has told when it was stored, so `now` is the wall clock's.
pub fn expired(stored: Timestamp, open_for: Duration, left: Duration, now: Timestamp) -> bool {
    now.since(stored).min(open_for) >= left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn opened() -> Circuit {
        let mut circuit = Circuit::new(Settings::default());
        for second in 0..19 {
            assert_eq!(circuit.failed(at(second), at(second)), Change::None);
        }
        assert_eq!(circuit.failed(at(19), at(19)), Change::Opened);
        circuit
    }

    #[test]
    fn it_opens_after_twenty_failures_in_a_row_over_ten_seconds() {
        assert!(opened().is_open());
        let mut burst = Circuit::new(Settings::default());
        for _ in 0..100 {
            assert_eq!(burst.failed(at(5), at(6)), Change::None, "a burst is no outage yet");
        }
        assert_eq!(burst.failed(at(15), at(15)), Change::Opened);
    }

    #[test]
    fn one_success_starts_the_count_anew() {
        let mut circuit = Circuit::new(Settings::default());
        for second in 0..19 {
            circuit.failed(at(second), at(second));
        }
        circuit.succeeded(8, at(19), at(19));
        assert_eq!(circuit.failed(at(20), at(20)), Change::None);
    }

    #[test]
    fn probes_come_after_1_2_4_to_30_seconds() {
        let mut circuit = opened();
        let mut now = at(19);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let CircuitState::Open { probe_at, since } = circuit.state() else { panic!("closed") };
            assert_eq!(since, at(19));
            waits.push(probe_at.since(now).as_secs());
            now = probe_at;
            circuit.probing(now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn one_success_closes_it_and_the_ramp_doubles() {
        let mut circuit = opened();
        assert_eq!(circuit.allowed(8), 1);
        assert_eq!(circuit.succeeded(8, at(20), at(20)), Change::Closed);
        let mut allowed = vec![circuit.allowed(8)];
        for _ in 0..3 {
            assert_eq!(circuit.succeeded(8, at(20), at(20)), Change::None);
            allowed.push(circuit.allowed(8));
        }
        assert_eq!(allowed, [1, 2, 4, 8]);
    }

    #[test]
    fn a_share_of_failures_opens_it_though_some_succeed() {
        let settings = Settings { failures: 5, ratio: Some(0.5), ..Settings::default() };
        let mut circuit = Circuit::new(settings);
        let mut opens = |second| {
            circuit.succeeded(8, at(second), at(second));
            circuit.failed(at(second), at(second)) == Change::Opened
        };
        assert_eq!(
            (0..12).find(|second| opens(*second)),
            Some(4),
            "the fifth failure, and as many successes"
        );

        // One in four is not enough, and old failures are forgotten.
        let mut fair = Circuit::new(settings);
        for second in 0..100 {
            for _ in 0..3 {
                fair.succeeded(8, at(second), at(second));
            }
            assert_eq!(fair.failed(at(second), at(second)), Change::None);
        }
        let mut rare = Circuit::new(settings);
        for number in 0..100 {
            rare.succeeded(8, at(number * 11), at(number * 11));
            assert_eq!(rare.failed(at(number * 11), at(number * 11)), Change::None);
        }
    }

    /// Probes until `seconds`, all of which fail.
    fn fail_until(circuit: &mut Circuit, seconds: u64) {
        while let CircuitState::Open { probe_at, .. } = circuit.state()
            && probe_at <= at(seconds)
        {
            circuit.probing(probe_at);
            circuit.failed(probe_at, probe_at);
        }
    }

    #[test]
    fn failures_that_go_on_for_days_are_hopeless() {
        const DAY: u64 = 86_400;
        let mut circuit = opened();
        fail_until(&mut circuit, 4 * DAY);
        assert!(!circuit.is_hopeless());
        fail_until(&mut circuit, 5 * DAY + 60);
        assert!(circuit.is_hopeless());
        assert!(!Circuit::new(Settings::default()).is_hopeless());
    }

    #[test]
    fn days_without_an_attempt_are_not_hopeless() {
        const DAY: u64 = 86_400;
        let mut circuit = opened();
        fail_until(&mut circuit, 100);
        circuit.probing(at(9 * DAY));
        circuit.failed(at(9 * DAY), at(9 * DAY));
        assert!(!circuit.is_hopeless(), "nothing came for days, then one failed");
        let settings = Settings::default();
        let reopened = Circuit::reopened(settings, at(0), circuit.failing(), at(9 * DAY));
        assert!(!reopened.is_hopeless() && reopened.failing() == circuit.failing(), "nor over a restart");
        let mut reopened = Circuit::reopened(settings, at(0), Duration::from_secs(5 * DAY - 30), at(9 * DAY));
        fail_until(&mut reopened, 9 * DAY + 120);
        assert!(reopened.is_hopeless(), "what had gone on before it counts on");
    }

    #[test]
    fn an_endpoint_that_asks_to_be_left_alone_is_probed_when_its_time_is_over_and_by_one_request() {
        let mut circuit = Circuit::new(Settings::default());
        assert_eq!(circuit.failed(at(9), at(10)), Change::None);
        assert_eq!(circuit.hold(Duration::from_secs(30), at(10)), Change::Opened);
        assert_eq!(circuit.state(), CircuitState::Open { since: at(10), probe_at: at(40) });
        assert_eq!(circuit.succeeded(8, at(9), at(11)), Change::None, "it was sent before that");
        assert_eq!(circuit.hold(Duration::from_secs(5), at(12)), Change::None);
        assert_eq!(circuit.held_until(), Some(at(40)), "the longer wish counts");
        circuit.probing(at(40));
        assert_eq!(circuit.allowed(8), 1);
        circuit.failed(at(40), at(40));
        assert_eq!(circuit.failing(), Duration::from_secs(30), "a hold counts as an open circuit");
        assert_eq!(circuit.succeeded(8, at(42), at(43)), Change::Closed);
        assert_eq!((circuit.allowed(8), circuit.held_until()), (1, None));
    }

    #[test]
    fn a_person_ends_a_hold_and_then_one_request_probes() {
        let mut circuit = Circuit::new(Settings::default());
        circuit.hold(Duration::from_secs(3_600), at(10));
        circuit.end_hold(at(20));
        assert_eq!(circuit.state(), CircuitState::Open { since: at(10), probe_at: at(20) });
        let before = circuit.clone();
        circuit.end_hold(at(30));
        assert_eq!(circuit.state(), before.state(), "an open circuit without a hold is left alone");
    }

    #[test]
    fn a_lane_task_expires_by_the_unbroken_opening_alone() {
        let left = Duration::from_secs(60);
        let open_for = |seconds| Duration::from_secs(seconds);
        assert!(!expired(at(0), open_for(59), left, at(159)));
        assert!(expired(at(0), open_for(60), left, at(160)));
        assert!(!expired(at(120), open_for(60), left, at(160)), "stored later");
    }
}
