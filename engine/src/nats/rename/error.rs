//! Why a pipeline is not renamed.

use super::Contents;
use crate::model::Name;
use crate::nats::modules::ModulesError;
use crate::nats::owner::NotOurs;
use crate::nats::registry::RegistryError;
use crate::nats::streams::StreamsError;
use crate::nats::{ApiError, StoreError};

/// Why a pipeline is not renamed, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    /// Both names are one.
    #[error("{0} is its name already; give another one")]
    SameName(Name),
    /// Nothing is kept of it.
    #[error(
        "nothing is kept of a pipeline {0}: no place in a source, no tasks, no dead letters; `hookmill lane list` shows the names there are"
    )]
    Unknown(Name),
    /// Something is kept under the new name.
    #[error(
        "a pipeline {name} is there already, with {contents}; give another name, or move that one out of the way first"
    )]
    Taken {
        /// The new name.
        name: Name,
        /// What is kept.
        contents: Contents,
    },
    /// The new name's durable is somebody else's.
    #[error("{name} can't be its new name")]
    NotOurs {
        /// The new name.
        name: Name,
        /// Whose it is.
        #[source]
        source: NotOurs,
    },
    /// An engine runs it.
    #[error(
        "engine {engine} runs {pipeline}: its last sign of life is {age} s old; stop it, or take the pipeline out of its files, and try again. One that was killed counts as gone after 5 minutes"
    )]
    Running {
        /// The engine.
        engine: String,
        /// The pipeline.
        pipeline: Name,
        /// Seconds since it renewed its sign.
        age: u64,
    },
    /// Messages of the source are under way.
    #[error(
        "{count} messages of {stream} were taken by an engine that did not settle them; start one with {pipeline} and stop it, then try again. \
         Or say --repeat: everything from sequence {from} on is taken again under the new name, with other webhook-ids"
    )]
    Unsettled {
        /// How many.
        count: u64,
        /// The source.
        stream: String,
        /// The pipeline.
        pipeline: Name,
        /// The first one.
        from: u64,
    },
    /// Another rename has not come to its end.
    #[error(
        "{from} is being renamed to {to}, and that was not finished; run `hookmill pipeline rename {from} {to}` first"
    )]
    Other {
        /// Its old name.
        from: String,
        /// Its new name.
        to: String,
    },
    /// A message can't be stored under the new name.
    #[error(
        "{subject} can't be written; mend that and run the same command again, it goes on where it stopped"
    )]
    Store {
        /// Where.
        subject: String,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// NATS.
    #[error("NATS can't be asked; run the same command again, it goes on where it stopped")]
    Api(#[from] ApiError),
    /// A stream.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// The bucket.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Signs of life.
    #[error(transparent)]
    Signs(#[from] ModulesError),
}
