//! Hookmill: gets `CloudEvents` from NATS JetStream, checked, filtered and reshaped, to webhooks.
//!
//! The library is the engine; `ARCHITECTURE.md` beside `src/` is the map.

pub mod cli;
pub mod config;
pub mod deliver;
pub mod egress;
pub mod filter;
pub mod lane;
pub mod model;
pub mod nats;
pub mod pipeline;
pub mod schema;
pub mod server;
pub mod source;
pub mod telemetry;
pub mod transform;
pub mod validate;
pub mod worker;
