//! From a module's bytes to one that a step can run: loaded, tried with its own samples, configured.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Fitted;
use crate::model::{Digest, Version};
use crate::nats::Modules;
use crate::nats::modules::{ModulesError, Record};
use crate::schema::Objection;
use crate::transform::{self, ConfigureError, Host, Module, ModuleError, Sample};

/// Why a module is not put to use.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
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

/// Loads modules, each once however many steps use it. To be dropped when a round of loading is over.
pub struct Loader {
    host: Arc<Host>,
    modules: HashMap<Digest, Result<Module, Arc<FitError>>>,
}

impl Loader {
    /// With nothing loaded.
    pub fn new(host: &Arc<Host>) -> Self {
        Self { host: Arc::clone(host), modules: HashMap::new() }
    }

    /// A version of the registry: fetched, compiled off the hot path, tried with its own samples and configured.
    pub async fn fit(
        &mut self,
        registry: &Modules,
        record: &Record,
        settings: &transform::Settings,
    ) -> Result<Fitted, Arc<FitError>> {
        let module = if let Some(known) = self.modules.get(&record.digest) {
            known.clone()
        } else {
            let loaded = self.load(registry, record).await.map_err(Arc::new);
            self.modules.insert(record.digest.clone(), loaded.clone());
            loaded
        };
        let (digest, version) = (record.digest.clone(), Some(record.version.clone()));
        self.configure(module?, digest, version, settings).await.map_err(Arc::new)
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

    /// The bytes of a file under a name.
    pub async fn fit_file(
        &self,
        name: &str,
        bytes: Bytes,
        settings: &transform::Settings,
    ) -> Result<Fitted, FitError> {
        let digest = Digest::of(&bytes);
        let module = self.host.load_in_background(name, bytes).await?;
        self.configure(module, digest, None, settings).await
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
