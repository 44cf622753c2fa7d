//! Modules that a stranger might upload, each in a running engine beside subscriptions that are none of its business.

use hookmill_tests::engine::built_program;
use hookmill_tests::hostile;
use hookmill_tests::hostile::ground::Scale;
use hookmill_tests::hostile::table::{Row, render};
use hookmill_tests::judge::HEAVY;

/// The least share of their throughput that others keep over a fraction of a second, with the machine busy with other
/// tests as well. `make hostile` measures it; here it shows that nobody is stopped.
const OTHERS_MIN: f64 = 0.03;
/// The same beside a hundred thousand tasks, which are work, however well they behave.
const OTHERS_MIN_BESIDE_TASKS: f64 = 0.005;
/// The most that the engine may have grown by the end of a case, in bytes.
const GROWTH_MAX: u64 = 192 << 20;

/// Less than the defaults: nobody has to wait a minute for a refusal that takes a minute.
const LIMITS: &str = "[limits]\ncompile_time = \"3s\"\ncompile_memory = \"256MiB\"\n";

fn scale() -> Scale {
    Scale { healthy: 200, hostile: 8, program: built_program(), limits: Some(LIMITS) }
}

fn judge(rows: &[Row], others_min: f64) {
    let wrong: Vec<_> =
        rows.iter().filter(|row| !row.wrong.is_empty()).map(|row| (&row.case, &row.wrong)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for row in rows {
        let others = row.others.unwrap_or(1.0);
        assert!(others >= others_min, "{}: others kept {others:.2} of their throughput", row.case);
        let [before, _, after] = row.memory.unwrap_or_default();
        assert!(
            after.saturating_sub(before) <= GROWTH_MAX,
            "{}: {before} bytes before, {after} after",
            row.case
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hostile_guest_harms_its_own_events_alone() {
    let _alone = HEAVY.lock().await;
    let rows = hostile::run_events(scale()).await;
    println!("{}", render("on an event", &rows));
    judge(&rows, OTHERS_MIN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_that_must_not_run_are_refused() {
    let _alone = HEAVY.lock().await;
    let rows = hostile::run_refusals(scale()).await;
    println!("{}", render("at load", &rows));
    judge(&rows, OTHERS_MIN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_calls_leak_nothing() {
    let _alone = HEAVY.lock().await;
    let row = hostile::run_leak(scale(), 100).await;
    println!("{}", render("on an event", std::slice::from_ref(&row)));
    judge(&[row], OTHERS_MIN_BESIDE_TASKS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_go_on_while_a_guest_spins_on_every_event() {
    let _alone = HEAVY.lock().await;
    let row = hostile::run_spinner(scale(), 5).await;
    println!("{}", render("on every event", std::slice::from_ref(&row)));
    judge(&[row], OTHERS_MIN);
}
