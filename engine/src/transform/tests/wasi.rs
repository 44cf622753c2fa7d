//! Guests whose toolchain insists on WASI find it, and nothing behind it.

use std::sync::Arc;
use std::time::Duration;

use super::super::testing::{Guest, embed_world, event, host, patient};
use super::super::{Host, HostSettings, Settings, Step, Watch};
use crate::model::fault::Code;
use crate::model::{Clock, Fault, Timestamp, Verdict};

const WASI: [&str; 4] = [
    "package wasi:io@0.2.0; interface poll { resource pollable { block: func(); } }",
    "package wasi:clocks@0.2.0; interface monotonic-clock { use wasi:io/poll@0.2.0.{pollable};
       subscribe-duration: func(when: u64) -> pollable; }",
    "package wasi:cli@0.2.0; interface environment { get-environment: func() -> list<tuple<string, string>>;
       get-arguments: func() -> list<string>; }",
    "package test:guest; world guest { include hookmill:transform/transform@0.1.0;
       import wasi:io/poll@0.2.0; import wasi:clocks/monotonic-clock@0.2.0; import wasi:cli/environment@0.2.0; }",
];

const IMPORTS: &str = r#"
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $soon (param i64) (result i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
  (import "wasi:cli/environment@0.2.0" "get-arguments" (func $arguments (param i32)))"#;

async fn step(instructions: &str, timeout: Duration) -> Step {
    let host = host();
    let bytes = embed_world(&Guest::keep().apply(instructions).text(IMPORTS), &WASI);
    let module = host.load("guest", &bytes).unwrap();
    Step::new(host, module, Settings { timeout, ..patient() }).await.unwrap()
}

async fn apply(instructions: &str, timeout: Duration) -> Result<Verdict, Fault> {
    step(instructions, timeout).await.apply(&event()).await
}

#[tokio::test]
async fn a_guest_sees_no_environment_and_no_arguments() {
    let count = |function| {
        format!(
            "(call {function} (i32.const 512)) (if (i32.ne (i32.const 0) (i32.load (i32.const 516))) (then unreachable))"
        )
    };
    let both = count("$environment") + &count("$arguments");
    assert_eq!(apply(&both, Duration::from_secs(1)).await, Ok(Verdict::Keep));
}

#[tokio::test]
async fn a_sleeping_guest_is_stopped_as_a_spinning_one_is() {
    let sleep = |nanos: u64| format!("(call $block (call $soon (i64.const {nanos})))");
    assert_eq!(apply(&sleep(1_000_000), Duration::from_secs(5)).await, Ok(Verdict::Keep));
    let fault = apply(&sleep(60_000_000_000), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(fault.code, Code::StepTimeout);
}

#[tokio::test]
async fn a_guest_cannot_hoard_what_the_host_keeps_for_it() {
    let hoard = "(loop $l (drop (call $soon (i64.const 0))) (br $l))";
    let fault = apply(hoard, Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(fault.code, Code::GuestTrap, "{fault}");
}

#[tokio::test]
async fn a_guest_that_leaks_handles_is_replaced_before_it_has_too_many() {
    let step = step("(drop (call $soon (i64.const 0)))", patient().timeout).await;
    for _ in 0..2_500 {
        assert_eq!(step.apply(&event()).await, Ok(Verdict::Keep));
    }
}

#[tokio::test]
async fn a_guest_that_spins_after_a_sleep_is_stopped() {
    let both = "(call $block (call $soon (i64.const 400000000))) (loop $l (br $l))";
    let fault = apply(both, Duration::from_millis(600)).await.unwrap_err();
    assert_eq!(fault.code, Code::StepTimeout);
}

#[tokio::test]
async fn a_guest_is_told_the_time_of_its_host_by_wasi_as_well() {
    let packages = [
        "package wasi:clocks@0.2.0; interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 }
           now: func() -> datetime; }",
        "package test:guest; world guest { include hookmill:transform/transform@0.1.0;
           import wasi:clocks/wall-clock@0.2.0; }",
    ];
    let imports = r#"(import "wasi:clocks/wall-clock@0.2.0" "now" (func $wall (param i32)))"#;
    let ask = "(call $wall (i32.const 512))
        (if (i64.ne (i64.load (i32.const 512)) (i64.const 1795507210)) (then unreachable))
        (if (i32.ne (i32.load (i32.const 520)) (i32.const 500000000)) (then unreachable))
        (if (i64.ne (call $now) (i64.const 1795507210500)) (then unreachable))";
    let clock = Clock::at(Timestamp::from_unix_nanos(1_795_507_210_500_000_000));
    let host = Host::with_clock(HostSettings { instances: 8, ..HostSettings::default() }, clock).unwrap();
    let module =
        host.load("guest", &embed_world(&Guest::keep().apply(ask).text(imports), &packages)).unwrap();
    let step = Step::new(Arc::clone(&host), module, patient()).await.unwrap();
    assert_eq!(step.apply(&event()).await, Ok(Verdict::Keep));
}

#[tokio::test]
async fn what_a_guest_prints_is_seen_by_who_looks_on_and_bounded() {
    let packages = [
        "package wasi:io@0.2.0; interface error { resource error; }
           interface streams { use error.{error}; variant stream-error { last-operation-failed(error), closed }
             resource output-stream { blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; } }",
        "package wasi:cli@0.2.0; interface stderr { use wasi:io/streams@0.2.0.{output-stream};
           get-stderr: func() -> output-stream; }",
        "package test:guest; world guest { include hookmill:transform/transform@0.1.0;
           import wasi:io/streams@0.2.0; import wasi:cli/stderr@0.2.0; }",
    ];
    let imports = r#"
      (import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
      (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
        (func $write (param i32 i32 i32 i32)))"#;
    let guest = Guest::keep()
        .apply("(call $write (call $stderr) (i32.const 64) (i32.const 4096) (i32.const 512))")
        .more(r#"(data (i32.const 64) "boom")"#);
    let host = host();
    let module = host.load("guest", &embed_world(&guest.text(imports), &packages)).unwrap();
    let watch = Watch::default();
    let step = Step::watched(host, module, patient(), watch.clone()).await.unwrap();
    assert!(step.try_out(&event()).await.outcome.is_verdict());
    let printed = watch.take().printed;
    assert!(printed.starts_with("boom") && printed.len() == 4096, "{}", printed.len());
    let mut more = 0;
    for _ in 0..100 {
        step.try_out(&event()).await;
        more += watch.take().printed.len();
    }
    assert_eq!(more, 60 << 10, "64 KiB in all");
}
