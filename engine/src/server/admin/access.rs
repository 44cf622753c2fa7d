//! Who asks, and whether they may: bearer tokens, or, where none is configured, clients on this machine alone.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, FORWARDED, HOST, ORIGIN, VIA, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio::time::Instant;

use super::problem::{Code, Problem};
use crate::model::{Name, NamePattern, Scope, SecretError, SecretRef, Token};

/// Shortest token, in characters. Drawn by chance, even one this short can't be guessed.
const TOKEN_CHARS_MIN: usize = 16;
/// A token's file is read again after this long at the earliest.
const FILE_KEPT: Duration = Duration::from_secs(1);

/// Why the tokens of `hookmill.toml` can't be used. Never says what they are.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The reference leads nowhere.
    #[error("token {0} has no value")]
    Missing(Name, #[source] SecretError),
    /// So short that it could be guessed.
    #[error(
        "token {0} is shorter than {TOKEN_CHARS_MIN} characters; `openssl rand -hex 32` makes a good one"
    )]
    Short(Name),
    /// Who would be asking?
    #[error("tokens {0} and {1} have the same value; give each its own")]
    Same(Name, Name),
}

/// The tokens.
#[derive(Debug)]
pub struct Access {
    known: Vec<Known>,
    /// Where no token is configured: the one that shows that somebody on this machine is the engine's own user.
    own: Option<OwnToken>,
}

/// The token that an engine without any has made for its own user.
#[derive(Debug)]
struct OwnToken {
    hash: Hash,
    /// The file that it stands in, for people.
    file: String,
}

#[derive(Debug)]
struct Known {
    token: Arc<Token>,
    held: Mutex<Held>,
}

/// A hash, so that comparing takes the same time however long the token is.
type Hash = [u8; 32];

/// The value of a token as it was read last; none if there was none that can be used.
#[derive(Debug)]
struct Held {
    hash: Option<Hash>,
    read: Instant,
}

impl Access {
    /// Reads every token once.
    pub fn new(tokens: Vec<Token>) -> Result<Self, AccessError> {
        let mut known: Vec<(Known, Hash)> = Vec::new();
        for token in tokens {
            let hash = read(&token)?;
            if let Some((twin, _)) = known.iter().find(|(_, other)| bool::from(other.ct_eq(&hash))) {
                return Err(AccessError::Same(twin.token.name.clone(), token.name));
            }
            let held = Mutex::new(Held { hash: Some(hash), read: Instant::now() });
            known.push((Known { token: Arc::new(token), held }, hash));
        }
        Ok(Self { known: known.into_iter().map(|(known, _)| known).collect(), own: None })
    }

    /// Takes this token, which stands in `file`, from those on this machine who are to do more than to look. Means nothing where
    /// tokens are configured.
    #[must_use]
    pub fn with_own(self, token: &str, file: String) -> Self {
        let hash = Sha256::digest(token.as_bytes()).into();
        Self { own: Some(OwnToken { hash, file }), ..self }
    }

    /// Whether nobody needs a token, but has to be on this machine.
    pub fn is_local(&self) -> bool {
        self.known.is_empty()
    }

    /// Who asks.
    pub(super) fn caller(&self, peer: IpAddr, uri: &Uri, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.is_local() {
            local(peer, uri, headers).map_err(not_local)?;
            return Ok(Caller::Local(self.proof(headers)));
        }
        let sent = bearer(headers)?;
        let hash: Hash = Sha256::digest(sent).into();
        // All are looked at, found or not, so that the time tells nothing.
        let mut found = u64::MAX;
        for (place, known) in (0_u64..).zip(&self.known) {
            let same = known.hash().map_or(Choice::from(0), |held| held.ct_eq(&hash));
            found.conditional_assign(&place, same);
        }
        let known = usize::try_from(found).ok().and_then(|place| self.known.get(place));
        known.map(|known| Caller::Token(Arc::clone(&known.token))).ok_or_else(unknown)
    }

    /// Whether a request from this machine shows the engine's own token.
    fn proof(&self, headers: &HeaderMap) -> Proof {
        let Some(own) = &self.own else { return Proof::Impossible };
        let sent: Option<Hash> = bearer(headers).ok().map(|sent| Sha256::digest(sent).into());
        let shown = sent.is_some_and(|sent| bool::from(sent.ct_eq(&own.hash)));
        if shown { Proof::Shown } else { Proof::Missing(own.file.clone()) }
    }
}

impl Known {
    /// The hash of the token as it is now. An environment variable can't change; a file is read again, but not for each
    /// request.
    fn hash(&self) -> Option<Hash> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_file = matches!(self.token.secret, SecretRef::File { .. });
        if is_file && held.read.elapsed() >= FILE_KEPT {
            let hash = read(&self.token);
            if says_nothing(&hash) {
                return held.hash;
            }
            if let (Err(error), true) = (&hash, held.hash.is_some()) {
                tracing::warn!(error = crate::model::fault::chain(error), "a token is not taken any more");
            }
            *held = Held { hash: hash.ok(), read: Instant::now() };
        }
        held.hash
    }
}

/// Whether a token could not be read for a reason that is none of its own: then the old one is as good as before.
fn says_nothing(read: &Result<Hash, AccessError>) -> bool {
    matches!(read, Err(AccessError::Missing(_, SecretError::OutOfFiles(_))))
}

fn read(token: &Token) -> Result<Hash, AccessError> {
    let value = token.secret.resolve().map_err(|error| AccessError::Missing(token.name.clone(), error))?;
    if value.expose().chars().count() < TOKEN_CHARS_MIN {
        return Err(AccessError::Short(token.name.clone()));
    }
    Ok(Sha256::digest(value.expose()).into())
}

/// The token of `Authorization: Bearer …` (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(no_token()) };
    let value = value.as_bytes();
    let scheme = value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    if scheme { Ok(value[7..].trim_ascii()) } else { Err(no_token()) }
}

fn challenge(more: &str) -> HeaderValue {
    let text = format!("Bearer realm=\"hookmill\"{more}");
    HeaderValue::try_from(text).expect("scopes are printable ASCII")
}

fn no_token() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, "no token was sent")
        .hint("send Authorization: Bearer <token>; on the command line, set HOOKMILL_TOKEN or --token-file")
        .header(WWW_AUTHENTICATE, challenge(""))
}

fn unknown() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, "the token that was sent is not known")
        .hint("it has to be the value of a [[token]] in the engine's hookmill.toml")
        .header(WWW_AUTHENTICATE, challenge(", error=\"invalid_token\""))
}

fn not_local(why: &'static str) -> Problem {
    let detail = format!("without tokens the admin API is for clients on the same machine, but {why}");
    Problem::new(StatusCode::FORBIDDEN, Code::LocalOnly, detail)
        .hint("give the engine a [[token]] in hookmill.toml, or ask it from its own machine at 127.0.0.1")
}

/// Who asks: a token, or somebody on this machine.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    Token(Arc<Token>),
    Local(Proof),
}

/// Whether somebody on this machine has shown to be the engine's user. A proxy passes on what others send, and an event can be
/// sent to any address: what comes from here may be anybody's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Proof {
    Shown,
    /// It stands in this file.
    Missing(String),
    /// The engine could not write one.
    Impossible,
}

impl Caller {
    /// The token's name.
    pub(super) fn token(&self) -> Option<&Name> {
        match self {
            Self::Token(token) => Some(&token.name),
            Self::Local(_) => None,
        }
    }

    /// What logs call it.
    pub(super) fn label(&self) -> &str {
        self.token().map_or("(local)", |name| name.as_str())
    }

    /// Whether it may do more than look: change something, or see what events hold.
    pub(super) fn is_trusted(&self) -> Result<(), Problem> {
        match self {
            Self::Token(_) | Self::Local(Proof::Shown) => Ok(()),
            Self::Local(Proof::Missing(file)) => {
                let detail = "this needs the token that the engine has made at its start, and none was sent or another one";
                let hint = format!(
                    "commands of the engine's user read it by themselves; else send Authorization: Bearer with what {file} holds, \
                     or give the engine a [[token]] in hookmill.toml"
                );
                Err(Problem::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, detail)
                    .hint(hint)
                    .header(WWW_AUTHENTICATE, challenge("")))
            }
            Self::Local(Proof::Impossible) => {
                let detail =
                    "this needs a token, and the engine could write none at its start: its log says why";
                Err(Problem::new(StatusCode::UNAUTHORIZED, Code::Unauthenticated, detail)
                    .hint("give the engine a [[token]] in hookmill.toml")
                    .header(WWW_AUTHENTICATE, challenge("")))
            }
        }
    }

    /// Whether its scopes allow this.
    pub(super) fn may(&self, wanted: Scope) -> Result<(), Problem> {
        let Self::Token(token) = self else { return Ok(()) };
        if token.scopes.iter().any(|scope| scope.covers(wanted)) {
            return Ok(());
        }
        let detail = format!("token {} lacks the scope {wanted}", token.name);
        let more = format!(", error=\"insufficient_scope\", scope=\"{wanted}\"");
        Err(Problem::new(StatusCode::FORBIDDEN, Code::ScopeMissing, detail)
            .hint(format!("add \"{wanted}\" to its scopes in hookmill.toml, or use another token"))
            .header(WWW_AUTHENTICATE, challenge(&more))
            .with("scope", json!(wanted.as_str())))
    }

    /// Whether it is for modules of this name.
    pub(super) fn sees(&self, name: &Name) -> bool {
        self.patterns().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.takes(name)))
    }

    /// The same, as a refusal.
    pub(super) fn may_touch(&self, name: &Name) -> Result<(), Problem> {
        if self.sees(name) {
            return Ok(());
        }
        let patterns = self.patterns().unwrap_or_default().iter();
        let allowed = patterns.map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let detail = format!("token {} is not for module {name}", self.label());
        let hint = if allowed.is_empty() {
            "it is for no module".to_owned()
        } else {
            format!("it is for {allowed}")
        };
        Err(Problem::new(StatusCode::FORBIDDEN, Code::ModuleNotAllowed, detail).hint(hint))
    }

    fn patterns(&self) -> Option<&[NamePattern]> {
        match self {
            Self::Token(token) => token.modules.as_deref(),
            Self::Local(_) => None,
        }
    }
}

/// Whether a request was made on this machine by somebody who meant to make it. The peer's address alone doesn't tell: a
/// page in a browser here can send requests (then `Origin` or `Sec-Fetch-Site` says so), also under its own name that it
/// lets lead to this machine (then `Host` says so), and a proxy here sends those of others.
fn local(peer: IpAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), &'static str> {
    if !peer.to_canonical().is_loopback() {
        return Err("this request comes from another one");
    }
    let proxied = headers.contains_key(FORWARDED)
        || headers.contains_key(VIA)
        || headers.keys().any(|name| name.as_str().starts_with("x-forwarded-"));
    if proxied {
        return Err("this request came through a proxy");
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else {
        return Err("this request has no Host, or several");
    };
    if !is_loopback_name(host) || uri.authority().is_some_and(|authority| authority.as_str() != host) {
        return Err("this request asks for a host that is not the loopback");
    }
    let own = |origin: &str| origin.split_once("://").is_some_and(|(_, from)| from == host);
    if headers.get_all(ORIGIN).iter().any(|origin| !origin.to_str().is_ok_and(own)) {
        return Err("this request comes from a page of another site");
    }
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err("this request comes from a page of another site"),
    }
}

/// `localhost`, or a literal loopback address, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    !host.contains('@')
        && (name.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback()))
}

#[cfg(test)]
mod tests;
