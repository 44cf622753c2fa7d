//! Throws broken and strange input at what strangers can reach, and looks whether it is taken or refused with clear
//! words: no panic, no end of the process, no wait without end, no memory without bound.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `run` | the loop: an input after the other, within a time, from a seed |
//! | `mutate` | what is done to bytes: any, and those of WebAssembly by their sections |
//! | `grow` | whole modules from nothing |
//! | `upload`, `metadata`, `event` | the targets |
//!
//! There is no instrumentation, so that it builds with the toolchain that the rest is built with. In its place what the
//! engine says tells whether an input has found something new: a refusal in words that were not heard before.

pub mod event;
pub mod grow;
pub mod metadata;
pub mod mutate;
pub mod run;
pub mod upload;

pub use run::{Options, Report, Target, run};
