//! A guest that says which version it is: it passes every event on as it came, with one more header.

use std::fmt::Write as _;

use wit_component::StringEncoding;
use wit_parser::Resolve;

const WIT: &str = include_str!("../../transforms/wit/transform.wit");

/// The header that it sets.
pub const HEADER: &str = "x-version";

/// The module. Two texts make two modules with different bytes; both do the same work.
pub fn stamp(version: &str) -> Vec<u8> {
    Stamp { version, ..Stamp::fine() }.module()
}

/// The same with something special, or wrong, about it.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'v> {
    /// What it says.
    pub version: &'v str,
    /// Whether `configure` says no.
    pub refuses: bool,
    /// Whether `apply` traps.
    pub traps: bool,
    /// For how long `apply` works on each event, by the clock.
    pub seconds: u32,
    /// Functions that are never called: something to do for the compiler.
    pub functions: usize,
}

impl Stamp<'static> {
    /// Nothing special: it says `fine`.
    pub fn fine() -> Self {
        Self { version: "fine", refuses: false, traps: false, seconds: 0, functions: 0 }
    }
}

impl Stamp<'_> {
    /// The core module, with the contract in it as wit-bindgen would have left it.
    pub fn module(self) -> Vec<u8> {
        let mut module = wat::parse_str(self.text()).expect("the text is WebAssembly");
        let mut resolve = Resolve::default();
        let package = resolve.push_str("transform.wit", WIT).expect("the contract is WIT");
        let world = resolve.select_world(&[package], Some("transform")).expect("it has the world");
        wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
            .expect("it can hold the contract");
        module
    }

    /// What `apply` returns lies at 1024: ok, replace, the 92 bytes of the event that came, one header.
    fn text(self) -> String {
        let Self { version, refuses, traps, seconds, functions } = self;
        let (header, version_bytes, no) = (HEADER.len(), version.len(), u8::from(refuses));
        let more: String = (0..functions).map(idle).collect();
        let trap = if traps { "unreachable" } else { "" };
        format!(
            r#"(module
  (import "hookmill:transform/clock@0.1.0" "now" (func $now (result i64)))
  (memory (export "memory") 17)
  (data (i32.const 16) "\{no:02x}\00\00\00\40\00\00\00\02\00\00\00")
  (data (i32.const 64) "no")
  (data (i32.const 256) "{HEADER}")
  (data (i32.const 320) "{version}")
  (global $free (mut i32) (i32.const 65536))
  {more}
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (if (i32.gt_u (global.get $free) (i32.const 1114112)) (then unreachable))
    (local.get $at))
  (func (export "hookmill:transform/handler@0.1.0#configure") (param i32 i32) (result i32)
    (global.set $free (i32.const 65536))
    (i32.const 16))
  (func (export "hookmill:transform/handler@0.1.0#apply") (param $event i32) (result i32) (local $end i64)
    {trap}
    (local.set $end (i64.add (call $now) (i64.const {seconds}000)))
    (loop $work (br_if $work (i64.lt_u (call $now) (local.get $end))))
    (global.set $free (i32.const 65536))
    (i64.store (i32.const 1024) (i64.const 0))
    (memory.copy (i32.const 1032) (local.get $event) (i32.const 92))
    (i32.store (i32.const 1124) (i32.const 1200))
    (i32.store (i32.const 1128) (i32.const 1))
    (i32.store (i32.const 1200) (i32.const 256))
    (i32.store (i32.const 1204) (i32.const {header}))
    (i32.store (i32.const 1208) (i32.const 320))
    (i32.store (i32.const 1212) (i32.const {version_bytes}))
    (i32.const 1024)))"#
        )
    }
}

/// A function of about 200 bytes that nobody calls.
fn idle(number: usize) -> String {
    let mut text = String::from("(func (param i64) (result i64) ");
    for term in 0..20 {
        let (factor, shift) = (number * 31 + term, (number + term) % 63 + 1);
        let product = format!("(i64.mul (local.get 0) (i64.const {factor}))");
        let shifted = format!("(i64.shr_u (local.get 0) (i64.const {shift}))");
        write!(text, "(local.set 0 (i64.xor {product} {shifted}))").expect("memory takes it");
    }
    text + "(local.get 0))\n"
}
