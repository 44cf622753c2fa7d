//! The sandbox of the process: modules, pool of instances, memory, cores, and the clock that interrupts.

use std::fmt;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::budget::Queue;
use super::compile;
use super::cores::Cores;
use super::errors::{HostError, ModuleError};
use super::idle::{Idle, Idles, Sweeper};
use super::instance;
use super::limiter::{MemoryBudget, TABLE_ELEMENTS_MAX};
use super::module::{Loader, Module};
use super::places::{Place, Places};
use super::settings::HostSettings;
use super::share::{Share, Shares};
use super::shelf::Shelf;
use super::ticker::Ticker;
use crate::model::Clock;

/// Largest linear memory that any instance can have.
pub(super) const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// Most core instances in one component: one made by componentize-py has 38.
const CORE_INSTANCES: u32 = 40;

/// Most that an instance takes beside its memory and its tables, all its core instances together: globals above all,
/// which nothing else counts. One made by componentize-py takes 411 KiB.
const INSTANCE_BYTES_MAX: usize = 1 << 20;

/// Idle instances up to which a new step keeps the one that its settings were tried with.
const WARM_MAX: u32 = 64;

/// One for the process. Dropping it ends its threads.
pub struct Host {
    settings: HostSettings,
    loader: Arc<Loader>,
    memory: Arc<MemoryBudget>,
    places: Arc<Places>,
    idles: Arc<Idles>,
    shares: Shares,
    /// What calls beyond their free time share.
    cores: Arc<Cores>,
    ticker: Arc<Ticker>,
    /// What guests are told when they ask for the time.
    clock: Clock,
    _sweeper: Sweeper,
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
        let shelf = Shelf::new().map_err(HostError::Folder)?;
        let mut config = config(instances);
        config.cache(Some(shelf.cache()));
        let engine = Engine::new(&config).map_err(sandbox)?;
        let linker = instance::linker(&engine).map_err(sandbox)?;
        let ticker = Arc::new(Ticker::start(&engine).map_err(HostError::Thread)?);
        let idles = Arc::new(Idles::default());
        let sweeper = Sweeper::start(&idles, settings.idle).map_err(HostError::Thread)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(Self {
            loader: Arc::new(Loader::new(engine, linker, shelf, &settings)?),
            memory: Arc::new(MemoryBudget::new(settings.memory_bytes, Arc::clone(&idles))),
            places: Arc::new(Places::new(instances, Arc::clone(&idles))),
            idles,
            shares: Shares::default(),
            cores: Arc::new(Cores::new(cores)),
            ticker,
            clock,
            _sweeper: sweeper,
            settings,
        }))
    }

    /// Compiles a component, or a core module built with wit-bindgen. The same bytes are compiled once, and not at all
    /// where their native code was kept. Takes seconds for JavaScript and Python: inside a runtime use
    /// [`Host::load_in_background`].
    pub fn load(&self, name: &str, bytes: &[u8]) -> Result<Module, ModuleError> {
        let bytes = Bytes::copy_from_slice(bytes);
        let load = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| ModuleError::Compiler {
                name: name.to_owned(),
                problem: format!("no thread can be started: {error}"),
            })?;
            runtime.block_on(self.loader.load(name, bytes))
        };
        // On a thread of its own: the caller's may belong to a runtime, which allows no second one.
        thread::scope(|scope| scope.spawn(load).join().expect("loading doesn't panic"))
    }

    /// [`Host::load`] without blocking. Dropping the future ends the compiler.
    pub async fn load_in_background(
        self: &Arc<Self>,
        name: &str,
        bytes: bytes::Bytes,
    ) -> Result<Module, ModuleError> {
        self.loader.load(name, bytes).await
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

    /// A subscription's part of everything.
    pub(super) fn share(&self, owner: &Arc<str>) -> Arc<Share> {
        let queue = || Queue::new(Arc::clone(&self.cores), Arc::clone(&self.ticker));
        self.shares.of(owner, || Share::new(queue()))
    }

    /// The idle instances of a new step.
    pub(super) fn idles(&self) -> Arc<Idle> {
        self.idles.add()
    }

    /// Whether so few instances are idle that one more is no matter.
    pub(super) fn is_roomy(&self) -> bool {
        self.places.idle() < WARM_MAX.min(self.settings.instances)
    }

    /// A place for one more instance; if there is none, that of an idle one. Waits as long as all are at work, or as
    /// many as the subscription may have.
    pub(super) async fn place(&self, share: &Arc<Share>) -> Place {
        self.places.take(share).await
    }

    /// Gives places to those who wait for one. To be called when an instance has become idle.
    pub(super) fn make_room(&self) {
        self.places.make_room();
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
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_memories_per_component(2)
        .max_tables_per_component(4)
        .max_memory_size(usize::try_from(MEMORY_BYTES_MAX).unwrap_or(usize::MAX))
        .table_elements(TABLE_ELEMENTS_MAX);
    let mut config = compile::config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
