//! The `hookmill` program.

use std::process::ExitCode;

// An event costs some forty allocations, futures of many KiB among them, from several threads: with the system's allocator
// that is a fifth of the engine's CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hookmill::cli::main()
}
