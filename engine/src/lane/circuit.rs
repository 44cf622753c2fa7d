//! The circuit breaker of a lane: when to stop trying for every task, when to probe, how to come back.

use std::time::Duration;

use crate::model::Timestamp;

/// Attempts that must fail in a row before the circuit opens.
const FAILURES: u32 = 20;
/// Age of the first of them by then.
const FAILING_FOR: Duration = Duration::from_secs(10);
/// The longest wait between probes.
const PROBE_MAX: Duration = Duration::from_secs(30);

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
    state: CircuitState,
    failures: u32,
    failing_since: Option<Timestamp>,
    probe_wait: Duration,
    /// Attempts allowed at once after an opening; `None`: no limit of the circuit's.
    ramp: Option<usize>,
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

impl Default for Circuit {
    fn default() -> Self {
        let probe_wait = Duration::from_secs(1);
        Self { state: CircuitState::Closed, failures: 0, failing_since: None, probe_wait, ramp: None }
    }
}

impl Circuit {
    /// An open circuit as another run of the engine left it: the time of the opening counts on, the probe is due.
    pub fn reopened(since: Timestamp, now: Timestamp) -> Self {
        Self { state: CircuitState::Open { since, probe_at: now }, ..Self::default() }
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
            self.probe_wait = (self.probe_wait * 2).min(PROBE_MAX);
            self.state = CircuitState::Open { since, probe_at: now.plus(self.probe_wait) };
        }
    }

    /// An attempt succeeded.
    pub fn succeeded(&mut self, slots: usize) -> Change {
        self.failures = 0;
        self.failing_since = None;
        match self.state {
            CircuitState::Open { .. } => {
                let ramp = Some(1);
                *self = Self { ramp, ..Self::default() };
                Change::Closed
            }
            CircuitState::Closed => {
                self.ramp = self.ramp.map(|ramp| ramp * 2).filter(|ramp| *ramp < slots);
                Change::None
            }
        }
    }

    /// An attempt that began at `began` failed at `now`.
    pub fn failed(&mut self, began: Timestamp, now: Timestamp) -> Change {
        if self.is_open() {
            return Change::None;
        }
        self.failures = self.failures.saturating_add(1);
        let first = *self.failing_since.get_or_insert(began);
        if self.failures < FAILURES || now.since(first) < FAILING_FOR {
            return Change::None;
        }
        self.state = CircuitState::Open { since: now, probe_at: now.plus(Duration::from_secs(1)) };
        self.probe_wait = Duration::from_secs(1);
        self.ramp = None;
        Change::Opened
    }
}

/// Whether a task that has waited in a lane since `stored` has used up what was left of its schedule, the circuit
/// being open without a break since `open_since`.
pub fn expired(stored: Timestamp, open_since: Timestamp, left: Duration, now: Timestamp) -> bool {
    now.since(stored.max(open_since)) >= left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn opened() -> Circuit {
        let mut circuit = Circuit::default();
        for second in 0..19 {
            assert_eq!(circuit.failed(at(second), at(second)), Change::None);
        }
        assert_eq!(circuit.failed(at(19), at(19)), Change::Opened);
        circuit
    }

    #[test]
    fn it_opens_after_twenty_failures_in_a_row_over_ten_seconds() {
        assert!(opened().is_open());
        let mut burst = Circuit::default();
        for _ in 0..100 {
            assert_eq!(burst.failed(at(5), at(6)), Change::None, "a burst is no outage yet");
        }
        assert_eq!(burst.failed(at(15), at(15)), Change::Opened);
    }

    #[test]
    fn one_success_starts_the_count_anew() {
        let mut circuit = Circuit::default();
        for second in 0..19 {
            circuit.failed(at(second), at(second));
        }
        circuit.succeeded(8);
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
        assert_eq!(circuit.succeeded(8), Change::Closed);
        let mut allowed = vec![circuit.allowed(8)];
        for _ in 0..3 {
            assert_eq!(circuit.succeeded(8), Change::None);
            allowed.push(circuit.allowed(8));
        }
        assert_eq!(allowed, [1, 2, 4, 8]);
    }

    #[test]
    fn a_lane_task_expires_by_the_unbroken_opening_alone() {
        let left = Duration::from_secs(60);
        assert!(!expired(at(0), at(100), left, at(159)));
        assert!(expired(at(0), at(100), left, at(160)));
        assert!(!expired(at(120), at(100), left, at(160)), "stored later");
    }
}
