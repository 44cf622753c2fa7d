//! What guests say, and which instance hears it.

use std::sync::Arc;

use bytes::Bytes;

use super::super::testing::{Guest, event, host, host_with, parts, patient, step};
use super::super::{ConfigureError, Isolation, Settings, Step};
use crate::model::event::EventParts;
use crate::model::fault::{Again, Code, Reason, Stage, Whose};
use crate::model::{Event, Fault, Value, Verdict};

async fn apply(guest: &Guest) -> Result<Verdict, Fault> {
    step(&host(), guest, patient()).await.apply(&event()).await
}

/// Says how many events this instance has seen, as the reason of a drop of that many letters.
fn counting() -> Guest {
    let count = "(global.set $seen (i32.add (global.get $seen) (i32.const 1)))
        (i32.store (i32.const 1036) (global.get $seen))";
    Guest::drop("aaaaaaaaaaaaaaaaaaaa").more("(global $seen (mut i32) (i32.const 0))").apply(count)
}

async fn seen(step: &Step) -> usize {
    match step.apply(&event()).await {
        Ok(Verdict::Drop(why)) => why.len(),
        other => panic!("no drop: {other:?}"),
    }
}

#[tokio::test]
async fn keep_and_drop_are_handed_on() {
    assert_eq!(apply(&Guest::keep()).await, Ok(Verdict::Keep));
    assert_eq!(apply(&Guest::drop("not ours\nat all")).await, Ok(Verdict::Drop("not ours at all".into())));
}

#[tokio::test]
async fn every_part_of_a_replaced_event_arrives() {
    let parts = EventParts {
        id: "2".into(),
        source: "/other".into(),
        ty: "order.small".into(),
        subject: Some("s".into()),
        time: Some("2026-11-24T03:00:00Z".into()),
        datacontenttype: Some("text/plain".into()),
        dataschema: Some("urn:x".into()),
        extensions: vec![
            ("text".into(), Value::Text("ü".into())),
            ("number".into(), Value::Integer(-7)),
            ("flag".into(), Value::Boolean(true)),
        ],
        data: Some(Bytes::from_static(b"hello")),
    };
    let answer = apply(&Guest::replace(&parts, &[("x-a", "1"), ("x-b", "")])).await;
    let Ok(Verdict::Replace(output)) = answer else { panic!("{answer:?}") };
    assert_eq!(output.event, Event::build(parts).unwrap());
    assert_eq!(output.headers, [("x-a".into(), "1".into()), ("x-b".into(), String::new())]);
}

#[tokio::test]
async fn an_event_without_data_and_one_with_empty_data_differ() {
    for data in [None, Some(Bytes::new())] {
        let parts = EventParts { data: data.clone(), datacontenttype: Some("a/b".into()), ..parts() };
        let Ok(Verdict::Replace(output)) = apply(&Guest::replace(&parts, &[])).await else {
            panic!("no replace")
        };
        assert_eq!(output.event.data.as_ref().map(|data| data.bytes().clone()), data);
    }
}

#[tokio::test]
async fn split_outputs_are_numbered() {
    let Ok(Verdict::Split(outputs)) = apply(&Guest::split(&parts(), 3)).await else { panic!("no split") };
    let ids: Vec<_> = outputs.iter().map(|output| &*output.event.id).collect();
    assert_eq!(ids, ["1-0", "1-1", "1-2"]);
    assert_eq!(apply(&Guest::split(&parts(), 0)).await, Ok(Verdict::Split(vec![])));
}

#[tokio::test]
async fn rejected_is_for_good_and_retry_is_not() {
    let fault = apply(&Guest::rejected("no total")).await.unwrap_err();
    assert_eq!((fault.stage, fault.code, fault.whose), (Stage::Transform, Code::Rejected, Whose::Module));
    assert_eq!(fault.again, Again::Never(Reason::Rejected));
    assert_eq!(fault.detail, "module guest rejects the event: no total");

    let fault = apply(&Guest::retry(&"x".repeat(2000))).await.unwrap_err();
    assert_eq!((fault.code, fault.whose), (Code::GuestRetry, Whose::Module));
    assert_eq!(fault.again, Again::Later { after: None, exhausted: Reason::StepFailed });
    assert!(fault.detail.starts_with("module guest asks to try again: xxx") && fault.detail.len() < 600);
}

#[tokio::test]
async fn an_instance_serves_one_event_after_the_other() {
    let step = step(&host(), &counting(), patient()).await;
    assert_eq!([seen(&step).await, seen(&step).await, seen(&step).await], [1, 2, 3]);
}

#[tokio::test]
async fn with_isolation_by_event_no_instance_sees_two() {
    let settings = Settings { isolation: Isolation::Event, ..patient() };
    let step = step(&host(), &counting(), settings).await;
    assert_eq!([seen(&step).await, seen(&step).await, seen(&step).await], [1, 1, 1]);
}

#[tokio::test]
async fn two_steps_of_one_module_share_no_instance() {
    let host = host();
    let one = step(&host, &counting(), patient()).await;
    let two = step(&host, &counting(), patient()).await;
    assert_eq!([seen(&one).await, seen(&one).await, seen(&two).await], [1, 2, 1]);
}

#[tokio::test]
async fn after_a_trap_the_next_event_meets_a_fresh_instance() {
    let trap_at_two = "(if (i32.eq (global.get $seen) (i32.const 2)) (then unreachable))";
    let step = step(&host(), &counting().apply(trap_at_two), patient()).await;
    assert_eq!(seen(&step).await, 1);
    assert_eq!(step.apply(&event()).await.unwrap_err().code, Code::GuestTrap);
    assert_eq!(seen(&step).await, 1);
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_its_instance() {
    let spin_at_two = "(if (i32.eq (global.get $seen) (i32.const 2)) (then (loop $l (br $l))))";
    let host = host_with(1);
    let step = step(&host, &counting().apply(spin_at_two), patient()).await;
    assert_eq!(seen(&step).await, 1);
    let spinning = event();
    tokio::select! {
        biased;
        answer = step.apply(&spinning) => panic!("{answer:?}"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(seen(&step).await, 1, "the only place is free again, for a fresh instance");
}

#[tokio::test]
async fn settings_reach_the_guest_and_its_refusal_the_caller() {
    let host = host();
    let module = host.load("picky", &Guest::refusing("remove is no list").core()).unwrap();
    let error = Step::new(host, module, patient()).await.unwrap_err();
    assert!(
        matches!(&error, ConfigureError::Settings { text, .. } if text == "remove is no list"),
        "{error:?}"
    );
    assert_eq!(error.to_string(), "module picky refuses its settings: remove is no list");

    // Traps unless the settings are the ten bytes of {"a":[1]}.
    let exact = "(if (i32.ne (local.get 1) (i32.const 9)) (then unreachable))";
    let settings = Settings { settings: serde_json::json!({"a": [1]}), ..patient() };
    step(&self::host(), &Guest::keep().configure(exact), settings).await;
}

#[tokio::test]
async fn a_place_is_taken_from_an_idle_instance() {
    let host = host_with(2);
    let mut steps = vec![];
    for _ in 0..5 {
        steps.push(step(&host, &counting(), patient()).await);
    }
    for step in &steps {
        assert!(seen(step).await >= 1);
    }
    let shared = Arc::clone(&host);
    drop((steps, shared));
}

#[tokio::test]
async fn the_clock_tells_unix_milliseconds() {
    // 2026 or later, else it traps.
    let now = "(if (i64.lt_u (call $now) (i64.const 1767225600000)) (then unreachable))";
    assert_eq!(apply(&Guest::keep().apply(now)).await, Ok(Verdict::Keep));
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_harms_nobody() {
    let flood = "(local.set $n (i32.const 100000))
        (loop $l (call $log (i32.const 1) (i32.const 1024) (i32.const 1000))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))";
    let settings = Settings { timeout: std::time::Duration::from_secs(30), ..patient() };
    let step = step(&host(), &Guest::keep().apply(flood), settings).await;
    assert_eq!(step.apply(&event()).await, Ok(Verdict::Keep));
}
