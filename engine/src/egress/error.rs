//! Why a request failed, found by the types of the errors below it and never by their text.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, OtherError, PeerIncompatible};

use super::verify::SelfSigned;
use super::{ProxyFailure, Refusal};

/// Why no full answer came. Names host and address, never path, query, headers or bodies.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Error {
    /// The host has no address.
    #[error("{host} does not resolve: {kind}")]
    Resolve {
        /// The host.
        host: String,
        /// What the resolver said.
        kind: io::ErrorKind,
    },
    /// The host or one of its addresses may not be reached, so nothing was sent.
    #[error("{host} is refused: {}{refusal}", .address.map(|address| format!("{address}: ")).unwrap_or_default())]
    Refused {
        /// The host.
        host: String,
        /// The first of its addresses that is refused; `None`: it was not even resolved.
        address: Option<IpAddr>,
        /// Why.
        refusal: Refusal,
    },
    /// No address of the host took the connection.
    #[error("can't connect to {host} at {address}: {kind}")]
    Connect {
        /// The host.
        host: String,
        /// The address tried last.
        address: SocketAddr,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// This process has too many files open to connect.
    #[error("can't connect to {host}: the engine has too many files open; raise its limit (`ulimit -n`)")]
    OutOfFiles {
        /// The host.
        host: String,
    },
    /// All connections that this process may have are in use, or too many of them by this endpoint.
    #[error(
        "can't connect to {host}: of the {places} connections that the engine may have, none is left for it;          raise the limit of open files (`ulimit -n`)"
    )]
    NoRoom {
        /// The host.
        host: String,
        /// How many there may be.
        places: usize,
    },
    /// The proxy did not lead there.
    #[error("the proxy {proxy} does not lead to {host}: {failure}")]
    Proxy {
        /// The proxy's host and port.
        proxy: String,
        /// The host.
        host: String,
        /// Why.
        failure: ProxyFailure,
    },
    /// The TLS handshake failed.
    #[error("TLS with {host} failed: {failure}")]
    Tls {
        /// The host.
        host: String,
        /// How.
        failure: TlsFailure,
    },
    /// The time was up.
    #[error("{phase} within {after:?}")]
    Timeout {
        /// How far it came.
        phase: Phase,
        /// The time-out that ran out.
        after: Duration,
    },
    /// The connection broke off.
    #[error("the connection broke {during}: {kind}")]
    Broken {
        /// Where: a fixed text.
        during: &'static str,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// An HTTP/2 exchange was ended with an error code, by the other side or because it broke the rules.
    #[error("the HTTP/2 exchange was ended early: {reason:?}")]
    Http2 {
        /// The error code (RFC 9113, section 7).
        reason: h2::Reason,
        /// Whether the other side has said by this that it has done nothing with the request (section 8.7).
        untouched: bool,
    },
    /// What came back is no HTTP.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// The HTTP client failed otherwise.
    #[error("the HTTP exchange failed")]
    Http,
}

/// How far a request came before its time was up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// No connection yet: name resolution, TCP or TLS.
    Connecting,
    /// Connected or connecting; no full response header yet.
    Head,
    /// The header came with this status, the body did not end.
    Body(u16),
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connecting => f.write_str("no connection"),
            Self::Head => f.write_str("no answer"),
            Self::Body(status) => write!(f, "the answer ({status}) did not end"),
        }
    }
}

/// How a TLS handshake failed.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum TlsFailure {
    /// `notAfter` is past.
    #[error("its certificate has expired")]
    Expired,
    /// `notBefore` is to come.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// The certificate names other hosts.
    #[error("its certificate is for another host")]
    WrongHost,
    /// The certificate is its own authority, and not trusted here.
    #[error("its certificate is self-signed")]
    SelfSigned,
    /// No authority that is trusted here vouches for the certificate.
    #[error("its certificate comes from an unknown authority, or its chain is incomplete")]
    UnknownIssuer,
    /// The certificate is one that signs others. Many self-signed ones are.
    #[error(
        "its certificate is that of an authority, as self-signed ones often are, and not that of a server"
    )]
    Authority,
    /// The certificate has been revoked.
    #[error("its certificate has been revoked")]
    Revoked,
    /// The certificate is unusable in another way.
    #[error("its certificate is not usable ({0:?})")]
    Certificate(CertificateError),
    /// The other side ended the handshake.
    #[error("the other side refused it ({0:?})")]
    Alert(AlertDescription),
    /// The other side speaks older versions of TLS alone.
    #[error("the other side speaks no version of TLS that is new enough")]
    TooOld,
    /// The other side does not speak TLS, or shares no cipher with us.
    #[error("the other side speaks no TLS that can be understood")]
    NotTls,
    /// The connection broke on the way.
    #[error("the connection broke ({0})")]
    Broken(io::ErrorKind),
    /// Anything else.
    #[error("the handshake went wrong")]
    Handshake,
}

impl From<&rustls::Error> for TlsFailure {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotYetValid
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::WrongHost
                }
                CertificateError::UnknownIssuer => Self::UnknownIssuer,
                CertificateError::Revoked => Self::Revoked,
                CertificateError::Other(other) if is_authority(other) => Self::Authority,
                CertificateError::Other(other) if other.0.is::<SelfSigned>() => Self::SelfSigned,
                other => Self::Certificate(other.clone()),
            },
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
            | rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::TooOld,
            rustls::Error::AlertReceived(alert) => Self::Alert(*alert),
            rustls::Error::InvalidMessage(_) | rustls::Error::PeerIncompatible(_) => Self::NotTls,
            _ => Self::Handshake,
        }
    }
}

/// Whether a certificate that signs others was used as a server's. The TLS library has no word of its own for that.
fn is_authority(error: &OtherError) -> bool {
    matches!(error.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl TlsFailure {
    /// The setting of `[egress]` that this is about, where it is not the endpoint alone that can mend it.
    pub const fn setting(&self) -> Option<&'static str> {
        match self {
            Self::SelfSigned => Some("`[egress] ca` can name it"),
            Self::UnknownIssuer => Some("`[egress] ca` can name further authorities"),
            Self::TooOld => Some("`[egress] tls_min` says which is"),
            Self::Authority
            | Self::Expired
            | Self::NotYetValid
            | Self::WrongHost
            | Self::Revoked
            | Self::Certificate(_)
            | Self::Alert(_)
            | Self::NotTls
            | Self::Broken(_)
            | Self::Handshake => None,
        }
    }

    /// From what the TLS connector gives back: the handshake's error is wrapped in I/O errors.
    pub(super) fn from_connector(error: &(dyn StdError + 'static)) -> Self {
        if let Some(error) = find::<rustls::Error>(error) {
            return error.into();
        }
        find::<io::Error>(error).map_or(Self::Handshake, |error| Self::Broken(error.kind()))
    }
}

impl Error {
    /// From what the HTTP client gives back, for the host `host`.
    pub(super) fn from_client(error: &(dyn StdError + 'static), host: &str, during: &'static str) -> Self {
        if let Some(ours) = find::<Self>(error) {
            return ours.clone();
        }
        if let Some(error) = find::<rustls::Error>(error) {
            return Self::Tls { host: host.to_owned(), failure: error.into() };
        }
        if let Some(http2) = find::<h2::Error>(error) {
            if let Some(reason) = http2.reason() {
                return Self::Http2 { reason, untouched: is_untouched(http2) };
            }
            if let Some(io) = http2.get_io() {
                return Self::Broken { during, kind: io.kind() };
            }
        }
        if let Some(http) = find::<hyper::Error>(error) {
            if http.is_timeout() {
                return Self::Broken { during, kind: io::ErrorKind::TimedOut };
            }
            if http.is_parse() {
                return Self::NotHttp;
            }
            if http.is_incomplete_message() {
                return Self::Broken { during, kind: io::ErrorKind::UnexpectedEof };
            }
        }
        find::<io::Error>(error).map_or(Self::Http, |error| Self::Broken { during, kind: error.kind() })
    }
}

/// Whether the other side says that it has not begun with the request: it refused the stream, or goes away in peace and has
/// named the last stream that it works on.
fn is_untouched(error: &h2::Error) -> bool {
    let goes_away = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    error.is_remote() && (goes_away || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// The first error of type `E` in the chain. Looks into I/O errors too, which leave themselves out of `source`.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    // Errors nest a handful deep; the bound only guards against one that is its own source.
    for _ in 0..16 {
        let error = next?;
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inside.map(|inside| inside as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_inside_io_errors_is_found() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let nested = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        assert_eq!(TlsFailure::from_connector(&nested), TlsFailure::Expired);
        let eof = io::Error::other(io::Error::from(io::ErrorKind::UnexpectedEof));
        assert!(find::<rustls::Error>(&eof).is_none());
    }
}
