//! The harness of the tests that drive the engine from outside: a real nats-server, scripted endpoints, a cable that
//! cuts and delays, the built program as a child process.
//!
//! Everything listens on loopback alone. Nothing waits by sleeping: each wait is for an observed event, with a
//! deadline. What goes wrong in the harness itself panics with a sentence that says what was expected.

pub mod cable;
pub mod chaos;
pub mod endpoint;
pub mod engine;
pub mod events;
pub mod eventually;
pub mod folder;
pub mod guest;
pub mod hostile;
pub mod http;
pub mod judge;
pub mod nats_cluster;
pub mod nats_server;
pub mod process;
pub mod signature;
pub mod stamp;

pub use cable::Cable;
pub use endpoint::{Endpoint, Reply, Request, behaviour};
pub use engine::{Engine, EngineOptions, hookmill, hookmill_at_terminal, hookmill_reading};
pub use eventually::eventually;
pub use folder::PipelineFolder;
pub use nats_cluster::NatsCluster;
pub use nats_server::{NatsOptions, NatsServer};
