//! Pure decisions about lanes, circuits and retries: no clock, no I/O. Time and randomness are arguments.

pub mod circuit;
pub mod retry;

pub use circuit::{Circuit, CircuitState};
pub use retry::{Jitter, Policy};
