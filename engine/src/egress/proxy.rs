//! A forward proxy: `CONNECT` for `https://`, requests in absolute form for `http://` (RFC 9110, section 9.3.6; RFC 9112,
//! section 3.2.2). It resolves the names of endpoints; we only resolve its own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::future::{Either, select};
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Error;
use super::target::{UrlError, check_url};
use crate::model::{Findings, Live, LiveError, SecretError, SecretRef, SecretText, Timestamp};

/// Most bytes of the head of an answer to `CONNECT`.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A forward proxy, and who we are to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proxy {
    /// A name or an address, IPv6 in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password, sent with the Basic scheme (RFC 7617).
    pub credentials: Option<(SecretRef, SecretRef)>,
}

/// Why a text is no proxy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProxyError {
    /// Not a usable URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Only plain connections to the proxy are made.
    #[error("the scheme is https; only http:// proxies are spoken to")]
    Scheme,
    /// There is something behind the port.
    #[error("it has a path or a query, which mean nothing to a proxy")]
    Path,
}

impl Proxy {
    /// Reads `http://host:port`, without credentials yet.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let url = check_url(text)?;
        if url.scheme() != "http" {
            return Err(ProxyError::Scheme);
        }
        if url.path() != "/" || url.query().is_some() {
            return Err(ProxyError::Path);
        }
        let (host, port) = (url.host_str().unwrap_or_default().to_owned(), url.port().unwrap_or(80));
        Ok(Self { host, port, credentials: None })
    }

    /// Reads the credentials, to say what is wrong with them.
    pub fn check_credentials(&self) -> Result<(), CredentialsError> {
        Gate::new(self).map(drop)
    }
}

/// Why the credentials for the proxy can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A reference has no value.
    #[error(transparent)]
    Missing(#[from] SecretError),
    /// RFC 7617, section 2.
    #[error("the user has a colon or a control character in it, which the Basic scheme can't carry")]
    User,
    /// RFC 7617, section 2.
    #[error("the password has a control character in it, which the Basic scheme can't carry")]
    Password,
}

/// A proxy with its credentials at hand.
pub(super) struct Gate {
    pub(super) host: String,
    pub(super) port: u16,
    credentials: Option<Credentials>,
}

/// User and password, as they are now.
struct Credentials {
    user: Live<SecretText, CredentialsError>,
    password: Live<SecretText, CredentialsError>,
}

impl Gate {
    /// Reads the credentials once: what is wrong with them now is said at start.
    pub(super) fn new(proxy: &Proxy) -> Result<Self, CredentialsError> {
        let credentials = proxy.credentials.as_ref().map(|(user, password)| Credentials {
            user: Live::new(user.clone(), check_user),
            password: Live::new(password.clone(), check_password),
        });
        if let Some(credentials) = &credentials {
            credentials.basic(Timestamp::now())?;
        }
        Ok(Self { host: proxy.host.clone(), port: proxy.port, credentials })
    }

    /// Adds how the references of the credentials stand.
    pub(super) fn look_at_references(&self, now: Timestamp, findings: &mut Findings) {
        if let Some(Credentials { user, password }) = &self.credentials {
            findings.look_at("[egress] proxy_user", user, now);
            findings.look_at("[egress] proxy_password", password, now);
        }
    }

    /// What kept it from leading to `host`.
    pub(super) fn failed(&self, host: &str, failure: ProxyFailure) -> Error {
        Error::Proxy { proxy: format!("{}:{}", self.host, self.port), host: host.to_owned(), failure }
    }

    /// Adds the credentials to a request that the proxy itself is to read.
    pub(super) fn authorize<B>(&self, request: &mut Request<B>) -> Result<(), ProxyFailure> {
        if let Some(credentials) = &self.credentials {
            let basic = credentials.basic(Timestamp::now()).map_err(ProxyFailure::Credentials)?;
            request.headers_mut().insert(PROXY_AUTHORIZATION, basic);
        }
        Ok(())
    }

    /// Asks the proxy, at the other end of `stream`, for a connection to `host` and `port`.
    pub(super) async fn tunnel(
        &self,
        stream: TcpStream,
        host: &str,
        port: u16,
    ) -> Result<TcpStream, ProxyFailure> {
        let whom = format!("{host}:{port}");
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = Uri::try_from(&whom).map_err(|_| ProxyFailure::NotHttp)?;
        request.headers_mut().insert(HOST, HeaderValue::try_from(whom).map_err(|_| ProxyFailure::NotHttp)?);
        self.authorize(&mut request)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let answer = pin!(sender.send_request(request));
        let connection = pin!(connection.without_shutdown());
        // The connection comes back once the answer has been read and is a success; any other is enough as it is.
        let parts = match select(answer, connection).await {
            Either::Left((answer, connection)) => {
                good(answer?.status())?;
                connection.await?
            }
            Either::Right((parts, answer)) => {
                good(answer.await?.status())?;
                parts?
            }
        };
        // In a tunnel it is our turn to speak first.
        if parts.read_buf.is_empty() { Ok(parts.io.into_inner()) } else { Err(ProxyFailure::NotHttp) }
    }
}

fn good(status: StatusCode) -> Result<(), ProxyFailure> {
    if status.is_success() { Ok(()) } else { Err(ProxyFailure::Status(status.as_u16())) }
}

impl Credentials {
    /// The value of the header that carries them.
    fn basic(&self, now: Timestamp) -> Result<HeaderValue, CredentialsError> {
        let (user, password) = (self.user.get(now)?, self.password.get(now)?);
        let text = format!("{}:{}", user.expose(), password.expose());
        let text = format!("Basic {}", BASE64.encode(text.as_bytes()));
        let mut value = HeaderValue::try_from(text).expect("base64 is printable ASCII");
        value.set_sensitive(true);
        Ok(value)
    }
}

fn check_user(user: &str) -> Result<SecretText, CredentialsError> {
    let unfit = user.contains(|char: char| char == ':' || char.is_control());
    if unfit { Err(CredentialsError::User) } else { Ok(SecretText::new(user)) }
}

fn check_password(password: &str) -> Result<SecretText, CredentialsError> {
    let unfit = password.contains(char::is_control);
    if unfit { Err(CredentialsError::Password) } else { Ok(SecretText::new(password)) }
}

impl From<LiveError<Self>> for CredentialsError {
    fn from(error: LiveError<Self>) -> Self {
        match error {
            LiveError::Missing(error) => Self::Missing(error),
            LiveError::Unusable(error) => error,
        }
    }
}

/// What kept the proxy from leading to an endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProxyFailure {
    /// Its own name has no address.
    Resolve(io::ErrorKind),
    /// It took no connection at this address, the last that was tried.
    Connect(SocketAddr, io::ErrorKind),
    /// Our credentials have no usable value, so it was not asked.
    Credentials(CredentialsError),
    /// It answered with this status.
    Status(u16),
    /// The connection to it broke off.
    Broken(io::ErrorKind),
    /// What it answered is no HTTP.
    NotHttp,
}

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(kind) => write!(f, "its name does not resolve: {kind}"),
            Self::Connect(address, kind) => write!(f, "can't connect to it at {address}: {kind}"),
            Self::Credentials(error) => {
                write!(
                    f,
                    "our credentials (`[egress] proxy_user` and `proxy_password`) can't be used: {error}"
                )
            }
            Self::Status(407) => f.write_str(
                "it wants other credentials (407); `[egress] proxy_user` and `proxy_password` name them",
            ),
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::Broken(kind) => write!(f, "the connection to it broke: {kind}"),
            Self::NotHttp => f.write_str("its answer is not HTTP"),
        }
    }
}

impl From<hyper::Error> for ProxyFailure {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() {
            return Self::NotHttp;
        }
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
        Self::Broken(source.map_or(io::ErrorKind::UnexpectedEof, io::Error::kind))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_proxy_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("http://proxy.example:3128", "proxy.example", 3128),
            ("http://10.0.0.1/", "10.0.0.1", 80),
            ("http://[::1]:8080", "[::1]", 8080),
        ] {
            let expected = Proxy { host: host.into(), port, credentials: None };
            assert_eq!(Proxy::parse(text), Ok(expected), "{text}");
        }
        assert_eq!(Proxy::parse("https://proxy.example"), Err(ProxyError::Scheme));
        assert_eq!(Proxy::parse("http://proxy.example/x"), Err(ProxyError::Path));
        assert_eq!(Proxy::parse("http://proxy.example?x"), Err(ProxyError::Path));
        assert_eq!(Proxy::parse("http://a:b@proxy.example"), Err(UrlError::UserInfo.into()));
        assert_eq!(Proxy::parse("socks5://proxy.example"), Err(UrlError::Scheme("socks5".into()).into()));
        assert!(matches!(Proxy::parse("proxy.example:3128"), Err(ProxyError::Url(_))));
    }

    #[test]
    fn credentials_are_read_anew_and_the_last_good_ones_serve_on_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "open sesame\n").unwrap();
        let file = SecretRef::File { path: path.clone(), prefix: String::new() };
        let credentials = Some((SecretRef::Plain("Aladdin".to_owned()), file));
        let gate =
            Gate::new(&Proxy { credentials, ..Proxy::parse("http://proxy.example").unwrap() }).unwrap();
        let at = |minutes: u64| Timestamp::now().plus(Duration::from_mins(minutes));
        let basic = |now| gate.credentials.as_ref().unwrap().basic(now);
        assert_eq!(basic(at(1)).unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        std::fs::write(&path, "other").unwrap();
        assert_eq!(basic(at(2)).unwrap(), "Basic QWxhZGRpbjpvdGhlcg==");
        std::fs::remove_file(&path).unwrap();
        let look = |now| {
            let mut findings = Findings::default();
            gate.look_at_references(now, &mut findings);
            (findings.wrong.len(), findings.served_on.len())
        };
        assert_eq!((basic(at(3)).unwrap().to_str().is_ok(), look(at(3))), (true, (0, 1)));
        assert!(matches!(basic(at(14)), Err(CredentialsError::Missing(_))));
        assert_eq!(look(at(14)), (1, 0));
    }

    #[test]
    fn credentials_that_the_scheme_cannot_carry_are_refused() {
        let of = |user: &str, password: &str| {
            let (user, password) = (check_user(user)?, check_password(password)?);
            let live = |text: SecretText| {
                Live::new(SecretRef::Plain(text.expose().to_owned()), |text| Ok(SecretText::new(text)))
            };
            Credentials { user: live(user), password: live(password) }.basic(Timestamp::from_unix_seconds(0))
        };
        assert_eq!(of("Aladdin", "open sesame").unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(of("a:b", "c"), Err(CredentialsError::User));
        assert_eq!(of("a", "c\nd"), Err(CredentialsError::Password));
        assert!(!format!("{:?}", of("a", "b")).contains("YTpi"));
    }
}
