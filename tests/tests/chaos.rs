//! A short run of the fault harness with a fixed seed, and whether its judge sees a loss, and a lane that stands still, at all.

use std::time::Duration;

use hookmill_tests::chaos::{Settings, run};
use hookmill_tests::judge::HEAVY;

fn settings(seconds: u64) -> Settings {
    Settings::new(1, Duration::from_secs(seconds))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_run_of_chaos_loses_nothing() {
    let _alone = HEAVY.lock().await;
    let report = run(&settings(45)).await;
    println!("{report}");
    assert_eq!(report.complaints(), Vec::<String>::new());
    assert!(report.kills() >= 2 && report.events() >= 1_000, "too little happened");
}

/// An engine that acknowledges first and stores after loses what it holds when it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_sees_the_losses_of_an_engine_that_acknowledges_first() {
    let _alone = HEAVY.lock().await;
    let report = run(&Settings { ack_first: true, ..settings(20) }).await;
    println!("{report}");
    assert!(report.lost() > 0, "a judge that can't see a loss is no judge");
}

/// Everything comes to its end, only late: no book of ends shows that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_sees_one_lane_that_stands_still_for_a_minute() {
    let _alone = HEAVY.lock().await;
    let stall = Some(Duration::from_secs(60));
    let report = run(&Settings { calm: true, stall, rate: 20, lanes: 0, ..settings(15) }).await;
    println!("{report}");
    assert_eq!((report.lost(), report.unended()), (0, 0));
    assert_eq!(report.stalled(), ["signed"], "{:?}", report.complaints());
}
