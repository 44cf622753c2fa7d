//! Lines in the engine's log.
//!
//! Lines carry the module's name, are cut when long, and are dropped when there are too many of them. They must not
//! quote the event: logs go where payloads may not.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For whoever develops the transform.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is odd, and the transform has coped.
    Warn,
    /// Something is wrong.
    Error,
}

/// Writes one line.
pub fn log(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::guest::log(level, message);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::record(level, message);
}

/// A line at [`Level::Debug`].
pub fn debug(message: impl AsRef<str>) {
    log(Level::Debug, message.as_ref());
}

/// A line at [`Level::Info`].
pub fn info(message: impl AsRef<str>) {
    log(Level::Info, message.as_ref());
}

/// A line at [`Level::Warn`].
pub fn warn(message: impl AsRef<str>) {
    log(Level::Warn, message.as_ref());
}

/// A line at [`Level::Error`].
pub fn error(message: impl AsRef<str>) {
    log(Level::Error, message.as_ref());
}
