//! Everything that talks to NATS. The only place that names its client.
//!
//! It owns names of streams and subjects, the message format of tasks, pulling, storing and the key-value records.
//! It never decides what becomes of an event.

mod bucket;
pub mod connect;
pub mod consumer_fit;
pub mod consumers;
pub mod diagnosis;
mod fit;
pub mod history;
pub mod lane_owners;
mod lane_records;
pub mod lanes;
pub mod letters;
pub mod modules;
pub mod names;
pub mod origins;
pub mod orphans;
pub mod owner;
pub mod parts;
pub mod pull;
pub mod reader;
pub mod registry;
pub mod rename;
mod revisions;
mod scan;
pub mod standing;
pub mod store;
pub mod streams;
mod suspects;
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
    #[error("JetStream does not answer; it may be starting, or too few servers of its cluster run")]
    NoAnswer(#[source] async_nats::jetstream::context::RequestError),
    /// The account may not ask.
    #[error("the NATS user has no permission to publish to {subject}; grant it")]
    Forbidden {
        /// The subject of the request.
        subject: String,
    },
}

impl ApiError {
    /// JetStream's error code, if it answered.
    pub fn code(&self) -> Option<u64> {
        match self {
            Self::Server { code, .. } => Some(*code),
            Self::NoAnswer(_) | Self::Forbidden { .. } => None,
        }
    }

    /// Whether it may be otherwise in a moment: a server that is starting, a cluster without a leader, or with too few
    /// servers to place a stream on.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::Server { .. } => {
                self.is(ErrorCode::CLUSTER_NOT_AVAILABLE) || self.is(ErrorCode::CLUSTER_NO_PEERS)
            }
            Self::Forbidden { .. } => false,
        }
    }

    fn is(&self, code: ErrorCode) -> bool {
        self.code() == Some(code.0)
    }
}

/// JetStream's code for a stream that does not exist.
pub const NO_STREAM: u64 = 10_059;

/// JetStream's code for a consumer that is there already, made otherwise.
pub const CONSUMER_EXISTS: u64 = 10_148;

/// One request to the JetStream API; `subject` is without the API prefix.
async fn api<T, V>(nats: &Nats, subject: String, payload: &T) -> Result<V, ApiError>
where
    T: Serialize + ?Sized,
    V: DeserializeOwned,
{
    let whole = format!("$JS.API.{subject}");
    let answer = nats.jetstream().request(subject, payload);
    match nats.unless_forbidden(&whole, answer).await {
        None => Err(ApiError::Forbidden { subject: whole }),
        Some(Ok(Response::Ok(value))) => Ok(value),
        Some(Ok(Response::Err { error })) => {
            let (code, mut description) = (error.error_code(), error.to_string());
            if code == ErrorCode::CLUSTER_NOT_AVAILABLE {
                description.push_str("; too few servers of its cluster run");
            }
            Err(ApiError::Server { code: code.0, description })
        }
        Some(Err(error)) => Err(ApiError::NoAnswer(error)),
    }
}
