//! How far a pipeline is with a message of its source. Pure: the one decision of a trace.

use std::fmt;

use super::consumers::Consumer;
use super::history::{History, Passed, takes};

/// A pipeline that takes from a stream.
#[derive(Clone, Debug)]
pub struct Taker {
    /// Its consumer as it is now; none: it is gone, or somebody else's.
    pub consumer: Option<Consumer>,
    /// Up to this sequence all was settled when the trace began: whatever came of it was stored by then.
    pub settled: u64,
    /// Its way so far, if that is kept for this very stream.
    pub history: Option<History>,
}

/// How far a pipeline is with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It will be taken in its turn.
    Pending,
    /// It was taken and was not settled when it was looked at first.
    Taken,
    /// Each subscription that wanted it has had its end, or holds it in a place of its own.
    Settled,
    /// It was there before the pipeline began.
    BeforeStart,
    /// Its subject is none of the pipeline's, or was none when it had its turn.
    NotItsSubject,
    /// That can't be told.
    Unknown(Why),
}

/// Why a standing is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The consumer has passed it in a time of which nothing is kept.
    NotKept,
    /// The subjects were changed about when it had its turn.
    AtAChange,
    /// There is no consumer that could be asked.
    NoConsumer,
}

impl Standing {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Taken => "taken",
            Self::Settled => "settled",
            Self::BeforeStart => "before_start",
            Self::NotItsSubject => "not_its_subject",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Why it is unknown, if it is.
    pub const fn why(self) -> Option<Why> {
        match self {
            Self::Unknown(why) => Some(why),
            Self::Pending | Self::Taken | Self::Settled | Self::BeforeStart | Self::NotItsSubject => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotKept => "the pipeline's consumer has passed it, and what it took at that time is not kept",
            Self::AtAChange => {
                "the pipeline's subjects were changed about when it had its turn, and they differ on it"
            }
            Self::NoConsumer => {
                "the pipeline's consumer is not there, or is another's; it goes on once an engine has it again"
            }
        })
    }
}

/// Decides that. What lies before the consumer is judged by the subjects that it has now, what it has passed by those that it
/// had then.
pub fn standing(sequence: u64, subject: &str, taker: &Taker) -> Standing {
    match &taker.consumer {
        Some(consumer) if sequence > consumer.delivered => {
            let is_taken = takes(&consumer.filters, subject);
            return if is_taken { Standing::Pending } else { Standing::NotItsSubject };
        }
        None if sequence > taker.settled => return Standing::Unknown(Why::NoConsumer),
        Some(_) | None => {}
    }
    let Some(history) = taker.history.clone() else { return Standing::Unknown(Why::NotKept) };
    // What nobody has noted yet shows in the consumer itself.
    let history = match &taker.consumer {
        Some(consumer) => history.seen(consumer),
        None => history,
    };
    match history.judge(sequence, subject) {
        Passed::Taken if sequence <= taker.settled => Standing::Settled,
        Passed::Taken => Standing::Taken,
        Passed::BeforeStart => Standing::BeforeStart,
        Passed::OtherSubject => Standing::NotItsSubject,
        Passed::AtAChange => Standing::Unknown(Why::AtAChange),
        Passed::NotKept => Standing::Unknown(Why::NotKept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Began at 10 with `a`; `b` came to it at 21.
    fn history() -> History {
        serde_json::from_value(serde_json::json!({ "stream": "S", "created": "now", "first": 10, "spans": [
            { "after": 9, "from": 10, "subjects": ["a"] },
            { "after": 20, "from": 23, "subjects": ["a", "b"] },
        ] }))
        .unwrap()
    }

    fn taker(consumer: Option<(u64, &[&str])>, settled: u64, history: Option<History>) -> Taker {
        let consumer = consumer.map(|(delivered, filters)| Consumer {
            floor: settled,
            delivered,
            filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
            ..Consumer::default()
        });
        Taker { consumer, settled, history }
    }

    #[test]
    fn a_message_is_judged_by_what_held_at_its_turn() {
        use Standing::{BeforeStart, NotItsSubject, Pending, Settled, Taken, Unknown};
        use Why::{AtAChange, NoConsumer, NotKept};
        let now: &[&str] = &["a", "b"];
        let usual = taker(Some((40, now)), 30, Some(history()));
        let lost = taker(None, 30, Some(history()));
        let old = taker(Some((40, now)), 30, None);
        let nothing = taker(None, 0, None);
        let changed_by_others = taker(Some((40, &["c"])), 30, Some(history()));
        let forgetful = taker(Some((15, now)), 15, Some(history()));
        for (what, taker, sequence, subject, expected) in [
            ("there before", &usual, 9, "a", BeforeStart),
            ("there before, of a subject that came later", &usual, 9, "b", NotItsSubject),
            ("behind the floor", &usual, 10, "a", Settled),
            ("unmatched then, wanted now", &usual, 20, "b", NotItsSubject),
            ("at the change, wanted before and after", &usual, 21, "a", Settled),
            ("at the change, wanted after it", &usual, 21, "b", Unknown(AtAChange)),
            ("after the change", &usual, 23, "b", Settled),
            ("of no subject ever", &usual, 23, "c", NotItsSubject),
            ("above the floor", &usual, 31, "b", Taken),
            ("above the floor, of another subject", &usual, 31, "c", NotItsSubject),
            ("not delivered yet", &usual, 41, "b", Pending),
            ("not delivered yet, of another subject", &usual, 41, "c", NotItsSubject),
            ("the consumer is gone, behind its floor", &lost, 30, "a", Settled),
            ("the consumer is gone, before its beginning", &lost, 9, "a", BeforeStart),
            ("the consumer is gone, above its floor", &lost, 31, "a", Unknown(NoConsumer)),
            ("of an earlier version, passed", &old, 30, "a", Unknown(NotKept)),
            ("of an earlier version, delivered", &old, 35, "a", Unknown(NotKept)),
            ("of an earlier version, not passed", &old, 41, "a", Pending),
            ("nothing is there at all", &nothing, 1, "a", Unknown(NoConsumer)),
            ("others have changed the subjects, before that", &changed_by_others, 20, "a", Settled),
            ("others have changed the subjects, since then", &changed_by_others, 30, "a", Unknown(NotKept)),
            ("others have changed the subjects, not passed", &changed_by_others, 41, "c", Pending),
            ("the server has forgotten, before that", &forgetful, 15, "a", Settled),
            ("the server has forgotten, it comes again", &forgetful, 18, "b", Pending),
        ] {
            assert_eq!(standing(sequence, subject, taker), expected, "{what}");
        }
    }

    #[test]
    fn each_unknown_says_why() {
        for why in [Why::NotKept, Why::AtAChange, Why::NoConsumer] {
            let standing = Standing::Unknown(why);
            assert_eq!((standing.as_str(), standing.why()), ("unknown", Some(why)));
        }
        assert_eq!(Standing::Settled.why(), None);
    }
}
