//! Everything that drives the engine from outside, in one program: it links once and its tests share the machine.

mod bad_endpoints;
mod bad_guests;
mod bad_headers;
mod bad_input;
mod blind;
mod chaos;
mod commands;
mod conservation;
mod crash_loop;
mod demo;
mod dlq;
mod foreign;
mod harness;
mod held;
mod lanes;
mod mill;
mod pace;
mod publish_target;
mod rollout;
mod scene;
mod shutdown;
mod slowness;
mod source;
mod structure;
mod transforms;
mod validation;
