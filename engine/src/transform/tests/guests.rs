//! The modules that are built from `transforms/`: real toolchain, real memory, real panics.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::super::testing::{event, host, patient};
use super::super::{ConfigureError, Host, Isolation, Module, Settings, Step};
use crate::model::fault::{Again, Code, Reason};
use crate::model::{Data, Event, Fault, Value, Verdict};
use crate::telemetry::output;

fn module(host: &Arc<Host>, name: &str) -> Module {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../transforms/dist/{name}.wasm"));
    let Ok(bytes) = std::fs::read(&path) else {
        // Past the test runner's capture, once: without guests none of these tests can pass.
        static ONCE: Mutex<()> = Mutex::new(());
        let _first = ONCE.lock();
        output::say(format_args!("no guest at {}: run make setup first", path.display()));
        std::process::exit(101);
    };
    host.load(name, &bytes).unwrap()
}

async fn hostile(settings: serde_json::Value) -> Result<Step, ConfigureError> {
    let host = host();
    let module = module(&host, "hostile");
    let spins = settings["mode"] == "spin";
    let timeout = if spins { Duration::from_millis(300) } else { patient().timeout };
    let settings = Settings { settings, timeout, ..patient() };
    Step::new(host, module, settings).await
}

async fn outcome(settings: serde_json::Value) -> Result<Verdict, Fault> {
    hostile(settings).await.unwrap().apply(&event()).await
}

#[tokio::test]
async fn redact_takes_out_what_it_was_told() {
    let host = host();
    let settings = Settings { settings: json!({"remove": ["/email"]}), ..patient() };
    let step = Step::new(Arc::clone(&host), module(&host, "redact"), settings).await.unwrap();
    let text =
        br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"email":"a@b.c","total":12.50}}"#;
    let event = Event::from_structured(&Bytes::from_static(text)).unwrap();
    for _ in 0..3 {
        let Ok(Verdict::Replace(output)) = step.apply(&event).await else { panic!("no replace") };
        assert_eq!(output.event.data, Some(Data::Json(Bytes::from_static(br#"{"total":12.50}"#))));
        assert_eq!(output.event.id, "1");
    }
}

#[tokio::test]
async fn redact_refuses_settings_that_make_no_sense() {
    let host = host();
    for settings in [json!({}), json!({"remove": ["email"]}), json!({"delete": ["/email"]}), json!([])] {
        let settings = Settings { settings, ..patient() };
        let error = Step::new(Arc::clone(&host), module(&host, "redact"), settings).await.unwrap_err();
        assert!(matches!(error, ConfigureError::Settings { .. }), "{error}");
    }
}

#[tokio::test]
async fn every_way_to_misbehave_ends_as_it_should() {
    let never = Again::Never(Reason::Rejected);
    let later = |exhausted| Again::Later { after: None, exhausted };
    let cases = [
        (json!({"mode": "spin"}), Code::StepTimeout, later(Reason::StepTimeout)),
        (json!({"mode": "trap"}), Code::GuestTrap, never),
        (json!({"mode": "grow"}), Code::GuestTrap, never),
        (json!({"mode": "recurse"}), Code::GuestTrap, never),
        (json!({"mode": "huge_output", "bytes": 100_000_000}), Code::GuestOutput, never),
        (json!({"mode": "bad_attribute"}), Code::GuestOutput, never),
        (json!({"mode": "duplicate_attribute"}), Code::GuestOutput, never),
        (json!({"mode": "empty_id"}), Code::GuestOutput, never),
        (json!({"mode": "header_injection"}), Code::GuestOutput, never),
        (json!({"mode": "header_injection", "name": "webhook-id", "value": "x"}), Code::GuestOutput, never),
        (json!({"mode": "many_headers", "count": 65}), Code::GuestOutput, never),
        (json!({"mode": "retry"}), Code::GuestRetry, later(Reason::StepFailed)),
        (json!({"mode": "reject"}), Code::Rejected, never),
        (json!({"mode": "split", "count": 1025}), Code::GuestOutput, never),
    ];
    for (settings, code, again) in cases {
        let fault = outcome(settings.clone()).await.unwrap_err();
        assert_eq!((fault.code, fault.again), (code, again), "{settings}: {fault}");
    }
}

#[tokio::test]
async fn memory_and_panic_are_told_apart() {
    let grown = outcome(json!({"mode": "grow"})).await.unwrap_err().detail;
    assert_eq!(grown, "module hostile: it needs more than memory = \"128MiB\"; raise `memory` of the step");
    let panicked = outcome(json!({"mode": "trap"})).await.unwrap_err().detail;
    assert!(panicked.contains("it trapped"), "{panicked}");
}

#[tokio::test]
async fn log_floods_are_survived() {
    assert_eq!(outcome(json!({"mode": "log_flood", "count": 10_000})).await, Ok(Verdict::Keep));
    assert_eq!(outcome(json!({"mode": "huge_log", "bytes": 1_000_000})).await, Ok(Verdict::Keep));
}

#[tokio::test]
async fn what_breaks_in_configure_is_found_at_load() {
    let trap = hostile(json!({"mode": "trap_in_configure"})).await.unwrap_err();
    assert!(trap.to_string().starts_with("module hostile can't be configured: it trapped"), "{trap}");
    let grow = hostile(json!({"mode": "grow_in_configure"})).await.unwrap_err();
    assert!(grow.to_string().contains("raise `memory`"), "{grow}");
    let spin = hostile(json!({"mode": "spin_in_configure"})).await.unwrap_err();
    assert!(spin.to_string().ends_with("took longer than 2s"), "{spin}");
    let refused = hostile(json!({"mode": "refuse_settings"})).await.unwrap_err();
    assert!(matches!(refused, ConfigureError::Settings { .. }), "{refused}");
}

#[tokio::test]
async fn a_real_guest_is_reused_or_not_as_the_step_says() {
    for (isolation, expected) in [(Isolation::Instance, ["1", "2"]), (Isolation::Event, ["1", "1"])] {
        let host = host();
        let settings = json!({"mode": "sleepless_counter"});
        let settings = Settings { settings, isolation, ..patient() };
        let step = Step::new(Arc::clone(&host), module(&host, "hostile"), settings).await.unwrap();
        let mut calls = vec![];
        for _ in 0..2 {
            let Ok(Verdict::Replace(output)) = step.apply(&event()).await else { panic!("no replace") };
            let value = |(name, value): &(String, Value)| (name == "calls").then(|| value.to_string());
            calls.push(output.event.extensions.iter().find_map(value).unwrap());
        }
        assert_eq!(calls, expected);
    }
}
