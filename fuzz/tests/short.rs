//! The fuzzer for as long as a test may take: from the kept corpus and always the same seed, so that what it finds today
//! it finds tomorrow.

#![expect(
    clippy::print_stdout,
    reason = "the test runner keeps what tests print, and shows it where one fails"
)]

use std::time::Duration;

use hookmill_fuzz::event::Message;
use hookmill_fuzz::metadata::Metadata;
use hookmill_fuzz::upload::Upload;
use hookmill_fuzz::{Options, Report, Target, run};

const TIME: Duration = Duration::from_secs(20);
const SEED: u64 = 20_260_504;

fn short(target: &dyn Target) -> Report {
    let options = Options { time: TIME, seed: SEED, keep: false };
    let report = run(target, &options).unwrap_or_else(|error| panic!("{error}"));
    println!("{}: {report:?}", target.name());
    report
}

#[test]
fn any_bytes_are_a_module_or_are_clearly_refused() {
    let report = short(&Upload::default());
    assert!(report.inputs > 0 && report.taken > 0 && report.answers > 10, "{report:?}");
}

#[test]
fn what_a_module_says_about_itself_is_read_or_clearly_refused() {
    let report = short(&Metadata);
    assert!(report.inputs > 0 && report.taken > 0 && report.answers > 10, "{report:?}");
}

#[test]
fn any_message_is_an_event_or_is_clearly_refused() {
    let report = short(&Message);
    assert!(report.inputs > 0 && report.taken > 0 && report.answers > 10, "{report:?}");
}
