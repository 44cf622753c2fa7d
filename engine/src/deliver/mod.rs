//! Renders an event as an HTTP request, signs and sends it, and classifies the answer.
//!
//! [`Endpoint::render`] and [`Endpoint::send`] are the two verbs: what the first returns can be stored and sent again later,
//! with a new time and signature. It makes one attempt and says what came of it; it never waits for the next.

mod classify;
mod endpoint;
pub mod publish;
mod render;
mod settings;
pub mod signature;

#[cfg(test)]
mod tests;

pub use crate::egress::{UrlError, check_url};
pub use classify::{Rules, classify};
pub use endpoint::{Endpoint, References};
pub use settings::{Format, HeaderError, Settings, check_header_name, check_header_value};

/// Whether a text is a W3C `traceparent` (Trace Context, section 3.2) that may be sent on.
pub fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length
            && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let mut parts = text.split('-');
    let mut next = |length| parts.next().is_some_and(|part| hex(part, length));
    next(2) && next(32) && next(16) && next(2)
}
