//! What can be set: for the process ([`HostSettings`]) and for one step ([`Settings`]).

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::metadata::Limits;

/// What `timeout` of a step may be.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);

/// What `memory` of a step may be, in bytes.
pub const MEMORY_BYTES: RangeInclusive<u64> = (1 << 20)..=(4 << 30);

/// What `output` of a step may be, in bytes.
pub const OUTPUT_BYTES: RangeInclusive<u64> = (1 << 10)..=(64 << 20);

/// Limits of the process (`[limits]` in `hookmill.toml`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostSettings {
    /// Most instances alive at once, idle ones included (`instances`).
    pub instances: u32,
    /// Most linear memory of all instances together, in bytes (`memory`).
    pub memory_bytes: u64,
    /// How long an instance may have nothing to do before it is ended (`idle`).
    pub idle: Duration,
    /// Largest module that is loaded, in bytes.
    pub module_bytes_max: usize,
    /// How modules are compiled.
    pub compile: Compile,
    /// Where native code is kept.
    pub cache: Cache,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            instances: 1000,
            memory_bytes: 4 << 30,
            idle: Duration::from_mins(1),
            module_bytes_max: 64 << 20,
            compile: Compile::default(),
            cache: Cache::default(),
        }
    }
}

/// How modules are compiled, and what that may take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compile {
    /// Most time of the processor for one module; by the clock on the wall it may be four times as much
    /// (`compile_time`).
    pub time: Duration,
    /// Most memory for one module, in bytes (`compile_memory`).
    pub memory_bytes: u64,
    /// Who compiles.
    pub by: Compiler,
}

impl Default for Compile {
    fn default() -> Self {
        let by = if cfg!(test) { Compiler::ThisProcess } else { Compiler::OwnProgram };
        Self { time: Duration::from_mins(1), memory_bytes: 1 << 30, by }
    }
}

/// Who compiles.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compiler {
    /// A child process of this program, which has to be `hookmill`.
    OwnProgram,
    /// A child process of this `hookmill`: for programs that use the library.
    Program(PathBuf),
    /// This process, without limits: only for modules that one trusts with it, in tests and fuzzing.
    ThisProcess,
}

/// Where native code is kept from one start to the next (`[cache]` in `hookmill.toml`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cache {
    /// The folder.
    pub folder: CacheFolder,
    /// Most that it holds, in bytes; what was used longest ago goes first. 0: nothing is kept.
    pub bytes_max: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { folder: CacheFolder::None, bytes_max: 2 << 30 }
    }
}

/// A folder for native code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CacheFolder {
    /// Nothing is kept.
    None,
    /// Where it usually is. If it can't be trusted, nothing is kept, with a warning.
    Usual(PathBuf),
    /// Named by somebody. If it can't be trusted, the host doesn't start.
    Named(PathBuf),
}

/// Whether events share an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Isolation {
    /// An instance serves one event after the other.
    #[default]
    Instance,
    /// A fresh instance for every event.
    Event,
}

/// What a pipeline file says about one transform step. What happens to an event whose step has failed for good is
/// not decided here.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Handed to the module's `configure` as JSON text.
    pub settings: serde_json::Value,
    /// Longest time that one call may take, by the clock on the wall.
    pub timeout: Duration,
    /// Most linear memory of one instance, in bytes. At most 4 GiB.
    pub memory_bytes: u64,
    /// Most that one call may return, in bytes, all events and headers together.
    pub output_bytes: u64,
    /// Whether events share an instance.
    pub isolation: Isolation,
    /// The subscription that it is for. All steps of one share its part of cores, instances and memory; empty: the step
    /// has a part of its own.
    pub owner: Arc<str>,
    /// Which of the limits nobody has set.
    pub unset: Unset,
}

/// Limits that a pipeline file is silent about: what the module's metadata says of them counts before the default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unset {
    /// `timeout`.
    pub timeout: bool,
    /// `memory`.
    pub memory: bool,
    /// `output`.
    pub output: bool,
}

impl Settings {
    /// With the module's limits where nobody has set any.
    pub(super) fn or_of_module(mut self, limits: &Limits) -> Self {
        let Unset { timeout, memory, output } = self.unset;
        if let (true, Some(given)) = (timeout, limits.timeout) {
            self.timeout = given;
        }
        if let (true, Some(given)) = (memory, limits.memory_bytes) {
            self.memory_bytes = given;
        }
        if let (true, Some(given)) = (output, limits.output_bytes) {
            self.output_bytes = given;
        }
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            settings: serde_json::Value::Object(serde_json::Map::new()),
            timeout: Duration::from_secs(1),
            memory_bytes: 128 << 20,
            output_bytes: 4 << 20,
            isolation: Isolation::Instance,
            owner: Arc::default(),
            unset: Unset::default(),
        }
    }
}
