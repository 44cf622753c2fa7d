//! Pure decisions about lanes, circuits and retries: no clock, no I/O. Time and randomness are arguments.

pub mod circuit;
pub mod rate;
pub mod retry;

pub use circuit::{Circuit, CircuitState};
pub use rate::{Pace, Rate};
pub use retry::{Jitter, Policy, Spent, Tried};
