//! The registry of modules, and engines that use it.

mod files;
mod follow;
mod storage;
mod support;
mod swaps;
