//! The checked form: what is here can't be wrong, nothing behind it checks again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{Name, SecretRef, SubjectTemplate, Timestamp};
use crate::{filter, validate};

/// One pipeline file.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its name.
    pub name: Name,
    /// The file, as it was named to us.
    pub file: PathBuf,
    /// SHA-256 over the bytes of the file, as hex.
    pub revision: String,
    /// Where events come from.
    pub source: Source,
    /// Which schemas they have to fulfil.
    pub validate: validate::Settings,
    /// Who wants them; names are unique.
    pub subscriptions: Vec<Subscription>,
}

/// `[source]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The stream.
    pub stream: String,
    /// Subjects that are taken; none means everything in the stream.
    pub subjects: Vec<String>,
    /// Where to start if no floor is kept.
    pub start: Start,
    /// Most events that one engine works on at once.
    pub max_in_flight: usize,
}

/// Where a source starts if no floor is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// With what comes from now on.
    New,
    /// With the oldest event that the stream has.
    All,
    /// With the first event stored at that time or later.
    Time(Timestamp),
}

/// `[[subscription]]`.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its name.
    pub name: Name,
    /// Which events it wants.
    pub filter: filter::Settings,
    /// What is done to them, in order.
    pub steps: Vec<Step>,
    /// Where they go.
    pub target: Target,
    /// Most attempts of one engine at once.
    pub concurrency: usize,
    /// When a failed attempt is repeated.
    pub retry: Retry,
}

/// `[[subscription.step]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// The module's file, with the folder of the pipeline file before it.
    pub reference: PathBuf,
    /// Handed to the module's `configure`.
    pub settings: serde_json::Value,
    /// The line of `transform`: for a module that can't be used.
    pub reference_line: usize,
    /// The line of `settings`, or of `transform` if there are none: for what `configure` says.
    pub settings_line: usize,
    /// Longest time of one call.
    pub timeout: Duration,
    /// Most linear memory of one instance, in bytes.
    pub memory_bytes: u64,
    /// Most that one call may return, in bytes.
    pub output_bytes: u64,
    /// Whether events share an instance.
    pub isolation: Isolation,
    /// What becomes of an event that the step has failed on for good.
    pub on_error: OnError,
}

/// Whether events share an instance of a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Isolation {
    /// An instance serves one event after the other.
    Instance,
    /// A fresh instance for every event.
    Event,
}

/// What becomes of an event that a step has failed on for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnError {
    /// It rests in the dead-letter stream.
    DeadLetter,
    /// It ends here, as filtered.
    Drop,
    /// It goes on as it was before the step.
    Skip,
}

/// Where a subscription's events go.
#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// `[subscription.deliver]`.
    Deliver(Deliver),
    /// `[subscription.publish]`.
    Publish(Publish),
}

/// `[subscription.deliver]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deliver {
    /// The endpoint. A plain one has been checked.
    pub url: SecretRef,
    /// The form of the body.
    pub format: Format,
    /// Further headers: lower-case names, none that is reserved.
    pub headers: Vec<(String, SecretRef)>,
    /// Signing secrets: one signature for each.
    pub sign: Vec<SecretRef>,
    /// Bounds one attempt as a whole.
    pub timeout: Duration,
    /// Statuses that end in a dead letter at once.
    pub give_up_on: Vec<u16>,
    /// Longest time that a `Retry-After` is obeyed for.
    pub retry_after_max: Duration,
    /// Networks that this endpoint may reach although they are refused otherwise.
    pub allow: Vec<IpNet>,
}

/// How an event becomes an HTTP body (`CloudEvents` HTTP protocol binding, section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// The whole event as `application/cloudevents+json`.
    Structured,
    /// Attributes as `ce-*` headers, the data as the body.
    Binary,
    /// The data alone.
    Data,
}

/// `[subscription.publish]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish {
    /// The subject, to be filled in for each event.
    pub subject: SubjectTemplate,
    /// Longest wait for the publish ack.
    pub timeout: Duration,
}

/// `[subscription.retry]`, without what the delivery itself needs of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Retry {
    /// The wait before each further attempt; after the last one the event is dead-lettered.
    pub schedule: Vec<Duration>,
    /// How chance spreads each wait.
    pub jitter: Jitter,
    /// Longest time that a `Retry-After` is obeyed for.
    pub retry_after_max: Duration,
}

/// How chance spreads a wait.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Jitter {
    /// By this share up or down, 0 to 1.
    Around(f64),
    /// Anything from nothing to the wait.
    Full,
}

/// `hookmill.toml`: what belongs to the process.
#[derive(Clone, PartialEq, Debug)]
pub struct Process {
    /// Health, metrics and admin API.
    pub listen: SocketAddr,
    /// The connection to NATS.
    pub nats: Nats,
    /// Networks that every endpoint may reach although they are refused otherwise.
    pub egress_allow: Vec<IpNet>,
    /// Networks that no endpoint may reach, whatever else allows them.
    pub egress_deny: Vec<IpNet>,
    /// What the process holds at most.
    pub limits: Limits,
}

/// `[nats]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nats {
    /// The servers.
    pub url: Vec<String>,
    /// First token of subjects, and start of the names of streams and buckets.
    pub prefix: Name,
    /// Replicas of what the engine makes itself.
    pub replicas: usize,
    /// Longest wait for a server at start.
    pub connect_timeout: Duration,
    /// How the engine logs in.
    pub login: Login,
    /// Certificates of the authority that signs the server's.
    pub ca: Option<PathBuf>,
    /// The engine's own certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// How the engine logs in to NATS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Login {
    /// Not at all.
    None,
    /// With a credentials file.
    Credentials(PathBuf),
    /// With user and password.
    User {
        /// The user.
        user: SecretRef,
        /// The password.
        password: SecretRef,
    },
    /// With a token.
    Token(SecretRef),
}

/// `[limits]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most messages in one lane.
    pub lane: u64,
    /// Most tasks that wait for a retry.
    pub waiting: u64,
    /// Most instances of modules alive at once.
    pub instances: u32,
    /// Most linear memory of all instances together, in bytes.
    pub memory_bytes: u64,
}
