//! Runs guest modules in a sandbox.
//!
//! A [`Host`] is one for the process: the compiler, the pool of instances and the clock that interrupts guests. It
//! makes a [`Module`] of a file's bytes. A [`Step`] is one module with one subscription's settings; its
//! [`Step::apply`] runs an event through an instance of its own.
//!
//! Nothing but `log` and `clock` is behind a guest, every resource that it can use has a bound, and what it returns
//! is checked here before anything else sees it. This part never retries and never reads pipeline files.

mod bindings;
mod budget;
mod check;
mod convert;
mod errors;
mod host;
mod imports;
mod instance;
mod limiter;
mod module;
mod settings;
mod step;
mod ticker;

pub use errors::{ConfigureError, HostError, ModuleError};
pub use host::Host;
pub use module::Module;
pub use settings::{HostSettings, Isolation, Settings};
pub use step::Step;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
