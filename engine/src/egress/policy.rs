//! What may be reached. Pure: it is handed names and addresses, it resolves and connects nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::range::{Range, carried, range};
use super::rule::Rule;

/// What one endpoint may reach. Without entries: every public address, over TLS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// What may be reached although it is refused otherwise, and over plain HTTP. Read by [`Rule::allowing`].
    pub allow: Vec<Rule>,
    /// What is never reached; stronger than `allow`.
    pub deny: Vec<Rule>,
}

/// Where a connection is to go, as the URL says it.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The host of the URL: a name, or a literal address (IPv6 in brackets).
    pub host: &'a str,
    /// The port of the URL, or its scheme's.
    pub port: u16,
    /// True for `http://`.
    pub plain: bool,
}

/// Why a host or an address is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// This entry of `deny` names it.
    Denied(Rule),
    /// It belongs to a range that no webhook has business with, and `allow` does not name it.
    Range(Range),
    /// It belongs to a range that only its address opens, and `allow` names the host alone.
    OnlyByAddress(Range),
    /// It is public, but the URL is `http://` and `allow` does not name it.
    Plain,
    /// This engine listens there itself.
    Own,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(rule) => write!(f, "`deny` has {rule}"),
            Self::Range(range) => write!(f, "it is {} and `allow` does not name it", range.as_str()),
            Self::OnlyByAddress(range) => {
                let range = range.as_str();
                write!(
                    f,
                    "it is {range}, and `allow` names the host alone, which does not open such addresses"
                )
            }
            Self::Plain => f.write_str("http:// goes only to what `allow` names; use https://"),
            Self::Own => f.write_str(
                "this engine listens there itself for health, metrics and its admin API, and no event may go there",
            ),
        }
    }
}

impl Policy {
    /// What can be said before the host is resolved: whether `deny` names the host or the port.
    pub fn check_name(&self, to: &Destination<'_>) -> Result<(), Refusal> {
        let denies = |rule: &&Rule| rule.names_host(to.host, to.port) || rule.names_port_of_all(to.port);
        self.deny.iter().find(denies).map_or(Ok(()), |rule| Err(Refusal::Denied(rule.clone())))
    }

    /// Whether `address`, which the host of `to` is or resolves to, may be reached. Looks at the name as well.
    ///
    /// An IPv6 address that carries an IPv4 address is judged twice: itself, and what it leads to. So an `allow` for a
    /// NAT64 prefix does not open the way to 127.0.0.1 behind it.
    pub fn check(&self, to: &Destination<'_>, address: IpAddr) -> Result<(), Refusal> {
        self.check_name(to)?;
        let inside = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => carried(address).map(IpAddr::V4),
        };
        for address in inside.into_iter().chain([address]) {
            if let Some(rule) = self.deny.iter().find(|rule| rule.names_address(address, to.port)) {
                return Err(Refusal::Denied(rule.clone()));
            }
        }
        let host = self.allow.iter().any(|rule| rule.names_host(to.host, to.port));
        let named = |address| self.allow.iter().any(|rule| rule.names_address(address, to.port));
        for address in inside.into_iter().chain([address]) {
            match range(address).filter(|_| !named(address)) {
                Some(range) if !host => return Err(Refusal::Range(range)),
                Some(range) if !range.opens_by_name() => return Err(Refusal::OnlyByAddress(range)),
                Some(_) | None => {}
            }
        }
        if to.plain && !host && !named(address) { Err(Refusal::Plain) } else { Ok(()) }
    }

    /// What can be said of a host that somebody else will resolve: whether it may be reached, as far as the URL tells. Names
    /// of loopback are loopback wherever they are resolved (RFC 6761, section 6.3). The address is the one that is refused.
    pub fn check_unresolved(&self, to: &Destination<'_>) -> Result<(), (Option<IpAddr>, Refusal)> {
        self.check_name(to).map_err(|refusal| (None, refusal))?;
        if let Some(address) = literal(to.host).or_else(|| loopback_by_name(to.host)) {
            return self.check(to, address).map_err(|refusal| (Some(address), refusal));
        }
        let named = self.allow.iter().any(|rule| rule.names_host(to.host, to.port));
        if to.plain && !named { Err((None, Refusal::Plain)) } else { Ok(()) }
    }

    /// This policy with the entries of another one beside its own.
    #[must_use]
    pub fn with(&self, more: &Self) -> Self {
        Self { allow: [&self.allow[..], &more.allow].concat(), deny: [&self.deny[..], &more.deny].concat() }
    }
}

/// The address that a host of a URL is, if it is none to resolve.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

pub(super) fn loopback_by_name(host: &str) -> Option<IpAddr> {
    let name = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    name.eq_ignore_ascii_case("localhost").then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> Policy {
        Policy {
            allow: allow.iter().map(|text| Rule::allowing(text).expect(text)).collect(),
            deny: deny.iter().map(|text| text.parse().expect(text)).collect(),
        }
    }

    /// What the policy says of `url`, whose host is or resolves to `address`.
    fn check(policy: &Policy, url: &str, address: &str) -> Result<(), Refusal> {
        let url = url::Url::parse(url).unwrap();
        let port = url.port_or_known_default().unwrap();
        let to = Destination { host: url.host_str().unwrap(), port, plain: url.scheme() == "http" };
        policy.check(&to, address.parse().unwrap())
    }

    #[test]
    fn public_addresses_are_reached_over_tls_alone() {
        for address in
            ["1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "2606:4700::1111"]
        {
            let plain = "http://a.example/";
            assert_eq!(check(&Policy::default(), "https://a.example/", address), Ok(()), "{address}");
            assert_eq!(check(&Policy::default(), plain, address), Err(Refusal::Plain), "{address}");
            assert_eq!(check(&policy(&["0.0.0.0/0", "::/0"], &[]), plain, address), Ok(()), "{address}");
        }
    }

    #[test]
    fn allow_names_what_is_refused_otherwise_and_deny_is_stronger() {
        let of = |allow, deny| check(&policy(allow, deny), "http://10.1.2.3/", "10.1.2.3");
        let denied = |rule: &str| Err(Refusal::Denied(rule.parse().unwrap()));
        assert_eq!(of(&["10.1.0.0/16"], &[]), Ok(()));
        assert_eq!(of(&["10.2.0.0/16"], &[]), Err(Refusal::Range(Range::Private)));
        assert_eq!(of(&["10.1.0.0/16"], &["10.1.2.3/32"]), denied("10.1.2.3"));
        let both = policy(&["::/0", "10.0.0.0/8"], &["10.1.2.3/32"]);
        let mapped = check(&both, "https://a.example/", "::ffff:10.1.2.3");
        assert_eq!(mapped, denied("10.1.2.3"), "deny looks inside IPv6");
    }

    #[test]
    fn an_allowed_translation_prefix_does_not_open_the_way_to_loopback_behind_it() {
        let nat64 = policy(&["64:ff9b::/96"], &[]);
        let of = |address| check(&nat64, "https://a.example/", address);
        assert_eq!(of("64:ff9b::8.8.8.8"), Ok(()));
        assert_eq!(of("64:ff9b::127.0.0.1"), Err(Refusal::Range(Range::Loopback)));
    }

    #[test]
    fn an_entry_with_a_port_holds_for_that_port_alone() {
        let one = policy(&["10.0.0.0/8:8443", "hooks.example.com:444", "[fd00::/8]:80"], &[]);
        assert_eq!(check(&one, "https://10.0.0.1:8443/", "10.0.0.1"), Ok(()));
        assert_eq!(check(&one, "https://10.0.0.1/", "10.0.0.1"), Err(Refusal::Range(Range::Private)));
        assert_eq!(check(&one, "https://hooks.example.com:444/", "10.0.0.1"), Ok(()));
        assert!(check(&one, "https://hooks.example.com/", "10.0.0.1").is_err());
        assert_eq!(check(&one, "http://a.example/", "fd00::1"), Ok(()));
        assert!(check(&one, "https://a.example/", "fd00::1").is_err());
        assert_eq!(check(&one, "http://hooks.example.com/", "1.1.1.1"), Err(Refusal::Plain));

        let deny = policy(&["0.0.0.0/0"], &[":25", "1.0.0.0/8:444", "*.example.com:8443"]);
        for (url, address, allowed) in [
            ("https://a.test:25/", "1.1.1.1", false),
            ("http://a.test:25/", "10.0.0.1", false),
            ("https://a.test:444/", "1.1.1.1", false),
            ("https://a.test:444/", "2.1.1.1", true),
            ("https://a.test/", "1.1.1.1", true),
            ("https://a.example.com:8443/", "2.1.1.1", false),
            ("https://example.com:8443/", "2.1.1.1", true),
            ("https://a.example.com/", "2.1.1.1", true),
        ] {
            let said = check(&deny, url, address);
            assert_eq!(said.is_ok(), allowed, "{url} at {address}: {said:?}");
            assert_eq!(matches!(said, Err(Refusal::Denied(_))), !allowed, "{url} at {address}: {said:?}");
        }
    }

    #[test]
    fn an_allowed_host_opens_networks_of_ones_own_and_plain_http_but_no_metadata_service() {
        let host = policy(&["hooks.example.com"], &[]);
        let url = "http://hooks.example.com/";
        for address in ["1.1.1.1", "10.0.0.1", "127.0.0.1", "100.64.0.1", "fd12::1", "::1"] {
            assert_eq!(check(&host, url, address), Ok(()), "{address}");
            assert!(check(&host, "http://other.example.com/", address).is_err(), "{address}");
        }
        for (address, range) in [
            ("169.254.169.254", Range::Metadata),
            ("100.100.100.200", Range::Metadata),
            ("fd00:ec2::254", Range::Metadata),
            ("169.254.1.1", Range::LinkLocal),
            ("fe80::1", Range::LinkLocal),
            ("0.0.0.0", Range::Unspecified),
            ("224.0.0.1", Range::Multicast),
            ("::ffff:169.254.169.254", Range::Metadata),
            ("64:ff9b::169.254.169.254", Range::Metadata),
            ("64:ff9b:1::169.254.169.254", Range::Metadata),
            ("64:ff9b:1::8.8.8.8", Range::Nat64),
        ] {
            assert_eq!(check(&host, url, address), Err(Refusal::OnlyByAddress(range)), "{address}");
        }
        let both = policy(&["hooks.example.com", "169.254.169.254"], &[]);
        assert_eq!(check(&both, url, "169.254.169.254"), Ok(()), "its address opens it");
        let denied = policy(&["hooks.example.com"], &["10.0.0.0/8"]);
        assert_eq!(check(&denied, url, "10.0.0.1"), Err(Refusal::Denied("10.0.0.0/8".parse().unwrap())));
    }

    #[test]
    fn of_a_host_that_a_proxy_resolves_only_the_url_tells() {
        let policy = policy(&["hooks.example.com", "10.0.0.0/8"], &["*.corp.example", ":25"]);
        for (url, refusal) in [
            ("https://a.example/", None),
            ("http://hooks.example.com/", None),
            ("http://10.0.0.1/", None),
            ("http://a.example/", Some(Refusal::Plain)),
            ("https://192.168.0.1/", Some(Refusal::Range(Range::Private))),
            ("https://[::1]/", Some(Refusal::Range(Range::Loopback))),
            ("https://LocalHost./", Some(Refusal::Range(Range::Loopback))),
            ("https://a.localhost/", Some(Refusal::Range(Range::Loopback))),
            ("https://a.corp.example/", Some(Refusal::Denied("*.corp.example".parse().unwrap()))),
            ("https://a.example:25/", Some(Refusal::Denied(":25".parse().unwrap()))),
        ] {
            let parsed = url::Url::parse(url).unwrap();
            let port = parsed.port_or_known_default().unwrap();
            let to = Destination { host: parsed.host_str().unwrap(), port, plain: parsed.scheme() == "http" };
            let said = policy.check_unresolved(&to).err().map(|(_, refusal)| refusal);
            assert_eq!(said, refusal, "{url}");
        }
    }

    #[test]
    fn a_denied_host_is_refused_before_it_is_resolved() {
        let deny = policy(&["hooks.example.com"], &["*.example.com"]);
        let to = |host| Destination { host, port: 443, plain: false };
        assert!(deny.check_name(&to("hooks.example.com")).is_err());
        assert!(deny.check_name(&to("hooks.example.com.")).is_err());
        assert!(deny.check_name(&to("example.com")).is_ok());
    }
}
