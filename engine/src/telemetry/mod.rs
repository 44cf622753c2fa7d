//! Logs and metrics: set-up, and the one list of names.

pub mod logs;
pub mod metrics;
