//! Who may import whom: reads `engine/src/**/*.rs` and keeps the rules of `rules.rs`. What is behind `#[cfg(test)]` is
//! free.

mod lexer;
mod rules;
mod sources;

use std::path::Path;

use self::rules::{EXCEPTIONS, Finding, check};
use self::sources::{Source, read};

fn engine_sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the checkout")
        .join("engine/src");
    read(&root)
}

/// What the rules say of made-up files, as `path:line: message`.
fn judge(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    let sources: Vec<Source> = sources::without_test_modules(sources);
    sources.iter().flat_map(check).map(|finding| finding.to_string()).collect()
}

#[test]
fn every_part_imports_only_what_its_place_allows() {
    let sources = engine_sources();
    assert!(sources.len() > 20, "only {} source files found", sources.len());
    let findings: Vec<Finding> = sources.iter().flat_map(check).collect();
    let unexcused: Vec<String> =
        findings.iter().filter(|finding| finding.exception().is_none()).map(ToString::to_string).collect();
    assert!(unexcused.is_empty(), "import rules are broken:\n{}", unexcused.join("\n"));
    for exception in EXCEPTIONS {
        let used = findings.iter().any(|finding| finding.exception() == Some(exception));
        assert!(used, "the exception for {} and {:?} is not needed any more", exception.path, exception.what);
    }
}

#[test]
fn a_forbidden_import_is_found_with_file_and_line() {
    let model = "use std::fmt;\n\nuse crate::deliver::Settings;\n";
    assert_eq!(
        judge(&[("model/event.rs", model)]),
        ["engine/src/model/event.rs:3: model must not name crate::deliver: it may name nothing of ours"]
    );
    let filter = "fn a() {\n    crate::config::load();\n}\n";
    assert_eq!(
        judge(&[("filter.rs", filter)]),
        [
            "engine/src/filter.rs:2: filter must not name crate::config: it may name model, cesql, egress, nats, schema, telemetry"
        ]
    );
}

#[test]
fn imports_are_found_in_groups_through_super_and_under_other_names() {
    for (path, text, found) in [
        ("deliver/mod.rs", "use crate::{model::Event, filter::{A, B}, nats};", "crate::filter"),
        ("deliver/mod.rs", "use crate::{\n    validate as other,\n};", "crate::validate"),
        ("deliver/mod.rs", "use super::source::Start;", "crate::source"),
        ("deliver/live.rs", "use super::super::transform::Host;", "crate::transform"),
        ("deliver/mod.rs", "use super::{source, model};", "crate::source"),
        ("filter.rs", "pub(in crate::worker) fn a() {}", "crate::worker"),
    ] {
        let findings = judge(&[(path, text)]);
        assert_eq!(findings.len(), 1, "{text}: {findings:?}");
        assert!(findings[0].contains(found), "{findings:?}");
    }
}

#[test]
fn what_only_looks_like_an_import_is_left_alone() {
    let text = r##"
//! Like `crate::worker`, see crate::config.
/* crate::worker /* nested crate::worker */ crate::worker */
const A: &str = "crate::worker \" crate::worker";
const B: &str = r#"tokio::spawn(" crate::worker"#;
const C: (char, char) = ('"', '\'');
fn longest<'a>(a: &'a str) -> &'a str { a }
use super::settings; // crate::worker
use self::super_worker;
"##;
    assert_eq!(judge(&[("deliver/endpoint.rs", text)]), [""; 0]);
}

#[test]
fn test_modules_are_free_inline_and_in_files() {
    let deliver =
        "mod a;\n#[cfg(test)]\nmod tests {\n    use crate::worker::{Engine};\n}\n#[cfg(test)]\nmod live;\n";
    let files = [
        ("deliver/mod.rs", deliver),
        ("deliver/live.rs", "use crate::worker;"),
        ("deliver/live/more.rs", "use crate::worker;"),
        ("schema.rs", "#[cfg(test)]\nmod tests;\n"),
        ("schema/tests.rs", "use crate::worker;"),
    ];
    assert_eq!(judge(&files), [""; 0]);
    let after = "#[cfg(test)]\nmod tests {\n}\nuse crate::worker;\n";
    assert_eq!(judge(&[("deliver/mod.rs", after)]).len(), 1, "what follows a test module is looked at");
}

#[test]
fn each_crate_has_one_home() {
    for (path, text, named) in [
        ("worker/mod.rs", "use async_nats::Client;", "async_nats"),
        ("deliver/mod.rs", "fn a(r: hyper::Request<()>) {}", "hyper"),
        ("config/mod.rs", "use clap::Parser;", "clap"),
        ("pipeline.rs", "use ::wasmtime::Engine;", "wasmtime"),
    ] {
        let findings = judge(&[(path, text)]);
        assert_eq!(findings.len(), 1, "{text}: {findings:?}");
        assert!(findings[0].contains(&format!("must not name {named}")), "{findings:?}");
    }
    assert_eq!(judge(&[("nats/connect.rs", "use async_nats::Client;")]), [""; 0]);
    // A module or a method of that name is none of ours to forbid.
    assert_eq!(judge(&[("deliver/mod.rs", "use super::x::axum; fn f(a: A) { a.toml() }")]), [""; 0]);
}

#[test]
fn tasks_are_spawned_by_their_owners_alone() {
    for text in ["fn a() { tokio::spawn(b()); }", "fn a(s: &mut S) { s.spawn(b()); }"] {
        assert_eq!(judge(&[("source.rs", text)]).len(), 1, "{text}");
        assert_eq!(judge(&[("worker/mod.rs", text)]), [""; 0]);
    }
    assert_eq!(judge(&[("source.rs", "fn spawn(a: A) {} // spawn(")]), [""; 0]);
}

#[test]
fn lanes_read_no_clock_and_do_no_io() {
    for text in [
        "use std::time::Instant;",
        "fn a() { Timestamp::now(); }",
        "async fn a() {}",
        "use std::{fmt, fs};",
        "use tokio::time;",
        "fn a() -> f64 { rand::random() }",
    ] {
        let findings = judge(&[("lane/circuit.rs", text)]);
        assert_eq!(findings.len(), 1, "{text}: {findings:?}");
    }
    assert_eq!(judge(&[("lane/retry.rs", "use std::time::Duration; use crate::model::Timestamp;")]), [""; 0]);
}

#[test]
fn a_part_that_the_table_does_not_know_is_reported() {
    assert_eq!(
        judge(&[("novelty/mod.rs", "")]),
        [
            "engine/src/novelty/mod.rs:1: the part novelty has no place in the table of tests/tests/structure/rules.rs"
        ]
    );
}

#[test]
fn every_file_of_tests_is_part_of_the_test_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let main = std::fs::read_to_string(folder.join("main.rs")).expect("main.rs can be read");
    for entry in std::fs::read_dir(&folder).expect("the folder can be read") {
        let path = entry.expect("an entry can be read").path();
        let module = path.file_stem().expect("it has a name").display().to_string();
        let declared = module == "main" || main.lines().any(|line| line == format!("mod {module};"));
        assert!(declared, "tests/tests/main.rs doesn't declare {module}, so its tests never run");
    }
}

/// Work that the engine spawns beside its standing loops: one event, one lane, one write, one end. Everything else goes through
/// `supervised.rs`, or a panic in it would be seen by nobody.
const SPAWNS_ONCE: [(&str, usize); 8] = [
    ("worker/attempt.rs", 1),
    ("worker/drain.rs", 1),
    ("worker/lane_record.rs", 2),
    ("worker/misconfigured.rs", 1),
    // One message, and the two that go through `turn_after_turn` themselves.
    ("worker/mod.rs", 3),
    ("worker/succession.rs", 3),
    ("worker/supervised.rs", 1),
    ("worker/whole.rs", 1),
];

#[test]
fn every_standing_loop_of_the_engine_is_supervised() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("in the checkout").join("engine/src");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join("worker")).expect("it is there").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("it can be read");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let spawns = ["tracker.spawn(", "intake.spawn(", "house.spawn("];
        let count: usize = spawns.iter().map(|spawn| code.matches(spawn).count()).sum();
        if count > 0 {
            found.push((format!("worker/{}", entry.file_name().to_string_lossy()), count));
        }
    }
    found.sort();
    let known: Vec<_> = SPAWNS_ONCE.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect();
    assert_eq!(found, known, "spawn it with keep_going, or say here that it runs once");
}
