//! The address of health, metrics and admin API, for `run` and `dev`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Failure;
use super::local_token::LocalToken;
use super::open_files::OpenFiles;
use super::output::chain;
use crate::config::Process;
use crate::nats::Nats;
use crate::server::{Access, Admin, AdminDoor, Current, Listener, Tls};
use crate::telemetry::metrics;
use crate::transform::Host;

/// A bound address, and what is needed to answer there.
pub(crate) struct Serving {
    listener: Listener,
    tls: Option<Arc<Tls>>,
    access: Access,
    rate: u32,
    /// Lives as long as the address is served.
    own_token: Option<LocalToken>,
}

/// What to do about an address that somebody else listens on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is an error.
    Fail,
    /// Another port will do.
    Another,
}

impl Serving {
    /// Reads tokens and certificate. What is wrong with them is wrong configuration.
    pub(crate) fn settings(process: &Process) -> Result<(Access, Option<Arc<Tls>>), Failure> {
        let access = Access::new(process.tokens.clone()).map_err(|error| Failure::Usage(chain(&error)))?;
        let tls = process.admin.certificate.clone().map(|(cert, key)| Tls::load(cert, key)).transpose();
        let tls = tls.map_err(|error| Failure::Usage(format!("[admin]: {}", chain(&error))))?;
        Ok((access, tls))
    }

    /// Binds.
    pub(crate) async fn bind(
        process: &Process,
        (access, tls): (Access, Option<Arc<Tls>>),
        listen: Option<SocketAddr>,
        taken: Taken,
    ) -> Result<Self, Failure> {
        let address = listen.unwrap_or(process.listen);
        let connections_max = OpenFiles::raise().served;
        let bound = Listener::bind(address, tls.clone(), connections_max).await;
        let bound = match bound {
            Err(error) if taken == Taken::Another && error.source.kind() == ErrorKind::AddrInUse => {
                Listener::bind(SocketAddr::new(address.ip(), 0), tls.clone(), connections_max).await
            }
            bound => bound,
        };
        let listener = bound.map_err(|error| Failure::failed(&error))?;
        let (access, own_token) = with_own_token(access, listener.address());
        Ok(Self { listener, tls, access, rate: process.admin.rate, own_token })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// As a client calls it.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.listener.scheme(), self.address())
    }

    /// The certificate, to be read again.
    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Says what others can and can't do with an address that they can reach.
    pub(crate) fn warn(&self) {
        let address = self.address();
        if address.ip().is_loopback() {
            return;
        }
        if self.access.is_local() {
            tracing::warn!(
                %address,
                "the admin API answers nobody but clients on this machine, because hookmill.toml has no [[token]]; \
                 health and metrics answer everybody"
            );
        } else if self.tls.is_none() {
            tracing::warn!(
                %address,
                "tokens of the admin API are readable on their way to this address; give [admin] a cert and a key, or \
                 let a proxy speak TLS"
            );
        }
    }

    /// What serves health and metrics until `stop`, and what opens the admin API.
    pub(crate) fn begin(
        self,
        engine: Current,
        metrics: metrics::Handle,
        stop: CancellationToken,
    ) -> (Opening, impl Future<Output = ()> + use<>) {
        let Self { listener, access, rate, own_token, .. } = self;
        let door = AdminDoor::default();
        let opening = Opening { door: door.clone(), access, rate, engine: engine.clone() };
        let served = listener.serve(engine, metrics, door, stop);
        let served = async move {
            served.await;
            drop(own_token);
        };
        (opening, served)
    }
}

/// Where no token is configured, makes one for the engine's own user.
fn with_own_token(access: Access, address: SocketAddr) -> (Access, Option<LocalToken>) {
    if !access.is_local() {
        return (access, None);
    }
    match LocalToken::make(address.port()) {
        Ok(token) => {
            let access = access.with_own(token.token(), token.path().display().to_string());
            (access, Some(token))
        }
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "no token for the admin API could be written, so it changes nothing until hookmill.toml has a [[token]]"
            );
            (access, None)
        }
    }
}

/// The admin API before it is open.
pub(crate) struct Opening {
    door: AdminDoor,
    access: Access,
    rate: u32,
    engine: Current,
}

impl Opening {
    /// Opens it on this server.
    pub(crate) async fn open(self, nats: &Nats, host: &Arc<Host>) -> Result<(), Failure> {
        let Self { door, access, rate, engine } = self;
        let admin = Admin::open(nats.clone(), Arc::clone(host), access, rate, engine).await;
        door.open(admin.map_err(|error| Failure::failed(&error))?);
        Ok(())
    }
}
