//! The table of who may name whom, and the check.

use std::fmt;

use super::lexer::{Placed, Token};
use super::sources::Source;

/// What every stage may use.
const TOOLS: [&str; 5] = ["cesql", "egress", "nats", "schema", "telemetry"];
/// The stages, in the order of an event's path.
const STAGES: [&str; 6] = ["source", "validate", "filter", "transform", "llm", "deliver"];

/// What a part may name of ours, besides itself.
fn allowed(part: &str) -> Option<Vec<&'static str>> {
    let shared = [&["model"], &TOOLS[..]].concat();
    let allowed = match part {
        // What flows through the engine knows nothing of who handles it.
        "model" => vec![],
        // Lanes are pure as well: they are handed times and random draws.
        "telemetry" | "lane" => vec!["model"],
        // A tool knows what flows, and telemetry.
        _ if TOOLS.contains(&part) => vec!["model", "telemetry"],
        // A stage never knows another stage, nor the files that set it up.
        _ if STAGES.contains(&part) => shared,
        // The one composes the settings of all stages, the other alone knows their order.
        "config" | "pipeline" => [&shared[..], &STAGES, &["lane"]].concat(),
        "worker" => [&shared[..], &STAGES, &["lane", "pipeline", "shutdown"]].concat(),
        // What is uploaded is checked by the stage that will run it.
        "server" => [&shared[..], &["lane", "pipeline", "shutdown", "transform", "worker"]].concat(),
        "shutdown" => vec!["model", "telemetry"],
        // Puts everything together.
        "cli" => {
            let own = ["config", "lane", "pipeline", "server", "shutdown", "worker"];
            [&shared[..], &STAGES, &own].concat()
        }
        _ => return None,
    };
    Some(allowed)
}

/// Crates with one home (or two), so that replacing one touches one place.
const HOMES: [(&str, &[&str]); 29] = [
    ("async_nats", &["nats"]),
    ("axum", &["server"]),
    ("clap", &["cli"]),
    ("hmac", &["deliver"]),
    ("hyper", &["egress", "server"]),
    ("hyper_rustls", &["egress"]),
    ("hyper_util", &["egress", "server"]),
    ("indicatif", &["cli"]),
    ("jsonschema", &["schema"]),
    ("metrics_exporter_prometheus", &["telemetry", "server"]),
    ("nix", &["transform"]),
    ("notify", &["cli"]),
    ("rustix", &["cli", "model", "transform"]),
    ("rustls", &["egress", "nats", "server"]),
    ("rustls_native_certs", &["egress"]),
    ("rustls_pki_types", &["egress", "server"]),
    ("similar", &["cli"]),
    ("subtle", &["server"]),
    ("tokio_rustls", &["server"]),
    ("toml", &["config"]),
    ("tracing_subscriber", &["telemetry"]),
    ("wasm_encoder", &["transform"]),
    ("wasmparser", &["transform"]),
    ("utoipa", &["server"]),
    ("utoipa_axum", &["server"]),
    ("wasmtime", &["transform"]),
    ("wasmtime_wasi", &["transform"]),
    ("webpki", &["egress"]),
    ("wit_component", &["transform"]),
];

/// Who owns tasks, threads and child processes.
const SPAWNERS: [&str; 3] = ["worker", "server", "cli"];

/// Words that a pure part has no use for: clocks, I/O, randomness, waiting.
const IMPURE: [&str; 12] = [
    "async",
    "await",
    "env",
    "fs",
    "io",
    "net",
    "process",
    "rand",
    "thread",
    "tokio",
    "Instant",
    "SystemTime",
];

/// A place where a rule doesn't hold, and why.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Exception {
    pub(super) path: &'static str,
    pub(super) what: &'static str,
    because: &'static str,
}

/// All exceptions. One that isn't needed any more fails the test.
pub(super) const EXCEPTIONS: &[Exception] = &[
    Exception {
        path: "server/receiver.rs",
        what: "crate::deliver",
        because: "the receiver of `hookmill listen` verifies what deliver signs; a second verifier would prove less",
    },
    Exception {
        path: "server/admin/problem.rs",
        what: "crate::config",
        because: "the stable codes of errors are one list, for files, command line and admin API",
    },
    Exception {
        path: "transform/compile/child.rs",
        what: "spawn",
        because: "the thread that ends the compiler's process with the engine",
    },
    Exception { path: "transform/compile/mod.rs", what: "spawn", because: "the compiler's child process" },
    Exception {
        path: "transform/host.rs",
        what: "spawn",
        because: "a scoped thread: a caller that blocks may stand in a runtime, which allows no second one",
    },
    Exception { path: "transform/idle.rs", what: "spawn", because: "the thread that ends unused instances" },
    Exception { path: "transform/ticker.rs", what: "spawn", because: "the thread of the epoch ticker" },
];

/// A broken rule.
#[derive(Debug)]
pub(super) struct Finding {
    path: String,
    line: usize,
    what: String,
    message: String,
}

impl Finding {
    pub(super) fn exception(&self) -> Option<&'static Exception> {
        EXCEPTIONS.iter().find(|exception| exception.path == self.path && exception.what == self.what)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "engine/src/{}:{}: {}", self.path, self.line, self.message)
    }
}

/// All broken rules of one file. `main.rs` and `lib.rs` only name the parts.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let part = source.part();
    if ["main", "lib"].contains(&part) {
        return Vec::new();
    }
    let Some(allowed) = allowed(part) else {
        let message = format!("the part {part} has no place in the table of tests/tests/structure/rules.rs");
        return vec![finding(source, 1, part, message)];
    };
    let mut findings = parts_named(source, &allowed);
    findings.extend(crates_named(source));
    findings.extend(spawns(source));
    if part == "lane" {
        findings.extend(impure_words(source));
    }
    findings
}

fn finding(source: &Source, line: usize, what: &str, message: String) -> Finding {
    Finding { path: source.path.clone(), line, what: what.to_owned(), message }
}

fn parts_named(source: &Source, allowed: &[&str]) -> Vec<Finding> {
    let part = source.part();
    let forbidden = |name: &str| name != part && is_part(name) && !allowed.contains(&name);
    let may = if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") };
    let named = (0..source.tokens.len()).flat_map(|at| root_names(source, at));
    named
        .filter(|(name, _)| forbidden(name))
        .map(|(name, line)| {
            let message = format!("{part} must not name crate::{name}: it may name {may}");
            finding(source, line, &format!("crate::{name}"), message)
        })
        .collect()
}

fn is_part(name: &str) -> bool {
    allowed(name).is_some()
}

/// The names right below the crate's root in the path that starts at `at`, if one starts there that leads to the root:
/// `crate::…`, or enough of `super::`.
fn root_names(source: &Source, at: usize) -> Vec<(&str, usize)> {
    let tokens = &source.tokens;
    let preceded = at > 0 && tokens[at - 1].0 == Token::Path;
    let after = match tokens[at].0.word() {
        Some("crate") => at + 1,
        Some("super") if !preceded => match after_supers(tokens, at, source.depth()) {
            Some(after) => after,
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    if tokens.get(after).is_none_or(|(token, _)| *token != Token::Path) {
        return Vec::new();
    }
    first_names(&tokens[after + 1..])
}

/// Position after `super::super` if there are exactly `depth` of them.
fn after_supers(tokens: &[Placed], at: usize, depth: usize) -> Option<usize> {
    let mut after = at + 1;
    for _ in 1..depth {
        let next = tokens.get(after..after + 2)?;
        if next[0].0 != Token::Path || next[1].0.word() != Some("super") {
            return None;
        }
        after += 2;
    }
    Some(after)
}

/// `a` of `a::b`; `a` and `c` of `{a::b, c::{d, e}}`.
fn first_names(tokens: &[Placed]) -> Vec<(&str, usize)> {
    match tokens.first() {
        Some((Token::Word(word), line)) => vec![(word, *line)],
        Some((Token::Sign('{'), _)) => names_of_group(tokens),
        _ => Vec::new(),
    }
}

fn names_of_group(tokens: &[Placed]) -> Vec<(&str, usize)> {
    let (mut depth, mut names, mut at_start) = (0_usize, Vec::new(), true);
    for (token, line) in tokens {
        match token {
            Token::Sign('{') => depth += 1,
            Token::Sign('}') if depth == 1 => break,
            Token::Sign('}') => depth -= 1,
            Token::Sign(',') if depth == 1 => at_start = true,
            Token::Word(word) if depth == 1 && at_start => {
                names.push((word.as_str(), *line));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

/// Crates named away from their home: `name::…` at the start of a path, or `use name;`.
fn crates_named(source: &Source) -> Vec<Finding> {
    let part = source.part();
    let tokens = &source.tokens;
    let mut findings = Vec::new();
    for (at, (token, line)) in tokens.iter().enumerate() {
        let home = token.word().and_then(|word| HOMES.iter().find(|(name, _)| *name == word));
        let Some((name, homes)) = home else { continue };
        let before = at.checked_sub(1).map(|at| &tokens[at].0);
        // `::name` starts a path as well, `other::name` doesn't.
        let continued = before == Some(&Token::Path) && at > 1 && follows_name(&tokens[at - 2].0);
        let used = before.and_then(Token::word) == Some("use");
        let path = tokens.get(at + 1).is_some_and(|(next, _)| *next == Token::Path);
        if (used || path) && !continued && !homes.contains(&part) {
            let message = format!("{part} must not name {name}: its home is {}", homes.join(" and "));
            findings.push(finding(source, *line, name, message));
        }
    }
    findings
}

fn follows_name(token: &Token) -> bool {
    token.word().is_some_and(|word| word != "use") || token.is('>')
}

fn spawns(source: &Source) -> Vec<Finding> {
    let part = source.part();
    if SPAWNERS.contains(&part) {
        return Vec::new();
    }
    let tokens = &source.tokens;
    let calls = tokens.iter().enumerate().filter(|(at, (token, _))| {
        let named = matches!(token.word(), Some("spawn" | "spawn_local" | "spawn_on"));
        let called = tokens.get(at + 1).is_some_and(|(next, _)| next.is('('));
        let defined = *at > 0 && tokens[at - 1].0.word() == Some("fn");
        named && called && !defined
    });
    let message = || format!("{part} must not spawn: {} own what runs", SPAWNERS.join(", "));
    calls.map(|(_, (_, line))| finding(source, *line, "spawn", message())).collect()
}

fn impure_words(source: &Source) -> Vec<Finding> {
    let tokens = &source.tokens;
    let words = tokens.iter().enumerate().filter_map(|(at, (token, line))| Some((at, token.word()?, *line)));
    // `now` is a fine name for a time that was handed in; `Timestamp::now` is a clock.
    let is_clock = |at: usize, word: &str| word == "now" && at > 0 && tokens[at - 1].0 == Token::Path;
    let impure = words.filter(|(at, word, _)| IMPURE.contains(word) || is_clock(*at, word));
    let found = impure.map(|(_, word, line)| {
        let message = format!("lane is pure and must not name {word}: time and randomness are handed in");
        finding(source, line, word, message)
    });
    found.collect()
}
