//! From what a pipeline file says of a step to a step that runs: its module, from a file or from the registry.

use std::path::Path;
use std::sync::Arc;

use super::check::Refused;
use super::output::chain;
use crate::config::{Code, Loaded, checked};
use crate::model::Reference;
use crate::nats::Modules;
use crate::nats::modules::{Record, ResolveError};
use crate::pipeline::{FitError, Fitted, Loader, OnError, Step, Wanted};
use crate::transform::Host;
use crate::worker::TRIES_MAX;

/// The registry of modules, as far as a command has it.
pub(crate) enum Source {
    /// It can be asked.
    Open(Modules),
    /// It can't; why not.
    Away(String),
    /// No file needs it, or there are other problems to mend first.
    Unasked,
}

/// Whether a version that can't be used may be passed over for an older one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// It is a problem: `check` says so before anything runs.
    Strict,
    /// An engine that starts again behaves like one that went on: it uses the newest version that works, and says so.
    Lenient,
}

/// Whether any step has its module from the registry.
pub(crate) fn need_registry(loaded: &Loaded) -> bool {
    let subscriptions = loaded.pipelines.iter().flat_map(|pipeline| &pipeline.subscriptions);
    subscriptions.flat_map(|subscription| &subscription.steps).any(|step| step.reference.name().is_some())
}

/// Makes steps.
pub(crate) struct Maker<'s> {
    host: Arc<Host>,
    loader: Loader,
    source: &'s Source,
    strictness: Strictness,
}

impl<'s> Maker<'s> {
    pub(crate) fn new(host: &Arc<Host>, source: &'s Source, strictness: Strictness) -> Self {
        Self { host: Arc::clone(host), loader: Loader::new(host), source, strictness }
    }

    /// Loads, tries and configures the module of a step. None if that is not to be known now.
    pub(crate) async fn make(&self, step: &checked::Step) -> Result<Option<Step>, Refused> {
        let (fitted, trouble) = match (&step.reference, self.source) {
            (Reference::File(path), _) => (self.of_file(path, step).await?, None),
            (_, Source::Open(registry)) => self.of_registry(registry, step).await?,
            (_, Source::Away(why)) => {
                let text = format!("the registry of modules can't be asked: {why}");
                return Err(Refused::Because(Code::RegistryUnreachable, text));
            }
            (_, Source::Unasked) => return Ok(None),
        };
        let wanted = Wanted {
            reference: step.reference.clone(),
            written: step.written.clone(),
            settings: step.transform.clone(),
        };
        let on_error = match step.on_error {
            checked::OnError::DeadLetter => OnError::DeadLetter,
            checked::OnError::Drop => OnError::Drop,
            checked::OnError::Skip => OnError::Skip,
        };
        Ok(Some(Step::new(&self.host, wanted, on_error, fitted, trouble)))
    }

    async fn of_file(&self, path: &Path, step: &checked::Step) -> Result<Fitted, Refused> {
        let fitted = self.loader.fit_file(path, &step.transform).await;
        fitted.map_err(|error| refused(&error))
    }

    /// The best version that works, and why it isn't the best there is.
    async fn of_registry(
        &self,
        registry: &Modules,
        step: &checked::Step,
    ) -> Result<(Fitted, Option<String>), Refused> {
        let candidates = registry.candidates(&step.reference).await.map_err(|error| unresolved(&error))?;
        let tries = if self.strictness == Strictness::Strict { 1 } else { TRIES_MAX };
        let mut first: Option<(Refused, String)> = None;
        for record in candidates.iter().take(tries) {
            match self.loader.fit(registry, record, &step.transform).await {
                Ok(fitted) => {
                    warn_if_yanked(step, record);
                    let trouble = first.map(|(_, trouble)| trouble);
                    if let Some(error) = &trouble {
                        tracing::warn!(
                            reference = step.written,
                            runs = fitted.label(),
                            error,
                            "an older version of a module runs in place of the newest"
                        );
                    }
                    return Ok((fitted, trouble));
                }
                Err(error) => {
                    let text = format!("{}@{} is not used: {}", record.name, record.version, chain(&*error));
                    first.get_or_insert_with(|| (refused(&error), text));
                }
            }
        }
        Err(first.expect("there is at least one candidate").0)
    }
}

fn warn_if_yanked(step: &checked::Step, record: &Record) {
    if let Some(yanked) = &record.yanked {
        let (reference, why) = (&step.written, &yanked.why);
        tracing::warn!(reference, why, at = %yanked.at, "a pipeline uses a yanked version of a module");
    }
}

fn unresolved(error: &ResolveError) -> Refused {
    match error {
        ResolveError::Registry(_) => {
            let text = format!("the registry of modules can't be asked: {}", chain(error));
            Refused::Because(Code::RegistryUnreachable, text)
        }
        ResolveError::File(_) | ResolveError::NoName { .. } | ResolveError::NoVersion { .. } => {
            Refused::Because(Code::ModuleUnknown, chain(error))
        }
    }
}

fn refused(error: &FitError) -> Refused {
    let code = match error {
        FitError::Schema(objections) => return Refused::Schema(objections.clone()),
        FitError::Missing(_) | FitError::Unreadable { .. } => Code::ModuleMissing,
        FitError::Registry(_) => Code::RegistryUnreachable,
        FitError::Module(_) | FitError::Sample { .. } => Code::ModuleInvalid,
        FitError::Settings(_) => Code::SettingsRefused,
    };
    Refused::Because(code, chain(error))
}
