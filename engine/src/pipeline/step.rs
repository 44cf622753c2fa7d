//! A step of a subscription: the module that it runs now, and how another one takes its place.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crate::model::{Digest, Event, Fault, Reference, Verdict, Version};
use crate::nats::modules::Record;
use crate::transform::{self, Host};

/// What to do with an event when a step has failed for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnError {
    /// Put it into the dead letters.
    DeadLetter,
    /// End it, counted as filtered.
    Drop,
    /// Go on with the next step as if this one were not there.
    Skip,
}

/// What a pipeline file says about a step's module.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which module.
    pub reference: Reference,
    /// The reference as the file writes it.
    pub written: String,
    /// What the step is run with.
    pub settings: transform::Settings,
}

/// A module that was loaded, tried and configured for one step.
pub struct Fitted {
    transform: Arc<transform::Step>,
    /// Its bytes.
    pub digest: Digest,
    /// Its version; none for a file.
    pub version: Option<Version>,
    label: String,
}

impl Fitted {
    pub(super) fn new(transform: Arc<transform::Step>, digest: Digest, version: Option<Version>) -> Self {
        let name = transform.module_name();
        let label = match &version {
            Some(version) => format!("{name}@{version}@{digest}"),
            None => format!("{name}@{digest}"),
        };
        Self { transform, digest, version, label }
    }

    /// The same module under another version that has the same bytes.
    #[must_use]
    pub fn relabelled(&self, record: &Record) -> Self {
        Self::new(Arc::clone(&self.transform), record.digest.clone(), Some(record.version.clone()))
    }

    /// `name@version@sha256:…`, or `name@sha256:…` of a file.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The longest that one call can take.
    pub fn longest(&self) -> Duration {
        self.transform.longest()
    }

    /// Runs one event.
    pub async fn apply(&self, event: &Event) -> Result<Verdict, Fault> {
        self.transform.apply(event).await
    }
}

/// One step of a subscription.
pub struct Step {
    /// What the pipeline file says.
    pub wanted: Wanted,
    /// When it has failed for good.
    pub on_error: OnError,
    host: Arc<Host>,
    fitted: RwLock<Arc<Fitted>>,
    trouble: Mutex<Option<String>>,
}

impl Step {
    /// A step that runs `fitted`, and why that is not what the file wants most, if it isn't.
    pub fn new(
        host: &Arc<Host>,
        wanted: Wanted,
        on_error: OnError,
        fitted: Fitted,
        trouble: Option<String>,
    ) -> Self {
        let (host, fitted, trouble) = (Arc::clone(host), RwLock::new(Arc::new(fitted)), Mutex::new(trouble));
        Self { wanted, on_error, host, fitted, trouble }
    }

    /// What runs now. Whoever has it uses it to the end of a call, whatever takes its place meanwhile.
    pub fn fitted(&self) -> Arc<Fitted> {
        Arc::clone(&self.fitted.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another module in its place: the next call runs it.
    pub fn swap(&self, fitted: Fitted) {
        let fitted = Arc::new(fitted);
        let old = {
            let mut place = self.fitted.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, fitted)
        };
        // Not under the lock: ending its idle instances takes a moment.
        drop(old);
    }

    /// The sandbox that it runs in.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Why it doesn't run what the file wants most; none if it does.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets it; whether that is news.
    pub fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut now = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *now != trouble;
        *now = trouble;
        news
    }

    /// What tells this step from another where a stored task comes back to it: a moving reference by its text, so that
    /// a swap leaves stored tasks alone; anything else by its bytes. And the settings.
    pub(super) fn identity(&self) -> String {
        let settings = &self.wanted.settings.settings;
        if self.wanted.reference.is_moving() {
            return format!("{} {settings}", self.wanted.reference);
        }
        let fitted = self.fitted();
        format!("{}@{} {settings}", fitted.transform.module_name(), fitted.digest)
    }
}
