//! Logs and metrics: set-up, and the one list of names; and what is printed.

pub mod logs;
pub mod metrics;
pub mod output;
