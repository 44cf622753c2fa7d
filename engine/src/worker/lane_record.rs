//! What engines say of a lane in its record: that its circuit is open, that its endpoint asked to be left alone, that it is
//! disabled. Always by compare-and-set, and never over what a person has said.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::lane::Lane;
use super::lane_word::Opening;
use crate::model::{Name, Timestamp};
use crate::nats::registry::{LaneMode, LaneRecord, RecordChange, RegistryError};

impl Engine {
    /// The circuit of a lane opened (with the reason), its endpoint asked to be left alone, or it closed: said in the log and kept
    /// in the registry.
    pub(super) fn circuit_changed(self: &Arc<Self>, lane: &Arc<Lane>, opened: Option<String>) {
        let (pipeline, subscription) = (&lane.pipeline.name, &lane.subscription.name);
        match (&opened, lane.opening().and_then(|opening| opening.held_until)) {
            (Some(why), None) => {
                tracing::warn!(%pipeline, %subscription, why, "circuit opened, tasks wait in the lane");
            }
            (Some(why), Some(until)) => {
                let seconds = until.since(Timestamp::steady()).as_secs();
                tracing::warn!(%pipeline, %subscription, why, seconds, "the endpoint asks for no requests, tasks wait in the lane");
            }
            (None, _) => tracing::info!(%pipeline, %subscription, "circuit closed"),
        }
        if opened.is_some() {
            self.begin_to_spill(lane);
        }
        let (engine, lane) = (self.clone(), lane.clone());
        let why = opened.unwrap_or_default();
        self.tracker.spawn(async move {
            let kept = engine.change_record(&lane, |there| {
                let now = (Timestamp::now(), Timestamp::steady());
                circuit_record(lane.opening().as_ref(), &why, there, now)
            });
            said(kept.await);
        });
    }

    /// Another engine has said that a lane's endpoint asks to be left alone.
    pub(super) fn left_alone(self: &Arc<Self>, lane: &Arc<Lane>, held: Duration) {
        let (pipeline, subscription) = (&lane.pipeline.name, &lane.subscription.name);
        let seconds = held.as_secs();
        tracing::info!(%pipeline, %subscription, seconds, "another engine says that the endpoint asks for no requests");
        self.begin_to_spill(lane);
    }

    /// Says of an open lane, for people, when it is probed next, and for the next start, how long attempts have gone on failing.
    pub(super) fn note_probe(self: &Arc<Self>, lane: &Arc<Lane>) {
        let (engine, lane) = (self.clone(), lane.clone());
        self.tracker.spawn(async move {
            let kept = engine.change_record(&lane, |there| {
                let now = (Timestamp::now(), Timestamp::steady());
                probe_record(lane.opening().as_ref(), there, now)
            });
            said(kept.await);
        });
    }

    /// Disables a lane, until somebody resumes it.
    pub(super) async fn disable(&self, lane: &Lane, why: &str) {
        let (pipeline, subscription) = (&lane.pipeline.name, &lane.subscription.name);
        tracing::warn!(%pipeline, %subscription, why, "lane disabled; `hookmill lane resume` starts it again");
        let record = LaneRecord { last_error: lane.last_error(), ..LaneRecord::new(LaneMode::Disabled, why) };
        // At once: what comes meanwhile must not be sent.
        lane.set_record(Some(&record), Timestamp::now(), Timestamp::steady());
        let holds = match self.change_record(lane, |there| disabled_record(&record, there)).await {
            Ok(holds) => holds.unwrap_or(record),
            Err(error) => {
                tracing::warn!(%error, "the lane's state was not kept, it holds for this engine alone");
                record
            }
        };
        lane.set_record(Some(&holds), Timestamp::now(), Timestamp::steady());
    }

    /// Says that a lane holds what this engine can't read.
    pub(super) async fn keep_unreadable(&self, pipeline: &Name, subscription: &str, why: String) {
        let record = LaneRecord::new(LaneMode::Unreadable, why);
        let wanted = |there: Option<&LaneRecord>| unreadable_record(&record, there);
        said(self.registry.change_lane(pipeline.as_str(), subscription, wanted).await);
    }

    /// Takes back that a lane holds what somebody can't read, and with it every engine's mark.
    pub(super) async fn readable_again(&self, pipeline: &Name, subscription: &str) {
        said(self.registry.change_lane(pipeline.as_str(), subscription, readable_record).await);
    }

    pub(super) async fn change_record(
        &self,
        lane: &Lane,
        wanted: impl FnMut(Option<&LaneRecord>) -> RecordChange + Send,
    ) -> Result<Option<LaneRecord>, RegistryError> {
        let (pipeline, subscription) = (lane.pipeline.name.as_str(), lane.subscription.name.as_str());
        self.registry.change_lane(pipeline, subscription, wanted).await
    }
}

fn said(kept: Result<Option<LaneRecord>, RegistryError>) {
    if let Err(error) = kept {
        tracing::debug!(%error, "the state of a lane was not kept");
    }
}

fn mode(there: Option<&LaneRecord>) -> LaneMode {
    there.map_or(LaneMode::Active, |record| record.state)
}

/// The record of a circuit, which is open (for this reason) or closed. `wall` and `steady` are the same moment.
fn circuit_record(
    opening: Option<&Opening>,
    why: &str,
    there: Option<&LaneRecord>,
    now: (Timestamp, Timestamp),
) -> RecordChange {
    match (opening, mode(there)) {
        (Some(opening), LaneMode::Active | LaneMode::Open) => {
            let why = if why.is_empty() { there.map_or("", |there| there.why.as_str()) } else { why };
            let record = open_record(opening, why, now);
            let same = there.is_some_and(|there| is_same_opening(there, &record));
            if same { RecordChange::Leave } else { RecordChange::Write(record) }
        }
        (None, LaneMode::Open) => RecordChange::Remove,
        _ => RecordChange::Leave,
    }
}

/// What the probe of an open circuit changes in its record.
fn probe_record(
    opening: Option<&Opening>,
    there: Option<&LaneRecord>,
    now: (Timestamp, Timestamp),
) -> RecordChange {
    let (Some(opening), Some(there)) = (opening, there) else { return RecordChange::Leave };
    if there.state != LaneMode::Open {
        return RecordChange::Leave;
    }
    let ours = open_record(opening, &there.why, now);
    let last_error = ours.last_error.or_else(|| there.last_error.clone());
    let record =
        LaneRecord { next_probe: ours.next_probe, failing: ours.failing, last_error, ..there.clone() };
    let near = |one: Option<u64>, two: Option<u64>| match (one, two) {
        (Some(one), Some(two)) => Duration::from_nanos(one.abs_diff(two)) < SAME,
        (one, two) => one == two,
    };
    let same = near(record.next_probe, there.next_probe) && record.last_error == there.last_error;
    if same { RecordChange::Leave } else { RecordChange::Write(record) }
}

/// Two clocks' word on one moment.
const SAME: Duration = Duration::from_millis(100);

fn open_record(opening: &Opening, why: &str, (wall, steady): (Timestamp, Timestamp)) -> LaneRecord {
    let nanos = |at: Timestamp| at.on_the_wall(steady, wall).unix_nanos();
    LaneRecord {
        since: nanos(opening.since),
        last_error: opening.last_error.clone(),
        next_probe: Some(nanos(opening.probe_at)),
        held_until: opening.held_until.map(nanos),
        failing: Some(u64::try_from(opening.failing.as_nanos()).unwrap_or(u64::MAX)),
        ..LaneRecord::new(LaneMode::Open, why)
    }
}

fn is_same_opening(there: &LaneRecord, ours: &LaneRecord) -> bool {
    let near = |one: u64, two: u64| Duration::from_nanos(one.abs_diff(two)) < SAME;
    let held = match (there.held_until, ours.held_until) {
        (Some(one), Some(two)) => near(one, two),
        (one, two) => one.is_none() && two.is_none(),
    };
    there.state == LaneMode::Open && there.why == ours.why && near(there.since, ours.since) && held
}

/// An endpoint that is gone or hopeless: said over everything but what a person, or a newer engine, has said.
fn disabled_record(record: &LaneRecord, there: Option<&LaneRecord>) -> RecordChange {
    match mode(there) {
        LaneMode::Paused | LaneMode::Disabled | LaneMode::Unknown => RecordChange::Leave,
        LaneMode::Active | LaneMode::Open | LaneMode::Unreadable | LaneMode::Misconfigured => {
            RecordChange::Write(record.clone())
        }
    }
}

fn unreadable_record(record: &LaneRecord, there: Option<&LaneRecord>) -> RecordChange {
    match mode(there) {
        LaneMode::Active | LaneMode::Open | LaneMode::Misconfigured => RecordChange::Write(record.clone()),
        // A pause by hand says more, and its end reads the lane again as well.
        LaneMode::Paused | LaneMode::Disabled | LaneMode::Unreadable | LaneMode::Unknown => {
            RecordChange::Leave
        }
    }
}

pub(super) fn readable_record(there: Option<&LaneRecord>) -> RecordChange {
    match mode(there) {
        LaneMode::Unreadable => RecordChange::Remove,
        _ => RecordChange::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [LaneMode; 7] = [
        LaneMode::Active,
        LaneMode::Open,
        LaneMode::Paused,
        LaneMode::Disabled,
        LaneMode::Unreadable,
        LaneMode::Misconfigured,
        LaneMode::Unknown,
    ];

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn opening() -> Opening {
        let (failing, last_error) = (Duration::from_secs(7), Some("answered 503".to_owned()));
        Opening { since: at(100), probe_at: at(130), failing, held_until: Some(at(130)), last_error }
    }

    fn now() -> (Timestamp, Timestamp) {
        (at(5_100), at(100))
    }

    #[test]
    fn no_engine_writes_over_what_a_person_has_said() {
        for state in [LaneMode::Paused, LaneMode::Disabled, LaneMode::Unknown] {
            let there = LaneRecord::new(state, "by hand");
            let ours = LaneRecord::new(LaneMode::Disabled, "gone");
            for change in [
                circuit_record(Some(&opening()), "down", Some(&there), now()),
                circuit_record(None, "", Some(&there), now()),
                probe_record(Some(&opening()), Some(&there), now()),
                disabled_record(&ours, Some(&there)),
                unreadable_record(&ours, Some(&there)),
                readable_record(Some(&there)),
            ] {
                assert_eq!(change, RecordChange::Leave, "{state:?}");
            }
        }
    }

    #[test]
    fn a_circuit_says_what_holds_when_it_is_written_whatever_was_said_before() {
        let RecordChange::Write(record) = circuit_record(Some(&opening()), "down", None, now()) else {
            panic!()
        };
        assert_eq!((record.since, record.next_probe), (at(5_100).unix_nanos(), Some(at(5_130).unix_nanos())));
        assert_eq!((record.held_until, record.failing), (record.next_probe, Some(7_000_000_000)));
        let change = |opening: Option<&Opening>| circuit_record(opening, "down", Some(&record), now());
        assert_eq!(change(Some(&opening())), RecordChange::Leave, "once is enough");
        assert_eq!(change(None), RecordChange::Remove, "it has closed by now");
        let longer = Opening { held_until: Some(at(190)), probe_at: at(190), ..opening() };
        assert!(matches!(change(Some(&longer)), RecordChange::Write(_)), "the hold has grown");
        for state in ALL {
            let removed = circuit_record(None, "", Some(&LaneRecord::new(state, "")), now());
            assert_eq!(removed == RecordChange::Remove, state == LaneMode::Open, "{state:?}");
        }
    }

    #[test]
    fn what_only_one_engine_lacks_gives_way_to_what_holds_for_all() {
        let ours = LaneRecord::new(LaneMode::Disabled, "gone");
        for state in [LaneMode::Active, LaneMode::Open, LaneMode::Unreadable, LaneMode::Misconfigured] {
            let there = LaneRecord::new(state, "");
            assert_eq!(disabled_record(&ours, Some(&there)), RecordChange::Write(ours.clone()), "{state:?}");
        }
    }
}
