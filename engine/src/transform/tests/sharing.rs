//! What subscriptions take from one another: nothing they need. And what becomes of instances that nobody needs.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::testing::{Guest, event, host_of, host_with, patient, step};
use super::super::{Host, HostSettings, Isolation, Settings, Step};
use crate::model::Verdict;
use crate::model::fault::{Code, Whose};

const SPIN: &str = "(loop $l (br $l))";

fn of(owner: &str) -> Settings {
    Settings { owner: owner.into(), ..patient() }
}

/// Starts so many calls, each of which spins until it is dropped, and waits until none of them can get further.
async fn spin(host: &Arc<Host>, owner: &str, calls: u32) -> JoinSet<()> {
    let settings = Settings { timeout: Duration::from_secs(60), ..of(owner) };
    let step = Arc::new(step(host, &Guest::keep().apply(SPIN), settings).await);
    let mut spinning = JoinSet::new();
    for _ in 0..calls {
        let step = Arc::clone(&step);
        // Each waits two seconds for its place, and so again and again.
        spinning.spawn(async move { while step.apply(&event()).await.is_err() {} });
    }
    let share = host.share(&owner.into());
    let half = host.settings().instances / 2;
    let late = Instant::now() + Duration::from_secs(30);
    while share.working() < half {
        assert!(Instant::now() < late, "only {} work", share.working());
        tokio::task::yield_now().await;
    }
    spinning
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_takes_every_place_leaves_half_of_them() {
    let host = host_with(8);
    let _spinning = spin(&host, "p/greedy", 40).await;
    assert_eq!(host.share(&"p/greedy".into()).working(), 4);
    let settings = Settings { isolation: Isolation::Event, ..of("p/modest") };
    let modest = step(&host, &Guest::keep(), settings).await;
    for _ in 0..20 {
        assert_eq!(modest.apply(&event()).await, Ok(Verdict::Keep));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_steps_of_a_subscription_share_its_part() {
    let host = host_with(8);
    let _spinning = spin(&host, "p/greedy", 40).await;
    // Asked for a place at once: who waits longer is told why there is none.
    let module = host.load("guest", &Guest::keep().core()).unwrap();
    let error = Step::new(Arc::clone(&host), module, of("p/greedy")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "module guest can't be configured: none of limits.instances = 8 was free for it within 2s (at work for \
         its subscription: 4; it may have as many as it leaves to others); raise it in hookmill.toml"
    );
}

/// Has 10 MiB from its start.
fn hoarder() -> Guest {
    let grow = "(if (i32.eq (i32.const -1) (memory.grow (i32.const 160))) (then unreachable))";
    Guest::keep().configure(grow)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_one_subscription_leaves_room_for_others() {
    let memory_bytes = 64 << 20;
    let host = host_of(HostSettings { instances: 64, memory_bytes, ..HostSettings::default() });
    let own =
        |owner: &str| Settings { memory_bytes: 16 << 20, timeout: Duration::from_secs(60), ..of(owner) };
    let greedy = Arc::new(step(&host, &hoarder().apply(SPIN), own("p/greedy")).await);
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        let greedy = Arc::clone(&greedy);
        calls.spawn(async move { greedy.apply(&event()).await });
    }
    // Three instances of 10 MiB and a bit work; a fourth would leave less than it has.
    for _ in 0..3 {
        let fault = calls.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!((fault.whose, fault.code), (Whose::Operator, Code::StepTimeout), "{fault}");
        assert_eq!(
            fault.detail,
            "module guest: no memory was free for it: all transforms together may use limits.memory = \"64MiB\", and a \
             subscription no more than it leaves to others; raise it in hookmill.toml"
        );
    }
    assert!(calls.try_join_next().is_none(), "the others go on");
    let modest = step(&host, &hoarder(), own("p/modest")).await;
    assert_eq!(modest.apply(&event()).await, Ok(Verdict::Keep));
}

#[tokio::test]
async fn idle_instances_end_and_give_everything_back() {
    let idle = Duration::from_millis(40);
    let host = host_of(HostSettings { instances: 8, idle, ..HostSettings::default() });
    let step = step(&host, &hoarder(), of("p/s")).await;
    assert_eq!(step.apply(&event()).await, Ok(Verdict::Keep));
    let used = || host.memory().used_bytes();
    let late = Instant::now() + Duration::from_secs(30);
    while used() > 0 {
        assert!(Instant::now() < late, "{} bytes are held", used());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(step.apply(&event()).await, Ok(Verdict::Keep), "and are made again when needed");
    assert!(used() > 10 << 20);
}

/// A guest that traps unless all of its memory is as its file says, and then writes all over it.
fn careful() -> Guest {
    let look = "(local.set $n (i32.const 70000))
        (loop $l
          (if (i32.ne (i32.const 0) (i32.load (local.get $n))) (then unreachable))
          (i32.store (local.get $n) (i32.const -1))
          (local.set $n (i32.add (local.get $n) (i32.const 4)))
          (br_if $l (i32.lt_u (local.get $n) (i32.const 126000))))
        (if (i32.ne (i32.const 0) (global.get $secret)) (then unreachable))
        (global.set $secret (i32.const 42))";
    Guest::keep().more("(global $secret (mut i32) (i32.const 0))").apply(look)
}

#[tokio::test]
async fn nothing_of_an_instance_is_left_for_the_next_one_in_its_place() {
    // One place for all: every instance lies where the one before it lay.
    let host = host_with(1);
    let fresh = |owner| Settings { isolation: Isolation::Event, ..of(owner) };
    let one = step(&host, &careful(), fresh("p/one")).await;
    let other = step(&host, &careful(), fresh("p/other")).await;
    let traps = step(&host, &careful().apply("unreachable"), fresh("p/traps")).await;
    for _ in 0..5 {
        assert_eq!(one.apply(&event()).await, Ok(Verdict::Keep));
        assert_eq!(other.apply(&event()).await, Ok(Verdict::Keep));
        let fault = traps.apply(&event()).await.unwrap_err();
        assert_eq!(fault.code, Code::GuestTrap);
    }
    // The guest does tell: an instance that meets what it wrote itself traps.
    let kept = step(&host, &careful(), of("p/kept")).await;
    assert_eq!(kept.apply(&event()).await, Ok(Verdict::Keep));
    assert_eq!(kept.apply(&event()).await.unwrap_err().code, Code::GuestTrap);
    assert_eq!(kept.apply(&event()).await, Ok(Verdict::Keep), "after the trap there is nothing left of it");
}

#[tokio::test]
async fn an_instance_serves_a_bounded_number_of_calls() {
    let count = "(global.set $seen (i32.add (global.get $seen) (i32.const 1)))
        (if (i32.gt_u (global.get $seen) (i32.const 10000)) (then unreachable))";
    let guest = Guest::keep().more("(global $seen (mut i32) (i32.const 0))").apply(count);
    let step = step(&host_with(2), &guest, patient()).await;
    for _ in 0..10_050 {
        assert_eq!(step.apply(&event()).await, Ok(Verdict::Keep));
    }
}
