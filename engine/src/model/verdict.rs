//! What a step says about an event.

use super::Event;

/// An event as a step returns it, with HTTP headers for its delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The event that goes on.
    pub event: Event,
    /// HTTP headers to send with it, checked: lower-case names, none that is reserved.
    pub headers: Vec<(String, String)>,
}

/// What a step decided.
#[expect(
    clippy::large_enum_variant,
    reason = "one is alive at a time, and a box would cost the hot path an allocation"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Go on with this instead.
    Replace(Output),
    /// Go on with each of these; none means filtered.
    Split(Vec<Output>),
    /// Go no further; the text says why.
    Drop(String),
    /// Go on unchanged.
    Keep,
}
