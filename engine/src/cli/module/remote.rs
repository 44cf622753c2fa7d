//! The admin API of a running engine, asked over HTTP.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use url::{Host, Url};

use crate::cli::{Failure, local_token, output};
use crate::egress::{self, Exchange, ExchangeError, Policy, Pool, Reply};
use crate::model::{SecretRef, SecretText};

/// Longest time for one question. An upload waits for others and for the compiler.
const TIMEOUT: Duration = Duration::from_mins(10);
/// Longest answer that isn't a module, in bytes.
const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// The variable that holds a token.
const TOKEN: &str = "HOOKMILL_TOKEN";
/// What stands in one segment of a path as it is (RFC 3986, 2.3).
const SEGMENT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which engine is asked, and as whom. The token comes from `HOOKMILL_TOKEN` or a file, never from the command line, where
/// others could see it.
#[derive(Args, Debug)]
pub(crate) struct RemoteArgs {
    /// The engine's admin API
    #[arg(long, env = "HOOKMILL_ADMIN", value_name = "URL", default_value = "http://127.0.0.1:8470")]
    admin: String,
    /// File that holds the token [default: the variable `HOOKMILL_TOKEN`]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificates (PEM) of the authority that signs the engine's [default: the system's]
    #[arg(long, env = "HOOKMILL_ADMIN_CA", value_name = "FILE")]
    admin_ca: Option<PathBuf>,
    /// Send the token over http:// to another machine, readable on the way
    #[arg(long)]
    plain_http: bool,
}

/// An engine that can be asked.
pub(super) struct Remote {
    pool: Pool,
    base: Url,
    token: Option<HeaderValue>,
}

/// A problem document (RFC 9457), as far as it is shown.
#[derive(Deserialize)]
struct Problem {
    detail: String,
    code: String,
    #[serde(default)]
    hint: String,
}

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// The path below the engine's address, as segments.
    pub(super) path: &'a [&'a str],
    /// Names and values behind the `?`.
    pub(super) query: Vec<(&'static str, String)>,
    /// What is wanted back.
    pub(super) accept: &'static str,
    /// Media type and bytes of the body.
    pub(super) body: Option<(&'static str, Bytes)>,
    pub(super) answer_bytes_max: usize,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, path: &'a [&'a str]) -> Self {
        let (query, accept) = (Vec::new(), "application/json");
        Self { method, path, query, accept, body: None, answer_bytes_max: DOCUMENT_BYTES_MAX }
    }
}

impl RemoteArgs {
    /// Reads the token and makes the client. Asks nothing yet.
    pub(super) fn open(&self) -> Result<Remote, Failure> {
        let usage = |why: String| Failure::Usage(format!("--admin {}: {why}", self.admin));
        let base = egress::check_url(&self.admin).map_err(|error| usage(error.to_string()))?;
        if base.query().is_some() || base.path() != "/" {
            return Err(usage("give scheme, host and port alone, as in https://hookmill.example.com".into()));
        }
        let token = match self.token()? {
            Some(token) => Some(token),
            // An engine without tokens has made one for its own user.
            None if is_here(&base) => base.port_or_known_default().and_then(local_token::of_engine_at),
            None => None,
        };
        let plain = base.scheme() == "http";
        if plain && token.is_some() && !is_here(&base) && !self.plain_http {
            let why =
                "the token would travel readable for everybody on the way; use https://, or say --plain-http";
            return Err(usage(why.into()));
        }
        let token = token.map(|token| header(&token)).transpose()?;
        let ca = self.admin_ca.as_ref().map(std::fs::read).transpose();
        let ca = ca.map_err(|error| Failure::Usage(format!("--admin-ca can't be read: {error}")))?;
        let tls = egress::TlsSettings { ca, ..egress::TlsSettings::default() };
        let settings = egress::ClientSettings { tls, ..egress::ClientSettings::default() };
        let client = egress::Client::new(settings).map_err(|error| Failure::failed(&error))?;
        Ok(Remote { pool: client.pool(&everywhere(), TIMEOUT), base, token })
    }

    fn token(&self) -> Result<Option<SecretText>, Failure> {
        let reference = match &self.token_file {
            Some(path) => SecretRef::File { path: path.clone(), prefix: String::new() },
            None if std::env::var_os(TOKEN).is_none_or(|value| value.is_empty()) => return Ok(None),
            None => SecretRef::Env { name: TOKEN.to_owned(), prefix: String::new() },
        };
        reference.resolve().map(Some).map_err(|error| Failure::Usage(format!("no token: {error}")))
    }
}

fn header(token: &SecretText) -> Result<HeaderValue, Failure> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
    let mut value =
        value.map_err(|_| Failure::Usage("the token has characters that no header can carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The user named the engine: the rules for webhooks that others configure are not for this.
fn everywhere() -> Policy {
    let allow = ["0.0.0.0/0", "::/0"].iter().filter_map(|net| net.parse().ok()).collect();
    Policy { allow, deny: Vec::new() }
}

fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

impl Remote {
    /// Asks, and gives back what was answered if it is a success; else the engine's problem is shown.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Reply, Failure> {
        let path: Vec<String> =
            ask.path.iter().map(|segment| utf8_percent_encode(segment, &SEGMENT).to_string()).collect();
        let mut url = self.base.clone();
        url.set_path(&path.join("/"));
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(ask.query);
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(ask.accept));
        headers.extend(self.token.clone().map(|token| (AUTHORIZATION, token)));
        let mut body = Bytes::new();
        if let Some((media_type, bytes)) = ask.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            body = bytes;
        }
        let uri = egress::uri(&url).map_err(|error| Failure::failed(&error))?;
        let exchange = Exchange { method: ask.method, uri, headers, body };
        let reply = self.pool.exchange(&exchange, ask.answer_bytes_max).await;
        let reply = reply.map_err(|error| self.unanswered(&error))?;
        if (200..300).contains(&reply.status) { Ok(reply) } else { Err(refused(&reply)) }
    }

    /// Asks for a JSON document.
    pub(super) async fn json(&self, ask: Ask<'_>) -> Result<serde_json::Value, Failure> {
        let reply = self.ask(ask).await?;
        serde_json::from_slice(&reply.body).map_err(|_| {
            Failure::Failed(format!("{} answered {} with something that is no JSON", self.base, reply.status))
        })
    }

    fn unanswered(&self, error: &ExchangeError) -> Failure {
        let hint = match error {
            ExchangeError::Failed(egress::Error::Connect { .. }) => {
                "; is the engine running there? --admin or HOOKMILL_ADMIN name another address"
            }
            ExchangeError::Failed(egress::Error::Tls { .. }) => {
                "; --admin-ca names the authority that signed its certificate"
            }
            _ => "",
        };
        Failure::Failed(format!("no answer from {}: {error}{hint}", self.base))
    }
}

/// The engine's own words, as the other commands show theirs: code, what is wrong, how to mend it.
fn refused(reply: &Reply) -> Failure {
    match serde_json::from_slice::<Problem>(&reply.body) {
        Ok(problem) => {
            output::say(format_args!("error[{}]: {}", problem.code, problem.detail));
            if !problem.hint.is_empty() {
                output::say(format_args!("hint: {}", problem.hint));
            }
            Failure::Said(1)
        }
        Err(_) => Failure::Failed(format!(
            "answered {} without a problem document; is it the admin API of hookmill?",
            reply.status
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(admin: &str) -> RemoteArgs {
        RemoteArgs { admin: admin.into(), token_file: None, admin_ca: None, plain_http: false }
    }

    fn says(args: &RemoteArgs) -> String {
        match args.open() {
            Err(Failure::Usage(text)) => text,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it is taken"),
        }
    }

    #[test]
    fn a_token_is_not_sent_in_the_clear_to_another_machine() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "not-to-be-shown\n").unwrap();
        let with = |admin: &str| RemoteArgs { token_file: Some(path.clone()), ..args(admin) };
        for fine in ["http://127.0.0.1:8470", "http://localhost:1", "http://[::1]:1", "https://mill.example"]
        {
            assert!(with(fine).open().is_ok(), "{fine}");
        }
        for clear in ["http://mill.example:8470", "http://10.0.0.1", "http://localhost.example"] {
            let text = says(&with(clear));
            assert!(text.contains("readable for everybody on the way"), "{text}");
            assert!(!text.contains("not-to-be-shown"), "{text}");
            assert!(RemoteArgs { plain_http: true, ..with(clear) }.open().is_ok());
        }
    }

    #[test]
    fn an_address_is_scheme_host_and_port_alone() {
        for bad in ["https://mill.example/v1", "https://mill.example?x", "mill.example", "ftp://mill.example"]
        {
            assert!(says(&args(bad)).starts_with(&format!("--admin {bad}: ")), "{bad}");
        }
    }
}
