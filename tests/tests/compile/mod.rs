//! Modules are compiled in a process of their own: what breaks its limits is refused, what kills it harms nobody, and
//! what it made is kept where nobody else can touch it.

mod bombs;
mod cache;
#[cfg(target_os = "linux")]
mod child;
mod limits;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hookmill::transform::{Compile, Compiler, Host, HostSettings};
use hookmill_tests::engine::built_program;

/// A host in this process whose compiler is the built program, and that keeps nothing.
fn host(time: Duration, memory_bytes: u64) -> Arc<Host> {
    let compile = Compile { time, memory_bytes, by: Compiler::Program(built_program()) };
    Host::new(HostSettings { compile, ..HostSettings::default() }).expect("the host starts")
}

/// One of the modules that the repository builds.
fn built_module(name: &str) -> Vec<u8> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout");
    let path: PathBuf = checkout.join(format!("transforms/dist/{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|_| panic!("no {}: run make modules first", path.display()))
}
