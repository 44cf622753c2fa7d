//! What flows through the engine. These types know one another and nothing else of ours.

pub mod access;
pub mod event;
pub mod fault;
pub mod live;
pub mod loops;
pub mod module;
pub mod name;
pub mod open_files;
pub mod progress;
pub mod secret;
pub mod size;
pub mod subject;
pub mod task;
pub mod text;
pub mod time;
pub mod types;
pub mod verdict;

pub use access::{NamePattern, NamePatternError, Scope, Token};
pub use event::{Data, Event, EventError, EventParts, Value};
pub use fault::{Again, Code, Fault, Reason, Stage, Whose};
pub use live::{Finding, Findings, Live, LiveError};
pub use module::{Digest, Reference, ReferenceError, Version, VersionRange};
pub use name::{Name, NameError};
pub use open_files::is_out_of_files;
pub use progress::{Progress, WaitThere};
pub use secret::{SecretError, SecretRef, SecretText};
pub use subject::{SubjectError, SubjectTemplate};
pub use task::{
    DeliveryId, EventRef, Filtered, Finished, Fits, LastFault, Next, SourceMessage, SourceRef, SplitPath,
    Task, TaskKey, Work,
};
pub use time::{Clock, Timestamp};
pub use types::{TypePatternError, TypePatterns};
pub use verdict::{Output, Verdict};
