//! A module that can be run, and how it is got from its bytes: from those that are loaded already, from the kept native
//! code, or from the compiler.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::bindings::TransformPre;
use super::code::{Codes, Unloaded};
use super::compile::{self, Compiler, Facts};
use super::errors::{HostError, ModuleError, guest_text};
use super::instance::State;
use super::metadata::Metadata;
use super::settings::HostSettings;
use super::shelf::Shelf;

/// Loaded modules that are kept though no step uses them, so that a reload needn't load them again.
const UNUSED_MODULES_MAX: usize = 16;

/// A compiled module under the name it goes by. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    name: Arc<str>,
    label: Arc<str>,
    compiled: Arc<Compiled>,
}

/// What was compiled; shared by all names for the same bytes.
struct Compiled {
    /// `sha256:` and 64 hex digits over the bytes as they were given.
    digest: Arc<str>,
    facts: Facts,
    metadata: Option<Metadata>,
    pre: TransformPre<State>,
}

impl Module {
    fn new(name: &str, compiled: Arc<Compiled>) -> Self {
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

    /// What it imports and exports, and how long it took to compile.
    pub fn facts(&self) -> &Facts {
        &self.compiled.facts
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

/// Loads modules. The same bytes are compiled once.
pub(super) struct Loader {
    engine: Engine,
    linker: Linker<State>,
    compiler: Compiler,
    codes: Codes,
    /// By digest.
    modules: Mutex<HashMap<Arc<str>, Arc<Compiled>>>,
    module_bytes_max: usize,
}

impl Loader {
    pub(super) fn new(
        engine: Engine,
        linker: Linker<State>,
        shelf: Shelf,
        settings: &HostSettings,
    ) -> Result<Self, HostError> {
        let key = compile::key(&engine);
        let codes = Codes::open(&settings.cache, &key, shelf)?;
        let compiler = Compiler::new(settings.compile.clone(), key);
        let module_bytes_max = settings.module_bytes_max;
        Ok(Self { engine, linker, compiler, codes, modules: Mutex::default(), module_bytes_max })
    }

    /// Loads, on a runtime with I/O. Dropping the future ends the compiler.
    pub(super) async fn load(self: &Arc<Self>, name: &str, bytes: Bytes) -> Result<Module, ModuleError> {
        let max = self.module_bytes_max;
        if bytes.len() > max {
            return Err(ModuleError::TooLarge { name: name.to_owned(), bytes: bytes.len(), max });
        }
        let whole = bytes.clone();
        let digest = blocking(move || digest(&whole)).await;
        if let Some(compiled) = self.ready(name, &digest, &bytes).await? {
            return Ok(Module::new(name, compiled));
        }
        let _turn = self.compiler.turn().await;
        // Somebody else may have compiled it meanwhile.
        if let Some(compiled) = self.ready(name, &digest, &bytes).await? {
            return Ok(Module::new(name, compiled));
        }
        let (component, facts) = self.compile(name, &digest, &bytes).await?;
        let compiled = self.keep(name, &digest, &component, facts)?;
        Ok(Module::new(name, compiled))
    }

    /// What is loaded, or can be without compiling.
    async fn ready(
        self: &Arc<Self>,
        name: &str,
        digest: &Arc<str>,
        bytes: &Bytes,
    ) -> Result<Option<Arc<Compiled>>, ModuleError> {
        if let Some(compiled) = self.modules().get(digest) {
            return Ok(Some(Arc::clone(compiled)));
        }
        let (loader, of, module) = (Arc::clone(self), Arc::clone(digest), bytes.clone());
        let found = blocking(move || loader.codes.find(&loader.engine, &of, &module)).await;
        found.map(|(component, facts)| self.keep(name, digest, &component, facts)).transpose()
    }

    async fn compile(
        self: &Arc<Self>,
        name: &str,
        digest: &Arc<str>,
        bytes: &Bytes,
    ) -> Result<(Component, Facts), ModuleError> {
        let unusable = |problem| ModuleError::Compiler { name: name.to_owned(), problem };
        let no_file = |error| {
            unusable(format!(
                "there is no place for its native code: {error}; free the disk or name a folder in [cache]"
            ))
        };
        let draft = self.codes.draft().map_err(no_file)?;
        let writer = draft.writer().map_err(no_file)?;
        let (facts, made) = self.compiler.compile(name, bytes, &draft.workshop(), writer).await?;
        let seconds = facts.compile_time.as_secs_f64();
        tracing::debug!(module = name, %digest, seconds, code_bytes = made.code_bytes, "module compiled");
        let (loader, digest, module) = (Arc::clone(self), Arc::clone(digest), bytes.clone());
        let finished = blocking(move || {
            let component = loader.codes.finish(&loader.engine, &digest, &module, draft, (&facts, made));
            component.map(|component| (component, facts))
        });
        finished.await.map_err(|error| match error {
            Unloaded::System(problem) => unusable(format!("its native code can't be loaded: {problem}")),
            Unloaded::Unfit(error) => {
                let problem = guest_text(format!("{error:#}"));
                ModuleError::Compile { name: name.to_owned(), problem }
            }
        })
    }

    /// Keeps what was loaded, unless somebody was faster.
    fn keep(
        &self,
        name: &str,
        digest: &Arc<str>,
        component: &Component,
        facts: Facts,
    ) -> Result<Arc<Compiled>, ModuleError> {
        let pre = compile::check(&self.engine, &self.linker, name, component)?;
        let metadata = facts.metadata.as_ref().map(|json| Metadata::parse(json.as_bytes())).transpose();
        let metadata = metadata.map_err(|problem| {
            let problem = guest_text(problem.to_string());
            ModuleError::Metadata { name: name.to_owned(), problem }
        })?;
        let mut modules = self.modules();
        let unused = modules.values().filter(|module| Arc::strong_count(module) == 1).count();
        if unused >= UNUSED_MODULES_MAX {
            modules.retain(|_, module| Arc::strong_count(module) > 1);
        }
        let compiled = modules
            .entry(Arc::clone(digest))
            .or_insert_with(|| Arc::new(Compiled { digest: Arc::clone(digest), facts, metadata, pre }));
        Ok(Arc::clone(compiled))
    }

    fn modules(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Compiled>>> {
        self.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `sha256:` and the digest in hex.
fn digest(bytes: &[u8]) -> Arc<str> {
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))).into()
}

/// Runs what takes milliseconds and more on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it doesn't panic, and nobody aborts it")
}
