//! How quick a module is: one call after the other, as one event after the other would come.

use std::time::{Duration, Instant};

use crate::model::Event;
use crate::transform::{Step, Watch};

/// How long calls are made before any counts.
const WARM_UP: Duration = Duration::from_millis(300);

/// How long calls are counted.
const LENGTH: Duration = Duration::from_secs(2);

/// Most calls that are counted.
const CALLS_MAX: usize = 1_000_000;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) calls: usize,
    /// Calls a second, new instances included.
    pub(super) per_second: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) max: Duration,
    /// Most memory of one instance, in bytes.
    pub(super) memory_bytes: u64,
    /// Calls that ended in a trap or a time-out.
    pub(super) broken: usize,
}

/// Calls for [`LENGTH`].
pub(super) async fn measure(step: &Step, event: &Event, watch: &Watch) -> Figures {
    let started = Instant::now();
    while started.elapsed() < WARM_UP {
        step.try_out(event).await;
    }
    watch.take();
    let (mut times, mut memory_bytes, mut broken) = (Vec::new(), 0, 0);
    let started = Instant::now();
    while started.elapsed() < LENGTH && times.len() < CALLS_MAX {
        let trial = step.try_out(event).await;
        times.push(trial.took);
        broken += usize::from(matches!(trial.outcome.word(), "trap" | "timeout"));
        memory_bytes = memory_bytes.max(watch.take().memory_bytes);
    }
    let took = started.elapsed();
    times.sort_unstable();
    Figures {
        calls: times.len(),
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 calls")]
        per_second: times.len() as f64 / took.as_secs_f64(),
        p50: at(&times, 50),
        p99: at(&times, 99),
        max: times.last().copied().unwrap_or_default(),
        memory_bytes,
        broken,
    }
}

/// The time that this many of a hundred calls did not exceed.
fn at(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_time_that_was_measured() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!(
            (at(&times, 50), at(&times, 99)),
            (Duration::from_micros(100), Duration::from_micros(198))
        );
        assert_eq!(at(&times[..1], 99), Duration::from_micros(1));
        assert_eq!(at(&[], 50), Duration::ZERO);
    }
}
