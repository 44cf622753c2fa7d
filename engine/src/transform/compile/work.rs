//! From bytes to native code: what they are, made a component if need be, compiled, imports and exports checked. All
//! of this runs in the child process: nothing that reads a stranger's bytes runs in the engine itself.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine};
use wit_component::ComponentEncoder;

use super::super::bindings::TransformPre;
use super::super::errors::{ModuleError, guest_text};
use super::super::imports;
use super::super::instance::{self, State};
use super::super::metadata::{self, Metadata, MetadataError};
use super::super::shape;
use super::super::shelf::{Native, Shelf};

/// Most names of imports that an error tells, and most that are kept of a module.
const NAMES_MAX: usize = 50;

/// Changes when what is kept beside native code does.
const KEY_FORMAT: &str = "hookmill native code 1";

/// What is said of a module beside its code.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// The names of its imports, in their order.
    pub imports: Vec<String>,
    /// The names of its exports, in their order.
    pub exports: Vec<String>,
    /// How long it took to compile.
    pub compile_time: Duration,
    /// What it says about itself: JSON that has been checked.
    pub(in super::super) metadata: Option<String>,
}

/// What was made of a module, and how it is passed on: the code, then the component.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(in super::super) struct Made {
    /// What the code is known by: a path below the folder of a cache.
    pub(in super::super) entry: PathBuf,
    pub(in super::super) code_bytes: u64,
    /// None: the module is a component itself.
    pub(in super::super) component_bytes: Option<u64>,
}

impl Made {
    /// Length of all that is passed on.
    pub(in super::super) fn bytes(&self) -> u64 {
        self.code_bytes.saturating_add(self.component_bytes.unwrap_or(0))
    }
}

/// What decides about native code, and so is the same for all who compile and run it.
pub(in super::super) fn config() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config
}

/// Names native code by all that decides about it: this program's version, wasmtime's, the processor, the settings.
pub(in super::super) fn key(engine: &Engine) -> String {
    let mut hasher = KeyHasher(Sha256::new());
    (KEY_FORMAT, env!("CARGO_PKG_VERSION")).hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    data_encoding::HEXLOWER.encode(&hasher.0.finalize()[..16])
}

/// A hash that is the same in every process; the standard library's own promises that for one process only.
struct KeyHasher(Sha256);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes(std::array::from_fn(|at| digest[at]))
    }
}

/// Why there is no native code.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The module's fault.
    Refused(ModuleError),
    /// The system gives no more memory.
    OutOfMemory,
    /// The code can't be written.
    Unwritten(String),
}

impl From<ModuleError> for Stopped {
    fn from(error: ModuleError) -> Self {
        Self::Refused(error)
    }
}

/// A compiler for one module.
pub(super) struct Workshop {
    engine: Engine,
    linker: Linker<State>,
    shelf: Shelf,
}

impl Workshop {
    /// One that works in `folder`, which is empty and belongs to it alone.
    pub(super) fn open(folder: &Path) -> wasmtime::Result<Self> {
        let shelf = Shelf::at(folder)?;
        let mut config = config();
        config.cache(Some(shelf.cache()));
        let engine = Engine::new(&config)?;
        Ok(Self { linker: instance::linker(&engine)?, engine, shelf })
    }

    /// What its native code is good for.
    pub(super) fn key(&self) -> String {
        key(&self.engine)
    }

    /// Compiles; tells what [`Made`] says and all that is passed on. Takes 0.1 s for a Rust guest and up to 30 s for a
    /// JavaScript or Python one.
    pub(super) fn compile(self, name: &str, bytes: &[u8]) -> Result<(Facts, Made, Vec<u8>), Stopped> {
        let started = Instant::now();
        let engine = &self.engine;
        let failed = |error: wasmtime::Error| {
            if is_out_of_memory(&error) {
                return Stopped::OutOfMemory;
            }
            let problem = chain(error.chain());
            Stopped::Refused(ModuleError::Compile { name: name.to_owned(), problem })
        };
        let binary = component_bytes(name, bytes)?;
        let metadata = metadata(name, bytes)?;
        let component = Component::from_binary(engine, &binary).map_err(failed)?;
        check(engine, &self.linker, name, &component)?;
        let Native { entry, mut code } =
            self.shelf.only().map_err(|error| Stopped::Unwritten(error.to_string()))?;
        let made_of_core = matches!(binary, Cow::Owned(_));
        let component_bytes = made_of_core.then_some(binary.len() as u64);
        let made = Made { entry, code_bytes: code.len() as u64, component_bytes };
        if made_of_core {
            code.extend_from_slice(&binary);
        }
        let ty = component.component_type();
        let known = |name: &str| guest_text(name.to_owned());
        let imports = ty.imports(engine).map(|(import, _)| known(import)).take(NAMES_MAX).collect();
        let exports = ty.exports(engine).map(|(export, _)| known(export)).take(NAMES_MAX).collect();
        Ok((Facts { imports, exports, compile_time: started.elapsed(), metadata }, made, code))
    }
}

/// Whether the system refused memory, in whichever of its ways.
pub(super) fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    error.is::<wasmtime::OutOfMemory>()
        || error.downcast_ref::<rustix::io::Errno>() == Some(&rustix::io::Errno::NOMEM)
        || error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::OutOfMemory)
}

/// Whether a component is a transform of this contract. Also asked of code from the cache: what was right for the
/// engine that compiled it need not be for this one.
pub(in super::super) fn check(
    engine: &Engine,
    linker: &Linker<State>,
    name: &str,
    component: &Component,
) -> Result<TransformPre<State>, ModuleError> {
    check_imports(engine, name, component)?;
    check_exports(engine, name, component)?;
    let contract = |error: wasmtime::Error| {
        let problem = chain(error.chain());
        ModuleError::Contract { name: name.to_owned(), problem }
    };
    let pre = linker.instantiate_pre(component).and_then(TransformPre::new).map_err(contract)?;
    shape::check(engine, component).map_err(contract)?;
    Ok(pre)
}

/// What bytes are, by how they begin.
fn component_bytes<'a>(name: &str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, ModuleError> {
    let not_wasm = |found: &str| Err(ModuleError::NotWasm { name: name.to_owned(), found: found.to_owned() });
    // `detect_precompiled` knows wasmtime's own format; any other native code is no better.
    if bytes.starts_with(b"\x7fELF") || Engine::detect_precompiled(bytes).is_some() {
        return Err(ModuleError::Precompiled { name: name.to_owned() });
    }
    match bytes.get(..8) {
        Some(b"\0asm\x01\0\0\0") => encode(name, bytes).map(Cow::Owned),
        Some(b"\0asm\x0d\0\x01\0") => Ok(Cow::Borrowed(bytes)),
        _ if bytes.starts_with(b"\0asm") => not_wasm("an encoding of a version that isn't known here"),
        _ if bytes.is_empty() => not_wasm("the file is empty"),
        _ if bytes.starts_with(b"version https://git-lfs") => {
            not_wasm("a Git LFS pointer; run `git lfs pull`")
        }
        _ if bytes.trim_ascii_start().starts_with(b"(") => {
            not_wasm("WebAssembly text; make it binary with `wasm-tools parse`")
        }
        _ => not_wasm("it doesn't begin with \\0asm"),
    }
}

/// What a module says about itself, checked.
fn metadata(name: &str, bytes: &[u8]) -> Result<Option<String>, ModuleError> {
    let wrong = |problem: &dyn fmt::Display| {
        let problem = guest_text(problem.to_string());
        ModuleError::Metadata { name: name.to_owned(), problem }
    };
    let json = match metadata::section(bytes) {
        // The compiler says better what is wrong with the file.
        Ok(None) | Err(MetadataError::Torn(_)) => return Ok(None),
        Ok(Some(json)) => json,
        Err(error) => return Err(wrong(&error)),
    };
    Metadata::parse(json).map_err(|error| wrong(&error))?;
    // JSON is text in UTF-8, or it would not have come so far.
    String::from_utf8(json.to_vec()).map(Some).map_err(|error| wrong(&error))
}

/// Makes a component of a core module that wit-bindgen left its component type in.
fn encode(name: &str, bytes: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let refused = |error: &dyn fmt::Display, hint: &str| {
        let (name, problem) = (name.to_owned(), guest_text(error.to_string()));
        ModuleError::Encode { name, problem, hint: hint.to_owned() }
    };
    // What takes the contract out trusts the lengths of sections, and panics where one is longer than the file.
    wasmparser::validate(bytes).map_err(|error| {
        let problem = guest_text(error.to_string());
        ModuleError::Compile { name: name.to_owned(), problem }
    })?;
    let (stripped, _) =
        wit_component::metadata::decode(bytes).map_err(|error| refused(&chain(error.chain()), ""))?;
    if stripped.is_none() {
        return Err(ModuleError::NoContract { name: name.to_owned() });
    }
    let encoded = ComponentEncoder::default().validate(true).module(bytes).and_then(ComponentEncoder::encode);
    encoded.map_err(|error| {
        refused(&chain(error.chain()), "; Rust: build for wasm32-unknown-unknown, not wasm32-wasip1")
    })
}

fn check_imports(engine: &Engine, name: &str, component: &Component) -> Result<(), ModuleError> {
    let ty = component.component_type();
    let names = ty.imports(engine).map(|(import, _)| import);
    let unknown = names.filter(|import| !imports::is_known(import)).take(NAMES_MAX);
    let unknown: Vec<String> = unknown.map(|import| guest_text(import.to_owned())).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let hint = imports::hint(&unknown).to_owned();
    Err(ModuleError::Imports { name: name.to_owned(), imports: unknown, hint })
}

fn check_exports(engine: &Engine, name: &str, component: &Component) -> Result<(), ModuleError> {
    if component.get_export_index(None, imports::HANDLER).is_some() {
        return Ok(());
    }
    let ty = component.component_type();
    let names: Vec<&str> = ty.exports(engine).map(|(export, _)| export).take(5).collect();
    let found = if names.is_empty() {
        ", nor anything else".to_owned()
    } else {
        format!(", but {}", names.join(", "))
    };
    Err(ModuleError::NoHandler { name: name.to_owned(), found: guest_text(found) })
}

/// An error and its causes in one line.
fn chain<'a>(causes: impl Iterator<Item = &'a (dyn std::error::Error + 'static)>) -> String {
    guest_text(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}
