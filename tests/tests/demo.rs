//! The example of the first minutes: `hookmill dev --demo` plays it and adds up.

use std::path::Path;

use hookmill_tests::engine::{built_program, run_to_end};
use std::process::Command;

#[tokio::test]
async fn the_demo_shows_every_kind_of_end_and_adds_up() {
    let mut command = Command::new(built_program());
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    command.args(["dev", "--demo"]).current_dir(checkout);
    let said = run_to_end("hookmill dev --demo", command).await;
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    for shown in [
        "answered 200  signature verified",
        "answered 500  signature verified",
        "attempt 3",
        "filtered: match says no",
        "filtered: dropped by a step: a test order",
        "dead-lettered: schema ",
        "dead-lettered: not a CloudEvent",
        "7 messages published: 5 taken, 2 dead-lettered for the pipeline as a whole",
        "every event has its end",
    ] {
        assert!(said.stdout.contains(shown), "no {shown:?} in:\n{}", said.stdout);
    }
    assert!(!said.stdout.contains("NO\n"), "{}", said.stdout);
}
