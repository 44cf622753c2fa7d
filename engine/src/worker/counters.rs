//! What is counted of each lane.

use metrics::Counter;

use crate::telemetry::metrics as names;

/// Counter handles, looked up once.
pub struct Counters {
    /// Ends.
    pub delivered: Counter,
    /// Ends.
    pub filtered: Counter,
    /// Ends.
    pub dead_lettered: Counter,
    /// Attempts that delivered.
    pub attempts_ok: Counter,
    /// Attempts that failed.
    pub attempts_failed: Counter,
    /// Length of attempts, in seconds.
    pub duration: metrics::Histogram,
    /// Age of delivered events, in seconds.
    pub age: metrics::Histogram,
}

impl Counters {
    /// For a lane.
    pub fn new(pipeline: &str, subscription: &str) -> Self {
        let labels = |key: &'static str, value: &'static str| {
            [
                ("pipeline", pipeline.to_owned()),
                ("subscription", subscription.to_owned()),
                (key, value.to_owned()),
            ]
        };
        let end = |outcome| metrics::counter!(names::DELIVERIES, &labels("outcome", outcome));
        let attempt = |result| metrics::counter!(names::DELIVERY_ATTEMPTS, &labels("result", result));
        let both = [("pipeline", pipeline.to_owned()), ("subscription", subscription.to_owned())];
        Self {
            duration: metrics::histogram!(names::DELIVERY_DURATION, &both),
            age: metrics::histogram!(names::EVENT_AGE, &both),
            delivered: end("delivered"),
            filtered: end("filtered"),
            dead_lettered: end("dead_lettered"),
            attempts_ok: attempt("ok"),
            attempts_failed: attempt("failed"),
        }
    }
}
