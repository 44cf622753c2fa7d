//! Everything that drives the engine from outside, in one program: it links once and its tests share the machine.

#![expect(
    clippy::print_stdout,
    reason = "the test runner keeps what tests print, and shows it where one fails"
)]

mod admin;
mod bad_endpoints;
mod bad_guests;
mod bad_headers;
mod bad_input;
mod blind;
mod chaos;
mod commands;
mod compile;
mod conservation;
mod crash_loop;
mod demo;
mod dlq;
mod egress;
mod foreign;
mod forgotten;
mod harness;
mod held;
mod holds;
mod hostile;
mod isolation;
mod lane_owner;
mod lanes;
mod login;
mod loops;
mod mill;
mod overtaken;
mod owner;
mod pace;
mod publish_target;
mod publishers;
mod readiness;
mod registry;
mod reload;
mod renaming;
mod retries;
mod rollout;
mod scene;
mod secrets;
mod shutdown;
mod slowness;
mod source;
mod status;
mod store_faults;
mod structure;
mod telemetry;
mod testing;
mod too_large;
mod trace;
mod transforms;
mod validation;
mod webhook_ids;
