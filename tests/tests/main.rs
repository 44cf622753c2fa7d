//! Everything that drives the engine from outside, in one program: it links once and its tests share the machine.

mod foreign;
mod harness;
mod lifecycle;
mod rollout;
mod structure;
