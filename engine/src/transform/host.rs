//! The sandbox of the process: compiler, pool of instances, memory, cores, and the clock that interrupts.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::budget::Queue;
use super::errors::{HostError, ModuleError};
use super::instance::{self, State};
use super::limiter::{MemoryBudget, TABLE_ELEMENTS_MAX};
use super::module::{self, Compiled, Module};
use super::settings::HostSettings;
use super::step::Idle;
use super::ticker::Ticker;
use crate::model::Clock;

/// Largest linear memory that any instance can have.
pub(super) const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// Core instances in one component: one made by componentize-py has 38.
const CORE_INSTANCES: u32 = 40;

/// Compiled modules that are kept though no step uses them, so that a reload needn't compile again.
const UNUSED_MODULES_MAX: usize = 16;

/// One for the process. Dropping it ends its thread.
pub struct Host {
    settings: HostSettings,
    engine: Engine,
    linker: Linker<State>,
    /// By digest. Locked while compiling: compilers take half a gigabyte, so one at a time.
    modules: Mutex<HashMap<Arc<str>, Arc<Compiled>>>,
    memory: Arc<MemoryBudget>,
    live: Arc<Semaphore>,
    /// Calls that wait for a place among the live instances.
    waiting: AtomicUsize,
    /// The idle instances of every step.
    idle: Mutex<Vec<Weak<Idle>>>,
    /// What calls beyond their free time share: one core less than there are.
    cores: Arc<Semaphore>,
    ticker: Arc<Ticker>,
    /// What guests are told when they ask for the time.
    clock: Clock,
}

impl Host {
    /// Starts the sandbox. Reserves address space, not memory.
    pub fn new(settings: HostSettings) -> Result<Arc<Self>, HostError> {
        Self::with_clock(settings, Clock::Wall)
    }

    /// The same with a clock for its guests.
    pub fn with_clock(settings: HostSettings, clock: Clock) -> Result<Arc<Self>, HostError> {
        if settings.instances == 0 {
            return Err(HostError::Settings("limits.instances is 0: no transform could run"));
        }
        let instances = settings.instances;
        let sandbox = |source| HostError::Sandbox { instances, source };
        let engine = Engine::new(&config(instances)).map_err(sandbox)?;
        let linker = instance::linker(&engine).map_err(sandbox)?;
        let ticker = Arc::new(Ticker::start(&engine).map_err(HostError::Ticker)?);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(Self {
            engine,
            linker,
            modules: Mutex::default(),
            memory: Arc::new(MemoryBudget::new(settings.memory_bytes)),
            live: Arc::new(Semaphore::new(instances as usize)),
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
            cores: Arc::new(Semaphore::new((cores - 1).max(1))),
            ticker,
            clock,
            settings,
        }))
    }

    /// Compiles a component, or a core module built with wit-bindgen. The same bytes are compiled once. Takes seconds
    /// for JavaScript and Python: inside a runtime use [`Host::load_in_background`].
    pub fn load(&self, name: &str, bytes: &[u8]) -> Result<Module, ModuleError> {
        let max = self.settings.module_bytes_max;
        if bytes.len() > max {
            return Err(ModuleError::TooLarge { name: name.to_owned(), bytes: bytes.len(), max });
        }
        let digest = module::digest(bytes);
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = modules.get(&digest) {
            return Ok(Module::new(name, Arc::clone(compiled)));
        }
        let compiled = module::compile(&self.engine, &self.linker, name, bytes, Arc::clone(&digest))?;
        let compiled = Arc::new(compiled);
        let unused = modules.values().filter(|module| Arc::strong_count(module) == 1).count();
        if unused >= UNUSED_MODULES_MAX {
            modules.retain(|_, module| Arc::strong_count(module) > 1);
        }
        modules.insert(digest, Arc::clone(&compiled));
        Ok(Module::new(name, compiled))
    }

    /// [`Host::load`] on a thread for blocking work.
    pub async fn load_in_background(
        self: &Arc<Self>,
        name: &str,
        bytes: bytes::Bytes,
    ) -> Result<Module, ModuleError> {
        let (host, name) = (Arc::clone(self), name.to_owned());
        let load = tokio::task::spawn_blocking(move || host.load(&name, &bytes));
        load.await.expect("loading doesn't panic, and nobody aborts it")
    }

    /// The limits of the process.
    pub fn settings(&self) -> &HostSettings {
        &self.settings
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    pub(super) fn memory(&self) -> Arc<MemoryBudget> {
        Arc::clone(&self.memory)
    }

    /// A new step's place in the queue for the shared cores.
    pub(super) fn queue(&self) -> Queue {
        Queue::new(Arc::clone(&self.cores), Arc::clone(&self.ticker))
    }

    /// Makes the idle instances of a step known, so that others can have their places.
    pub(super) fn register(&self, idle: &Arc<Idle>) {
        let mut all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|idle| idle.strong_count() > 0);
        all.push(Arc::downgrade(idle));
    }

    /// A place for one more instance; if there is none, that of an idle one. Waits as long as all are at work.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.live).try_acquire_owned() {
            return place;
        }
        let _waiting = Waiting::new(&self.waiting);
        self.evict();
        Arc::clone(&self.live).acquire_owned().await.expect("nothing closes this semaphore")
    }

    /// Gives a place to somebody who waits for one. To be called when an instance has become idle.
    pub(super) fn serve_waiting(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.evict();
        }
    }

    /// Ends one idle instance, of the step that has most of them.
    pub(super) fn evict(&self) {
        let all = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let most = all.iter().filter_map(Weak::upgrade).max_by_key(|idle| idle.len());
        drop(all);
        drop(most.and_then(|idle| idle.take()));
    }
}

/// One of those that wait; no longer when dropped, be it that the call was given up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The sandbox's own limits. Totals are for the worst component that `max_*` allows, address space is cheap.
fn config(instances: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(4))
        .total_stacks(instances)
        .max_core_instances_per_component(64)
        .max_memories_per_component(2)
        .max_tables_per_component(4)
        .max_memory_size(usize::try_from(MEMORY_BYTES_MAX).unwrap_or(usize::MAX))
        .table_elements(TABLE_ELEMENTS_MAX);
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool)).epoch_interruption(true);
    config
}
