//! Modules that are refused before an event comes near them, and with which words.

use super::{code, component};
use crate::guest::{Guest, built, embed};

/// One module that must not be loaded.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What the table calls it.
    pub name: &'static str,
    /// The module.
    pub module: Vec<u8>,
    /// The inside of the table `settings`.
    pub settings: &'static str,
    /// What the refusal must say.
    pub says: &'static str,
}

const SPIN: &str = "(loop $l (br $l))";
const TOO_LONG: &str = "starting and configuring it took longer than 2s";
const NOT_RUN: &str = "precompiled native code, which is never run";

/// All of them, in the order of the table.
pub fn refusals() -> Vec<Refusal> {
    [set_up(), imports(), native(), lies(), sizes(), features(), costs()].into_iter().flatten().collect()
}

fn refusal(name: &'static str, module: Vec<u8>, says: &'static str) -> Refusal {
    Refusal { name, module, settings: "", says }
}

fn set_up() -> Vec<Refusal> {
    let start =
        |name, instructions: &str, says| refusal(name, Guest::keep().start(instructions).core(), says);
    let mode = |name, settings, says| Refusal { settings, ..refusal(name, built("hostile"), says) };
    vec![
        start("spin in start", SPIN, TOO_LONG),
        start("trap in start", "unreachable", "it trapped"),
        start(
            "grow memory in start",
            "(if (i32.eq (i32.const -1) (memory.grow (i32.const 60000))) (then unreachable))",
            "it needs more than memory = \"128MiB\"",
        ),
        mode("spin in configure", "mode = \"spin_in_configure\"", TOO_LONG),
        mode("trap in configure", "mode = \"trap_in_configure\"", "it trapped"),
        mode("grow memory in configure", "mode = \"grow_in_configure\"", "it needs more than memory"),
        mode("settings that it refuses", "mode = \"refuse_settings\"", "these settings are wrong"),
    ]
}

fn imports() -> Vec<Refusal> {
    let component =
        |name, interface: &str| refusal(name, component::importing(interface), "which no transform gets");
    let core = |name, import: &str| {
        let text = Guest::keep().text().replacen("(module", &format!("(module {import}"), 1);
        let world = "package test:guest; world guest { include hookmill:transform/transform@0.1.0; }";
        refusal(name, embed(&text, &[world]), "can't be made a component")
    };
    vec![
        component("import HTTP", "wasi:http/outgoing-handler@0.2.10"),
        component("import a database", "acme:database/query@1.0.0"),
        component("import WASI 0.3", "wasi:sockets/types@0.3.0"),
        component("import another contract", "hookmill:transform/secrets@0.1.0"),
        core("import the network, core", "(import \"env\" \"connect\" (func (param i32 i32) (result i32)))"),
        core(
            "import files, core",
            "(import \"wasi_snapshot_preview1\" \"path_open\"
               (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))",
        ),
    ]
}

fn native() -> Vec<Refusal> {
    let engine = wasmtime::Engine::default();
    let component = engine.precompile_component(&component::honest()).expect("it compiles");
    let module = engine.precompile_module(&Guest::keep().core()).expect("it compiles");
    let elf = std::fs::read("/proc/self/exe").unwrap_or_else(|_| b"\x7fELF\x02\x01\x01".to_vec());
    vec![
        refusal("native code, a component", component, NOT_RUN),
        refusal("native code, a module", module, NOT_RUN),
        refusal("a program", elf[..elf.len().min(1 << 20)].to_vec(), NOT_RUN),
        refusal("a program for Windows", b"MZ\x90\0\x03\0\0\0".to_vec(), "is no WebAssembly"),
        refusal("a script", b"#!/bin/sh\necho hello\n".to_vec(), "is no WebAssembly"),
        refusal("nothing", Vec::new(), "the file is empty"),
    ]
}

fn lies() -> Vec<Refusal> {
    const CONTRACT: &str = "breaks the hookmill:transform contract";
    let honest = component::honest();
    let core = Guest::keep().text();
    let world = "package test:guest; world guest { include hookmill:transform/transform@0.1.0; }";
    let but = |what: &str, instead: &str| {
        assert!(core.contains(what), "no {what:?} in the module");
        embed(&core.replace(what, instead), &[world])
    };
    let apply = "(func (export \"hookmill:transform/handler@0.1.0#apply\") (param $event i32) (result i32)";
    let other_type = apply.replace("(param $event i32)", "(param $event i64)");
    let elsewhere = apply.replace("#apply", "#implement");
    vec![
        refusal("an event of another shape", component::other_event(), CONTRACT),
        refusal("a verdict of another shape", component::other_verdict(), CONTRACT),
        refusal("configure without settings", component::other_arity(), CONTRACT),
        refusal("a handler that is a function", component::handler_is_a_function(), CONTRACT),
        refusal(
            "a function of another type inside",
            component::core_function_of_another_type(),
            "doesn't compile",
        ),
        refusal("apply of another type, core", but(apply, &other_type), "can't be made a component"),
        refusal("no apply, core", but(apply, &elsewhere), "can't be made a component"),
        refusal(
            "no memory, core",
            but("(memory (export \"memory\")", "(memory"),
            "can't be made a component",
        ),
        refusal(
            "a core module without contract",
            wat::parse_str("(module)").expect("text"),
            "without the hookmill",
        ),
        refusal(
            "a component without handler",
            wat::parse_str("(component)").expect("text"),
            "doesn't export",
        ),
        refusal("half of a component", honest[..honest.len() / 2].to_vec(), "doesn't compile"),
        refusal(
            "a component with a broken end",
            [&honest[..], b"\x01\xff\xff\xff\xff\x0f"].concat(),
            "doesn't compile",
        ),
    ]
}

fn sizes() -> Vec<Refusal> {
    let core = |more: &str, pages: u32| Guest::keep().more(more).pages(pages).core();
    vec![
        refusal("65 MiB", component::with_custom_section(65 << 20), "the limit is 64MiB"),
        refusal("memory of 1 GiB to begin with", core("", 16_384), "it needs more than memory = \"128MiB\""),
        refusal("a table of a million", core("(table 1000000 funcref)", 4), "doesn't compile"),
        refusal("41 core instances", component::core_instances(40), "doesn't compile"),
        refusal("80,000 globals of 16 bytes", component::fat_instances(1, 80_000), "doesn't compile"),
        refusal("a type of 2^40 parts", component::doubling_type(40), "doesn't compile"),
    ]
}

fn features() -> Vec<Refusal> {
    let with =
        |name, definition: &str| refusal(name, component::with_definition(definition), "doesn't compile");
    vec![
        with("shared memory", "(core module (memory 1 1 shared))"),
        with(
            "atomic waits",
            "(core module (memory 1) (func (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))))",
        ),
        with("garbage-collected types", "(core module (type (struct (field i32))))"),
        with("exceptions", "(core module (tag))"),
        with(
            "asynchronous functions",
            "(core module $a (func (export \"f\"))) (core instance $a (instantiate $a))
            (func async (canon lift (core func $a \"f\") async))",
        ),
        with("threads", "(core type $t (func (param i32))) (core func (canon thread.spawn-ref $t))"),
    ]
}

/// What the compiler's limits are for.
fn costs() -> Vec<Refusal> {
    // What both messages end with, that of time and that of memory: which limit is met first is the compiler's business.
    let refusal = |name, module| refusal(name, module, "build it for size, split it up, or raise");
    vec![
        refusal("50 MiB of code", code::bulk(50 << 20)),
        refusal("5,000 loops around 5,000 locals", code::loops(5_000, 5_000)),
        refusal("2^24 instances", component::doubling(24)),
        refusal("10,000 components in components", component::deep(10_000)),
    ]
}
