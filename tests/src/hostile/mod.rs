//! Modules that a stranger might upload: what they try, what must become of it, and how the others fare meanwhile.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `events` | guests that misbehave on an event |
//! | `refused` | modules that must not be loaded |
//! | `component`, `code`, `wasi` | what those are made of |
//! | `ground` | an engine with healthy subscriptions, and how fast they are |
//! | `memory`, `table` | what is measured, and how it is printed |
//!
//! The tests run all of it with few events, `make bench` with many.

pub mod code;
pub mod component;
pub mod events;
pub mod ground;
pub mod memory;
pub mod refused;
pub mod table;
pub mod wasi;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::engine::engine_command;
use crate::eventually;
use crate::folder::PipelineFolder;
use crate::guest::{Guest, built};
use crate::process::{Pipes, Process};
use events::{Case, End};
use ground::{Ground, SOON, Scale, between, event, step, subscription};
use refused::Refusal;
use table::Row;

/// Data that must not be seen anywhere.
const PRIVATE: &str = "zzPRIVATEzz";

/// Runs every case of [`events`] in one engine, one after the other.
pub async fn run_events(scale: Scale) -> Vec<Row> {
    let cases = events::cases();
    let begun = Instant::now();
    let name = |number: usize| format!("case-{number}");
    let files: Vec<_> = cases
        .iter()
        .enumerate()
        .map(|(number, case)| (format!("{}.wasm", name(number)), case.module.clone()))
        .collect();
    let ground = Ground::start(scale, &files, |url| {
        let numbered = cases.iter().enumerate();
        let subscriptions = numbered.map(|(number, case)| {
            let name = name(number);
            let step = step(&format!("{name}.wasm"), &case.settings, case.step);
            subscription(&name, &[&name], url, &step)
        });
        subscriptions.collect()
    })
    .await;
    let mut rows = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        if number + 1 == cases.len() {
            let late = Duration::from_millis(events::LATE_MILLIS);
            eventually(late + SOON, "the last case is late enough", || async {
                if begun.elapsed() > late { Ok(()) } else { Err("too early".to_owned()) }
            })
            .await;
        }
        rows.push(run_case(&ground, &name(number), case).await);
    }
    let log = ground.engine.lines();
    assert!(!log.iter().any(|line| line.text.contains(PRIVATE)), "payload in the log");
    let most = 500 + 4 * cases.len() * ground.scale.hostile;
    assert!(log.len() < most, "{} lines of log: a flood came through", log.len());
    rows
}

/// Healthy events alone, healthy ones with hostile ones among them, healthy ones alone.
async fn run_case(ground: &Ground, name: &str, case: &Case) -> Row {
    let messages = (0..ground.scale.hostile.max(case.data.len())).map(|number| {
        let data = case.data[number % case.data.len()].to_string();
        event(&format!("{name}-{number}"), name, &data)
    });
    let messages: Vec<_> = messages.collect();
    let count = messages.len();
    let before = ground.rate(Vec::new()).await;
    let memory_before = ground.memory();
    ground.forget_peak();
    let begun = Instant::now();
    let beside = ground.rate(messages).await;
    let ends = ground.ends(name, count, SOON).await;
    let seconds = begun.elapsed().as_secs_f64();
    let memory_after = ground.memory();
    let after = ground.rate(Vec::new()).await;
    let memory = memory_before.zip(memory_after).map(|(before, after)| [before.now, after.peak, after.now]);
    let others = Some(beside / between(before, after));
    let (outcome, wrong) = check_ends(ground, name, case, ends, count).await;
    Row { case: case.name.to_owned(), outcome, others, memory, seconds, wrong }
}

/// What became of the events, and what is wrong with that: all must have the same end, and nothing of them may be in
/// what is said about it.
async fn check_ends(
    ground: &Ground,
    name: &str,
    case: &Case,
    ends: [usize; 3],
    count: usize,
) -> (String, Vec<String>) {
    let letters = ground.letters(name).await;
    let error = |letter: &Value| letter["error"].as_str().unwrap_or_default().to_owned();
    let (outcome, expected) = match case.end {
        End::Delivered => ("delivered".to_owned(), [count, 0, 0]),
        End::Dead(..) => {
            let first = letters.first().map(error).unwrap_or_default();
            let said = first.strip_prefix("module ").and_then(|said| said.split_once(' '));
            let reason = letters.first().map_or("", |letter| letter["reason"].as_str().unwrap_or_default());
            (format!("dead letter `{reason}`: {}", said.map_or("", |(_, said)| said)), [0, 0, count])
        }
    };
    let mut wrong = Vec::new();
    if ends != expected || letters.len() != expected[2] {
        wrong.push(format!("{ends:?} are delivered, filtered, dead; {expected:?} should be"));
    }
    for letter in &letters {
        if let End::Dead(reason, says) = case.end
            && !(letter["reason"] == reason && error(letter).contains(says))
        {
            wrong.push(format!("{} {:?} should be {reason} {says:?}", letter["reason"], error(letter)));
        }
        if letter.to_string().contains(PRIVATE) {
            wrong.push(format!("payload in {letter}"));
        }
    }
    (outcome, wrong)
}

/// Checks every module of [`refused`], beside an engine that has healthy events to deliver.
pub async fn run_refusals(scale: Scale) -> Vec<Row> {
    let ground = Ground::start(scale, &[], |_| String::new()).await;
    let mut rows = Vec::new();
    for refusal in refused::refusals() {
        rows.push(run_refusal(&ground, &refusal).await);
    }
    rows
}

async fn run_refusal(ground: &Ground, refusal: &Refusal) -> Row {
    let Refusal { name, module, settings, says } = refusal;
    let text = subscription("strange", &[], "https://example.com", &step("strange.wasm", settings, ""));
    let folder = PipelineFolder::with("p", &text);
    folder.write("strange.wasm", module);
    let before = ground.rate(Vec::new()).await;
    let check = check(ground, &folder);
    let ((code, said, memory, seconds), beside) = futures_util::join!(check, ground.rate(Vec::new()));
    let problems: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let message = problems.first().and_then(|problem| problem["message"].as_str()).unwrap_or_default();
    let mut wrong = Vec::new();
    if (code, problems.len()) != (2, 1) || !message.contains(says) {
        wrong.push(format!("exit code {code}, {said:?} should say {says:?}"));
    }
    let said = message.split_once(" strange ").map_or(message, |(_, said)| said);
    let outcome = format!("refused: {said}");
    Row { case: (*name).to_owned(), outcome, others: Some(beside / before), memory, seconds, wrong }
}

/// `hookmill check` of a folder: exit code, what it found, the memory that it took, how long.
async fn check(ground: &Ground, folder: &PipelineFolder) -> (i32, String, Option<[u64; 3]>, f64) {
    let begun = Instant::now();
    let mut command = engine_command(&ground.scale.program);
    command.args(["check", "--json"]).arg(folder.path());
    if let Some(limits) = &ground.scale.limits {
        command.arg("--config").arg(folder.write("process/hookmill.toml", limits));
    }
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let (process, Pipes { stdout, .. }) =
        Process::spawn("hookmill check", command).expect("it can be started");
    let mut stdout = stdout.expect("asked for");
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).expect("a pipe can be read");
        text
    });
    let mut most = None;
    let status = loop {
        most = most.max(memory::of_family(process.pid()));
        if let Some(status) = process.exited() {
            break status;
        }
        assert!(begun.elapsed() < SOON, "hookmill check has not ended within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    let seconds = begun.elapsed().as_secs_f64();
    let said = reading.await.expect("the reader doesn't panic");
    (crate::process::exit_code(status), said, most.map(|most| [0, most, 0]), seconds)
}

/// A guest that keeps a KiB of memory, an element of a table and a handle of the host for ever, a call each.
fn leak() -> Guest {
    wasi::leak(Guest::drop()).more("(table $t 1 funcref) (global $calls (mut i32) (i32.const 0))").apply(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (if (i32.eqz (i32.and (global.get $calls) (i32.const 63)))
               (then (if (i32.eq (i32.const -1) (memory.grow (i32.const 1))) (then unreachable))))
             (if (i32.eq (i32.const -1) (table.grow $t (ref.null func) (i32.const 1))) (then unreachable))",
    )
}

/// Calls a guest that leaks for each output of a split into a thousand, `splits` times.
pub async fn run_leak(scale: Scale, splits: usize) -> Row {
    let files = [("split.wasm".to_owned(), built("hostile")), ("leak.wasm".to_owned(), leak().core())];
    let ground = Ground::start(scale, &files, |url| {
        let split = step("split.wasm", "mode = \"split\", count = 1000", "timeout = \"30s\"");
        subscription("leak", &["leak"], url, &(split + &step("leak.wasm", "", "timeout = \"30s\"")))
    })
    .await;
    let before = ground.rate(Vec::new()).await;
    let memory_before = ground.memory();
    ground.forget_peak();
    let begun = Instant::now();
    let messages = (0..splits).map(|number| event(&format!("leak-{number}"), "leak", "{}"));
    let beside = ground.rate(messages.collect()).await;
    let calls = 1000 * splits;
    let ends = ground.ends("leak", calls, 5 * SOON).await;
    let expected = [0, calls, 0];
    let wrong =
        if ends == expected { vec![] } else { vec![format!("{ends:?} are delivered, filtered, dead")] };
    let memory_after = ground.memory();
    let seconds = begun.elapsed().as_secs_f64();
    let memory = memory_before.zip(memory_after).map(|(before, after)| [before.now, after.peak, after.now]);
    let (case, outcome) =
        (format!("leak memory, table and handles over {calls} calls"), "dropped as it says");
    Row { case, outcome: outcome.to_owned(), others: Some(beside / before), memory, seconds, wrong }
}

/// A guest that spins on each of the events that the healthy subscriptions have, too; against the same without it.
pub async fn run_spinner(scale: Scale, rounds: usize) -> Row {
    let alone = Ground::start(scale.clone(), &[], |_| String::new()).await;
    let files = [("spin.wasm".to_owned(), built("hostile"))];
    let ground = Ground::start(scale, &files, |url| {
        subscription("spinner", &["good"], url, &step("spin.wasm", "mode = \"spin\"", ""))
    })
    .await;
    let memory_before = ground.memory();
    ground.forget_peak();
    let begun = Instant::now();
    let (mut before, mut beside) = (0.0, 0.0);
    // By turns, so that whatever else the machine does meets both alike.
    for _ in 0..rounds {
        before += alone.rate(Vec::new()).await;
        beside += ground.rate(Vec::new()).await;
    }
    let memory =
        memory_before.zip(ground.memory()).map(|(before, after)| [before.now, after.peak, after.now]);
    let seconds = begun.elapsed().as_secs_f64();
    let (case, outcome) = ("spin on every event".to_owned(), "the others go on".to_owned());
    Row { case, outcome, others: Some(beside / before), memory, seconds, wrong: Vec::new() }
}
