//! What a transform says about an event.

use std::fmt;

use crate::Event;

/// What becomes of the event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and a box would be in every author's way"
)]
pub enum Verdict {
    /// Go on with this instead.
    Replace(Output),
    /// Go on with each of these, each for itself; none at all: the event is filtered. Outputs that have kept the
    /// event's id get `<id>-<n>`.
    Split(Vec<Output>),
    /// Go no further, on purpose; the text says why.
    Drop(String),
    /// Go on unchanged.
    Keep,
}

/// An event that goes on, with the HTTP headers that its delivery carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The event.
    pub event: Event,
    /// Names and values; see [`check_header`](crate::check_header) for what is allowed.
    pub headers: Vec<(String, String)>,
}

impl Output {
    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

impl From<Event> for Output {
    fn from(event: Event) -> Self {
        Self { event, headers: Vec::new() }
    }
}

impl From<Event> for Verdict {
    fn from(event: Event) -> Self {
        Self::Replace(event.into())
    }
}

impl From<Output> for Verdict {
    fn from(output: Output) -> Self {
        Self::Replace(output)
    }
}

/// Why there is no verdict. The text goes to logs and dead letters: it names places, never the event's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// For good: the same event would fail again. It becomes a dead letter.
    Rejected(String),
    /// For now: the event is tried again later.
    Retry(String),
}

impl Failure {
    /// For good, with a text.
    pub fn rejected(text: impl fmt::Display) -> Self {
        Self::Rejected(text.to_string())
    }

    /// For now, with a text.
    pub fn retry(text: impl fmt::Display) -> Self {
        Self::Retry(text.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(text) => write!(f, "rejected: {text}"),
            Self::Retry(text) => write!(f, "to be tried again: {text}"),
        }
    }
}

impl std::error::Error for Failure {}
