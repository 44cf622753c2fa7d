//! Many dead letters at once.

use std::time::{Duration, Instant};

use hookmill_tests::engine::{LogLine, Said, hookmill_watched_at_terminal};
use hookmill_tests::{Cable, Engine, behaviour, eventually};

use super::stock::put_letters;
use crate::mill::{LATER, Mill};

/// What the command has at work at most, and so may repeat after a kill.
const AT_ONCE: usize = 64;
/// More than a command holds at once, many times over.
const MANY: usize = 20_000;

async fn mill() -> Mill {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let said = mill.command(&["init"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    mill
}

/// Runs a command to its end: exit code 0, its last line on stderr, how long it took and the most memory that it had, in KiB.
async fn measured(mill: &Mill, arguments: &[&str]) -> (String, Duration, u64) {
    let began = Instant::now();
    let url = mill.server.url();
    let command = Engine::command(&[arguments, &["--nats", &url]].concat()).spawn();
    let status = format!("/proc/{}/status", command.process_id());
    let mut most = 0;
    eventually(LATER * 5, "the command has ended", || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = text
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = peak.unwrap_or(0).max(most);
        std::future::ready(if command.is_running() { Err(format!("{most} KiB")) } else { Ok(()) })
    })
    .await;
    assert_eq!(command.wait().await, 0, "{:?}", command.lines().last());
    let took = began.elapsed();
    let summaries = [" redriven, 0 can't be", " discarded", " dead letters"];
    let summary = |line: &LogLine| summaries.iter().any(|summary| line.text.contains(summary));
    let last = command.wait_for_line("its summary", LATER, summary).await;
    (last.text, took, most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_are_listed_redriven_and_discarded_in_as_much_memory_as_a_few() {
    let mill = mill().await;
    let mut peaks = Vec::new();
    for count in [500, MANY] {
        for (arguments, stream) in [
            (&["dlq", "redrive", "--all"][..], "HOOKMILL_LANES"),
            (&["dlq", "discard", "--reason", "exhausted", "--yes"], ""),
        ] {
            put_letters(&mill, 1..=count).await;
            mill.holds("HOOKMILL_DLQ", count as u64).await;
            let (said, took, listed) = measured(&mill, &["dlq", "list"]).await;
            println!("list {count}: {took:?}, {listed} KiB, {said}");
            let (said, took, peak) = measured(&mill, arguments).await;
            println!("{arguments:?} {count}: {took:?}, {peak} KiB, {said}");
            assert!(said.starts_with(&count.to_string()), "{said}");
            mill.holds("HOOKMILL_DLQ", 0).await;
            if !stream.is_empty() {
                mill.holds(stream, count as u64).await;
                let lanes = mill.jetstream.get_stream(stream).await.expect("it is there");
                lanes.purge().await.expect("it is emptied");
            }
            peaks.push((count, listed, peak));
        }
    }
    // Twenty thousand of them are 40 MB on the wire, and more in memory.
    for at in 0..2 {
        let ((_, listed, peak), (_, listed_many, peak_many)) = (peaks[at], peaks[at + 2]);
        assert!(listed_many < listed + 24_000 && peak_many < peak + 24_000, "{peaks:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_that_is_killed_goes_on_when_it_is_run_again_and_nothing_is_lost() {
    const COUNT: usize = 2_000;
    let mill = mill().await;
    put_letters(&mill, 1..=COUNT).await;
    let cable = Cable::to(mill.server.address()).await;
    // So that many are always on their way.
    cable.delay(Duration::from_millis(20));
    let mut repeats = 0;
    for kill_at in [100, 700] {
        let arguments = ["dlq", "redrive", "--all", "--json", "--nats", &cable.nats_url()];
        let command = Engine::command(&arguments).spawn();
        eventually(LATER, "it is in the middle", || async {
            let done = command.lines().len();
            if done >= kill_at { Ok(()) } else { Err(done.to_string()) }
        })
        .await;
        command.kill().await;
        let left = mill.stream_state("HOOKMILL_DLQ").await.expect("it is there").messages;
        assert!(left > 0, "it was killed in the middle");
        repeats += AT_ONCE;
    }
    let said = mill.command(&["dlq", "redrive", "--all"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    mill.holds("HOOKMILL_DLQ", 0).await;
    let in_lanes = mill.stream_state("HOOKMILL_LANES").await.expect("it is there").messages;
    let extra = usize::try_from(in_lanes).expect("few") - COUNT;
    assert!(extra <= repeats, "{extra} of them are there twice");
    let _engine = mill.engine().start().await;
    mill.delivered(1..=COUNT).await;
    mill.holds("HOOKMILL_LANES", 0).await;
    assert!(mill.endpoint.received() <= COUNT + extra, "each at most as often as it was stored");
}

#[tokio::test]
async fn a_rate_is_kept() {
    let mill = mill().await;
    put_letters(&mill, 1..=300).await;
    let began = Instant::now();
    let said = mill.command(&["dlq", "redrive", "--all", "--rate", "100/s"]).await;
    let took = began.elapsed();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.stderr, "300 redriven, 0 can't be\n");
    // Less a burst of 5.
    assert!(took > Duration::from_millis(2_900), "{took:?}");
    for wrong in ["fast", "0/s", "5/d", "100"] {
        let said = mill.command(&["dlq", "redrive", "--all", "--rate", wrong]).await;
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stderr.contains("500/s, 30/m or 500/h"), "{said:?}");
    }
}

#[tokio::test]
async fn a_bar_is_drawn_at_a_terminal_and_nowhere_else() {
    let mill = mill().await;
    put_letters(&mill, 1..=300).await;
    let url = mill.server.url();
    let redrive = ["dlq", "redrive", "--all", "--rate", "100/s", "--nats", &url];
    let Said { code, stdout, stderr } = hookmill_watched_at_terminal(&redrive).await;
    assert_eq!((code, &*stdout), (0, ""), "{stderr}");
    assert!(stderr.contains("redriving [=") && stderr.contains("/300 "), "{stderr:?}");
    assert!(stderr.trim_end().ends_with("300 redriven, 0 can't be"), "{stderr:?}");
    put_letters(&mill, 1..=3).await;
    let json = ["dlq", "redrive", "--all", "--json", "--nats", &url];
    let said = hookmill_watched_at_terminal(&json).await;
    assert_eq!((said.code, said.stdout.lines().count()), (0, 3));
    assert_eq!(said.stderr.trim_end(), "3 redriven, 0 can't be");
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let mill = mill().await;
    put_letters(&mill, 1..=700).await;
    let said = mill.command(&["dlq", "redrive", "--reason", "exhausted", "--dry-run"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "700 would be redriven, 0 can't be\n"));
    let said = mill.command(&["dlq", "discard", "--pipeline", "orders", "--dry-run"]).await;
    assert_eq!((said.code, &*said.stderr), (0, "700 would be discarded\n"));
    mill.holds("HOOKMILL_DLQ", 700).await;
    mill.holds("HOOKMILL_LANES", 0).await;
}

#[tokio::test]
async fn a_full_lane_stops_a_redrive_and_leaves_the_rest() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let settings = mill.folder.write("hookmill.settings", "[limits]\nlane = 100\n");
    let engine = mill.engine().arg("--config").arg(settings).start().await;
    let said = mill.command(&["lane", "pause", "orders/hook"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    put_letters(&mill, 1..=300).await;
    let said = mill.command(&["dlq", "redrive", "--all"]).await;
    assert_eq!((said.code, &*said.stdout), (1, ""), "{said:?}");
    let lines: Vec<&str> = said.stderr.lines().collect();
    let [refused, stopped, summary] = lines[..] else { panic!("{said:?}") };
    // Which one meets the full lane first isn't certain: many are on their way at once.
    assert!(refused.starts_with("error: dead letter "), "{refused}");
    let expected = "(orders/hook) is not redriven: its lane can't take it: JetStream refuses";
    assert!(refused.contains(expected), "{refused}");
    assert!(stopped.starts_with("stopped there: the others stay in the dead letters"), "{stopped}");
    assert_eq!(summary, "100 redriven, 1 can't be");
    mill.holds("HOOKMILL_DLQ", 200).await;
    mill.command(&["lane", "resume", "orders/hook"]).await;
    mill.endpoint.wait_for_delivered(100, LATER).await;
    mill.holds("HOOKMILL_LANES", 0).await;
    // The same command goes on, as often as the lane gets full again before the engine has emptied it.
    while mill.command(&["dlq", "redrive", "--all"]).await.code != 0 {
        mill.holds("HOOKMILL_LANES", 0).await;
    }
    mill.holds("HOOKMILL_DLQ", 0).await;
    mill.delivered(1..=300).await;
    assert_eq!(engine.terminate().await, 0);
}

#[tokio::test]
async fn letters_in_a_stream_without_direct_gets_are_read_one_by_one() {
    let mill = mill().await;
    let stream = mill.jetstream.get_stream("HOOKMILL_DLQ").await.expect("it is there");
    let mut config = stream.cached_info().config.clone();
    config.allow_direct = false;
    mill.jetstream.update_stream(config).await.expect("it is changed");
    put_letters(&mill, 1..=10).await;
    let lines = mill.json(&["dlq", "list"]).await;
    let sequences: Vec<_> = lines.iter().filter_map(|line| line["sequence"].as_u64()).collect();
    assert_eq!(sequences, (1..=10).collect::<Vec<_>>());
}
