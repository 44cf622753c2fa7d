//! Everything that drives the engine from outside, in one program: it links once and its tests share the machine.

mod commands;
mod demo;
mod dlq;
mod foreign;
mod harness;
mod held;
mod mill;
mod rollout;
mod shutdown;
mod source;
mod structure;
