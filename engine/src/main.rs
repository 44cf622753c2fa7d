//! The `hookmill` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    hookmill::cli::main()
}
