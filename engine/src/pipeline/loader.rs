//! From a module's bytes to one that a step can run: loaded, tried with its own samples, configured.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::Fitted;
use crate::model::{Digest, Version};
use crate::nats::Modules;
use crate::nats::modules::{ModulesError, Record};
use crate::schema::Objection;
use crate::transform::{self, ConfigureError, Host, Module, ModuleError, Sample};

/// Why a module is not put to use.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Its file can't be read.
    #[error("module {} can't be read: {kind}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is in the way.
        kind: std::io::ErrorKind,
    },
    /// The registry names it and doesn't have it.
    #[error("the registry has no bytes for {0}; push that version again")]
    Missing(String),
    /// The registry could not be asked.
    #[error(transparent)]
    Registry(#[from] ModulesError),
    /// It can't be used at all.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// It doesn't do what its own metadata says.
    #[error("module {module} fails its own sample {sample:?}: {problem}; `hookmill module test` shows more")]
    Sample {
        /// The module.
        module: String,
        /// The sample.
        sample: String,
        /// What happened. Says nothing of the sample's data.
        problem: String,
    },
    /// The schema in its metadata refuses the settings.
    #[error("the schema of the module refuses the settings: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Schema(Vec<Objection>),
    /// It refuses the settings itself, or breaks over them.
    #[error(transparent)]
    Settings(#[from] ConfigureError),
}

/// Loads modules, each once however many steps use it, and be it at the same time. To be dropped when a round of
/// loading is over.
pub struct Loader {
    host: Arc<Host>,
    modules: Once<Digest, Result<Module, Arc<FitError>>>,
    files: Once<PathBuf, Result<(Module, Digest), Arc<FitError>>>,
}

/// What was made of each key, once.
struct Once<K, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

impl<K: Eq + Hash, V: Clone> Once<K, V> {
    fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    async fn get_or<F: Future<Output = V>>(&self, key: K, make: impl FnOnce() -> F) -> V {
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(key).or_default())
        };
        cell.get_or_init(make).await.clone()
    }
}

impl Loader {
    /// With nothing loaded.
    pub fn new(host: &Arc<Host>) -> Self {
        Self { host: Arc::clone(host), modules: Once::new(), files: Once::new() }
    }

    /// A version of the registry: fetched, compiled off the hot path, tried with its own samples and configured.
    pub async fn fit(
        &self,
        registry: &Modules,
        record: &Record,
        settings: &transform::Settings,
    ) -> Result<Fitted, Arc<FitError>> {
        let load = async || self.load(registry, record).await.map_err(Arc::new);
        let module = self.modules.get_or(record.digest.clone(), load).await?;
        let (digest, version) = (record.digest.clone(), Some(record.version.clone()));
        self.configure(module, digest, version, settings).await.map_err(Arc::new)
    }

    async fn load(&self, registry: &Modules, record: &Record) -> Result<Module, FitError> {
        let bytes = registry.bytes(&record.digest).await?;
        let bytes = bytes.ok_or_else(|| FitError::Missing(format!("{}@{}", record.name, record.version)))?;
        let module = self.host.load_in_background(record.name.as_str(), bytes).await?;
        for sample in module.metadata().map(|metadata| &metadata.samples).into_iter().flatten() {
            if let Err(problem) = self.try_sample(&module, sample).await {
                let (module, sample) = (module.name().to_owned(), sample.name.clone());
                return Err(FitError::Sample { module, sample, problem });
            }
        }
        Ok(module)
    }

    /// Whether the module does with its sample what it says.
    async fn try_sample(&self, module: &Module, sample: &Sample) -> Result<(), String> {
        let settings = transform::Settings { settings: sample.settings.clone(), ..Default::default() };
        let step = transform::Step::new(Arc::clone(&self.host), module.clone(), settings).await;
        let outcome = step.map_err(|error| error.to_string())?.try_out(&sample.event).await.outcome;
        let Some(expect) = &sample.expect else {
            let said = format!("it ends as {:?}", outcome.word());
            return if outcome.is_verdict() { Ok(()) } else { Err(said) };
        };
        let wanted = expect.wanted(&sample.event, &outcome).map_err(|error| error.to_string())?;
        if wanted == outcome.to_json() {
            return Ok(());
        }
        Err(format!("it ends as {:?}, not as the sample expects", outcome.word()))
    }

    /// A module's file, under its name without the ending.
    pub async fn fit_file(
        &self,
        path: &Path,
        settings: &transform::Settings,
    ) -> Result<Fitted, Arc<FitError>> {
        let load = async || self.load_file(path).await.map_err(Arc::new);
        let (module, digest) = self.files.get_or(path.to_owned(), load).await?;
        self.configure(module, digest, None, settings).await.map_err(Arc::new)
    }

    async fn load_file(&self, path: &Path) -> Result<(Module, Digest), FitError> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let bytes = tokio::fs::read(path).await;
        let bytes =
            bytes.map_err(|error| FitError::Unreadable { path: path.to_owned(), kind: error.kind() })?;
        let digest = Digest::of(&bytes);
        Ok((self.host.load_in_background(&name, bytes.into()).await?, digest))
    }

    async fn configure(
        &self,
        module: Module,
        digest: Digest,
        version: Option<Version>,
        settings: &transform::Settings,
    ) -> Result<Fitted, FitError> {
        let objections = module.metadata().map(|metadata| metadata.objections(&settings.settings));
        if let Some(objections) = objections.filter(|objections| !objections.is_empty()) {
            return Err(FitError::Schema(objections));
        }
        let step = transform::Step::new(Arc::clone(&self.host), module, settings.clone()).await?;
        Ok(Fitted::new(Arc::new(step), digest, version))
    }
}
