//! The addresses that this process listens on itself: no delivery goes there, whatever `allow` says. An event must not be a way to
//! tell the engine what to do.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Where this process listens.
#[derive(Debug, Default)]
pub(super) struct OwnListeners(Mutex<Vec<SocketAddr>>);

impl OwnListeners {
    /// Adds one, as it was bound.
    pub(super) fn add(&self, listener: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Whether a connection to `to` would come out at one of them. An unspecified address stands for all of this machine's.
    pub(super) fn has(&self, to: SocketAddr) -> bool {
        let listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ports = listeners.iter().filter(|listener| listener.port() == to.port());
        ports.into_iter().any(|listener| leads_to(to.ip().to_canonical(), listener.ip().to_canonical()))
    }
}

fn leads_to(to: IpAddr, listener: IpAddr) -> bool {
    // What connects to the unspecified address connects to the loopback (on Linux).
    let same = to == listener || (to.is_unspecified() && listener.is_loopback());
    same || (listener.is_unspecified() && is_of_this_machine(to))
}

/// Whether the system has this address itself: then, and only then, a socket can be bound to it. Nothing is sent.
fn is_of_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaches(listener: &str, to: &str) -> bool {
        let own = OwnListeners::default();
        own.add(listener.parse().unwrap());
        own.has(to.parse().unwrap())
    }

    #[test]
    fn the_own_listener_is_known_in_every_spelling() {
        for to in ["127.0.0.1:8470", "[::ffff:127.0.0.1]:8470", "0.0.0.0:8470"] {
            assert!(reaches("127.0.0.1:8470", to), "{to}");
        }
        for to in ["127.0.0.1:8471", "127.0.0.2:8470", "[::1]:8470", "192.0.2.1:8470"] {
            assert!(!reaches("127.0.0.1:8470", to), "{to}");
        }
    }

    #[test]
    fn an_unspecified_listener_is_at_every_address_of_this_machine() {
        for listener in ["0.0.0.0:8470", "[::]:8470"] {
            for to in
                ["127.0.0.1:8470", "127.9.9.9:8470", "[::1]:8470", "[::ffff:127.0.0.1]:8470", "[::]:8470"]
            {
                assert!(reaches(listener, to), "{listener} {to}");
            }
            // TEST-NET-1 (RFC 5737) is nobody's.
            assert!(!reaches(listener, "192.0.2.1:8470") && !reaches(listener, "127.0.0.1:80"));
        }
    }
}
