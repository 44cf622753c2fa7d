//! The settings of `hookmill.toml`: what belongs to the process and not to a pipeline.

use std::path::PathBuf;
use std::time::Duration;

use super::checked::{Admin, Limits, Process};
use super::egress::{self, EGRESS};
use super::kinds::{Choice, FilePath, List, Listen, NameKind, Size, Time, Whole};
use super::report::Code;
use super::setting::Absent::{Default, Missing, Nothing};
use super::setting::{About, Later, Section, Setting, Sub, Table};
use super::values::{ModuleNames, NatsUrls, Secret, TextOrReference};
use crate::model::{Name, Scope, Token};
use crate::nats;
use crate::transform::{Cache, CacheFolder, Compile, HostSettings};

pub(super) static PROCESS: Section = Section {
    header: "",
    label: "",
    about: "At the top of the file. Everything has a default: with no file at all the engine works.",
    keys: &[
        &LISTEN,
        &ADMIN_TABLE,
        &TOKENS,
        &NATS_TABLE,
        &EGRESS_TABLE,
        &LIMITS_TABLE,
        &CACHE_TABLE,
        &GATEWAY,
        &INGEST,
    ],
};

static LISTEN: Setting<Listen> = Setting::new(
    "listen",
    Listen,
    Default("\"127.0.0.1:8470\""),
    "Health, metrics and admin API. `--listen` counts more.",
);
static ADMIN_TABLE: Sub = Sub::one("admin", &ADMIN);
static TOKENS: Sub = Sub::many("token", &TOKEN);
static NATS_TABLE: Sub = Sub::one("nats", &NATS);
static EGRESS_TABLE: Sub = Sub::one("egress", &EGRESS);
static LIMITS_TABLE: Sub = Sub::one("limits", &LIMITS);
static CACHE_TABLE: Sub = Sub::one("cache", &CACHE);
static GATEWAY: Later = Later::new("gateway", "steps that ask a language model come later");
static INGEST: Later = Later::new("ingest", "publish events to NATS");

static ADMIN: Section = Section {
    header: "[admin]",
    label: "admin",
    about: "How `listen` is served: health, metrics and the admin API. With `cert` and `key` it speaks TLS alone; both \
            files are read again on SIGHUP.",
    keys: &[&ADMIN_CERT, &ADMIN_KEY, &RATE],
};

static ADMIN_CERT: Setting<FilePath> = Setting::new(
    "cert",
    FilePath,
    Nothing("no TLS"),
    "The certificate (PEM), with those between it and its authority. Needs `key`.",
);
static ADMIN_KEY: Setting<FilePath> =
    Setting::new("key", FilePath, Nothing("no TLS"), "Its key (PEM). Needs `cert`.");
static RATE: Setting<Whole> = Setting::new(
    "rate",
    Whole { min: 1, max: 100_000 },
    Default("50"),
    "Requests a second of one token, or of one address where there is none; twice as many may come at once.",
);

static TOKEN: Section = Section {
    header: "[[token]]",
    label: "token",
    about: "Who may use the admin API, and for what. Without any token only clients on the same machine may.",
    keys: &[&TOKEN_NAME, &SECRET, &SCOPES, &MODULES],
};

static TOKEN_NAME: Setting<NameKind> = Setting::new("name", NameKind, Missing, "What logs call it; unique.");
static SECRET: Setting<Secret> = Setting::new(
    "secret",
    Secret,
    Missing,
    "The token itself: 16 characters or more, best drawn by chance. A file is read again when it has changed.",
);
static SCOPES: Setting<List<Choice<Scope>>> = Setting::new(
    "scopes",
    List { item: Choice(&Scope::ALL), max: 5 },
    Missing,
    "What it allows; `admin` allows everything.",
);
static MODULES: Setting<List<ModuleNames>> = Setting::new(
    "modules",
    List { item: ModuleNames, max: 100 },
    Nothing("all"),
    "Which modules `modules:read` and `modules:write` are for.",
);

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

static LIMITS: Section = Section {
    header: "[limits]",
    label: "limits",
    about: "What the process holds at most.",
    keys: &[&LANE, &WAITING, &INSTANCES, &MEMORY, &IDLE, &COMPILE_TIME, &COMPILE_MEMORY],
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
static IDLE: Setting<Time> = Setting::new(
    "idle",
    Time { min: Duration::from_millis(10), max: Duration::from_hours(24) },
    Default("\"1m\""),
    "How long an instance may have nothing to do; then it ends and its memory goes back to the system.",
);
static COMPILE_TIME: Setting<Time> = Setting::new(
    "compile_time",
    Time { min: Duration::from_secs(1), max: Duration::from_hours(1) },
    Default("\"1m\""),
    "Most time of the processor for compiling one module; by the clock on the wall it may be four times as much.",
);
static COMPILE_MEMORY: Setting<Size> = Setting::new(
    "compile_memory",
    Size { min: 64 << 20, max: 1 << 40 },
    Default("\"1GiB\""),
    "Most memory for compiling one module.",
);

static CACHE: Section = Section {
    header: "[cache]",
    label: "cache",
    about: "Native code of modules, kept from one start to the next. What lies there is run as it is, so a folder counts \
            only if nobody but the engine's user (and root) can write to it or exchange it.",
    keys: &[&CACHE_FOLDER, &CACHE_SIZE],
};

static CACHE_FOLDER: Setting<FilePath> = Setting::new(
    "folder",
    FilePath,
    Nothing("`hookmill/native` in `$XDG_CACHE_HOME`, or in `~/.cache`"),
    "The folder. One that is named here and is not safe is an error; the default one is left alone then, with a warning.",
);
static CACHE_SIZE: Setting<Size> = Setting::new(
    "size",
    Size { min: 0, max: 1 << 40 },
    Default("\"2GiB\""),
    "Most that is kept; what was used longest ago goes first. `\"0B\"`: nothing is kept.",
);

/// Reads a file whose TOML is fine. `None` after a problem was reported.
pub(super) fn read(top: &Table<'_>) -> Option<Process> {
    let listen = top.get(&LISTEN);
    let nats = top.one(&PROCESS, &NATS_TABLE).and_then(|table| nats(&table));
    let egress = top.one(&PROCESS, &EGRESS_TABLE).and_then(|table| egress::read(&table));
    let limits = top.one(&PROCESS, &LIMITS_TABLE).and_then(|table| limits(&table));
    let cache = top.one(&PROCESS, &CACHE_TABLE).and_then(|table| cache(&table));
    let admin = top.one(&PROCESS, &ADMIN_TABLE).and_then(|table| admin(&table));
    let mut names: Vec<Name> = Vec::new();
    let tables = top.many(&PROCESS, &TOKENS).into_iter();
    let tokens: Vec<_> = tables.map(|table| token(&table?, &mut names)).collect();
    let tokens: Option<Vec<_>> = tokens.into_iter().collect();
    let (limits, host) = limits?;
    let host = HostSettings { cache: cache?, ..host };
    let (admin, tokens) = (admin?, tokens?);
    Some(Process { listen: listen?, admin, tokens, nats: nats?, egress: egress?, limits, host })
}

fn admin(table: &Table<'_>) -> Option<Admin> {
    let cert = table.optional(&ADMIN_CERT).ok();
    let key = table.optional(&ADMIN_KEY).ok();
    let rate = table.get(&RATE);
    table.both(&ADMIN_CERT, &ADMIN_KEY);
    Some(Admin { certificate: cert?.zip(key?), rate: u32::try_from(rate?).unwrap_or(u32::MAX) })
}

fn token(table: &Table<'_>, names: &mut Vec<Name>) -> Option<Token> {
    let name = table.get(&TOKEN_NAME);
    let secret = table.get(&SECRET);
    let scopes = table.get(&SCOPES);
    let modules = table.optional(&MODULES).ok();
    if let (Some(name), Some(at)) = (&name, table.given(&TOKEN_NAME)) {
        if names.contains(name) {
            let said = format!("is \"{name}\", as another token's");
            table.context(TOKEN_NAME.key()).wrong(
                Code::Duplicate,
                &at,
                said,
                "give one of them another name",
            );
        }
        names.push(name.clone());
    }
    if let (Some(scopes), Some(at)) = (&scopes, table.given(&SCOPES))
        && scopes.is_empty()
    {
        let hint = "name at least one, or leave the token out";
        table.context(SCOPES.key()).wrong(Code::OutOfRange, &at, "is empty", hint);
    }
    if let (Some(scopes), Some(at)) = (&scopes, table.given(&MODULES)) {
        narrowed(table, scopes, &at);
    }
    Some(Token { name: name?, secret: secret?, scopes: scopes?, modules: modules? })
}

/// Reports `modules` beside scopes that it can't narrow down.
fn narrowed(table: &Table<'_>, scopes: &[Scope], at: &std::ops::Range<usize>) {
    let context = table.context(MODULES.key());
    if scopes.contains(&Scope::Admin) {
        let hint = "leave one of them out";
        context.wrong(Code::Conflict, at, "stands beside the scope admin, which allows everything", hint);
    } else if !scopes.iter().any(|scope| scope.is_about_modules()) {
        let hint = "add modules:read or modules:write, or leave it out";
        context.wrong(Code::Conflict, at, "stands without a scope that is about modules", hint);
    }
}

fn nats(table: &Table<'_>) -> Option<nats::Settings> {
    let url = table.get(&URL);
    let prefix = table.get(&PREFIX);
    let replicas = table.get(&REPLICAS);
    let connect_timeout = table.get(&CONNECT_TIMEOUT);
    let credentials = table.optional(&CREDENTIALS).ok();
    let user = table.optional(&USER).ok();
    let password = table.optional(&PASSWORD).ok();
    let token = table.optional(&LOGIN_TOKEN).ok();
    let ca = table.optional(&CA).ok();
    let cert = table.optional(&CERT).ok();
    let key = table.optional(&KEY).ok();
    table.both(&USER, &PASSWORD);
    table.both(&CERT, &KEY);
    one_login(table);
    Some(nats::Settings {
        url: url?.join(","),
        prefix: prefix?,
        replicas: usize::try_from(replicas?).unwrap_or(1),
        connect_timeout: connect_timeout?,
        credentials: credentials?,
        user: user?,
        password: password?,
        token: token?,
        ca: ca?,
        cert: cert?,
        key: key?,
    })
}

/// Reports a second way to log in.
fn one_login(table: &Table<'_>) {
    let ways: [&dyn About; 3] = [&CREDENTIALS, &USER, &LOGIN_TOKEN];
    let given: Vec<_> = ways.into_iter().filter_map(|way| Some((way.key(), table.given(way)?))).collect();
    if let [(first, _), (second, at), ..] = given.as_slice() {
        let hint = "give one of credentials, user with password, and token";
        table.context(second).wrong(Code::Conflict, at, format!("stands beside {first}"), hint);
    }
}

fn limits(table: &Table<'_>) -> Option<(Limits, HostSettings)> {
    let lane = table.get(&LANE);
    let waiting = table.get(&WAITING);
    let instances = table.get(&INSTANCES);
    let memory_bytes = table.get(&MEMORY);
    let idle = table.get(&IDLE);
    let time = table.get(&COMPILE_TIME);
    let compile_bytes = table.get(&COMPILE_MEMORY);
    let instances = u32::try_from(instances?).unwrap_or(u32::MAX);
    let compile = Compile { time: time?, memory_bytes: compile_bytes?, ..Compile::default() };
    let host = HostSettings {
        instances,
        memory_bytes: memory_bytes?,
        idle: idle?,
        compile,
        ..HostSettings::default()
    };
    Some((Limits { lane: lane?, waiting: waiting? }, host))
}

fn cache(table: &Table<'_>) -> Option<Cache> {
    let folder = table.optional(&CACHE_FOLDER).ok();
    let bytes_max = table.get(&CACHE_SIZE);
    let folder = match folder? {
        Some(folder) => CacheFolder::Named(folder),
        None => usual_cache_folder().map_or(CacheFolder::None, CacheFolder::Usual),
    };
    Some(Cache { folder, bytes_max: bytes_max? })
}

/// Where programs keep what they can make again, after the XDG base directories. None in a process without a home.
fn usual_cache_folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("hookmill/native"))
}
