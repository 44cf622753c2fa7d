//! The harness shows here that it does what the other tests rely on.

mod cable;
mod endpoint;
mod engine;
mod events;
mod nats_server;
