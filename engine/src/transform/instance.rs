//! One instance of a module: its store, its limits, its calls. Dead after any [`Broken`].

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime::{Store, Trap, WasmBacktrace};
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::bindings::exports::hookmill::transform::handler;
use super::bindings::hookmill::transform::{clock, log, types};
use super::bindings::{Transform, TransformPre};
use super::budget::Meter;
use super::errors::{Broken, guest_text};
use super::limiter::{Limiter, MemoryBudget, Refused, TABLE_ELEMENTS_MAX};
use super::places::Place;
use super::share::Share;
use super::watch::Watch;
use crate::model::{Clock, Timestamp};

/// Longest time that making and configuring an instance may take together.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Calls after which an instance is replaced: guests leak.
const CALLS_MAX: u32 = 10_000;

/// What a guest may log during one call, in bytes.
const LOG_BYTES_MAX: usize = 16 << 10;

/// What the shape of a result may cost beside its bytes: records and lists count for their size in memory.
const RETURN_OVERHEAD_BYTES: u64 = 512 << 10;

/// Most things that a guest may hold of WASI at once.
const WASI_RESOURCES_MAX: usize = 1000;

/// Most random bytes that a guest gets at once.
const WASI_RANDOM_BYTES_MAX: u64 = 64 << 10;

/// The limits of a step, as an instance needs them.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) memory: Arc<MemoryBudget>,
    pub(super) memory_bytes: u64,
    pub(super) output_bytes: u64,
    /// The subscription's part of cores, places and memory.
    pub(super) share: Arc<Share>,
    pub(super) clock: Clock,
    /// Who looks on, if anybody does.
    pub(super) watch: Option<Watch>,
}

/// What is behind a guest.
pub(super) struct State {
    module: Arc<str>,
    limiter: Limiter,
    meter: Arc<Meter>,
    log_bytes_left: usize,
    log_dropped: u32,
    clock: Clock,
    watch: Option<Watch>,
    /// Made at the first use: a guest that needs no WASI doesn't pay for it.
    wasi: Option<Box<(WasiCtx, ResourceTable)>>,
}

/// A linker with the contract's imports and WASI 0.2.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    Transform::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Ok(linker)
}

impl State {
    /// What the guest holds of WASI.
    fn wasi_resources(&mut self) -> usize {
        self.wasi.as_mut().map_or(0, |wasi| wasi.1.iter_mut().count())
    }
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) {
        let Some(left) = self.log_bytes_left.checked_sub(message.len()) else {
            self.log_dropped = self.log_dropped.saturating_add(1);
            return;
        };
        self.log_bytes_left = left;
        let level = match level {
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warn => "warn",
            log::Level::Error => "error",
        };
        if let Some(watch) = &self.watch {
            watch.log(level, guest_text(message.clone()));
        }
        if tracing::enabled!(target: "guest", tracing::Level::DEBUG) {
            tracing::debug!(target: "guest", module = &*self.module, level, text = guest_text(message), "guest log");
        }
    }
}

impl types::Host for State {}

impl clock::Host for State {
    fn now(&mut self) -> u64 {
        self.clock.now().unix_millis()
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (clock, watch) = (&self.clock, self.watch.as_ref());
        let (ctx, table) = &mut **self.wasi.get_or_insert_with(|| Box::new(empty_wasi(clock, watch)));
        WasiCtxView { ctx, table }
    }
}

/// No files, no environment, no arguments, no sockets; output goes nowhere, or to who looks on.
fn empty_wasi(clock: &Clock, watch: Option<&Watch>) -> (WasiCtx, ResourceTable) {
    let mut builder = WasiCtxBuilder::new();
    builder.wall_clock(WallClock(clock.clone()));
    builder.allow_tcp(false).allow_udp(false).max_random_size(WASI_RANDOM_BYTES_MAX);
    if let Some(watch) = watch {
        builder.stdout(watch.pipe()).stderr(watch.pipe());
    }
    let mut table = ResourceTable::new();
    table.set_max_capacity(WASI_RESOURCES_MAX);
    (builder.build(), table)
}

/// The same time for guests that ask WASI.
struct WallClock(Clock);

impl HostWallClock for WallClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.0.now().since(Timestamp::default())
    }
}

/// A live instance.
pub(super) struct Instance {
    store: Store<State>,
    guest: Transform,
    meter: Arc<Meter>,
    limits: Limits,
    calls: u32,
    worn_at_bytes: u64,
    /// Its place among `limits.instances`. Dropped after the store: until then the pool has no room for another one.
    place: Place,
}

impl Instance {
    /// Makes an instance. No deadline of its own.
    pub(super) async fn start(
        module: Arc<str>,
        pre: &TransformPre<State>,
        limits: Limits,
        place: Place,
    ) -> Result<Self, Broken> {
        let meter = Meter::new(limits.share.queue.clone());
        let limiter =
            Limiter::new(Arc::clone(&limits.memory), Arc::clone(&limits.share), limits.memory_bytes);
        let log_bytes_left = LOG_BYTES_MAX;
        let state = State {
            module,
            limiter,
            meter: Arc::clone(&meter),
            log_bytes_left,
            log_dropped: 0,
            clock: limits.clock.clone(),
            watch: limits.watch.clone(),
            wasi: None,
        };
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.epoch_deadline_callback(|store| Ok(store.data().meter.next_slice()));
        let fuel = limits.output_bytes.saturating_add(RETURN_OVERHEAD_BYTES);
        store.set_hostcall_fuel(usize::try_from(fuel).unwrap_or(usize::MAX));
        store.set_epoch_deadline(Meter::first_ticks());
        let started = meter.run(pre.instantiate_async(&mut store)).await;
        let guest = match started {
            Ok(guest) => guest,
            Err(error) => return Err(broken(&mut store, &limits, &error, Doing::Starting)),
        };
        Ok(Self { store, guest, meter, limits, calls: 0, worn_at_bytes: 0, place })
    }

    /// Hands the settings over. The inner error is the guest's own.
    pub(super) async fn configure(&mut self, settings: &str) -> Result<Result<(), String>, Broken> {
        self.begin();
        let call = self.guest.hookmill_transform_handler().call_configure(&mut self.store, settings);
        let answer = self.meter.run(call).await;
        self.end();
        // Half the cap; for a guest that starts beyond it, half of what is left then.
        let (cap, used) = (self.limits.memory_bytes, self.store.data().limiter.used_bytes());
        self.worn_at_bytes = if used > cap / 2 { used.midpoint(cap) } else { cap / 2 };
        answer.map_err(|error| self.broken(&error))
    }

    /// Runs one event. The inner error is the guest's own.
    pub(super) async fn apply(
        &mut self,
        event: handler::Event<'_>,
    ) -> Result<Result<handler::Verdict, handler::Failure>, Broken> {
        self.begin();
        self.calls += 1;
        let call = self.guest.hookmill_transform_handler().call_apply(&mut self.store, event);
        let answer = self.meter.run(call).await;
        self.end();
        answer.map_err(|error| self.broken(&error))
    }

    /// Whether it has done its work: too many calls, or more memory or handles than it should come to need.
    pub(super) fn is_worn(&mut self) -> bool {
        self.calls >= CALLS_MAX
            || self.store.data().limiter.used_bytes() > self.worn_at_bytes
            || self.store.data_mut().wasi_resources() > WASI_RESOURCES_MAX / 2
    }

    /// It has nothing to do: its place and its memory count as free.
    pub(super) fn rest(&mut self) {
        self.place.rest();
        self.store.data_mut().limiter.set_idle(true);
    }

    /// It is needed again.
    pub(super) fn work(&mut self) {
        self.place.work();
        self.store.data_mut().limiter.set_idle(false);
    }

    fn begin(&mut self) {
        self.store.set_epoch_deadline(Meter::first_ticks());
        let state = self.store.data_mut();
        state.log_bytes_left = LOG_BYTES_MAX;
        // A refusal that the guest survived in an earlier call explains nothing that happens in this one.
        state.limiter.take_refused();
    }

    fn end(&mut self) {
        let state = self.store.data_mut();
        if let Some(watch) = &state.watch {
            watch.note_memory(state.limiter.used_bytes());
        }
        let dropped = std::mem::take(&mut state.log_dropped);
        if dropped > 0 {
            tracing::debug!(target: "guest", module = &*state.module, dropped, "guest logged too much in one call");
        }
    }

    fn broken(&mut self, error: &wasmtime::Error) -> Broken {
        broken(&mut self.store, &self.limits, error, Doing::Calling)
    }
}

#[derive(Clone, Copy)]
enum Doing {
    Starting,
    Calling,
}

/// What an error of the sandbox means. The limiter's note comes first: a guest that is out of memory traps.
fn broken(store: &mut Store<State>, limits: &Limits, error: &wasmtime::Error, doing: Doing) -> Broken {
    let state = store.data_mut();
    tracing::debug!(target: "guest", module = &*state.module, error = ?error, "guest broke");
    match state.limiter.take_refused() {
        Some(Refused::Memory) => return Broken::Memory { limit_bytes: limits.memory_bytes },
        Some(Refused::HostMemory) => return Broken::HostMemory { limit_bytes: limits.memory.max_bytes() },
        Some(Refused::Table) => return Broken::Table { elements_max: TABLE_ELEMENTS_MAX },
        None => {}
    }
    let cause = guest_text(error.root_cause().to_string());
    let inside = error.downcast_ref::<Trap>().is_some() || error.downcast_ref::<WasmBacktrace>().is_some();
    match (inside, doing) {
        (true, _) => Broken::Trap(cause),
        (false, Doing::Starting) => Broken::Sandbox(cause),
        (false, Doing::Calling) => Broken::Return { problem: cause, output_bytes: limits.output_bytes },
    }
}
