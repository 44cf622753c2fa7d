//! Connecting: settings, credentials, and what can be wrong with a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::ConnectErrorKind;
use async_nats::jetstream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::names::Prefix;
use crate::model::{Name, SecretError, SecretRef};

/// The oldest server that keeps schedules over a kill and frees them once fired.
pub const SERVER_VERSION_MIN: (u64, u64, u64) = (2, 14, 0);

/// How to reach NATS, and under which prefix to keep things there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Server URLs, comma separated: `nats://host:4222`.
    pub url: String,
    /// Prefix of streams, subjects and consumers.
    pub prefix: Name,
    /// Replicas of the streams that the engine makes.
    pub replicas: usize,
    /// How long to wait for a server at start.
    pub connect_timeout: Duration,
    /// A `.creds` file.
    pub credentials: Option<PathBuf>,
    /// User name, with `password`.
    pub user: Option<SecretRef>,
    /// Password.
    pub password: Option<SecretRef>,
    /// Token.
    pub token: Option<SecretRef>,
    /// Certificates to trust besides the system's (PEM).
    pub ca: Option<PathBuf>,
    /// Client certificate (PEM), with `key`.
    pub cert: Option<PathBuf>,
    /// Client key (PEM).
    pub key: Option<PathBuf>,
}

impl Settings {
    /// The defaults, for one server.
    pub fn for_url(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: Name::new("hookmill").expect("a name by the rule"),
            replicas: 1,
            connect_timeout: Duration::from_secs(30),
            credentials: None,
            user: None,
            password: None,
            token: None,
            ca: None,
            cert: None,
            key: None,
        }
    }
}

/// Why there is no usable connection. Texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is none.
    #[error("{url:?} is no NATS URL; write nats://host:4222")]
    Url {
        /// What was given.
        url: String,
    },
    /// Nobody answered in time.
    #[error(
        "no NATS server answers at {url} (waited {waited:?}); start one with `nats-server -js`, or give its address with --nats or NATS_URL"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// How long.
        waited: Duration,
        /// The last failure.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The credentials are refused.
    #[error(
        "the NATS server at {url} refuses the credentials; see [nats] credentials, user, password and token in hookmill.toml"
    )]
    Refused {
        /// Where.
        url: String,
    },
    /// TLS can't be set up.
    #[error("TLS with the NATS server at {url} fails; see [nats] ca, cert and key in hookmill.toml")]
    Tls {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The server is too old.
    #[error(
        "the NATS server at {url} is version {found}; hookmill needs 2.14.0 or newer, because older ones lose or leak scheduled messages; upgrade the server"
    )]
    OldServer {
        /// Where.
        url: String,
        /// Its version.
        found: String,
    },
    /// The server has no JetStream.
    #[error("the NATS server at {url} has JetStream switched off; start it with `nats-server -js`")]
    NoJetStream {
        /// Where.
        url: String,
    },
    /// A credential reference has no value.
    #[error("[nats] credentials can't be read")]
    Secret(#[from] SecretError),
    /// A file that the settings name can't be read.
    #[error("[nats] {key} file {path} can't be read")]
    File {
        /// The setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ConnectError {
    /// Whether the configuration is wrong (and waiting would not help).
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Url { .. } | Self::Secret(_) | Self::File { .. })
    }
}

/// Refusals that wait to be heard. Where more come at once, some are overheard and their requests time out.
const REFUSALS_KEPT: usize = 1024;

/// A connection that reconnects by itself, with the prefix everything lives under.
#[derive(Clone)]
pub struct Nats {
    client: async_nats::Client,
    jetstream: jetstream::Context,
    prefix: Arc<Prefix>,
    replicas: usize,
    signals: Arc<Signals>,
}

/// What the connection says beside the messages.
struct Signals {
    /// How often it was lost.
    cuts: AtomicU64,
    /// Subjects on which a publish was refused for lack of permission.
    forbidden: broadcast::Sender<String>,
}

impl Signals {
    fn hear(&self, event: &async_nats::Event) {
        match event {
            async_nats::Event::Disconnected => {
                self.cuts.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("connection to NATS lost");
            }
            async_nats::Event::Connected => tracing::debug!("connected to NATS"),
            async_nats::Event::SlowConsumer(_) => tracing::warn!("a subscription could not keep up"),
            async_nats::Event::ServerError(async_nats::ServerError::Other(text)) => {
                if let Some(subject) = forbidden_subject(text) {
                    // Nobody may be listening.
                    let _ = self.forbidden.send(subject.to_owned());
                }
                tracing::warn!(text, "the NATS server refuses something");
            }
            other => tracing::debug!(event = %other, "NATS client event"),
        }
    }
}

/// Waits until a refusal of this subject is told.
async fn told_of(mut refusals: broadcast::Receiver<String>, subject: &str) {
    loop {
        match refusals.recv().await {
            Ok(refused) if refused == subject => return,
            // Those that were missed are not taken for ours: an answer may be on its way.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The subject of `Permissions Violation for Publish to "<subject>"`: the protocol's only word on a refused publish.
fn forbidden_subject(text: &str) -> Option<&str> {
    const SAYS: &str = "permissions violation for publish to \"";
    let head = text.get(..SAYS.len())?;
    head.eq_ignore_ascii_case(SAYS).then(|| text[SAYS.len()..].split('"').next())?
}

impl Nats {
    /// Connects, retrying until `connect_timeout`, and checks the server's version.
    pub async fn connect(settings: &Settings) -> Result<Self, ConnectError> {
        Self::connect_telling(settings, &|_| {}).await
    }

    /// The same, and says each time why it still waits.
    pub async fn connect_telling(
        settings: &Settings,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Self, ConnectError> {
        let servers = servers(&settings.url)?;
        let url = without_login(&settings.url);
        let deadline = tokio::time::Instant::now() + settings.connect_timeout;
        let forbidden = broadcast::Sender::new(REFUSALS_KEPT);
        let signals = Arc::new(Signals { cuts: AtomicU64::new(0), forbidden });
        let mut said = false;
        let client = loop {
            let attempt = options(settings, &servers, &signals).await?.connect(&servers[..]);
            let error = match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(client)) => break client,
                Ok(Err(error)) => error,
                Err(_) => ConnectErrorKind::TimedOut.into(),
            };
            match error.kind() {
                ConnectErrorKind::ServerParse => return Err(ConnectError::Url { url }),
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    return Err(ConnectError::Refused { url });
                }
                ConnectErrorKind::Tls => return Err(ConnectError::Tls { url, source: error }),
                // A certificate that is refused, on either side, comes as a broken connection.
                ConnectErrorKind::Io if is_tls(&error) => {
                    return Err(ConnectError::Tls { url, source: error });
                }
                ConnectErrorKind::Dns
                | ConnectErrorKind::TimedOut
                | ConnectErrorKind::Io
                | ConnectErrorKind::MaxReconnects => {}
            }
            tell(&format!("no connection to NATS at {url}: {error}"));
            if !std::mem::replace(&mut said, true) {
                tracing::info!(url, %error, patience = ?settings.connect_timeout, "waiting for a NATS server");
            }
            if tokio::time::Instant::now() >= deadline {
                let waited = settings.connect_timeout;
                return Err(ConnectError::Unreachable { url, waited, source: error });
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        };
        let info = client.server_info();
        if !new_enough(&info.version) {
            return Err(ConnectError::OldServer { url, found: info.version });
        }
        if !info.jetstream {
            return Err(ConnectError::NoJetStream { url });
        }
        let jetstream =
            jetstream::ContextBuilder::new().timeout(Duration::from_secs(5)).build(client.clone());
        let prefix = Arc::new(Prefix::new(&settings.prefix));
        Ok(Self { client, jetstream, prefix, replicas: settings.replicas, signals })
    }

    /// The client.
    pub fn client(&self) -> &async_nats::Client {
        &self.client
    }

    /// The JetStream context.
    pub fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// The prefix.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Replicas of what the engine makes.
    pub fn replicas(&self) -> usize {
        self.replicas
    }

    /// The largest message the server takes, in bytes, headers included.
    pub fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Whether the connection stands right now.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// How often the connection was lost so far.
    pub fn cuts(&self) -> u64 {
        self.signals.cuts.load(Ordering::Relaxed)
    }

    /// The answer to what is published on `subject`; `None` if the server refuses it for lack of permission: it says so
    /// beside the request, which goes without an answer.
    pub(super) async fn unless_forbidden<T>(
        &self,
        subject: &str,
        answer: impl Future<Output = T>,
    ) -> Option<T> {
        let forbidden = told_of(self.signals.forbidden.subscribe(), subject);
        tokio::select! { answer = answer => Some(answer), () = forbidden => None }
    }

    /// Says something to whoever listens; nobody has to.
    pub async fn nudge(&self, subject: String) -> Result<(), async_nats::PublishError> {
        self.client.publish(subject, bytes::Bytes::new()).await
    }

    /// Hears what others say on a subject.
    pub async fn nudges(
        &self,
        subject: String,
    ) -> Result<impl futures_util::Stream<Item = ()> + Send + Unpin + use<>, async_nats::SubscribeError> {
        use futures_util::StreamExt;
        Ok(self.client.subscribe(subject).await?.map(|_| ()))
    }

    /// Sends what is still buffered.
    pub async fn flush(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.client.flush()).await;
    }
}

/// Whether a connection broke because one side's TLS said so.
fn is_tls(error: &async_nats::ConnectError) -> bool {
    let source = std::error::Error::source(error);
    let io = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    io.and_then(std::io::Error::get_ref).and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some()
}

fn servers(url: &str) -> Result<Vec<async_nats::ServerAddr>, ConnectError> {
    let parse = |part: &str| part.trim().parse().map_err(|_| ConnectError::Url { url: without_login(url) });
    url.split(',').map(parse).collect()
}

/// URLs as they may be shown: what stands before the host is a secret.
fn without_login(urls: &str) -> String {
    let shown = |url: &str| match url.split_once("://") {
        Some((scheme, rest)) => {
            format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
        }
        None => url.rsplit_once('@').map_or(url, |(_, host)| host).to_owned(),
    };
    urls.split(',').map(shown).collect::<Vec<_>>().join(",")
}

async fn options(
    settings: &Settings,
    servers: &[async_nats::ServerAddr],
    signals: &Arc<Signals>,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    let signals = signals.clone();
    let mut options = async_nats::ConnectOptions::new()
        .name("hookmill")
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(5))
        .request_timeout(Some(Duration::from_secs(5)))
        .subscription_capacity(65_536)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis((50 * u64::try_from(attempts).unwrap_or(u64::MAX).min(40)).min(2_000))
        })
        .event_callback(move |event| {
            signals.hear(&event);
            std::future::ready(())
        });
    // The client overlooks what a URL says: user and password, or a token alone. The settings count more.
    if let Some((user, password)) =
        servers.iter().find_map(|server| Some((server.username()?, server.password())))
    {
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        options = match password {
            Some(password) => options.user_and_password(decode(user), decode(password)),
            None => options.token(decode(user)),
        };
    }
    if let Some(path) = &settings.credentials {
        let unusable = |source| ConnectError::File { key: "credentials", path: path.clone(), source };
        let text = tokio::fs::read_to_string(path).await.map_err(unusable)?;
        options = options.credentials(&text).map_err(unusable)?;
    }
    if let (Some(user), Some(password)) = (&settings.user, &settings.password) {
        let (user, password) = (user.resolve()?, password.resolve()?);
        options = options.user_and_password(user.expose().to_owned(), password.expose().to_owned());
    }
    if let Some(token) = &settings.token {
        options = options.token(token.resolve()?.expose().to_owned());
    }
    for (key, path) in [("ca", &settings.ca), ("cert", &settings.cert), ("key", &settings.key)] {
        if let Some(path) = path {
            let read = tokio::fs::read(path).await;
            read.map_err(|source| ConnectError::File { key, path: path.clone(), source })?;
        }
    }
    if let Some(ca) = &settings.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&settings.cert, &settings.key) {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options)
}

fn new_enough(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = core.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next()) >= SERVER_VERSION_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_says_of_the_login_is_not_shown() {
        let shown = "nats://a:4222,tls://b,c:1";
        assert_eq!(without_login("nats://me:p@ss@a:4222,tls://token@b,me@c:1"), shown);
        assert_eq!(without_login(shown), shown);
    }

    #[test]
    fn a_refused_publish_is_known_by_its_subject() {
        let said = "Permissions Violation for Publish to \"orders.new\"";
        assert_eq!(forbidden_subject(said), Some("orders.new"));
        assert_eq!(forbidden_subject(&said.to_lowercase()), Some("orders.new"));
        assert_eq!(forbidden_subject("Permissions Violation for Subscription to \"a\""), None);
        assert_eq!(forbidden_subject(""), None);
    }

    #[tokio::test]
    async fn refusals_of_others_that_were_missed_are_not_taken_for_ones_own() {
        let refusals = broadcast::Sender::new(2);
        let mut ours = std::pin::pin!(told_of(refusals.subscribe(), "ours"));
        for _ in 0..10 {
            refusals.send("theirs".to_owned()).unwrap();
        }
        assert!(futures_util::poll!(&mut ours).is_pending());
        refusals.send("ours".to_owned()).unwrap();
        assert!(futures_util::poll!(&mut ours).is_ready());
    }

    #[test]
    fn servers_before_2_14_are_old() {
        for (version, fine) in [
            ("2.14.0", true),
            ("2.15.1", true),
            ("3.0.0-beta", true),
            ("2.12.8", false),
            ("2.9", false),
            ("", false),
        ] {
            assert_eq!(new_enough(version), fine, "{version}");
        }
    }
}
