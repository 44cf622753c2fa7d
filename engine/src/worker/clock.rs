//! How far this machine's clock is from the server's. Waits fall due by the server's clock and are planned by ours, and what has
//! expired in a lane is told by both: a large difference is said.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::gauge;

use super::Engine;
use crate::model::Timestamp;
use crate::telemetry::metrics as names;

/// A difference that people should hear of.
const LARGE: Duration = Duration::from_secs(5);

/// Whether a large difference was said.
#[derive(Default)]
pub(super) struct ClockSaid(AtomicBool);

/// How far the server's clock is ahead of ours, in seconds, and by how much that may be wrong: it was asked at `before`, and its answer
/// was here at `after`.
fn offset(before: Timestamp, server: Timestamp, after: Timestamp) -> (f64, f64) {
    let half = after.since(before) / 2;
    let ours = before.plus(half);
    let ahead = server.since(ours).as_secs_f64() - ours.since(server).as_secs_f64();
    (ahead, half.as_secs_f64())
}

/// Whether a difference is surely large.
fn is_large((ahead, error): (f64, f64)) -> bool {
    ahead.abs() - error > LARGE.as_secs_f64()
}

impl Engine {
    /// Measures it, and says when it becomes large.
    pub(super) async fn compare_clocks(&self) {
        let before = Timestamp::now();
        let Ok(server) = self.nats.server_time(&self.nats.prefix().registry_stream()).await else { return };
        let measured = offset(before, server, Timestamp::now());
        gauge!(names::CLOCK_OFFSET).set(measured.0);
        let large = is_large(measured);
        if large && !self.clock_said.0.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                ahead_seconds = measured.0,
                "the server's clock is far from this machine's: waits fall due early or late by as much; set both by NTP"
            );
        } else if !large {
            self.clock_said.0.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_unix_nanos(1_000_000_000_000 + millis * 1_000_000)
    }

    #[test]
    fn the_offset_is_told_with_half_of_the_way_as_its_error() {
        assert_eq!(offset(at(1_000), at(1_050), at(1_100)), (0.0, 0.05));
        let (ahead, error) = offset(at(1_000), at(8_050), at(1_100));
        assert!((ahead - 7.0).abs() < 1e-6 && (error - 0.05).abs() < 1e-6);
        assert!(is_large(offset(at(10_000), at(1_000), at(10_100))), "behind");
        assert!(!is_large(offset(at(0), at(9_000), at(20_000))), "a slow answer proves nothing");
    }
}
