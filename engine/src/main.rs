//! The `hookmill` program.
fn main() {}
