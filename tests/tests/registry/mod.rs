//! The registry of modules, and engines that use it.

mod files;
mod follow;
mod storage;
pub mod support;
mod swaps;
