//! Renders an event as an HTTP request, signs and sends it, and classifies the answer.
//!
//! [`Endpoint::render`] and [`Endpoint::send`] are the two verbs: what the first returns can be stored and sent again later,
//! with a new time and signature. It makes one attempt and says what came of it; it never waits for the next.

mod classify;
mod endpoint;
mod live;
mod render;
mod settings;
pub mod signature;

#[cfg(test)]
mod tests;

pub use crate::egress::{UrlError, check_url};
pub use classify::classify;
pub use endpoint::Endpoint;
pub use settings::{Format, HeaderError, Settings, check_header_name, check_header_value};
