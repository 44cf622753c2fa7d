//! What is a module, what is none, and what the author is told.

use std::sync::Arc;

use super::super::testing::{Guest, embed, embed_lie, event, host, patient};
use super::super::{Host, HostSettings, ModuleError, Step};
use crate::model::Verdict;

fn refused(bytes: &[u8]) -> ModuleError {
    host().load("m", bytes).unwrap_err()
}

#[tokio::test]
async fn a_component_and_its_core_module_do_the_same() {
    let host = host();
    let guest = Guest::drop("x");
    for bytes in [guest.core(), guest.component()] {
        let module = host.load("m", &bytes).unwrap();
        let step = Step::new(Arc::clone(&host), module, patient()).await.unwrap();
        assert_eq!(step.apply(&event()).await, Ok(Verdict::Drop("x".into())));
    }
}

#[test]
fn a_module_goes_by_its_name_and_the_digest_of_its_bytes() {
    let host = host();
    let bytes = Guest::keep().core();
    let one = host.load("one", &bytes).unwrap();
    let two = host.load("two", &bytes).unwrap();
    assert_eq!(one.name(), "one");
    assert_eq!(one.digest(), two.digest());
    assert!(one.digest().starts_with("sha256:") && one.digest().len() == 71);
    assert_eq!(two.label(), format!("two@{}", two.digest()));
    assert!(std::ptr::eq(one.digest(), two.digest()), "compiled once");
}

#[tokio::test]
async fn modules_load_in_the_background() {
    let host = host();
    let bytes = bytes::Bytes::from(Guest::keep().core());
    assert_eq!(host.load_in_background("m", bytes).await.unwrap().name(), "m");
}

#[test]
fn what_is_no_wasm_is_told_apart() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "module m is no WebAssembly: the file is empty"),
        (b"#!/bin/sh\n", "module m is no WebAssembly: it doesn't begin with \\0asm"),
        (b"\0asm", "module m is no WebAssembly: an encoding of a version that isn't known here"),
        (
            b"  (module)",
            "module m is no WebAssembly: WebAssembly text; make it binary with `wasm-tools parse`",
        ),
        (b"\0asm\x02\0\0\0", "module m is no WebAssembly: an encoding of a version that isn't known here"),
        (b"version https://git-lfs.github.com/spec/v1\n", "module m is no WebAssembly: a Git LFS pointer"),
        (b"\0asm\x0d\0\x01\0\xff\xff", "module m doesn't compile"),
    ];
    for (bytes, text) in cases {
        let error = refused(bytes).to_string();
        assert!(error.starts_with(text), "{error}");
    }
}

#[test]
fn native_code_is_never_run() {
    let host = host();
    let engine = wasmtime::Engine::default();
    let native = engine.precompile_component(&Guest::keep().component()).unwrap();
    let error = host.load("m", &native).unwrap_err();
    assert!(matches!(error, ModuleError::Precompiled { .. }), "{error}");
    assert!(matches!(refused(b"\x7fELF\x02\x01\x01"), ModuleError::Precompiled { .. }));
    assert_eq!(
        error.to_string(),
        "module m is precompiled native code, which is never run; give the .wasm file that it was compiled from"
    );
}

#[test]
fn a_core_module_without_the_contract_is_refused() {
    let plain = wat::parse_str("(module (func (export \"apply\")))").unwrap();
    let error = refused(&plain);
    assert!(matches!(error, ModuleError::NoContract { .. }), "{error}");
    assert!(error.to_string().contains("build it with wit-bindgen"), "{error}");
}

#[test]
fn a_core_module_that_wants_preview_1_is_told_its_target() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "hookmill:transform/handler@0.1.0#configure") (param i32 i32) (result i32) unreachable)
        (func (export "hookmill:transform/handler@0.1.0#apply") (param i32) (result i32) unreachable))"#;
    let error = refused(&embed(text));
    assert!(matches!(error, ModuleError::Encode { .. }), "{error}");
    assert!(error.to_string().contains("wasm32-unknown-unknown"), "{error}");
}

#[test]
fn unknown_imports_are_named_with_what_helps() {
    let importing = |name: &str| {
        let text = format!("(component (import \"{name}\" (instance (export \"f\" (func)))))");
        refused(&wat::parse_str(text).unwrap()).to_string()
    };
    let error = importing("wasi:http/outgoing-handler@0.2.10");
    assert!(
        error.starts_with("module m imports wasi:http/outgoing-handler@0.2.10, which no transform gets"),
        "{error}"
    );
    assert!(error.contains("disableFeatures"), "{error}");
    let error = importing("acme:database/query@1.0.0");
    assert!(
        error.starts_with("module m imports acme:database/query@1.0.0, which no transform gets"),
        "{error}"
    );
    let error = importing("hookmill:transform/log@0.2.0");
    assert!(error.contains("another version of the contract"), "{error}");
}

#[test]
fn known_imports_of_another_shape_are_refused() {
    let text = r#"(component
        (import "hookmill:transform/log@0.1.0" (instance (export "shout" (func))))
        (instance $handler)
        (export "hookmill:transform/handler@0.1.0" (instance $handler)))"#;
    let error = refused(&wat::parse_str(text).unwrap());
    assert!(matches!(error, ModuleError::Contract { .. }), "{error}");
    assert!(error.to_string().contains("shout"), "{error}");
}

#[test]
fn a_component_without_the_handler_is_refused_with_what_it_has() {
    let error = refused(&wat::parse_str("(component)").unwrap());
    assert_eq!(
        error.to_string(),
        "module m doesn't export hookmill:transform/handler@0.1.0, nor anything else; build it against the WIT of this \
         version"
    );
    let text = r#"(component (instance $i) (export "hookmill:transform/handler@0.2.0" (instance $i)))"#;
    let error = refused(&wat::parse_str(text).unwrap()).to_string();
    assert!(error.contains(", but hookmill:transform/handler@0.2.0; build it"), "{error}");
}

#[test]
fn a_handler_of_another_shape_is_refused() {
    let text = r#"(component (instance $i) (export "hookmill:transform/handler@0.1.0" (instance $i)))"#;
    let error = refused(&wat::parse_str(text).unwrap());
    assert!(matches!(error, ModuleError::Contract { .. }), "{error}");
    assert!(error.to_string().contains("configure") || error.to_string().contains("apply"), "{error}");
}

/// Cut off anywhere: its last section is said to go on beyond the end of the file.
#[test]
fn a_core_module_that_is_cut_off_is_refused() {
    let whole = Guest::keep().core();
    let host = host();
    for length in 8..whole.len() {
        let error = host.load("m", &whole[..length]).unwrap_err();
        let named = matches!(error, ModuleError::Compile { .. } | ModuleError::NoContract { .. });
        assert!(named, "{length}: {error}");
    }
}

#[test]
fn a_handler_that_lies_about_its_types_is_refused() {
    let text = Guest::keep().text("");
    let lies = [
        ("source: string,", "", "apply: expected record of 9 fields, found 8 fields"),
        ("    keep,\n", "", "apply: expected variant of 4 cases, found 3 cases"),
        ("id: string,", "id: char,", "apply: type mismatch for field id: expected `string` found `char`"),
        ("result<_, string>", "result<_, list<u8>>", "configure: "),
    ];
    for (what, instead, says) in lies {
        let error = refused(&embed_lie(&text, what, instead));
        assert!(matches!(error, ModuleError::Contract { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error} should say {says:?}");
    }
}

#[test]
fn what_is_called_the_handler_must_be_an_interface() {
    let text = r#"(component (core module $m (func (export "f"))) (core instance $m (instantiate $m))
        (func $f (canon lift (core func $m "f"))) (export "hookmill:transform/handler@0.1.0" (func $f)))"#;
    let error = refused(&wat::parse_str(text).unwrap());
    assert!(matches!(error, ModuleError::Contract { .. }), "{error}");
}

#[test]
fn a_module_has_a_largest_size() {
    let host = Host::new(HostSettings { module_bytes_max: 1 << 10, instances: 1, ..HostSettings::default() })
        .unwrap();
    let error = host.load("m", &[0; 1025]).unwrap_err().to_string();
    assert_eq!(error, "module m is 1025 bytes, the limit is 1KiB; strip debug information or build for size");
}

#[test]
fn a_host_without_instances_is_refused() {
    let error = Host::new(HostSettings { instances: 0, ..HostSettings::default() }).unwrap_err();
    assert_eq!(error.to_string(), "limits.instances is 0: no transform could run");
}

#[test]
fn what_the_sandbox_has_no_room_for_is_the_modules_fault() {
    let instances = "(core instance (instantiate $m))".repeat(50);
    let error = refused(
        &wat::parse_str(format!(
            r#"(component (core module $m) {instances} (instance $handler)
            (export "hookmill:transform/handler@0.1.0" (instance $handler)))"#
        ))
        .unwrap(),
    );
    assert!(!error.may_pass(), "{error}");
}
