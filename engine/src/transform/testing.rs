//! Guests for tests, written in WebAssembly text: what each returns lies ready in its memory, laid out by the canonical
//! ABI, so that a guest can return anything at all.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wit_component::StringEncoding;

use super::{Host, HostSettings, Settings, Step};
use crate::model::event::EventParts;
use crate::model::{Event, Value};

const WIT: &str = include_str!("../../../transforms/wit/transform.wit");

/// Where the answer lies in a guest's memory.
const ANSWER: u32 = 1024;

/// A host with room for eight instances.
pub(super) fn host() -> Arc<Host> {
    host_with(8)
}

pub(super) fn host_with(instances: u32) -> Arc<Host> {
    host_of(HostSettings { instances, ..HostSettings::default() })
}

pub(super) fn host_of(settings: HostSettings) -> Arc<Host> {
    Host::new(settings).unwrap()
}

/// The defaults, for a machine that may be busy with a hundred other tests.
pub(super) fn patient() -> Settings {
    Settings { timeout: Duration::from_secs(30), ..Settings::default() }
}

pub(super) async fn step(host: &Arc<Host>, guest: &Guest, settings: Settings) -> Step {
    let module = host.load("guest", &guest.core()).unwrap();
    Step::new(Arc::clone(host), module, settings).await.unwrap()
}

pub(super) fn event() -> Event {
    let text = br#"{"specversion":"1.0","id":"1","source":"/shop","type":"order","data":{"total":12}}"#;
    Event::from_structured(&Bytes::from_static(text)).unwrap()
}

/// The parts of [`event`].
pub(super) fn parts() -> EventParts {
    EventParts::from(&event())
}

/// A guest in the making.
pub(super) struct Guest {
    /// Instructions of `configure` before it says yes.
    pub(super) configure: String,
    /// Instructions of `apply` before it returns what lies at [`ANSWER`].
    pub(super) apply: String,
    /// Further definitions: globals, functions.
    pub(super) more: String,
    answer: Vec<u8>,
    configure_error: Option<&'static str>,
}

impl Guest {
    fn answering(answer: Vec<u8>) -> Self {
        let none = String::new;
        Self { configure: none(), apply: none(), more: none(), answer, configure_error: None }
    }

    pub(super) fn keep() -> Self {
        Self::answering(vec![0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    pub(super) fn drop(why: &str) -> Self {
        Self::answering(said(0, 2, why))
    }

    pub(super) fn rejected(why: &str) -> Self {
        Self::answering(said(1, 0, why))
    }

    pub(super) fn retry(why: &str) -> Self {
        Self::answering(said(1, 1, why))
    }

    pub(super) fn replace(event: &EventParts, headers: &[(&str, &str)]) -> Self {
        let mut image = Image::new(8 + 100);
        image.output(8, event, headers);
        Self::answering(image.bytes)
    }

    /// As [`Guest::replace`], with data of `bytes` zeros.
    pub(super) fn replace_with_zeros(event: &EventParts, bytes: u32) -> Self {
        let mut guest = Self::replace(event, &[]);
        let data = [1, 1 << 20, bytes].map(u32::to_le_bytes).concat();
        guest.answer[88..100].copy_from_slice(&data);
        guest.apply = format!("(drop (memory.grow (i32.const {})))", bytes.div_ceil(65536) + 16);
        guest
    }

    /// A split into `count` times the same.
    pub(super) fn split(event: &EventParts, count: u32) -> Self {
        let mut image = Image::new(16);
        image.bytes[4] = 1;
        let list = image.reserve(100 * count);
        for index in 0..count {
            let at = (list - ANSWER) + 100 * index;
            image.output(at as usize, event, &[]);
        }
        image.set(8, &[list, count]);
        Self::answering(image.bytes)
    }

    /// `configure` says no.
    pub(super) fn refusing(why: &'static str) -> Self {
        Self { configure_error: Some(why), ..Self::keep() }
    }

    pub(super) fn apply(mut self, instructions: &str) -> Self {
        self.apply.push_str(instructions);
        self
    }

    pub(super) fn configure(mut self, instructions: &str) -> Self {
        self.configure.push_str(instructions);
        self
    }

    pub(super) fn more(mut self, definitions: &str) -> Self {
        self.more.push_str(definitions);
        self
    }

    /// The core module, with the contract in it as wit-bindgen would have left it.
    pub(super) fn core(&self) -> Vec<u8> {
        embed(&self.text(""))
    }

    /// The component.
    pub(super) fn component(&self) -> Vec<u8> {
        let core = self.core();
        wit_component::ComponentEncoder::default().module(&core).unwrap().encode().unwrap()
    }

    /// Its text, with further imports before all else.
    pub(super) fn text(&self, imports: &str) -> String {
        let Self { configure, apply, more, answer, configure_error } = self;
        let mut data = String::new();
        for byte in answer {
            write!(data, "\\{byte:02x}").unwrap();
        }
        let why = configure_error.unwrap_or_default();
        let (tag, why_len) = (u8::from(configure_error.is_some()), why.len());
        // Twice the answer's size is plenty for what comes before and after it.
        let pages = 2 + answer.len() / 65536 + 1;
        let free = pages * 65536 - 65536;
        format!(
            r#"(module
  {imports}
  (import "hookmill:transform/log@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "hookmill:transform/clock@0.1.0" "now" (func $now (result i64)))
  (memory (export "memory") {pages})
  (data (i32.const {ANSWER}) "{data}")
  (data (i32.const 16) "\{tag:02x}\00\00\00\40\00\00\00\{why_len:02x}\00\00\00")
  (data (i32.const 64) "{why}")
  (global $free (mut i32) (i32.const {free}))
  {more}
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $fits (i32.ne (i32.const -1)
        (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get 3) (i32.const 65536))))))
      unreachable)
    (local.get $at))
  (func (export "hookmill:transform/handler@0.1.0#configure") (param i32 i32) (result i32)
    {configure}
    (i32.const 16))
  (func (export "hookmill:transform/handler@0.1.0#apply") (param i32) (result i32) (local $n i32) (local $end i64)
    (global.set $free (i32.const {free}))
    {apply}
    (i32.const {ANSWER})))"#
        )
    }
}

/// A core module of this text with the contract's component type in it.
pub(super) fn embed(text: &str) -> Vec<u8> {
    embed_world(text, &[])
}

/// The same with further packages of WIT, whose last has a world `guest`.
pub(super) fn embed_world(text: &str, packages: &[&str]) -> Vec<u8> {
    embed_contract(text, WIT, packages)
}

/// The same with something else in the contract.
pub(super) fn embed_lie(text: &str, what: &str, instead: &str) -> Vec<u8> {
    assert!(WIT.contains(what), "no {what:?} in the contract");
    embed_contract(text, &WIT.replace(what, instead), &[])
}

fn embed_contract(text: &str, contract: &str, packages: &[&str]) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let mut package = resolve.push_str("transform.wit", contract).unwrap();
    for text in packages {
        package = resolve.push_str("more.wit", text).unwrap();
    }
    let world = if packages.is_empty() { "transform" } else { "guest" };
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
        .unwrap();
    module
}

/// A result with a verdict or failure that is one text.
fn said(result: u8, case: u8, text: &str) -> Vec<u8> {
    let mut image = Image::new(16);
    image.bytes[0] = result;
    image.bytes[4] = case;
    let at = image.text(text.as_bytes());
    image.set(8, &at);
    image.bytes
}

/// Memory from [`ANSWER`] on.
struct Image {
    bytes: Vec<u8>,
}

impl Image {
    fn new(bytes: usize) -> Self {
        Self { bytes: vec![0; bytes] }
    }

    /// Adds room; its address.
    fn reserve(&mut self, bytes: u32) -> u32 {
        let at = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(at + bytes as usize, 0);
        ANSWER + u32::try_from(at).unwrap()
    }

    /// Adds a text; its address and length.
    fn text(&mut self, text: &[u8]) -> [u32; 2] {
        let len = u32::try_from(text.len()).unwrap();
        let at = self.reserve(len);
        let start = (at - ANSWER) as usize;
        self.bytes[start..start + text.len()].copy_from_slice(text);
        [at, len]
    }

    fn set(&mut self, at: usize, words: &[u32]) {
        for (index, word) in words.iter().enumerate() {
            self.bytes[at + 4 * index..][..4].copy_from_slice(&word.to_le_bytes());
        }
    }

    fn set_text(&mut self, at: usize, text: &str) {
        let words = self.text(text.as_bytes());
        self.set(at, &words);
    }

    fn set_option(&mut self, at: usize, bytes: Option<&[u8]>) {
        if let Some(bytes) = bytes {
            let [address, len] = self.text(bytes);
            self.set(at, &[1, address, len]);
        }
    }

    /// An `output` record: 100 bytes.
    fn output(&mut self, at: usize, event: &EventParts, headers: &[(&str, &str)]) {
        self.set_text(at, &event.id);
        self.set_text(at + 8, &event.source);
        self.set_text(at + 16, &event.ty);
        let optional = [&event.subject, &event.time, &event.datacontenttype, &event.dataschema];
        for (index, text) in optional.into_iter().enumerate() {
            self.set_option(at + 24 + 12 * index, text.as_ref().map(String::as_bytes));
        }
        self.extensions(at + 72, &event.extensions);
        self.set_option(at + 80, event.data.as_deref());
        let count = u32::try_from(headers.len()).unwrap();
        let list = self.reserve(16 * count);
        for (index, (name, value)) in headers.iter().enumerate() {
            let header = (list - ANSWER) as usize + 16 * index;
            self.set_text(header, name);
            self.set_text(header + 8, value);
        }
        self.set(at + 92, &[list, count]);
    }

    fn extensions(&mut self, at: usize, extensions: &[(String, Value)]) {
        let count = u32::try_from(extensions.len()).unwrap();
        let list = self.reserve(20 * count);
        for (index, (name, value)) in extensions.iter().enumerate() {
            let extension = (list - ANSWER) as usize + 20 * index;
            self.set_text(extension, name);
            let words = match value {
                Value::Text(text) => [[0].as_slice(), &self.text(text.as_bytes())].concat(),
                Value::Integer(integer) => vec![1, integer.cast_unsigned()],
                Value::Boolean(boolean) => vec![2, u32::from(*boolean)],
            };
            self.set(extension + 8, &words);
        }
        self.set(at, &[list, count]);
    }
}
