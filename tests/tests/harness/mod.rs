//! The harness shows here that it does what the other tests rely on.

mod endpoint;
mod nats_server;
