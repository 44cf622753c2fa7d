//! How long a subscription stood still, and whether a stop held: decided from what was recorded, with no clock and no
//! question to anybody. All times count from the beginning of the run.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Longest time without a delivery beside faults, where the endpoint works and there is something to deliver.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long an event that its endpoint did not take is none that has to be delivered: the longest wait of the schedules here,
/// and the half minute by which a wait comes late that a killed server has lost.
const FAILED_FOR: Duration = Duration::from_secs(45);
/// How long after a stop is acknowledged, or after a fault that kept engines from hearing of it, attempts may still come.
pub(super) const STOP_AFTER: Duration = Duration::from_secs(5);

/// A stretch of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub(super) from: Duration,
    pub(super) to: Duration,
}

impl Span {
    pub(super) fn length(self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// A request, when it was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) at: Duration,
    pub(super) number: usize,
    /// Whether the endpoint took the event.
    pub(super) taken: bool,
}

/// What was recorded of one subscription.
pub(super) struct Recorded<'r> {
    /// When the publisher had the ack of each event that the subscription wants.
    pub(super) published: &'r HashMap<usize, Duration>,
    /// In the order of their times.
    pub(super) requests: &'r [Request],
    /// Events that were dead-lettered. Such a one has nothing more to come after its last request.
    pub(super) dead: &'r HashSet<usize>,
    /// When nothing had to be delivered: somebody had stopped the lane, or its endpoint was broken.
    pub(super) excused: &'r [Span],
    /// When the recording ended.
    pub(super) end: Duration,
}

/// The longest time without a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Silence {
    /// When it began.
    pub(super) from: Duration,
    /// With the time that faults took.
    pub(super) in_all: Duration,
    /// Without it.
    pub(super) beside_faults: Duration,
}

impl Silence {
    /// Whether it is longer than an engine may take.
    pub(super) fn is_stall(&self) -> bool {
        self.beside_faults > SILENCE_MAX
    }

    fn longer(self, other: Self) -> Self {
        let key = |silence: &Self| (silence.beside_faults, silence.in_all);
        if key(&other) > key(&self) { other } else { self }
    }
}

/// What changes at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Waiting(i32),
    Excused(i32),
    Faulty(i32),
    Delivered,
}

/// The longest silence of a subscription; `faults` may overlap.
pub(super) fn longest(recorded: &Recorded<'_>, faults: &[Span]) -> Silence {
    let mut changes: Vec<(Duration, Change)> = Vec::new();
    let mut add = |spans: &[Span], change: fn(i32) -> Change| {
        for span in spans {
            changes.extend([(span.from, change(1)), (span.to, change(-1))]);
        }
    };
    add(&waiting(recorded), Change::Waiting);
    add(recorded.excused, Change::Excused);
    add(faults, Change::Faulty);
    let delivered = recorded.requests.iter().filter(|request| request.taken);
    changes.extend(delivered.map(|request| (request.at, Change::Delivered)));
    changes.sort_unstable();
    sweep(&changes)
}

fn sweep(changes: &[(Duration, Change)]) -> Silence {
    let (mut waiting, mut excused, mut faulty) = (0, 0, 0);
    let (mut now, mut current, mut longest) = (Duration::ZERO, Silence::default(), Silence::default());
    for (at, change) in changes {
        let passed = at.saturating_sub(now);
        now = *at;
        if waiting > 0 && excused == 0 {
            current.in_all += passed;
            current.beside_faults += if faulty == 0 { passed } else { Duration::ZERO };
        }
        match change {
            Change::Waiting(by) => waiting += by,
            Change::Excused(by) => excused += by,
            Change::Faulty(by) => faulty += by,
            Change::Delivered => {}
        }
        longest = longest.longer(current);
        // Without anything to deliver it begins with what comes next.
        if *change == Change::Delivered || waiting == 0 || current.in_all.is_zero() {
            current = Silence { from: now, ..Silence::default() };
        }
    }
    longest
}

/// When each event was there to be delivered.
fn waiting(recorded: &Recorded<'_>) -> Vec<Span> {
    let mut since: HashMap<usize, Option<Duration>> =
        recorded.published.iter().map(|(number, at)| (*number, Some(*at))).collect();
    let mut spans = Vec::new();
    for request in recorded.requests {
        let Some(Some(from)) = since.get(&request.number).copied() else { continue };
        spans.push(Span { from, to: request.at });
        since.insert(request.number, (!request.taken).then_some(request.at + FAILED_FOR));
    }
    let unended = since.into_iter().filter(|(number, _)| !recorded.dead.contains(number));
    spans.extend(unended.filter_map(|(_, from)| Some(Span { from: from?, to: recorded.end })));
    spans.retain(|span| span.from < span.to);
    spans
}

/// A stop of a lane, by a person or by its endpoint's 410, and its end by a person.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    /// `pipeline/subscription`
    pub(super) lane: String,
    /// When it was asked for.
    pub(super) asked: Duration,
    /// When it was known to hold; none: it is not known.
    pub(super) holds: Option<Duration>,
    /// When its end was asked for.
    pub(super) end_asked: Duration,
    /// When its end was acknowledged.
    pub(super) ended: Duration,
}

impl Stop {
    /// The time in which nothing has to be delivered.
    pub(super) fn span(&self) -> Span {
        Span { from: self.asked, to: self.ended }
    }

    /// From when on no attempt may come. `deaf`: when engines may not have heard of it, in the order of the beginnings.
    pub(super) fn from(&self, deaf: &[Span]) -> Option<Duration> {
        let from = self.holds? + STOP_AFTER;
        // Who was away when it was said hears of it when the fault is over.
        Some(deaf.iter().filter(|fault| fault.to > self.asked).fold(from, |from, fault| {
            if fault.from <= from { from.max(fault.to + STOP_AFTER) } else { from }
        }))
    }

    /// Requests that came while it held.
    pub(super) fn broken_by<'r>(&self, requests: &'r [Request], deaf: &[Span]) -> Vec<&'r Request> {
        let Some(from) = self.from(deaf) else { return Vec::new() };
        requests.iter().filter(|request| (from..self.end_asked).contains(&request.at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn span(from: u64, to: u64) -> Span {
        Span { from: secs(from), to: secs(to) }
    }

    /// An event each second for two minutes, taken half a second after it was published, but from `silent` on: what was
    /// published then is taken when it is over.
    fn ledger(silent: Span) -> (HashMap<usize, Duration>, Vec<Request>) {
        let published: HashMap<usize, Duration> =
            (0..120).map(|number| (number, secs(number as u64))).collect();
        let mut requests: Vec<Request> = (0..120)
            .map(|number| {
                let at = secs(number as u64);
                let at = if (silent.from..silent.to).contains(&at) { silent.to } else { at };
                Request { at: at + Duration::from_millis(500), number, taken: true }
            })
            .collect();
        requests.sort_by_key(|request| request.at);
        (published, requests)
    }

    fn judge(silent: Span, excused: &[Span], faults: &[Span]) -> Silence {
        let (published, requests) = ledger(silent);
        let recorded = Recorded {
            published: &published,
            requests: &requests,
            dead: &HashSet::new(),
            excused,
            end: secs(121),
        };
        longest(&recorded, faults)
    }

    #[test]
    fn a_lane_that_is_silent_for_a_minute_is_a_stall() {
        let silence = judge(span(30, 90), &[], &[]);
        assert!(silence.is_stall(), "{silence:?}");
        assert_eq!(silence.in_all, silence.beside_faults);
        assert_eq!((silence.from, silence.in_all), (secs(30), Duration::from_millis(60_500)));
    }

    #[test]
    fn a_lane_that_flows_is_none() {
        let silence = judge(span(0, 0), &[], &[]);
        assert!(!silence.is_stall() && silence.in_all == Duration::from_millis(500), "{silence:?}");
    }

    #[test]
    fn faults_give_their_own_length_and_no_more() {
        let silence = judge(span(30, 90), &[], &[span(30, 45), span(40, 60)]);
        assert!(silence.is_stall(), "{silence:?}");
        assert_eq!(silence.beside_faults, Duration::from_millis(30_500));
        assert!(!judge(span(30, 90), &[], &[span(30, 75)]).is_stall());
        // One that was over long ago gives nothing.
        assert!(judge(span(30, 90), &[], &[span(0, 29)]).is_stall());
    }

    #[test]
    fn a_stop_is_no_stall_and_the_time_after_it_is_one() {
        assert_eq!(judge(span(30, 90), &[span(29, 91)], &[]).in_all, Duration::from_millis(500));
        assert!(judge(span(30, 90), &[span(30, 60)], &[]).is_stall());
    }

    #[test]
    fn a_lane_that_never_delivers_is_a_stall_up_to_the_end() {
        let published = HashMap::from([(0, secs(10))]);
        let recorded = Recorded {
            published: &published,
            requests: &[],
            dead: &HashSet::new(),
            excused: &[],
            end: secs(50),
        };
        assert_eq!(longest(&recorded, &[]).in_all, secs(40));
        let dead = HashSet::from([0]);
        assert_eq!(longest(&Recorded { dead: &dead, ..recorded }, &[]), Silence::default());
    }

    #[test]
    fn an_event_that_waits_for_its_next_attempt_is_nothing_to_deliver() {
        let published = HashMap::from([(0, secs(10))]);
        let failed = Request { at: secs(11), number: 0, taken: false };
        let taken = |at| Request { at: secs(at), number: 0, taken: true };
        let judge = |requests: &[Request]| {
            let dead = HashSet::new();
            let recorded =
                Recorded { published: &published, requests, dead: &dead, excused: &[], end: secs(300) };
            longest(&recorded, &[]).in_all
        };
        assert_eq!(judge(&[failed, taken(50)]), secs(1));
        assert_eq!(judge(&[failed, taken(100)]), secs(100 - 11 - 45));
        assert_eq!(judge(&[failed]), secs(300 - 11 - 45));
    }

    #[test]
    fn nothing_to_deliver_is_no_silence() {
        let published = HashMap::from([(0, secs(1)), (1, secs(200))]);
        let requests = [(0, 2), (1, 203)].map(|(number, at)| Request { at: secs(at), number, taken: true });
        let dead = HashSet::new();
        let recorded = Recorded {
            published: &published,
            requests: &requests,
            dead: &dead,
            excused: &[],
            end: secs(300),
        };
        assert_eq!(longest(&recorded, &[]).in_all, secs(3));
    }

    #[test]
    fn a_stop_is_broken_by_what_comes_after_it_was_heard_of() {
        let stop = Stop {
            lane: "orders/slow".to_owned(),
            asked: secs(9),
            holds: Some(secs(10)),
            end_asked: secs(60),
            ended: secs(61),
        };
        let requests = [11, 16, 30, 60].map(|at| Request { at: secs(at), number: 0, taken: true });
        let broken = |faults: &[Span]| -> Vec<u64> {
            stop.broken_by(&requests, faults).iter().map(|request| request.at.as_secs()).collect()
        };
        assert_eq!(broken(&[]), [16, 30]);
        // An engine that was cut off meanwhile hears of it later; one that was started in the middle has no excuse.
        assert_eq!(broken(&[span(5, 12)]), [30]);
        assert_eq!(broken(&[span(0, 8), span(20, 29)]), [16, 30]);
        assert_eq!(broken(&[span(14, 17), span(21, 26)]), [0; 0]);
        let unknown = Stop { holds: None, ..stop.clone() };
        assert!(unknown.broken_by(&requests, &[]).is_empty());
    }
}
