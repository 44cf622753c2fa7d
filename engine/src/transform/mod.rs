//! Runs guest modules in a sandbox.
