//! Whole modules from nothing: such as a compiler for a strange language might make.

use std::panic::{self, AssertUnwindSafe};

use arbitrary::Unstructured;
use hookmill_tests::guest::Guest;
use rand::RngExt as _;
use rand::rngs::StdRng;
use wasm_mutate::WasmMutate;
use wasm_smith::{Component, Config, Module};

use crate::mutate;

/// Steps after which a function that was made here gives up, so that most of them come to an end.
const STEPS: u32 = 10_000;

const IMPORTS: &str = r#"(module
  (import "hookmill:transform/log@0.1.0" "log" (func (param i32 i32 i32)))
  (import "hookmill:transform/clock@0.1.0" "now" (func (result i64))))"#;

const EXPORTS: &str = r#"(module
  (memory (export "memory") 1 100)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
  (func (export "hookmill:transform/handler@0.1.0#configure") (param i32 i32) (result i32) unreachable)
  (func (export "hookmill:transform/handler@0.1.0#apply") (param i32) (result i32) unreachable))"#;

/// What modules are made from.
#[derive(Debug)]
pub struct Garden {
    imports: Vec<u8>,
    exports: Vec<u8>,
    /// The section that holds the contract.
    contract: Vec<(u8, Vec<u8>)>,
}

impl Default for Garden {
    fn default() -> Self {
        let guest = mutate::sections(&Guest::keep().core()).expect("a module has sections");
        let contract = guest.into_iter().filter(|(id, content)| {
            *id == 0 && content.windows(14).any(|window| window == b"component-type")
        });
        Self {
            imports: wat::parse_str(IMPORTS).expect("text"),
            exports: wat::parse_str(EXPORTS).expect("text"),
            contract: contract.collect(),
        }
    }
}

impl Garden {
    /// A core module with the functions and the section of a guest, and whatever else.
    pub fn guest(&self, random: &mut StdRng) -> Option<Vec<u8>> {
        let seed = noise(random);
        let mut config = config(random);
        config.available_imports = Some(self.imports.clone());
        config.exports = Some(self.exports.clone());
        config.max_memories = 2;
        let mut module = Module::new(config, &mut Unstructured::new(&seed)).ok()?;
        if random.random_range(0..8) != 0 {
            module.ensure_termination(STEPS).ok()?;
        }
        let module = module.to_bytes();
        let mut sections = mutate::sections(&module)?;
        sections.extend(self.contract.iter().cloned());
        Some(mutate::assemble(&module, &sections))
    }

    /// A component of any kind.
    pub fn component(&self, random: &mut StdRng) -> Option<Vec<u8>> {
        let seed = noise(random);
        let component = Component::new(config(random), &mut Unstructured::new(&seed)).ok()?;
        Some(component.to_bytes())
    }

    /// A core module with changes that leave it valid.
    pub fn changed(&self, random: &mut StdRng, input: &[u8]) -> Option<Vec<u8>> {
        let mut mutate = WasmMutate::default();
        mutate.seed(random.random()).preserve_semantics(false).fuel(2_000);
        // What makes the changes believes the lengths of sections, and panics where one is longer than the file, as it is
        // in a part of the corpus. It isn't what is tested here: then there is no such change.
        let change = AssertUnwindSafe(|| mutate.run(input).ok()?.next()?.ok());
        let changed = panic::catch_unwind(change).ok()??;
        let mut sections = mutate::sections(&changed)?;
        let has_contract = sections.iter().any(|section| self.contract.contains(section));
        if !has_contract && random.random_range(0..8) != 0 {
            sections.extend(self.contract.iter().cloned());
        }
        Some(mutate::assemble(&changed, &sections))
    }
}

fn noise(random: &mut StdRng) -> Vec<u8> {
    let mut noise = vec![0; random.random_range(64..4096)];
    random.fill(&mut noise[..]);
    noise
}

fn config(random: &mut StdRng) -> Config {
    let seldom = random.random_range(0..8) == 0;
    Config {
        max_instructions: random.random_range(1..400),
        max_memory32_bytes: 100 << 16,
        threads_enabled: seldom,
        gc_enabled: seldom,
        exceptions_enabled: seldom,
        max_table_elements: 30_000,
        ..Config::default()
    }
}
