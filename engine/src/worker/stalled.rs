//! In builds for tests, with `HOOKMILL_TEST_STALL=<subscription>:<seconds>`: an attempt that keeps its slot for nothing, so that
//! tests can show that they see a lane stand still.

use super::lane::Lane;

/// Sleeps in the first attempt of the subscription that comes 5 s after its very first.
#[cfg(debug_assertions)]
pub(super) async fn stall_if_told(lane: &Lane) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    static FIRST: OnceLock<Instant> = OnceLock::new();
    static STALLED: AtomicBool = AtomicBool::new(false);
    let Ok(told) = std::env::var("HOOKMILL_TEST_STALL") else { return };
    let Some((name, seconds)) = told.split_once(':') else { return };
    if name != lane.subscription.name.as_str() {
        return;
    }
    let old = FIRST.get_or_init(Instant::now).elapsed() > Duration::from_secs(5);
    if old && !STALLED.swap(true, Ordering::Relaxed) {
        sleep(Duration::from_secs(seconds.parse().unwrap_or(60))).await;
    }
}

#[cfg(not(debug_assertions))]
pub(super) async fn stall_if_told(_lane: &Lane) {}
