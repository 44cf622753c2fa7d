//! Runs guest modules in a sandbox.
//!
//! A [`Host`] is one for the process: the pool of instances and the clock that interrupts guests. It makes a [`Module`]
//! of a file's bytes, which a child process compiles. A [`Step`] is one module with one subscription's settings; its
//! [`Step::apply`] runs an event through an instance of its own.
//!
//! Nothing but `log` and `clock` is behind a guest, every resource that it can use has a bound, and what it returns
//! is checked here before anything else sees it. This part never retries and never reads pipeline files.

mod bindings;
mod budget;
mod check;
mod code;
mod compile;
mod convert;
mod cores;
mod errors;
mod expect;
mod host;
mod idle;
mod imports;
mod instance;
mod limiter;
pub mod metadata;
mod module;
mod places;
mod sections;
mod settings;
mod shape;
mod share;
mod shelf;
mod step;
mod stretch;
mod ticker;
mod trust;
mod watch;

pub use compile::{COMMAND, Facts, compile_module};
pub use errors::{ConfigureError, HostError, ModuleError};
pub use expect::{Expect, ExpectError, Outcome};
pub use host::Host;
pub use metadata::{Metadata, MetadataError, Sample};
pub use module::Module;
pub use settings::{
    Cache, CacheFolder, Compile, Compiler, HostSettings, Isolation, MEMORY_BYTES, OUTPUT_BYTES, Settings,
    TIMEOUT, Unset,
};
pub use step::{Step, Trial};
pub use watch::{Seen, Watch};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
