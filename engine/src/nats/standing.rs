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
