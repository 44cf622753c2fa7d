//! cuts and delays, the built program as a child process.
//!
//! Everything listens on loopback alone. Nothing waits by sleeping: each wait is for an observed event, with a
//! deadline. What goes wrong in the harness itself panics with a sentence that says what was expected.

pub mod endpoint;
pub mod eventually;
pub mod nats_server;
pub mod process;
pub mod signature;

pub use endpoint::{Endpoint, Reply, Request, behaviour};
pub use eventually::eventually;
pub use nats_server::{NatsOptions, NatsServer};
