//! Guests for tests, written in WebAssembly text, so that one can do and return anything at all: what the toolchains
//! would never let through as well.

use std::fmt::Write as _;
use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

/// Where the answer of `apply` lies in a guest's memory.
pub const ANSWER: u32 = 1024;
/// A page that nothing else uses.
pub const SPACE: u32 = 65_536;

/// `keep`: the result is ok, the verdict the last of four.
const KEEP: &str = r"\00\00\00\00\03\00\00\00\00\00\00\00\00\00\00\00";
/// `drop` of a text of four letters that lies behind it.
const DROP: &str = r"\00\00\00\00\02\00\00\00\10\04\00\00\04\00\00\00done";

/// A guest in the making. Each part is WebAssembly text.
#[derive(Clone, Debug)]
pub struct Guest {
    imports: String,
    world: String,
    packages: Vec<String>,
    more: String,
    start: String,
    configure: String,
    apply: String,
    post: String,
    realloc: String,
    answer: &'static str,
    pages: u32,
}

impl Guest {
    /// Keeps every event.
    pub fn keep() -> Self {
        let none = String::new;
        Self {
            imports: none(),
            world: none(),
            packages: Vec::new(),
            more: none(),
            start: none(),
            configure: none(),
            apply: none(),
            post: none(),
            realloc: none(),
            answer: KEEP,
            pages: 4,
        }
    }

    /// Drops every event, with `done` as the reason.
    pub fn drop() -> Self {
        Self { answer: DROP, ..Self::keep() }
    }

    /// What `apply` does before it returns. `$event` is where the event lies; `$n` and `$t` are free.
    #[must_use]
    pub fn apply(mut self, instructions: &str) -> Self {
        self.apply.push_str(instructions);
        self
    }

    /// What `configure` does before it says yes. `$n` and `$t` are free.
    #[must_use]
    pub fn configure(mut self, instructions: &str) -> Self {
        self.configure.push_str(instructions);
        self
    }

    /// What the start function does.
    #[must_use]
    pub fn start(mut self, instructions: &str) -> Self {
        self.start.push_str(instructions);
        self
    }

    /// What happens after the host has read the answer.
    #[must_use]
    pub fn post(mut self, instructions: &str) -> Self {
        self.post.push_str(instructions);
        self
    }

    /// What happens before the host is given memory. A `return` gives it what the guest likes.
    #[must_use]
    pub fn realloc(mut self, instructions: &str) -> Self {
        self.realloc.push_str(instructions);
        self
    }

    /// Further definitions.
    #[must_use]
    pub fn more(mut self, definitions: &str) -> Self {
        self.more.push_str(definitions);
        self
    }

    /// Memory to begin with, in pages of 64 KiB.
    #[must_use]
    pub fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    /// A package of WIT that imports come from.
    #[must_use]
    pub fn package(mut self, wit: &str) -> Self {
        self.packages.push(wit.to_owned());
        self
    }

    /// Imports from a package's interface (`wasi:io/poll@0.2.0`), each function as the core module names it.
    #[must_use]
    pub fn import(mut self, interface: &str, functions: &[&str]) -> Self {
        writeln!(self.world, "import {interface};").expect("writing to memory does not fail");
        for function in functions {
            writeln!(self.imports, "(import \"{interface}\" {function})")
                .expect("writing to memory does not fail");
        }
        self
    }

    /// The core module as wit-bindgen would leave it: with the contract in it.
    pub fn core(&self) -> Vec<u8> {
        let world = format!(
            "package test:guest; world guest {{ include hookmill:transform/transform@0.1.0; {} }}",
            self.world
        );
        let packages: Vec<&str> = self.packages.iter().map(String::as_str).chain([world.as_str()]).collect();
        embed(&self.text(), &packages)
    }

    /// The component.
    pub fn component(&self) -> Vec<u8> {
        let mut encoder = ComponentEncoder::default();
        encoder
            .module(&self.core())
            .expect("the contract is in it")
            .encode()
            .expect("it fulfils the contract")
    }

    /// The core module's text.
    pub fn text(&self) -> String {
        let Self { imports, more, start, configure, apply, post, realloc, answer, pages, .. } = self;
        let start_function = if start.is_empty() { "" } else { "(start $start)" };
        let post_function = if post.is_empty() {
            String::new()
        } else {
            format!(
                "(func (export \"cabi_post_hookmill:transform/handler@0.1.0#apply\") (param i32)
                   (local $n i32) (local $t i64) {post})"
            )
        };
        format!(
            r#"(module
  {imports}
  (import "hookmill:transform/log@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "hookmill:transform/clock@0.1.0" "now" (func $now (result i64)))
  (memory (export "memory") {pages})
  (data (i32.const {ANSWER}) "{answer}")
  (global $free (mut i32) (i32.const 131072))
  {more}
  (func $start (local $n i32) (local $t i64) {start})
  {start_function}
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
    {realloc}
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $fits (i32.ne (i32.const -1)
        (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get 3) (i32.const 65536))))))
      unreachable)
    (local.get $at))
  (func (export "hookmill:transform/handler@0.1.0#configure") (param $settings i32) (param $len i32) (result i32)
    (local $n i32) (local $t i64)
    {configure}
    (i32.const 16))
  (func (export "hookmill:transform/handler@0.1.0#apply") (param $event i32) (result i32)
    (local $n i32) (local $t i64)
    (global.set $free (i32.const 131072))
    {apply}
    (i32.const {ANSWER}))
  {post_function})"#
        )
    }
}

/// A core module of this text with the contract's component type in it: that of the world `guest` of the last package.
pub fn embed(text: &str, packages: &[&str]) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let wit = checkout().join("transforms/wit/transform.wit");
    let wit = std::fs::read_to_string(wit).expect("the contract lies in the checkout");
    let mut resolve = Resolve::default();
    resolve.push_str("transform.wit", &wit).expect("the contract is valid");
    let mut package = None;
    for text in packages {
        package =
            Some(resolve.push_str("more.wit", text).unwrap_or_else(|error| panic!("{error:#}\n{text}")));
    }
    let package = package.expect("one has the world");
    let world =
        resolve.select_world(&[package], Some("guest")).expect("the last package has the world `guest`");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
        .expect("a custom section can be added");
    module
}

/// A module that `make modules` has built.
pub fn built(name: &str) -> Vec<u8> {
    let built = checkout().join(format!("transforms/dist/{name}.wasm"));
    std::fs::read(&built).unwrap_or_else(|_| panic!("no {}: run make modules first", built.display()))
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout")
}
