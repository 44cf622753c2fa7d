//! The checked form: what is here can't be wrong, nothing behind it checks again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::deliver::{self, publish};
use crate::lane::{Policy, Rate, circuit};
use crate::model::{Name, Reference, Token};
use crate::{egress, filter, nats, source, transform, validate};

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
    pub source: source::Settings,
    /// Which schemas they have to fulfil.
    pub validate: validate::Settings,
    /// Who wants them; names are unique.
    pub subscriptions: Vec<Subscription>,
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
    /// Where the settings of the target stand that may refer to what stands elsewhere, or that others speak of: `/url`,
    /// `/headers`, `/sign`, `/subject`, `/concurrency`.
    pub target_places: Places,
    /// Most attempts of one engine at once.
    pub concurrency: usize,
    /// Most attempts of one engine over time.
    pub rate: Option<Rate>,
    /// When to stop trying for every event.
    pub circuit: circuit::Settings,
    /// When a failed attempt is repeated.
    pub retry: Policy,
}

/// `[[subscription.step]]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// The module; a file with the folder of the pipeline file before it.
    pub reference: Reference,
    /// The same as the file writes it.
    pub written: String,
    /// The line of `transform`: for a module that can't be used.
    pub reference_line: usize,
    /// The line of `settings`, or of `transform` if there are none: for what `configure` says.
    pub settings_line: usize,
    /// Where each of the settings stands: for what the schema in the module's metadata says.
    pub settings_places: Places,
    /// What the stage itself needs to know.
    pub transform: transform::Settings,
    /// What becomes of an event that the step has failed on for good.
    pub on_error: OnError,
}

/// Line and column of values within a table, by their JSON pointers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Places(pub(super) BTreeMap<String, (usize, usize)>);

impl Places {
    /// Where the value stands, or the nearest one around it that stands anywhere.
    pub fn of(&self, pointer: &str) -> Option<(usize, usize)> {
        let around = std::iter::successors(Some(pointer), |pointer| Some(pointer.rsplit_once('/')?.0));
        around.into_iter().find_map(|pointer| self.0.get(pointer).copied())
    }
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
    Deliver(deliver::Settings),
    /// `[subscription.publish]`.
    Publish(publish::Settings),
}

/// `hookmill.toml`: what belongs to the process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Health, metrics and admin API.
    pub listen: SocketAddr,
    /// How that is served.
    pub admin: Admin,
    /// Who may use the admin API.
    pub tokens: Vec<Token>,
    /// The connection to NATS.
    pub nats: nats::Settings,
    /// What deliveries may reach, and how.
    pub egress: Egress,
    /// What is stored at most.
    pub limits: Limits,
    /// What guests may take together.
    pub host: transform::HostSettings,
}

/// `[egress]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Egress {
    /// `allow` and `deny`.
    pub policy: egress::Policy,
    /// The file of certificate authorities of one's own, as PEM.
    pub ca: Option<PathBuf>,
    /// Whether the system's authorities are trusted too.
    pub system_roots: bool,
    /// The oldest version of TLS that is spoken.
    pub tls_min: egress::TlsVersion,
    /// The proxy that deliveries go through.
    pub proxy: Option<egress::Proxy>,
}

/// `[admin]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// The files of certificate and key; none: no TLS.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Requests a second of one token or address.
    pub rate: u32,
}

/// `[limits]`, as far as it is about storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most messages in one lane.
    pub lane: u64,
    /// Most tasks that wait for a retry.
    pub waiting: u64,
}
