//! One module with one subscription's settings: its idle instances, its calls, its verdicts.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bindings::exports::hookmill::transform::handler;
use super::bindings::hookmill::transform::types::Failure;
use super::convert;
use super::errors::{Broken, ConfigureError, guest_text};
use super::expect::Outcome;
use super::host::{Host, MEMORY_BYTES_MAX};
use super::idle::Idle;
use super::instance::{Instance, Limits, SETUP_TIMEOUT};
use super::module::Module;
use super::settings::{Isolation, Settings};
use super::watch::Watch;
use crate::model::fault::{Code, Fault, Reason, Stage, Whose};
use crate::model::{Event, Verdict};

/// What came of one event that was tried out.
#[derive(Debug)]
pub struct Trial {
    /// What the module made of it.
    pub outcome: Outcome,
    /// How long the call took; without the time for a new instance.
    pub took: Duration,
}

/// A transform step of a subscription. Calls may run side by side, each in an instance of its own.
pub struct Step {
    host: Arc<Host>,
    module: Module,
    /// The settings as the module gets them.
    configuration: String,
    timeout: Duration,
    isolation: Isolation,
    limits: Limits,
    idle: Arc<Idle>,
}

impl Step {
    /// Makes a step, and an instance of it, so that wrong settings are found before an event is. Where there are few
    /// steps, the first event meets that instance; with many, they would only hold memory.
    pub async fn new(host: Arc<Host>, module: Module, settings: Settings) -> Result<Self, ConfigureError> {
        Self::make(host, module, settings, None).await
    }

    /// The same, looked at: what its guests log and print, and what they take.
    pub async fn watched(
        host: Arc<Host>,
        module: Module,
        settings: Settings,
        watch: Watch,
    ) -> Result<Self, ConfigureError> {
        Self::make(host, module, settings, Some(watch)).await
    }

    async fn make(
        host: Arc<Host>,
        module: Module,
        settings: Settings,
        watch: Option<Watch>,
    ) -> Result<Self, ConfigureError> {
        let settings = match module.metadata() {
            Some(metadata) => settings.or_of_module(&metadata.limits),
            None => settings,
        };
        let max = host.settings().memory_bytes.min(MEMORY_BYTES_MAX);
        if settings.memory_bytes > max {
            return Err(ConfigureError::Memory { memory_bytes: settings.memory_bytes, max });
        }
        let limits = Limits {
            memory: host.memory(),
            memory_bytes: settings.memory_bytes,
            output_bytes: settings.output_bytes,
            share: host.share(&settings.owner),
            clock: host.clock(),
            watch,
        };
        let idle = host.idles();
        let configuration = settings.settings.to_string();
        let (timeout, isolation) = (settings.timeout, settings.isolation);
        let step = Self { host, module, configuration, timeout, isolation, limits, idle };
        let first = step.fresh().await.map_err(|broken| {
            let module = step.module.name().to_owned();
            match broken {
                Broken::Settings(text) => ConfigureError::Settings { module, text },
                other => ConfigureError::Broken { module, problem: other.problem() },
            }
        })?;
        if step.host.is_roomy() {
            step.keep(first);
        }
        Ok(step)
    }

    /// Runs one event. Takes at most [`Step::longest`]; dropping the future ends the guest.
    pub async fn apply(&self, event: &Event) -> Result<Verdict, Fault> {
        let mut instance = self.instance().await.map_err(|broken| self.broken(&broken))?;
        let answer = self.call(&mut instance, event).await;
        // Reading a large answer and ending a large instance take longer than many a call.
        self.limits.share.queue.work(|| match answer {
            Ok(answer) => {
                let verdict = self.verdict(answer, event);
                self.keep(instance);
                verdict
            }
            Err(broken) => {
                drop(instance);
                Err(self.broken(&broken))
            }
        })
    }

    fn verdict(&self, answer: Result<handler::Verdict, Failure>, event: &Event) -> Result<Verdict, Fault> {
        match answer {
            Ok(verdict) => convert::verdict(verdict, event, self.limits.output_bytes)
                .map_err(|problem| self.bad_output(&problem)),
            Err(Failure::Rejected(text)) => Err(self.said(Code::Rejected, text)),
            Err(Failure::Retry(text)) => Err(self.said(Code::GuestRetry, text)),
        }
    }

    /// Runs one event as [`Step::apply`] does, and says what came of it in the module's own words.
    pub async fn try_out(&self, event: &Event) -> Trial {
        let instance = self.instance().await;
        let started = Instant::now();
        let answer = match instance {
            Ok(mut instance) => {
                let answer = self.call(&mut instance, event).await;
                if answer.is_ok() {
                    self.keep(instance);
                }
                answer
            }
            Err(broken) => Err(broken),
        };
        let took = started.elapsed();
        let outcome = match answer {
            Ok(Ok(verdict)) => match convert::verdict(verdict, event, self.limits.output_bytes) {
                Ok(verdict) => Outcome::Verdict(verdict),
                Err(problem) => Outcome::Trap(format!("what it returned breaks the contract: {problem}")),
            },
            Ok(Err(Failure::Rejected(text))) => Outcome::Rejected(guest_text(text)),
            Ok(Err(Failure::Retry(text))) => Outcome::Retry(guest_text(text)),
            Err(broken) => Outcome::broken(&broken),
        };
        Trial { outcome, took }
    }

    async fn instance(&self) -> Result<Instance, Broken> {
        let idle = if self.isolation == Isolation::Instance { self.idle.take() } else { None };
        match idle {
            Some(instance) => Ok(instance),
            None => self.fresh().await,
        }
    }

    async fn call(
        &self,
        instance: &mut Instance,
        event: &Event,
    ) -> Result<Result<handler::Verdict, handler::Failure>, Broken> {
        let extensions = convert::extensions(event);
        let call = instance.apply(convert::event(event, &extensions));
        let timeout = Broken::Timeout { doing: "the call", after: self.timeout };
        tokio::time::timeout(self.timeout, call).await.map_err(|_| timeout)?
    }

    /// The name that its module was loaded under.
    pub fn module_name(&self) -> &str {
        self.module.name()
    }

    /// The longest that [`Step::apply`] can take: a new instance, then the call.
    pub fn longest(&self) -> Duration {
        SETUP_TIMEOUT.saturating_add(self.timeout)
    }

    /// A new, configured instance. One deadline covers waiting for its place, making and configuring it.
    async fn fresh(&self) -> Result<Instance, Broken> {
        let mut waiting = true;
        let setup = async {
            let place = self.host.place(&self.limits.share).await;
            waiting = false;
            let (module, limits) = (self.module.shared_name(), self.limits.clone());
            let mut instance = Instance::start(module, self.module.pre(), limits, place).await?;
            let answer = instance.configure(&self.configuration).await?;
            answer.map(|()| instance).map_err(|text| Broken::Settings(guest_text(text)))
        };
        let started = Instant::now();
        match tokio::time::timeout(SETUP_TIMEOUT, setup).await {
            Ok(done) => {
                if let Some(watch) = &self.limits.watch {
                    watch.note_setup(started.elapsed());
                }
                done
            }
            Err(_) if waiting => {
                let instances = self.host.settings().instances;
                let own = self.limits.share.working();
                Err(Broken::HostInstances { instances, own, after: SETUP_TIMEOUT })
            }
            Err(_) => Err(Broken::Timeout { doing: "starting and configuring it", after: SETUP_TIMEOUT }),
        }
    }

    /// Keeps an instance for the next event, if it may be used again.
    fn keep(&self, mut instance: Instance) {
        if self.isolation == Isolation::Instance && !instance.is_worn() {
            self.idle.put(instance);
            self.host.make_room();
        }
    }

    fn broken(&self, broken: &Broken) -> Fault {
        broken.fault(self.module.name())
    }

    fn bad_output(&self, problem: &convert::Problem) -> Fault {
        let detail =
            format!("module {}: what it returned breaks the contract: {problem}", self.module.name());
        Fault::never(Stage::Transform, Code::GuestOutput, Whose::Module, Reason::Rejected, detail)
    }

    fn said(&self, code: Code, text: String) -> Fault {
        let (module, text) = (self.module.name(), guest_text(text));
        if code == Code::GuestRetry {
            let detail = format!("module {module} asks to try again: {text}");
            Fault::later(Stage::Transform, code, Whose::Module, Reason::StepFailed, detail)
        } else {
            let detail = format!("module {module} rejects the event: {text}");
            Fault::never(Stage::Transform, code, Whose::Module, Reason::Rejected, detail)
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("module", &self.module.label()).finish_non_exhaustive()
    }
}
