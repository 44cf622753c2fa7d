//! Everything that drives the engine from outside, in one program: it links once and its tests share the machine.

mod bad_endpoints;
mod bad_guests;
mod bad_input;
mod harness;
mod publish_target;
mod scene;
mod transforms;
mod validation;
