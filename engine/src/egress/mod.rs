//! The HTTP client, and the rules of what it may reach.
//!
//! A host is resolved once for a connection, every address is checked against the [`Policy`], and the connection goes to a
//! checked address: a second resolution could answer differently. This is the only place that names the HTTP client.
//! It knows no events, no signatures and no retry schedules.

mod client;
mod connect;
mod error;
mod exchange;
mod own;
mod policy;
mod proxy;
mod range;
mod resolve;
mod room;
mod rule;
mod target;
mod tls;
mod verify;

#[cfg(test)]
mod tests;

pub use client::{ANSWER_BYTES_MAX, Again, Answer, Call, Client, ClientSettings, Outlet, Pool};
pub use error::{Error, Phase, TlsFailure};
pub use exchange::{Exchange, ExchangeError, Reply};
pub use policy::{Destination, Policy, Refusal};
pub use proxy::{CredentialsError, Proxy, ProxyError, ProxyFailure};
pub use range::{Range, range};
pub use resolve::{Dial, Resolve, SystemResolver, TcpDialer};
pub use rule::{Rule, RuleError};
pub(crate) use target::uri;
pub use target::{URL_BYTES_MAX, UrlError, check_url};
pub use tls::{ClientError, TlsSettings, TlsVersion};

#[cfg(test)]
pub(crate) use tests::support;
