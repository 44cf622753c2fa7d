//! A short run of the fault harness with a fixed seed, and whether its judge sees a loss at all.

use std::time::Duration;

use hookmill_tests::chaos::{Settings, run};
use hookmill_tests::judge::HEAVY;

fn settings(seed: u64, seconds: u64) -> Settings {
    Settings { seed, time: Duration::from_secs(seconds), rate: 100, keep_secret: false, ack_first: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_run_of_chaos_loses_nothing() {
    let _alone = HEAVY.lock().await;
    let report = run(&settings(1, 45)).await;
    println!("{report}");
    assert_eq!(report.complaints(), Vec::<String>::new());
    assert!(report.kills() >= 2 && report.events() >= 1_000, "too little happened");
}

/// An engine that acknowledges first and stores after loses what it holds when it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_judge_sees_the_losses_of_an_engine_that_acknowledges_first() {
    let _alone = HEAVY.lock().await;
    let report = run(&Settings { ack_first: true, ..settings(1, 20) }).await;
    println!("{report}");
    assert!(report.lost() > 0, "a judge that can't see a loss is no judge");
}
