//! Guests that take too much or return what they must not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::budget::{Meter, Queue};
use super::super::cores::Cores;
use super::super::stretch::Stretch;
use super::super::testing::{Guest, event, host, host_with, parts, patient, step};
use super::super::ticker::Ticker;
use super::super::{ConfigureError, Host, HostSettings, Settings, Step};
use crate::model::event::EventParts;
use crate::model::fault::{Again, Code, Reason, Whose};
use crate::model::{Fault, Value, Verdict};

const SPIN: &str = "(loop $l (br $l))";

const GROW: &str =
    "(block $full (loop $l (br_if $full (i32.eq (i32.const -1) (memory.grow (i32.const 16)))) (br $l)))";

async fn fault(guest: &Guest, settings: Settings) -> Fault {
    step(&host(), guest, settings).await.apply(&event()).await.unwrap_err()
}

fn short() -> Settings {
    Settings { timeout: Duration::from_millis(150), ..patient() }
}

#[tokio::test]
async fn a_spinning_guest_is_stopped_and_may_be_tried_again() {
    let fault = fault(&Guest::keep().apply(SPIN), short()).await;
    assert_eq!((fault.code, fault.whose), (Code::StepTimeout, Whose::Module));
    assert_eq!(fault.again, Again::Later { after: None, exhausted: Reason::StepTimeout });
    assert_eq!(fault.detail, "module guest: the call took longer than 150ms");
}

#[tokio::test]
async fn a_guest_that_spins_in_configure_is_found_at_load() {
    let host = host();
    let module = host.load("slow", &Guest::keep().configure(SPIN).core()).unwrap();
    let error = Step::new(host, module, patient()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "module slow can't be configured: starting and configuring it took longer than 2s"
    );
}

/// Eight calls at once that take very long, and between them the calls of another step: these must all be through while
/// all of the others still run.
async fn harms_nobody_else(instructions: &str) {
    let host = host_with(16);
    let long = Settings { timeout: Duration::from_mins(2), ..patient() };
    let bad = Arc::new(step(&host, &Guest::keep().apply(instructions), long.clone()).await);
    let good = step(&host, &Guest::keep(), long).await;
    let mut busy = JoinSet::new();
    for _ in 0..8 {
        let bad = Arc::clone(&bad);
        busy.spawn(async move { bad.apply(&event()).await });
    }
    for _ in 0..100 {
        assert_eq!(good.apply(&event()).await, Ok(Verdict::Keep));
        tokio::task::yield_now().await;
    }
    assert!(busy.try_join_next().is_none(), "the long calls still run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spinning_guest_leaves_others_their_share_of_two_threads() {
    harms_nobody_else(SPIN).await;
}

#[tokio::test]
async fn a_spinning_guest_leaves_others_their_share_of_one_thread() {
    harms_nobody_else(SPIN).await;
}

/// Nothing interrupts a single instruction that fills all memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_fills_memory_leaves_others_their_share() {
    let fill = "(memory.fill (i32.const 262144) (i32.const 1) (i32.const 104857600))";
    harms_nobody_else(&format!("(drop (memory.grow (i32.const 1604))) (loop $l {fill} (br $l))")).await;
}

fn work_for(time: Duration) {
    let stretch = Stretch::begin();
    while stretch.worked() < time {}
}

/// Calls that are over before they are interrupted for the first time, but for ever new ones: on two threads no more than
/// one of them runs at a time, once their step has worked more than its share.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn short_calls_without_end_get_no_more_than_the_shared_cores() {
    let cores = Arc::new(Cores::new(2));
    let engine = wasmtime::Engine::default();
    let queue = Queue::new(cores, Arc::new(Ticker::start(&engine).unwrap()));
    // More than it may work at once.
    queue.work(|| work_for(Duration::from_millis(120)));
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (queue, running, most) = (queue.clone(), Arc::clone(&running), Arc::clone(&most));
        calls.spawn(async move {
            let work = async {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                work_for(Duration::from_millis(5));
                running.fetch_sub(1, Ordering::SeqCst);
            };
            Meter::new(queue).run(work).await;
        });
    }
    calls.join_all().await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_call_gets_its_turn_beside_spinning_ones_of_another_step() {
    let host = host_with(16);
    let long = Settings { timeout: Duration::from_secs(10), ..patient() };
    let bad = Arc::new(step(&host, &Guest::keep().apply(SPIN), long.clone()).await);
    // Works for 60 ms by its own clock, well beyond the free time.
    let work = "(local.set $end (i64.add (call $now) (i64.const 60)))
        (loop $l (br_if $l (i64.lt_u (call $now) (local.get $end))))";
    let slow = step(&host, &Guest::keep().apply(work), long).await;
    let mut spinning = JoinSet::new();
    for _ in 0..4 {
        let bad = Arc::clone(&bad);
        spinning.spawn(async move { bad.apply(&event()).await });
    }
    for _ in 0..5 {
        assert_eq!(slow.apply(&event()).await, Ok(Verdict::Keep));
    }
    assert!(spinning.try_join_next().is_none(), "the spinning ones still run");
}

#[tokio::test]
async fn a_trap_is_for_good() {
    let fault = fault(&Guest::keep().apply("unreachable"), patient()).await;
    assert_eq!(
        (fault.code, fault.whose, fault.again),
        (Code::GuestTrap, Whose::Module, Again::Never(Reason::Rejected))
    );
    assert_eq!(fault.detail, "module guest: it trapped: wasm trap: wasm `unreachable` instruction executed");
}

#[tokio::test]
async fn endless_recursion_is_a_trap() {
    let guest = Guest::keep().more("(func $deep (call $deep) (call $deep))").apply("(call $deep)");
    let fault = fault(&guest, patient()).await;
    assert_eq!(fault.code, Code::GuestTrap);
    assert!(fault.detail.contains("call stack exhausted"), "{}", fault.detail);
}

#[tokio::test]
async fn a_guest_out_of_memory_is_told_from_one_that_panics() {
    let fault = fault(&Guest::keep().apply(GROW).apply("unreachable"), patient()).await;
    assert_eq!((fault.code, fault.again), (Code::GuestTrap, Again::Never(Reason::Rejected)));
    assert_eq!(
        fault.detail,
        "module guest: it needs more than memory = \"128MiB\"; raise `memory` of the step"
    );
}

#[tokio::test]
async fn a_guest_that_has_grown_is_replaced_and_gives_its_memory_back() {
    let settings = HostSettings { memory_bytes: 200 << 20, ..HostSettings::default() };
    let host = Host::new(settings).unwrap();
    let step = step(&host, &Guest::keep().apply(GROW), patient()).await;
    for _ in 0..5 {
        assert_eq!(step.apply(&event()).await, Ok(Verdict::Keep));
    }
}

#[tokio::test]
async fn the_memory_of_all_guests_together_is_bounded() {
    let settings = HostSettings { memory_bytes: 20 << 20, ..HostSettings::default() };
    let host = Host::new(settings).unwrap();
    let module = host.load("guest", &Guest::keep().apply(GROW).apply("unreachable").core()).unwrap();
    let own = |memory_bytes| Settings { memory_bytes, ..patient() };
    let error = Step::new(Arc::clone(&host), module.clone(), own(21 << 20)).await.unwrap_err();
    assert!(matches!(error, ConfigureError::Memory { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "memory = \"21MiB\" is more than the \"20MiB\" that all transforms share (limits.memory in hookmill.toml)"
    );
    let hoard = Guest::keep().configure("(drop (memory.grow (i32.const 160)))");
    let hoarder = step(&host, &hoard, own(15 << 20)).await;
    let step = Step::new(host, module, own(15 << 20)).await.unwrap();
    // The idle instance of the other step has to go: there is room up to the step's own limit.
    let fault = step.apply(&event()).await.unwrap_err();
    assert_eq!(fault.whose, Whose::Module, "{fault}");
    assert_eq!(hoarder.apply(&event()).await, Ok(Verdict::Keep));
}

#[tokio::test]
async fn a_hundred_megabytes_are_not_taken() {
    let parts = EventParts { datacontenttype: Some("a/b".into()), ..parts() };
    let guest = Guest::replace_with_zeros(&parts, 100 << 20);
    let fault = fault(&guest, patient()).await;
    assert_eq!((fault.code, fault.again), (Code::GuestOutput, Again::Never(Reason::Rejected)));
    assert!(fault.detail.contains("output = \"4MiB\""), "{}", fault.detail);
}

#[tokio::test]
async fn output_is_counted_to_the_byte() {
    let parts = EventParts { datacontenttype: Some("a/b".into()), ..parts() };
    let envelope = u32::try_from("1/shopordera/b".len()).unwrap();
    let step_of = async |bytes| {
        let settings = Settings { output_bytes: 1 << 20, ..patient() };
        step(&host(), &Guest::replace_with_zeros(&parts, bytes), settings).await.apply(&event()).await
    };
    assert!(step_of((1 << 20) - envelope).await.is_ok());
    let fault = step_of((1 << 20) - envelope + 1).await.unwrap_err();
    assert_eq!(fault.code, Code::GuestOutput);
    assert_eq!(
        fault.detail,
        "module guest: what it returned breaks the contract: it is 1048577 bytes, the limit is output = \"1MiB\"; \
         raise `output` of the step"
    );
}

/// An event, headers, and a part of what is said about them.
type Malformed = (EventParts, &'static [(&'static str, &'static str)], &'static str);

#[tokio::test]
async fn malformed_output_never_goes_on() {
    let extension = |name: &str| vec![(name.to_owned(), Value::Integer(1))];
    let twice = [extension("a"), extension("a")].concat();
    let cases: [Malformed; 12] = [
        (EventParts { id: String::new(), ..parts() }, &[], "attribute id is empty"),
        (
            EventParts { source: "a b".into(), ..parts() },
            &[],
            "source is \"a b\", which is not a URI-reference",
        ),
        (EventParts { ty: "a\nb".into(), ..parts() }, &[], "control character"),
        (EventParts { time: Some("noon".into()), ..parts() }, &[], "time is \"noon\", which is not RFC 3339"),
        (EventParts { extensions: extension("Not_OK"), ..parts() }, &[], "is not an attribute name"),
        (EventParts { extensions: extension("specversion"), ..parts() }, &[], "can't be an extension"),
        (EventParts { extensions: extension("data"), ..parts() }, &[], "can't be an extension"),
        (EventParts { extensions: twice, ..parts() }, &[], "more than once"),
        (EventParts { data: Some("{".into()), ..parts() }, &[], "the data is not JSON"),
        (
            parts(),
            &[("x-a", "b\r\nwebhook-id: msg_1")],
            "header \"x-a\" has a value with a control character",
        ),
        (
            parts(),
            &[("x-ok", "1"), ("webhook-signature", "v1,x")],
            "header \"webhook-signature\" is reserved",
        ),
        (parts(), &[("content-length", "0")], "header \"content-length\" is reserved"),
    ];
    let host = host();
    for (event_parts, headers, problem) in cases {
        let step = step(&host, &Guest::replace(&event_parts, headers), patient()).await;
        let fault = step.apply(&event()).await.unwrap_err();
        assert_eq!((fault.code, fault.again), (Code::GuestOutput, Again::Never(Reason::Rejected)), "{fault}");
        assert!(fault.detail.contains(problem), "{problem:?} in {:?}", fault.detail);
    }
}

#[tokio::test]
async fn a_split_into_too_many_is_refused() {
    let fault = fault(&Guest::split(&parts(), 1025), patient()).await;
    assert_eq!(fault.code, Code::GuestOutput);
    assert!(fault.detail.ends_with("it splits into 1025 events, the most is 1024"), "{}", fault.detail);
}

#[tokio::test]
async fn an_answer_that_points_nowhere_is_refused() {
    // The reason of the drop starts far beyond the memory.
    let guest = Guest::drop("why").apply("(i32.store (i32.const 1032) (i32.const -1000))");
    assert_eq!(fault(&guest, patient()).await.code, Code::GuestOutput);
    // A verdict that doesn't exist.
    let guest = Guest::keep().apply("(i32.store (i32.const 1028) (i32.const 77))");
    assert_eq!(fault(&guest, patient()).await.code, Code::GuestOutput);
}

#[tokio::test]
async fn a_call_waits_no_longer_than_the_set_up_for_a_place() {
    let host = host_with(1);
    let long = Settings { timeout: Duration::from_mins(1), ..patient() };
    let busy = Arc::new(step(&host, &Guest::keep().apply(SPIN), long).await);
    let mut calls = JoinSet::new();
    let spinning = Arc::clone(&busy);
    calls.spawn(async move { spinning.apply(&event()).await });
    tokio::task::yield_now().await;
    let fault = busy.apply(&event()).await.unwrap_err();
    assert_eq!((fault.code, fault.whose), (Code::StepTimeout, Whose::Operator));
    assert_eq!(
        fault.detail,
        "module guest: none of limits.instances = 1 was free for it within 2s (at work for its subscription: 1; it may \
         have as many as it leaves to others); raise it in hookmill.toml"
    );
}
