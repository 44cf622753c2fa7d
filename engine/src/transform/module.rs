//! From bytes to a [`Module`]: what they are, made a component if need be, imports and exports checked, compiled.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};
use wit_component::ComponentEncoder;

use super::bindings::TransformPre;
use super::errors::{ModuleError, guest_text};
use super::imports;
use super::instance::State;
use super::metadata::{self, Metadata, MetadataError};

/// A compiled module under the name it goes by. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    name: Arc<str>,
    label: Arc<str>,
    compiled: Arc<Compiled>,
}

/// What was compiled; shared by all names for the same bytes.
pub(super) struct Compiled {
    /// `sha256:` and 64 hex digits over the bytes as they were given.
    pub(super) digest: Arc<str>,
    pub(super) pre: TransformPre<State>,
    pub(super) metadata: Option<Metadata>,
}

impl Module {
    pub(super) fn new(name: &str, compiled: Arc<Compiled>) -> Self {
        let label = format!("{name}@{}", compiled.digest).into();
        Self { name: name.into(), label, compiled }
    }

    /// The name that it was loaded under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `sha256:` and 64 hex digits over the bytes as they were given.
    pub fn digest(&self) -> &str {
        &self.compiled.digest
    }

    /// `name@sha256:…`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What it says about itself.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.compiled.metadata.as_ref()
    }

    /// Names of what it exports and of what it imports, of each at most `max`.
    pub fn surface(&self, max: usize) -> (Vec<String>, Vec<String>) {
        let component = self.compiled.pre.instance_pre().component();
        let (ty, engine) = (component.component_type(), component.engine());
        let named = |name: &str| guest_text(name.to_owned());
        let exports = ty.exports(engine).take(max).map(|(name, _)| named(name)).collect();
        let imports = ty.imports(engine).take(max).map(|(name, _)| named(name)).collect();
        (exports, imports)
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(super) fn pre(&self) -> &TransformPre<State> {
        &self.compiled.pre
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.label).finish()
    }
}

/// `sha256:` and the digest in hex.
pub(super) fn digest(bytes: &[u8]) -> Arc<str> {
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))).into()
}

/// Compiles. Takes 0.1 s for a Rust guest and up to 30 s for a JavaScript or Python one.
pub(super) fn compile(
    engine: &Engine,
    linker: &Linker<State>,
    name: &str,
    bytes: &[u8],
    digest: Arc<str>,
) -> Result<Compiled, ModuleError> {
    let component = component_bytes(name, bytes)?;
    let metadata = match metadata::read(bytes) {
        Ok(metadata) => metadata,
        // The compiler says better what is wrong with the file.
        Err(MetadataError::Torn(_)) => None,
        Err(problem) => return Err(ModuleError::Metadata { name: name.to_owned(), problem }),
    };
    let component = Component::from_binary(engine, &component).map_err(|error| {
        let problem = chain(error.chain());
        ModuleError::Compile { name: name.to_owned(), problem }
    })?;
    check_imports(engine, name, &component)?;
    check_exports(engine, name, &component)?;
    let contract = |error: wasmtime::Error| {
        let problem = chain(error.chain());
        ModuleError::Contract { name: name.to_owned(), problem }
    };
    let pre = linker.instantiate_pre(&component).and_then(TransformPre::new).map_err(contract)?;
    Ok(Compiled { digest, pre, metadata })
}

/// What bytes are, by how they begin.
fn component_bytes<'a>(name: &str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, ModuleError> {
    let not_wasm = |found| Err(ModuleError::NotWasm { name: name.to_owned(), found });
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

/// Makes a component of a core module that wit-bindgen left its component type in.
fn encode(name: &str, bytes: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let refused = |error: &dyn fmt::Display, hint| {
        let (name, problem) = (name.to_owned(), guest_text(error.to_string()));
        ModuleError::Encode { name, problem, hint }
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
    let unknown: Vec<String> = names.filter(|import| !imports::is_known(import)).map(str::to_owned).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let hint = imports::hint(&unknown);
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
