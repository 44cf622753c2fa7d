//! Everything that talks to NATS. The only place that names its client.
//!
//! It owns names of streams and subjects, the message format of tasks, pulling, storing and the key-value records.
//! It never decides what becomes of an event.

mod bucket;
pub mod connect;
pub mod consumers;
mod fit;
pub mod lanes;
pub mod letters;
pub mod modules;
pub mod names;
pub mod orphans;
pub mod pull;
pub mod reader;
pub mod registry;
mod scan;
pub mod store;
pub mod streams;
pub mod tasks;
pub mod trace;
pub mod unreadable;
pub mod walk;

pub use connect::{ConnectError, Nats, Settings};
pub use modules::Modules;
pub use names::Prefix;
pub use pull::{Acker, Delivered, Pull, PullEvent};
pub use reader::Reader;
pub use registry::Registry;
pub use store::{StoreError, Stored};
pub use walk::{Looked, Walk, WalkError};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a request to the JetStream API did not give an answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server answered with an error.
    #[error("JetStream says {description} ({code})")]
    Server {
        /// JetStream's error code (`err_code`).
        code: u64,
        /// Its text.
        description: String,
    },
    /// No answer: not connected, nobody there, or too slow.
    #[error("no answer from JetStream")]
    NoAnswer(#[source] async_nats::jetstream::context::RequestError),
}

impl ApiError {
    /// JetStream's error code, if it answered.
    pub fn code(&self) -> Option<u64> {
        match self {
            Self::Server { code, .. } => Some(*code),
            Self::NoAnswer(_) => None,
        }
    }

    fn is(&self, code: ErrorCode) -> bool {
        self.code() == Some(code.0)
    }
}

/// JetStream's code for a stream that does not exist.
pub const NO_STREAM: u64 = 10_059;

/// One request to the JetStream API; `subject` is without the API prefix.
async fn api<T, V>(nats: &Nats, subject: String, payload: &T) -> Result<V, ApiError>
where
    T: Serialize + ?Sized,
    V: DeserializeOwned,
{
    match nats.jetstream().request(subject, payload).await {
        Ok(Response::Ok(value)) => Ok(value),
        Ok(Response::Err { error }) => {
            Err(ApiError::Server { code: error.error_code().0, description: error.to_string() })
        }
        Err(error) => Err(ApiError::NoAnswer(error)),
    }
}
