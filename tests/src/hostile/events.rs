//! Guests that misbehave on an event, and what must become of it.

use hookmill::model::Timestamp;
use serde_json::{Value, json};

use super::component;
use super::wasi;
use crate::guest::{Guest, built};

/// What must become of each event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Delivered.
    Delivered,
    /// A dead letter with this reason, whose text holds that.
    Dead(&'static str, &'static str),
}

/// One way to misbehave.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the table calls it.
    pub name: &'static str,
    /// The module.
    pub module: Vec<u8>,
    /// The inside of the table `settings`.
    pub settings: String,
    /// Further lines of the step.
    pub step: &'static str,
    /// The data of the events, one after the other and over again.
    pub data: Vec<Value>,
    /// What must become of each event.
    pub end: End,
}

/// A time-out that a test need not wait for long.
const SHORT: &str = "timeout = \"100ms\"";
/// One that a busy machine doesn't reach.
const LONG: &str = "timeout = \"30s\"";
/// What a time-out leaves.
const TIMEOUT: End = End::Dead("step_timeout", "took longer than 100ms");
/// What a trap leaves.
const TRAP: End = End::Dead("rejected", "it trapped");
/// What an answer leaves that can't be read.
const UNREADABLE: End = End::Dead("rejected", "what it returned can't be taken");
/// What an answer leaves that can be read and isn't allowed.
const NOT_ALLOWED: End = End::Dead("rejected", "breaks the contract");

const SPIN: &str = "(loop $l (br $l))";
/// Only for the event, not for the settings: those are text, and text needs no alignment.
const FOR_THE_EVENT: &str = "(i32.gt_u (local.get 2) (i32.const 1))";
/// Fills 100 MiB, and nothing interrupts that.
const FILL: &str = "(memory.fill (i32.const 262144) (i32.const 1) (i32.const 104857600))";
const ROOM_TO_FILL: &str = "(drop (memory.grow (i32.const 1604)))";

/// How long after [`cases`] was called one of them begins to spin in `configure`: the engine is ready long before.
pub const LATE_MILLIS: u64 = 45_000;

/// All of them, in the order of the table.
pub fn cases() -> Vec<Case> {
    let all = [time(), memory(), traps(), unreadable(), not_allowed(), texts(), nothing_there(), shapes()];
    all.into_iter().flatten().chain([late()]).collect()
}

fn case(name: &'static str, module: Vec<u8>, step: &'static str, end: End) -> Case {
    Case { name, module, settings: String::new(), step, data: vec![json!({"private": "zzPRIVATEzz"})], end }
}

/// A mode of `transforms/hostile`.
fn mode(name: &'static str, settings: &str, step: &'static str, end: End) -> Case {
    Case { settings: settings.to_owned(), ..case(name, built("hostile"), step, end) }
}

fn wat(name: &'static str, guest: &Guest, step: &'static str, end: End) -> Case {
    case(name, guest.core(), step, end)
}

fn apply(name: &'static str, instructions: &str, step: &'static str, end: End) -> Case {
    wat(name, &Guest::keep().apply(instructions), step, end)
}

fn time() -> Vec<Case> {
    let tail_calls = Guest::keep().more("(func $again (return_call $again))").apply("(call $again)");
    let realloc = Guest::keep().realloc(&format!("(if {FOR_THE_EVENT} (then {SPIN}))"));
    let fills = format!("{ROOM_TO_FILL} (loop $l {FILL} (br $l))");
    let fill = format!("{ROOM_TO_FILL} {FILL}");
    vec![
        mode("spin", "mode = \"spin\"", SHORT, TIMEOUT),
        wat("spin by tail calls", &tail_calls, SHORT, TIMEOUT),
        wat("spin after the answer", &Guest::keep().post(SPIN), SHORT, TIMEOUT),
        wat("spin where memory is asked for", &realloc, SHORT, TIMEOUT),
        apply("ask for the time without end", "(loop $l (drop (call $now)) (br $l))", SHORT, TIMEOUT),
        apply("fill memory without end", &fills, SHORT, TIMEOUT),
        apply("fill 100 MiB in one instruction", &fill, LONG, End::Delivered),
    ]
}

fn memory() -> Vec<Case> {
    let at_once = "(if (i32.eq (i32.const -1) (memory.grow (i32.const 60000))) (then unreachable))";
    let tables = Guest::keep().more("(table $t 1 funcref)").apply(
        "(loop $l (br_if $l (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const 500))))) unreachable",
    );
    let limit = End::Dead("rejected", "it needs more than memory = \"8MiB\"");
    vec![
        mode("grow memory", "mode = \"grow\"", "memory = \"8MiB\"", limit),
        apply("grow memory at once", at_once, "memory = \"8MiB\"", limit),
        wat("grow tables", &tables, LONG, End::Dead("rejected", "a table of more than 20000 elements")),
        mode("recursion", "mode = \"recurse\"", LONG, TRAP),
    ]
}

fn traps() -> Vec<Case> {
    let when_asked =
        |instructions: &str| Guest::keep().realloc(&format!("(if {FOR_THE_EVENT} (then {instructions}))"));
    vec![
        mode("trap in apply", "mode = \"trap\"", LONG, TRAP),
        wat("trap after the answer", &Guest::keep().post("unreachable"), LONG, TRAP),
        wat("trap where memory is asked for", &when_asked("unreachable"), LONG, TRAP),
        wat("call out where memory is asked for", &when_asked("(drop (call $now))"), LONG, TRAP),
        wat("give memory that isn't there", &when_asked("(return (i32.const -8))"), LONG, UNREADABLE),
        wat("give memory that isn't aligned", &when_asked("(return (i32.const 131073))"), LONG, UNREADABLE),
        mode("retry for ever", "mode = \"retry\"", LONG, End::Dead("step_failed", "asks to try again")),
    ]
}

/// What the answer is made of lies as the canonical ABI has it: the result's tag at 1024, the verdict's at 1028, what
/// belongs to the verdict from 1032.
fn unreadable() -> Vec<Case> {
    let drop = |name, instructions: &str| wat(name, &Guest::drop().apply(instructions), LONG, UNREADABLE);
    let keep = |name, instructions: &str| apply(name, instructions, LONG, UNREADABLE);
    // 1,024 outputs with the same 4 MiB as their data.
    let repeated = "(drop (memory.grow (i32.const 100))) (i32.store (i32.const 1028) (i32.const 1))
        (i32.store (i32.const 1032) (i32.const 262144)) (i32.store (i32.const 1036) (i32.const 1024))
        (loop $l
          (i32.store8 (i32.add (i32.const 262224) (i32.mul (local.get $n) (i32.const 100))) (i32.const 1))
          (i32.store (i32.add (i32.const 262232) (i32.mul (local.get $n) (i32.const 100))) (i32.const 4194304))
          (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1024))))";
    let million = "(drop (memory.grow (i32.const 1600))) (i32.store (i32.const 1028) (i32.const 1))
        (i32.store (i32.const 1032) (i32.const 262144)) (i32.store (i32.const 1036) (i32.const 1000000))";
    vec![
        mode("huge output", "mode = \"huge_output\", bytes = 100000000", "memory = \"256MiB\"", UNREADABLE),
        keep("a split into a million", million),
        keep("the same 4 MiB, 1,024 times", repeated),
        drop("text that is no UTF-8", "(i32.store8 (i32.const 1040) (i32.const 255))"),
        drop("text at no place", "(i32.store (i32.const 1032) (i32.const -1000))"),
        drop("text without end", "(i32.store (i32.const 1036) (i32.const -1))"),
        keep("a verdict that doesn't exist", "(i32.store (i32.const 1028) (i32.const 77))"),
        keep("a result that doesn't exist", "(i32.store8 (i32.const 1024) (i32.const 9))"),
        keep("an answer that isn't aligned", "(return (i32.const 1026))"),
        keep("an answer at no place", "(return (i32.const -16))"),
    ]
}

fn not_allowed() -> Vec<Case> {
    let told = |name, what: &str, pairs: &[(&str, &str)]| Case {
        data: pairs.iter().map(|pair| json!({what: [pair]})).collect(),
        ..mode(name, "mode = \"as_told\"", LONG, NOT_ALLOWED)
    };
    let names =
        ["", "Not-Allowed", "UPPER", "a b", "ä", "a\r\nb", "a\0", "specversion", "data", "data_base64"];
    let mut attributes = names.map(|name| (name, "x")).to_vec();
    let long = "x".repeat(5_000_000);
    attributes.extend([("ok", "a\0b"), ("ok", "a\r\nb"), ("ok", "\u{fffe}"), ("id", ""), ("type", "")]);
    attributes.extend([("source", "a b"), ("time", "noon"), ("subject", ""), ("dataschema", "/relative")]);
    attributes.extend([("datacontenttype", "no type"), ("subject", "a\u{7f}")]);
    let reserved =
        ["webhook-id", "webhook-timestamp", "webhook-signature", "host", "content-length", "content-type"];
    let more =
        ["ce-id", "ce-hookmill", "transfer-encoding", "connection", "keep-alive", "te", "upgrade", "expect"];
    let broken =
        ["", "X-Upper", "a b", "a:b", "x\r\nwebhook-id: y", "x\n", "ä", "traceparent", "proxy-authorization"];
    let headers: Vec<_> =
        [&reserved[..], &more, &broken].concat().into_iter().map(|name| (name, "x")).collect();
    let values = ["eu\r\nx-evil: 1", "eu\nx-evil: 1", "eu\r", "\0", "\t", "ä", "\u{7f}"];
    let data_of_another_type = Case {
        data: vec![json!({"attributes": [["datacontenttype", "text/plain; charset=\r\nx"]]})],
        ..mode("a content type with a line break", "mode = \"as_told\"", LONG, NOT_ALLOWED)
    };
    let lengths = vec![json!({"headers": [["x-long", &long[..20_000]]]})];
    vec![
        told("attributes that aren't allowed", "attributes", &attributes),
        mode("an attribute twice", "mode = \"duplicate_attribute\"", LONG, NOT_ALLOWED),
        data_of_another_type,
        told("headers of others, and what is none", "headers", &headers),
        told("line breaks in headers", "headers", &values.map(|value| ("x-shop", value))),
        Case { data: lengths, ..mode("a header of 20 kB", "mode = \"as_told\"", LONG, NOT_ALLOWED) },
        mode("10,000 headers", "mode = \"many_headers\"", LONG, NOT_ALLOWED),
        mode("a split into 1,025", "mode = \"split\", count = 1025", LONG, NOT_ALLOWED),
    ]
}

fn texts() -> Vec<Case> {
    let log = |name, at: i32, len: i32, end| {
        apply(name, &format!("(call $log (i32.const 2) (i32.const {at}) (i32.const {len}))"), LONG, end)
    };
    vec![
        mode("log flood", "mode = \"log_flood\"", LONG, End::Delivered),
        mode("huge log", "mode = \"huge_log\"", LONG, TRAP),
        log("a log line at no place", -1000, 10, TRAP),
        apply(
            "a log line that is no UTF-8",
            "(i32.store8 (i32.const 2048) (i32.const 255)) (call $log (i32.const 2) (i32.const 2048) (i32.const 1))",
            LONG,
            TRAP,
        ),
        apply(
            "a log level that doesn't exist",
            "(call $log (i32.const 9) (i32.const 0) (i32.const 0))",
            LONG,
            TRAP,
        ),
    ]
}

fn nothing_there() -> Vec<Case> {
    vec![
        wat("look for files, variables, arguments", &wasi::look_around(), LONG, End::Delivered),
        wat("open sockets, resolve names", &wasi::network(), LONG, End::Delivered),
        wat("sleep for a minute", &wasi::sleep(), SHORT, TIMEOUT),
        wat("hoard handles of the host", &wasi::hoard(), LONG, TRAP),
        wat("wait for 100,000 things at once", &wasi::crowd(), LONG, TRAP),
        wat("ask for 4 GiB of randomness", &wasi::randomness(), LONG, TRAP),
        wat("exit", &wasi::exit(), LONG, TRAP),
    ]
}

fn shapes() -> Vec<Case> {
    let case = |name, module| case(name, module, LONG, End::Delivered);
    let text = "x".repeat(50 << 20);
    let data = Guest::keep().pages(900).more(&format!("(data (i32.const 262144) \"{text}\")")).core();
    vec![
        case("components in components", component::nested(20)),
        case("40 core instances", component::core_instances(39)),
        case("40 core instances with 1 MiB of globals", component::fat_instances(39, 1_450)),
        case("a module of 50 MiB, all data", data),
        case("a module of 50 MiB, all names", component::with_custom_section(50 << 20)),
    ]
}

/// Spins in `configure` once the engine has checked and started it.
fn late() -> Case {
    let late = Timestamp::now().unix_millis() + LATE_MILLIS;
    let guest =
        Guest::keep().configure(&format!("(if (i64.gt_u (call $now) (i64.const {late})) (then {SPIN}))"));
    let end = End::Dead("step_timeout", "starting and configuring it took longer than 2s");
    wat("spin in configure, but only later", &guest, "isolation = \"event\"", end)
}
