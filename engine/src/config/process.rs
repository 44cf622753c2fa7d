//! The settings of `hookmill.toml`: what belongs to the process and not to a pipeline.

use std::time::Duration;

use super::checked::{Limits, Login, Nats, Process};
use super::kinds::{Cidr, FilePath, List, Listen, NameKind, Size, Time, Whole};
use super::report::Code;
use super::setting::Absent::{Default, Nothing};
use super::setting::{About, Later, Section, Setting, Sub, Table};
use super::values::{NatsUrls, Secret, TextOrReference};

pub(super) static PROCESS: Section = Section {
    header: "",
    label: "",
    about: "At the top of the file. Everything has a default: with no file at all the engine works.",
    keys: &[&LISTEN, &NATS_TABLE, &EGRESS_TABLE, &LIMITS_TABLE, &TOKEN, &GATEWAY, &INGEST],
};

static LISTEN: Setting<Listen> = Setting::new(
    "listen",
    Listen,
    Default("\"127.0.0.1:8470\""),
    "Health, metrics and admin API. `--listen` counts more.",
);
static NATS_TABLE: Sub = Sub::one("nats", &NATS);
static EGRESS_TABLE: Sub = Sub::one("egress", &EGRESS);
static LIMITS_TABLE: Sub = Sub::one("limits", &LIMITS);
static TOKEN: Later = Later::new("token", "the admin API listens on loopback");
static GATEWAY: Later = Later::new("gateway", "steps that ask a language model come later");
static INGEST: Later = Later::new("ingest", "publish events to NATS");

static NATS: Section = Section {
    header: "[nats]",
    label: "nats",
    about: "The connection to NATS (server 2.14 or newer, with JetStream). Log in with at most one of `credentials`, \
            `user` and `password`, and `token`.",
    keys: &[
        &URL,
        &PREFIX,
        &REPLICAS,
        &CONNECT_TIMEOUT,
        &CREDENTIALS,
        &USER,
        &PASSWORD,
        &LOGIN_TOKEN,
        &CA,
        &CERT,
        &KEY,
    ],
};

static URL: Setting<NatsUrls> = Setting::new(
    "url",
    NatsUrls,
    Default("\"nats://127.0.0.1:4222\""),
    "The servers. `--nats` and the variable `NATS_URL` count more.",
);
static PREFIX: Setting<NameKind> = Setting::new(
    "prefix",
    NameKind,
    Default("\"hookmill\""),
    "First token of the engine's own subjects; in upper case, with `_` for `-`, the start of its streams' names.",
);
static REPLICAS: Setting<Whole> = Setting::new(
    "replicas",
    Whole { min: 1, max: 5 },
    Default("1"),
    "Replicas of the streams and buckets that the engine makes.",
);
static CONNECT_TIMEOUT: Setting<Time> = Setting::new(
    "connect_timeout",
    Time { min: Duration::from_secs(1), max: Duration::from_mins(10) },
    Default("\"30s\""),
    "How long to wait at start for a server that stays away.",
);
static CREDENTIALS: Setting<FilePath> =
    Setting::new("credentials", FilePath, Nothing("none"), "A credentials file (`.creds`).");
static USER: Setting<TextOrReference> =
    Setting::new("user", TextOrReference, Nothing("none"), "Needs `password`.");
static PASSWORD: Setting<Secret> = Setting::new("password", Secret, Nothing("none"), "Needs `user`.");
static LOGIN_TOKEN: Setting<Secret> = Setting::new("token", Secret, Nothing("none"), "A token.");
static CA: Setting<FilePath> = Setting::new(
    "ca",
    FilePath,
    Nothing("the system's"),
    "Certificates (PEM) of the authority that signs the server's.",
);
static CERT: Setting<FilePath> =
    Setting::new("cert", FilePath, Nothing("none"), "The engine's own certificate (PEM). Needs `key`.");
static KEY: Setting<FilePath> =
    Setting::new("key", FilePath, Nothing("none"), "Its key (PEM). Needs `cert`.");

static EGRESS: Section = Section {
    header: "[egress]",
    label: "egress",
    about: "Which addresses deliveries may reach. Loopback, private, link-local and metadata networks are refused \
            unless `allow` here, or of a subscription, names them.",
    keys: &[&ALLOW, &DENY, &PROXY],
};

static ALLOW: Setting<List<Cidr>> = Setting::new(
    "allow",
    List { item: Cidr, max: 1000 },
    Default("[]"),
    "Networks that every endpoint may be in.",
);
static DENY: Setting<List<Cidr>> = Setting::new(
    "deny",
    List { item: Cidr, max: 1000 },
    Default("[]"),
    "Networks that no endpoint may be in, whatever allows them.",
);
static PROXY: Later = Later::new("proxy", "deliveries connect directly");

static LIMITS: Section = Section {
    header: "[limits]",
    label: "limits",
    about: "What the process holds at most.",
    keys: &[&LANE, &WAITING, &INSTANCES, &MEMORY],
};

static LANE: Setting<Whole> = Setting::new(
    "lane",
    Whole { min: 1, max: 100_000_000 },
    Default("1_000_000"),
    "Most tasks in one subscription's lane.",
);
static WAITING: Setting<Whole> = Setting::new(
    "waiting",
    Whole { min: 1, max: 100_000_000 },
    Default("1_000_000"),
    "Most tasks that wait for a retry; beyond that they are stored in their lanes.",
);
static INSTANCES: Setting<Whole> = Setting::new(
    "instances",
    Whole { min: 1, max: 100_000 },
    Default("1000"),
    "Most instances of modules alive at once, idle ones included.",
);
static MEMORY: Setting<Size> = Setting::new(
    "memory",
    Size { min: 1 << 20, max: 1 << 40 },
    Default("\"4GiB\""),
    "Most linear memory of all instances together.",
);

/// Reads a file whose TOML is fine. `None` after a problem was reported.
pub(super) fn read(top: &Table<'_>) -> Option<Process> {
    let listen = top.get(&LISTEN);
    let nats = top.one(&PROCESS, &NATS_TABLE).and_then(|table| nats(&table));
    let egress = top.one(&PROCESS, &EGRESS_TABLE).map(|table| (table.get(&ALLOW), table.get(&DENY)));
    let limits = top.one(&PROCESS, &LIMITS_TABLE).and_then(|table| limits(&table));
    let (egress_allow, egress_deny) = egress?;
    Some(Process {
        listen: listen?,
        nats: nats?,
        egress_allow: egress_allow?,
        egress_deny: egress_deny?,
        limits: limits?,
    })
}

fn nats(table: &Table<'_>) -> Option<Nats> {
    let url = table.get(&URL);
    let prefix = table.get(&PREFIX);
    let replicas = table.get(&REPLICAS);
    let connect_timeout = table.get(&CONNECT_TIMEOUT);
    let login = login(table);
    let ca = table.optional(&CA).ok();
    let certificate = table.optional(&CERT).ok().zip(table.optional(&KEY).ok());
    let pairs = both(table, &CERT, &KEY);
    Some(Nats {
        url: url?,
        prefix: prefix?,
        replicas: usize::try_from(replicas?).unwrap_or(1),
        connect_timeout: connect_timeout?,
        login: login?,
        ca: ca?,
        certificate: certificate.filter(|_| pairs).map(|(cert, key)| cert.zip(key))?,
    })
}

fn login(table: &Table<'_>) -> Option<Login> {
    let credentials = table.optional(&CREDENTIALS).ok();
    let user = table.optional(&USER).ok();
    let password = table.optional(&PASSWORD).ok();
    let token = table.optional(&LOGIN_TOKEN).ok();
    let paired = both(table, &USER, &PASSWORD);
    let ways: [&dyn About; 3] = [&CREDENTIALS, &USER, &LOGIN_TOKEN];
    let given: Vec<_> = ways.into_iter().filter_map(|way| Some((way.key(), table.given(way)?))).collect();
    if let [(first, _), (second, at), ..] = given.as_slice() {
        let hint = "give one of credentials, user with password, and token";
        table.context(second).wrong(Code::Conflict, at, format!("stands beside {first}"), hint);
        return None;
    }
    let pair = user?.zip(password?);
    Some(match (credentials?, pair, token?) {
        _ if !paired => return None,
        (Some(path), _, _) => Login::Credentials(path),
        (_, Some((user, password)), _) => Login::User { user, password },
        (_, _, Some(token)) => Login::Token(token),
        (None, None, None) => Login::None,
    })
}

/// Whether both keys are given or neither is.
fn both(table: &Table<'_>, one: &dyn About, other: &dyn About) -> bool {
    let (lonely, at, missing) = match (table.given(one), table.given(other)) {
        (Some(at), None) => (one.key(), at, other.key()),
        (None, Some(at)) => (other.key(), at, one.key()),
        (Some(_), Some(_)) | (None, None) => return true,
    };
    table.context(lonely).wrong(
        Code::Conflict,
        &at,
        format!("stands without {missing}"),
        "give both or neither",
    );
    false
}

fn limits(table: &Table<'_>) -> Option<Limits> {
    let lane = table.get(&LANE);
    let waiting = table.get(&WAITING);
    let instances = table.get(&INSTANCES);
    let memory_bytes = table.get(&MEMORY);
    let instances = u32::try_from(instances?).unwrap_or(u32::MAX);
    Some(Limits { lane: lane?, waiting: waiting?, instances, memory_bytes: memory_bytes? })
}
