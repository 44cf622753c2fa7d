//! What can be set: for the process ([`HostSettings`]) and for one step ([`Settings`]).

use std::ops::RangeInclusive;
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
    /// Largest module that is loaded, in bytes.
    pub module_bytes_max: usize,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self { instances: 1000, memory_bytes: 4 << 30, module_bytes_max: 64 << 20 }
    }
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
            unset: Unset::default(),
        }
    }
}
