//! One entry of `allow` or `deny`: a network, a host or a port. Pure: it resolves nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use url::Host;

/// One entry of `allow` or `deny`. Its text is a network or an address (`10.1.0.0/16`, `fd00::/8`), a host
/// (`hooks.example.com`, or `*.example.com` for all names below it), either of them with a port behind it
/// (`10.1.0.0/16:8443`, `[fd00::/8]:443`), or a port alone (`:25`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    whom: Whom,
    /// `None`: every port.
    port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Whom {
    All,
    Net(IpNet),
    /// In lower case, as ASCII, without a dot at the end.
    Host(String),
    /// All names below this one, not the name itself.
    Below(String),
}

/// Why a text is no entry of `allow` or `deny`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    /// Neither network nor host.
    #[error("which is neither an address range nor a host name")]
    Unknown,
    /// The address has bits behind the prefix.
    #[error("with bits set behind the prefix; the range that it lies in is {0}")]
    Bits(IpNet),
    /// No port from 1 to 65535 behind the colon.
    #[error("with something behind the colon that is no port (1 to 65535)")]
    Port,
    /// `127.1`, `0x7f000001` and the like.
    #[error("which is an odd spelling of {0}; write it like that")]
    Spelling(Ipv4Addr),
    /// A `*` that is not all of the first label of a name.
    #[error(
        "with a * that does not stand for all names below another one, as in *.example.com; every address is 0.0.0.0/0 \
         and ::/0"
    )]
    Star,
    /// A port alone, where something is to be allowed.
    #[error(
        "which is a port alone: that can only be denied; say whose port it is, as in hooks.example.com:8443"
    )]
    PortAlone,
}

impl Rule {
    /// An entry of `allow`: a port alone would open that port of everything, so it is none.
    pub fn allowing(text: &str) -> Result<Self, RuleError> {
        let rule: Self = text.parse()?;
        if rule.whom == Whom::All { Err(RuleError::PortAlone) } else { Ok(rule) }
    }

    /// Whether it names this address and port.
    pub(super) fn names_address(&self, address: IpAddr, port: u16) -> bool {
        match &self.whom {
            Whom::Net(net) => net.contains(&address) && self.names_port(port),
            Whom::All | Whom::Host(_) | Whom::Below(_) => false,
        }
    }

    /// Whether it names this host, as a URL names it, and port. A literal address is no host.
    pub(super) fn names_host(&self, host: &str, port: u16) -> bool {
        // `example.com.` is the same name, only without the search list of the resolver.
        let host = host.trim_end_matches('.');
        let named = match &self.whom {
            Whom::Host(name) => host.eq_ignore_ascii_case(name),
            Whom::Below(name) => is_below(host, name),
            Whom::All | Whom::Net(_) => false,
        };
        named && self.names_port(port)
    }

    /// Whether it is this port, whoever listens on it.
    pub(super) fn names_port_of_all(&self, port: u16) -> bool {
        self.whom == Whom::All && self.names_port(port)
    }

    fn names_port(&self, port: u16) -> bool {
        self.port.is_none_or(|named| named == port)
    }
}

/// Whether `host` ends in a dot and `name`, with something before it. Both are ASCII.
fn is_below(host: &str, name: &str) -> bool {
    let start = host.len().checked_sub(name.len() + 1).filter(|start| *start > 0);
    let tail = start.and_then(|start| host.get(start..));
    tail.and_then(|tail| tail.strip_prefix('.')).is_some_and(|tail| tail.eq_ignore_ascii_case(name))
}

impl From<IpNet> for Rule {
    fn from(net: IpNet) -> Self {
        Self { whom: Whom::Net(net), port: None }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (whom, port) = split(text)?;
        let port = port.map(read_port).transpose()?;
        let whom = match whom {
            Part::Bare("") if port.is_some() => Whom::All,
            Part::Bare(text) => read_net(text)?.map_or_else(|| read_host(text), |net| Ok(Whom::Net(net)))?,
            Part::Bracketed(text) if text.contains(':') => {
                Whom::Net(read_net(text)?.ok_or(RuleError::Unknown)?)
            }
            Part::Bracketed(_) => return Err(RuleError::Unknown),
        };
        Ok(Self { whom, port })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.whom, self.port) {
            (Whom::All, _) => {}
            (Whom::Net(IpNet::V6(net)), Some(_)) => write!(f, "[{net}]")?,
            (Whom::Net(net), _) => write!(f, "{net}")?,
            (Whom::Host(name), _) => f.write_str(name)?,
            (Whom::Below(name), _) => write!(f, "*.{name}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// What stands before the port.
enum Part<'t> {
    Bare(&'t str),
    Bracketed(&'t str),
}

/// The text before and behind the colon of the port. IPv6 is full of colons: with a port it is in brackets.
fn split(text: &str) -> Result<(Part<'_>, Option<&str>), RuleError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, rest) = rest.split_once(']').ok_or(RuleError::Unknown)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((Part::Bracketed(inside), Some(port))),
            None if rest.is_empty() => Ok((Part::Bracketed(inside), None)),
            None => Err(RuleError::Unknown),
        };
    }
    match text.split_once(':') {
        Some((whom, port)) if !port.contains(':') => Ok((Part::Bare(whom), Some(port))),
        Some(_) | None => Ok((Part::Bare(text), None)),
    }
}

fn read_port(text: &str) -> Result<u16, RuleError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port > 0);
    port.ok_or(RuleError::Port)
}

/// The network, if the text is one.
fn read_net(text: &str) -> Result<Option<IpNet>, RuleError> {
    let net = text.parse::<IpNet>().ok();
    let net = net.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    match net {
        Some(net) if net.trunc() != net => Err(RuleError::Bits(net.trunc())),
        net => Ok(net),
    }
}

fn read_host(text: &str) -> Result<Whom, RuleError> {
    let (below, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    if name.contains('*') {
        return Err(RuleError::Star);
    }
    // The parser of URLs undoes percent-encoding; nobody means that here.
    if name.contains(['%', '/', '@', '?', '#', '\\']) {
        return Err(RuleError::Unknown);
    }
    match Host::parse(name) {
        Ok(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(&name);
            let label = |label: &str| (1..=63).contains(&label.len());
            if name.len() > 253 || !name.split('.').all(label) {
                return Err(RuleError::Unknown);
            }
            let name = name.to_owned();
            Ok(if below { Whom::Below(name) } else { Whom::Host(name) })
        }
        Ok(Host::Ipv4(address)) if !below => Err(RuleError::Spelling(address)),
        Ok(Host::Ipv4(_) | Host::Ipv6(Ipv6Addr { .. })) | Err(_) => Err(RuleError::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_said_again() {
        for (text, said) in [
            ("10.1.0.0/16", "10.1.0.0/16"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.0.0/16:8443", "10.1.0.0/16:8443"),
            ("fd00::/8", "fd00::/8"),
            ("::1", "::1/128"),
            ("::", "::/128"),
            ("[::1]", "::1/128"),
            ("[::1]:80", "[::1/128]:80"),
            ("[fd00::/8]:443", "[fd00::/8]:443"),
            ("hooks.example.com", "hooks.example.com"),
            ("Hooks.Example.COM.:443", "hooks.example.com:443"),
            ("*.example.com", "*.example.com"),
            ("*.bücher.example:65535", "*.xn--bcher-kva.example:65535"),
            ("localhost:1", "localhost:1"),
            ("a_b.example", "a_b.example"),
            (":25", ":25"),
        ] {
            let rule: Rule = text.parse().expect(text);
            assert_eq!(rule.to_string(), said, "{text}");
            assert_eq!(said.parse(), Ok(rule), "{said} means the same");
        }
    }

    #[test]
    fn what_is_no_entry_says_why() {
        let unknown = ["", " ", "10.1.0.0/33", "fd00::/129", "[::1", "[::1]80", "[10.0.0.1]:80", "[]:80"];
        let more =
            ["[example.com]:80", "a..b", ".example.com", "*.", "*.10.0.0.1", "a b.example", "a/8", "a%62"];
        let odd =
            ["https://example.com", "me@example.com", "example.com/hook", "fe80::1%eth0", "[fd00::/8:443]"];
        for text in unknown.iter().chain(&more).chain(&odd) {
            let port = *text == "https://example.com";
            let why = if port { RuleError::Port } else { RuleError::Unknown };
            assert_eq!(text.parse::<Rule>(), Err(why), "{text:?}");
        }
        for text in ["a:", ":", ":0", ":65536", ":+80", "a:b", "10.0.0.1: 80", "[::1]:", "10.0.0.0/8:x"] {
            assert_eq!(text.parse::<Rule>(), Err(RuleError::Port), "{text:?}");
        }
        for text in ["*", "*:80", "a.*.example", "*a.example", "**.example", "*.*.example"] {
            assert_eq!(text.parse::<Rule>(), Err(RuleError::Star), "{text:?}");
        }
        assert_eq!("10.1.2.3/16".parse::<Rule>(), Err(RuleError::Bits("10.1.0.0/16".parse().unwrap())));
        for text in ["127.1", "0x7f000001", "2130706433:80", "0177.0.0.1", "１２７.0.0.1"] {
            assert_eq!(text.parse::<Rule>(), Err(RuleError::Spelling(Ipv4Addr::LOCALHOST)), "{text:?}");
        }
        assert_eq!(Rule::allowing(":443"), Err(RuleError::PortAlone));
        assert!(Rule::allowing("a.example:443").is_ok());
    }

    #[test]
    fn a_host_is_named_in_any_spelling_of_the_same_name() {
        let names = |rule: &str, host: &str| rule.parse::<Rule>().unwrap().names_host(host, 443);
        for host in ["hooks.example.com", "hooks.example.com.", "HOOKS.example.com"] {
            assert!(names("hooks.example.com", host), "{host}");
            assert!(names("hooks.example.com:443", host), "{host}");
            assert!(names("*.example.com", host), "{host}");
            assert!(names("*.com", host), "{host}");
            assert!(!names("hooks.example.com:444", host), "{host}");
            assert!(!names("*.hooks.example.com", host), "{host}");
            assert!(!names("example.com", host), "{host}");
        }
        assert!(!names("*.example.com", "example.com"), "the name itself is not below itself");
        assert!(!names("*.example.com", "badexample.com"));
        assert!(!names("*.example.com", ".example.com"));
        assert!(!names("*.example.com", ""));
        assert!(!names("10.0.0.0/8", "10.0.0.1") && !names(":443", "a.example"));
    }
}
