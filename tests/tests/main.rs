//! Everything that drives the engine from outside, in one program: it links once and its tests share the machine.

mod conservation;
mod crash_loop;
mod foreign;
mod harness;
mod judge;
mod lanes;
mod slowness;
mod structure;
