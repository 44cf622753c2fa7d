//! Why the registry of modules can't do something, in words that say how to mend it.

use std::fmt;

use super::objects::ObjectError;
use super::{Record, Use};
use crate::model::{Digest, Name, Reference, Version};
use crate::nats::registry::RegistryError;
use crate::nats::streams::StreamsError;
use crate::nats::{ApiError, StoreError};

/// Most versions and uses that a message names.
const SHOWN_MAX: usize = 5;

/// Why the registry could not do something.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// The streams behind it can't be used.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// The version is there with other bytes.
    #[error("{name}@{version} {}; a version never changes, so give these bytes another one", conflict(.digest, *.deleted))]
    Conflict {
        /// The module.
        name: Name,
        /// The version.
        version: Version,
        /// What it holds, or held.
        digest: Digest,
        /// Whether it was deleted since.
        deleted: bool,
    },
    /// There is no such version.
    #[error("there is no {name}@{version} in the registry")]
    NotFound {
        /// The module.
        name: Name,
        /// The version.
        version: Version,
    },
    /// Engines use it.
    #[error("it is in use by {}; take it out of these pipelines, or yank it so that ranges leave it", list(.0))]
    InUse(Vec<Use>),
    /// The bytes can't be stored, read or removed.
    #[error("the bytes of module {digest} can't be {verb}")]
    Object {
        /// Which.
        digest: Digest,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        #[source]
        source: ObjectError,
    },
    /// The stored bytes are not those that were given.
    #[error("the stored bytes of module {digest} are damaged: they have digest {found}; upload it again")]
    Damaged {
        /// Which.
        digest: Digest,
        /// What they have.
        found: Digest,
    },
    /// Records can't be read.
    #[error("the records of modules can't be read")]
    Read(#[source] ApiError),
    /// A record can't be written.
    #[error("the record of {name}@{version} can't be written")]
    Write {
        /// The module.
        name: Name,
        /// The version.
        version: Version,
        /// Why not.
        #[source]
        source: StoreError,
    },
    /// A record is none.
    #[error("record {key} can't be read; it was written by another program, or by a newer version")]
    Record {
        /// Its key.
        key: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// Changes can't be followed.
    #[error("changes of modules can't be followed")]
    Watch(#[source] RegistryError),
    /// Others change the same version all the time.
    #[error("{name}@{version} is being changed by others; try again")]
    Busy {
        /// The module.
        name: Name,
        /// The version.
        version: Version,
    },
}

fn conflict(digest: &Digest, deleted: bool) -> String {
    let verb = if deleted { "was deleted and held" } else { "is there with" };
    format!("{verb} other bytes ({digest})")
}

fn list(uses: &[Use]) -> String {
    let shown: Vec<String> = uses.iter().take(SHOWN_MAX).map(Use::to_string).collect();
    let more = uses.len().saturating_sub(SHOWN_MAX);
    shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

/// Why a reference means nothing.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It is a path.
    #[error("{0} is a file, not a module of the registry")]
    File(String),
    /// No module has that name.
    #[error("there is no module {name} in the registry{hint}")]
    NoName {
        /// The name.
        name: Name,
        /// What it may have been meant to be, after `; `.
        hint: String,
    },
    /// The module has no such version.
    #[error("no version of module {name} fits {reference}; there is {there}")]
    NoVersion {
        /// The name.
        name: Name,
        /// The reference.
        reference: Reference,
        /// The versions that there are, newest first.
        there: Versions,
    },
    /// The registry could not be asked.
    #[error(transparent)]
    Registry(#[from] ModulesError),
}

/// Versions as a message shows them.
#[derive(Clone, PartialEq, Debug)]
pub struct Versions(pub(super) Vec<Record>);

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, record) in self.0.iter().take(SHOWN_MAX).enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{}", record.version)?;
            if let Some(yanked) = &record.yanked {
                write!(f, " (yanked: {})", yanked.why)?;
            }
        }
        let more = self.0.len().saturating_sub(SHOWN_MAX);
        if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
    }
}
