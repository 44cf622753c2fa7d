//! What can be set: for the process ([`HostSettings`]) and for one step ([`Settings`]).

use std::time::Duration;

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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            settings: serde_json::Value::Object(serde_json::Map::new()),
            timeout: Duration::from_secs(1),
            memory_bytes: 128 << 20,
            output_bytes: 4 << 20,
            isolation: Isolation::Instance,
        }
    }
}

/// `67108864` as `64MiB`: the way sizes are written in a pipeline file.
pub(super) fn size_text(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let whole = units.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::size_text;

    #[test]
    fn sizes_read_as_they_are_written() {
        assert_eq!(size_text(64 << 20), "64MiB");
        assert_eq!(size_text(1 << 30), "1GiB");
        assert_eq!(size_text(1536), "1536B");
        assert_eq!(size_text(0), "0B");
    }
}
