//! What a lane takes from its record in the registry, and what it would say there of its circuit.

use std::time::Duration;

use super::lane::{Lane, State};
use crate::lane::circuit::{Circuit, CircuitState};
use crate::model::Timestamp;
use crate::nats::registry::{LaneMode, LaneRecord};

/// How an open circuit stands, on the steady clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Since when without a break.
    pub since: Timestamp,
    /// The next probe.
    pub probe_at: Timestamp,
    /// How long attempts have gone on failing.
    pub failing: Duration,
    /// Until when the endpoint asked to be left alone.
    pub held_until: Option<Timestamp>,
    /// What the last failed attempt met.
    pub last_error: Option<String>,
}

/// Two words on one hold differ by the time that they take to be passed on.
const ECHO: Duration = Duration::from_secs(1);

impl Lane {
    /// How its circuit stands, if it is open, on the steady clock.
    pub fn opening(&self) -> Option<Opening> {
        let state = self.state();
        let CircuitState::Open { since, probe_at } = state.circuit.state() else { return None };
        let (failing, held_until) = (state.circuit.failing(), state.circuit.held_until());
        Some(Opening { since, probe_at, failing, held_until, last_error: state.last_error.clone() })
    }

    /// The lane as the registry kept it over a restart, before anything is taken: an opening counts on, its probe is due, unless
    /// the endpoint asked to be left alone for longer. What another engine, or an earlier run, could not read is none of it, nor
    /// what it had no values for: this one looks for itself. `wall` and `now`: the same moment by the wall clock and the steady one.
    pub fn restore(&self, record: &LaneRecord, wall: Timestamp, now: Timestamp) {
        if matches!(record.state, LaneMode::Unreadable | LaneMode::Misconfigured) {
            return;
        }
        let mut state = self.state();
        state.record = record.state;
        if record.state == LaneMode::Open {
            // However wrong a clock was: no longer ago than that it can still count.
            let open_for = wall.since(Timestamp::from_unix_nanos(record.since));
            let failing = Duration::from_nanos(record.failing.unwrap_or(0));
            state.circuit = Circuit::reopened(self.subscription.circuit, now.minus(open_for), failing, now);
            self.obey(&mut state, record, wall, now);
        }
    }

    /// The registry's word on the lane. Circuits are each engine's own: another's opening says nothing here, but that its
    /// endpoint asks to be left alone does; what another can't read or has no values for doesn't. No record any more means
    /// that somebody resumed the lane (it is read again), or that another engine's request was answered.
    pub fn set_record(
        &self,
        record: Option<&LaneRecord>,
        wall: Timestamp,
        now: Timestamp,
    ) -> Option<Duration> {
        let mut state = self.state();
        let mode = record.map_or(LaneMode::Active, |record| record.state);
        // Somebody has looked at a disabled lane and resumes it: the outage that disabled it counts no longer.
        if mode == LaneMode::Paused || (state.record == LaneMode::Disabled && mode == LaneMode::Active) {
            state.circuit.reset();
        }
        if record.is_none() {
            state.unreadable = false;
            state.circuit.end_hold(now);
        }
        state.record = mode;
        let misconfigured = record.filter(|record| record.state == LaneMode::Misconfigured);
        state.references.said_wrong_by =
            misconfigured.map(|record| record.engine.clone().unwrap_or_default());
        let held = record.and_then(|record| self.obey(&mut state, record, wall, now));
        drop(state);
        self.changed.notify_waiters();
        held
    }

    /// Leaves the endpoint alone for as long as a record says, if that is news: for how long. However wrong another's clock is,
    /// never for longer than an endpoint may ask for.
    fn obey(
        &self,
        state: &mut State,
        record: &LaneRecord,
        wall: Timestamp,
        now: Timestamp,
    ) -> Option<Duration> {
        let until = record.held_until.filter(|_| record.state == LaneMode::Open)?;
        if state.told_hold.replace(until) == Some(until) {
            return None;
        }
        let wait = Timestamp::from_unix_nanos(until).since(wall).min(self.subscription.retry_after_max());
        // What this engine has said itself comes back by the same way.
        let known = state.circuit.held_until().is_some_and(|known| known.plus(ECHO) >= now.plus(wait));
        if wait.is_zero() || known {
            return None;
        }
        let _ = state.circuit.hold(wait, now);
        Some(wait)
    }
}
