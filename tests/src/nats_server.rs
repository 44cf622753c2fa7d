//! A real nats-server with JetStream on a loopback port and in a temporary folder.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookmill::telemetry::output;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::eventually::eventually;
use crate::process::{Process, bound_command};

/// Longest time until a started server takes connections.
const START_MAX: Duration = Duration::from_secs(20);
/// Longest time from SIGTERM to the end.
const STOP_MAX: Duration = Duration::from_secs(20);
/// Ports are taken from here: below the range from which the kernel draws ports for outgoing connections (Linux from
/// 32768, macOS from 49152), so that nobody is given a server's port while it is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How a server is set up.
#[derive(Clone, Debug, Default)]
pub struct NatsOptions {
    max_payload: Option<usize>,
    user: Option<(String, String)>,
    client: Option<ClientOptions>,
    /// Most bytes that JetStream may store.
    file_store_max: Option<u64>,
    /// Most bytes that a file may grow to.
    file_bytes_max: Option<u64>,
    /// Whether it has started as soon as it takes connections, its JetStream up or not.
    listens_only: bool,
    extra: String,
}

/// How the harness itself connects to a server that asks for more than a user and a password.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Certificates to trust (PEM).
    pub ca: Option<PathBuf>,
    /// Its own certificate and key (PEM).
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The text of a credentials file.
    pub credentials: Option<String>,
    /// User and password.
    pub login: Option<(String, String)>,
}

impl NatsOptions {
    /// Largest message with its headers, in bytes. The server's own default is 1 MiB.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = Some(bytes);
        self
    }

    /// Asks every client for this user and password.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// Connects like this.
    #[must_use]
    pub fn client(mut self, client: ClientOptions) -> Self {
        self.client = Some(client);
        self
    }

    /// Has started as soon as it takes connections: for a server whose cluster has no leader yet.
    #[must_use]
    pub fn listens_only(mut self) -> Self {
        self.listens_only = true;
        self
    }

    /// Lines for the configuration file, as they are.
    #[must_use]
    pub fn extra(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }

    /// Starts the server and waits until it takes connections.
    pub async fn start(self) -> NatsServer {
        let folder = tempfile::Builder::new().prefix("hookmill-nats-").tempdir().expect("a temporary folder");
        // Another test may have been faster with the same port; then the next one.
        for _ in 0..20 {
            let mut server = NatsServer::prepared(self.clone(), free_port(), folder.path());
            if server.launch().await {
                server.folder = Some(folder);
                return server;
            }
        }
        panic!("nats-server found no free port:\n{}", tail(&folder.path().join("server.log")));
    }

    fn configuration(&self, name: &str, port: u16, folder: &Path) -> String {
        let max_payload = self.max_payload.map(|bytes| format!("max_payload: {bytes}\n"));
        let user = self.user.as_ref();
        let authorization = user
            .map(|(name, password)| format!("authorization {{ user: {name:?}, password: {password:?} }}\n"));
        let base = format!(
            "server_name: {name}\nlisten: 127.0.0.1:{port}\njetstream {{ store_dir: {:?}{} }}\n",
            folder.join("jetstream").display().to_string(),
            self.file_store_max.map(|bytes| format!(", max_file_store: {bytes}")).unwrap_or_default()
        );
        [base, max_payload.unwrap_or_default(), authorization.unwrap_or_default(), self.extra.clone()]
            .concat()
    }
}

/// A running (or stopped) nats-server. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct NatsServer {
    options: NatsOptions,
    name: String,
    port: u16,
    config: PathBuf,
    log: PathBuf,
    // The process goes before its folder.
    process: Option<Process>,
    folder: Option<TempDir>,
}

impl NatsServer {
    /// Starts a server with nothing special.
    pub async fn start() -> Self {
        Self::options().start().await
    }

    /// To start one with something special.
    pub fn options() -> NatsOptions {
        NatsOptions::default()
    }

    fn prepared(options: NatsOptions, port: u16, folder: &Path) -> Self {
        let config = folder.join("server.conf");
        let name = format!("hookmill-tests-{port}-{:08x}", rand::random::<u32>());
        std::fs::write(&config, options.configuration(&name, port, folder))
            .expect("the folder can be written to");
        Self { options, name, port, config, log: folder.join("server.log"), process: None, folder: None }
    }

    /// True once it takes connections, false if it ended because the port was taken. Panics on everything else.
    async fn launch(&mut self) -> bool {
        let log = File::options().create(true).append(true).open(&self.log).expect("the log can be opened");
        let mut command = match self.options.file_bytes_max {
            None => bound_command(program()),
            // Blocks of 512 bytes, as POSIX has it.
            Some(bytes) => {
                let mut command = bound_command("sh");
                command.args(["-c", r#"ulimit -f "$0" && exec "$@""#, &(bytes / 512).to_string()]);
                command.arg(program());
                command
            }
        };
        command.arg("--config").arg(&self.config);
        command
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let (process, _) = Process::spawn("nats-server", command).expect("nats-server can be started");
        let until = Instant::now() + START_MAX;
        while Instant::now() < until {
            if let Some(status) = process.exited() {
                let said = tail(&self.log);
                assert!(said.contains("address already in use"), "nats-server ended with {status}:\n{said}");
                return false;
            }
            if self.connected().await {
                self.process = Some(process);
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nats-server takes no connections after {START_MAX:?}:\n{}", tail(&self.log));
    }

    /// True if the server on the port is this one, and has its JetStream up.
    async fn connected(&self) -> bool {
        let Ok(client) = self.connect_options().connect(self.url()).await else { return false };
        if client.server_info().server_name != self.name {
            return false;
        }
        self.options.listens_only || async_nats::jetstream::new(client).query_account().await.is_ok()
    }

    fn connect_options(&self) -> async_nats::ConnectOptions {
        let mut options = async_nats::ConnectOptions::new().connection_timeout(Duration::from_secs(5));
        if let Some((name, password)) = &self.options.user {
            options = options.user_and_password(name.clone(), password.clone());
        }
        let Some(client) = &self.options.client else { return options };
        if let Some(ca) = &client.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let Some((certificate, key)) = &client.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        if let Some((name, password)) = &client.login {
            options = options.user_and_password(name.clone(), password.clone());
        }
        if let Some(credentials) = &client.credentials {
            options = options.credentials(credentials).expect("the harness has made the credentials");
        }
        options
    }

    /// `nats://127.0.0.1:PORT`, without user and password.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The process id. It must be running.
    pub fn process_id(&self) -> i32 {
        self.running().pid()
    }

    /// A new connection, with the user and password if it asks for them.
    pub async fn client(&self) -> async_nats::Client {
        self.connect_options().connect(self.url()).await.expect("a running server takes connections")
    }

    /// JetStream on a new connection.
    pub async fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(self.client().await)
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// SIGTERM: an orderly end.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal(Signal::SIGTERM);
            process.wait(STOP_MAX).await;
        }
    }

    /// Starts again on the same port and folder; kills it first if it runs.
    pub async fn restart(&mut self) {
        self.kill().await;
        assert!(self.launch().await, "port {} was taken while nats-server was down", self.port);
    }

    /// [`restart`](Self::restart) with a store that takes at most so many bytes: a disk that is full sooner or later.
    pub async fn restart_with_store(&mut self, bytes_max: Option<u64>) {
        self.options.file_store_max = bytes_max;
        self.write_configuration();
        self.restart().await;
    }

    /// [`restart`](Self::restart) with files that can't grow beyond so many bytes: each write that would fails, as on a
    /// disk that is full. Needs neither a file system of its own nor any right (`ulimit -f`).
    pub async fn restart_with_files(&mut self, bytes_max: Option<u64>) {
        self.options.file_bytes_max = bytes_max;
        self.restart().await;
    }

    /// [`restart`](Self::restart) with another largest message.
    pub async fn restart_with_payload(&mut self, bytes_max: usize) {
        self.options.max_payload = Some(bytes_max);
        self.write_configuration();
        self.restart().await;
    }

    /// Gives the running server more room in its store. (Less would need a restart.)
    pub async fn reload_with_store(&mut self, bytes_max: u64) {
        self.options.file_store_max = Some(bytes_max);
        self.reload().await;
    }

    /// Puts other lines in place of [`NatsOptions::extra`] into force in the running server.
    pub async fn reload_with(&mut self, extra: &str) {
        extra.clone_into(&mut self.options.extra);
        self.reload().await;
    }

    /// SIGHUP, then waits until it says that its file is read.
    async fn reload(&self) {
        self.write_configuration();
        let reloads = || {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            log.matches("Reloaded server configuration").count()
        };
        let before = reloads();
        self.running().signal(Signal::SIGHUP);
        eventually(START_MAX, "nats-server has read its file again", || async {
            if reloads() > before { Ok(()) } else { Err(self.log()) }
        })
        .await;
    }

    fn write_configuration(&self) {
        let folder = self.config.parent().expect("the file lies in a folder");
        let text = self.options.configuration(&self.name, self.port, folder);
        std::fs::write(&self.config, text).expect("the folder can be written to");
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub async fn pause(&self) {
        self.running().pause().await;
    }

    /// SIGCONT: goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.running().resume();
    }

    /// Where the messages of a stream lie.
    pub fn messages_folder(&self, stream: &str) -> PathBuf {
        let folder = self.config.parent().expect("the file lies in a folder");
        folder.join("jetstream/jetstream/$G/streams").join(stream).join("msgs")
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        tail(&self.log)
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("nats-server runs")
    }
}

/// The program: `HOOKMILL_NATS_SERVER`, else `.tools/nats-server` of the checkout.
/// If there is none, no test that comes can pass: the whole run ends with the one line that helps.
pub fn program() -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout");
    let default = || checkout.join(".tools/nats-server");
    let program = std::env::var_os("HOOKMILL_NATS_SERVER").map_or_else(default, PathBuf::from);
    if !program.is_file() {
        end_run(&format!("no nats-server at {}: run make setup first", program.display()));
    }
    program
}

/// Ends the test run with one line. Written past the test runner's capture, which would show it once for each test.
pub(crate) fn end_run(line: &str) -> ! {
    static ONCE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // Never unlocked: the first to come ends the process, others wait for that.
    let _first = ONCE.lock();
    output::say(line);
    std::process::exit(101);
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    for _ in 0..1000 {
        let port = rand::random_range(PORTS);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port in {PORTS:?}");
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
