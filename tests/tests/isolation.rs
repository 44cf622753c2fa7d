//! A guest that remembers all it sees, and traps as soon as it sees what it must not: another subscription's events, or
//! anything from before a trap.

use std::collections::BTreeSet;

use hookmill_tests::guest::{Guest, SPACE};
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour};

use crate::scene::{SOON, Scene, event, event_id};

/// Events of each kind; fewer than open a circuit.
const ROUNDS: u64 = 15;

/// Of an event it knows the first letter of the id, which says whose it is, and the second: `!` means that it traps.
fn suspicious() -> Vec<u8> {
    let meets = |what: &str| format!("(if {what} (then unreachable))");
    let seen = format!("(i32.load8_u (i32.const {SPACE}))");
    let letter = |at: u32| format!("(i32.load8_u offset={at} (i32.load (local.get $event)))");
    let other = format!("(i32.and (i32.ne {seen} (i32.const 0)) (i32.ne {seen} {}))", letter(0));
    let trapped = format!("(i32.load (i32.const {}))", SPACE + 4);
    let both = meets(&other)
        + &meets(
            "(i32.and (i32.ne (global.get $owner) (i32.const 0)) (i32.ne (global.get $owner) (local.get $n)))",
        );
    let guest = Guest::keep()
        .more("(global $owner (mut i32) (i32.const 0))")
        .apply(&format!("(local.set $n {})", letter(0)))
        .apply(&both)
        .apply(&meets(&trapped))
        .apply(&format!("(i32.store8 (i32.const {SPACE}) (local.get $n)) (global.set $owner (local.get $n))"))
        .apply(&format!(
            "(if (i32.eq {} (i32.const 33)) (then (i32.store (i32.const {}) (i32.const 1)) unreachable))",
            letter(1),
            SPACE + 4
        ));
    guest.core()
}

#[tokio::test]
async fn nothing_of_one_subscription_or_from_before_a_trap_is_ever_seen_again() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let subscription = |name: &str, more: &str| {
        let url = format!("{}/{name}", endpoint.url());
        format!(
            "[[subscription]]\nname = \"{name}\"\ntypes = [\"{name}\"]\n[[subscription.step]]\n\
             transform = \"./suspicious.wasm\"\n{more}\n[subscription.deliver]\nurl = \"{url}\"\n"
        )
    };
    let pipeline = ["a", "b", "t"].map(|name| subscription(name, "")).concat()
        + &subscription("f", "isolation = \"event\"");
    let folder = PipelineFolder::with("p", &pipeline);
    folder.write("suspicious.wasm", suspicious());
    // One place for all of them: each instance lies where another one's lay.
    let config = folder.write("settings/hookmill.toml", "[limits]\ninstances = 1\n");
    let server = NatsServer::start().await;
    let options = Engine::run(&server).arg(format!("--config={}", config.display()));
    let scene = Scene::open_with(server, folder, options).await;
    let ids =
        |kind: &str| -> BTreeSet<String> { (0..ROUNDS).map(|number| format!("{kind}{number}")).collect() };
    for number in 0..ROUNDS {
        let kinds = ["a-", "t!", "b-", "t-", "f-"];
        scene.publish(kinds.map(|kind| event(&format!("{kind}{number}"), &kind[..1], ""))).await;
    }
    let rounds = usize::try_from(ROUNDS).expect("a few");
    endpoint.wait_for_delivered(4 * rounds, SOON).await;
    let letters = scene.letters(ROUNDS).await;
    assert!(letters.iter().all(|letter| letter.end() == ("t", "rejected")), "{letters:#?}");
    let dead = letters.iter().filter_map(|letter| letter.0["event"]["id"].as_str()).map(str::to_owned);
    assert_eq!(dead.collect::<BTreeSet<_>>(), ids("t!"));
    let came: BTreeSet<String> = endpoint.requests().iter().map(event_id).collect();
    assert_eq!(came, ["a-", "b-", "t-", "f-"].into_iter().flat_map(ids).collect());
    scene.quiet().await;
}
