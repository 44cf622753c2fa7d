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
mod expect;
mod host;
mod imports;
mod instance;
mod limiter;
pub mod metadata;
mod module;
mod sections;
mod settings;
mod step;
mod ticker;
mod watch;

pub use errors::{ConfigureError, HostError, ModuleError};
pub use expect::{Expect, ExpectError, Outcome};
pub use host::Host;
pub use metadata::{Metadata, MetadataError, Sample};
pub use module::Module;
pub use settings::{HostSettings, Isolation, MEMORY_BYTES, OUTPUT_BYTES, Settings, TIMEOUT, Unset};
pub use step::{Step, Trial};
pub use watch::{Seen, Watch};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
