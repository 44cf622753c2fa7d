//! Which addresses may be reached. Pure: it is handed addresses, it resolves and connects nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What one endpoint may reach. Without entries: every public address, over TLS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// Networks that may be reached although they are refused otherwise, and over plain HTTP.
    pub allow: Vec<IpNet>,
    /// Networks that are never reached; stronger than `allow`.
    pub deny: Vec<IpNet>,
}

/// Why an address is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// `deny` names it.
    Denied,
    /// It belongs to a range that no webhook has business with, and `allow` does not name it.
    Range(Range),
    /// It is public, but the URL is `http://` and `allow` does not name it.
    Plain,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("`deny` names it"),
            Self::Range(range) => write!(f, "it is {} and `allow` does not name it", range.as_str()),
            Self::Plain => f.write_str("http:// goes only to addresses that `allow` names; use https://"),
        }
    }
}

/// A special range (IANA special-purpose address registries, RFC 6890 and its updates).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is explained by `as_str`")]
pub enum Range {
    Unspecified,
    Loopback,
    Private,
    SharedCarrier,
    LinkLocal,
    Metadata,
    UniqueLocal,
    SiteLocal,
    Multicast,
    Broadcast,
    Documentation,
    Benchmarking,
    Protocol,
    Mapped,
    Compatible,
    Nat64,
    SixToFour,
    Teredo,
    Discard,
    Reserved,
}

impl Range {
    /// The range in words, to follow "it is".
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "the unspecified address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::SharedCarrier => "a carrier-grade NAT address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud metadata address",
            Self::UniqueLocal => "a unique local address",
            Self::SiteLocal => "a site-local address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::Documentation => "a documentation address",
            Self::Benchmarking => "a benchmarking address",
            Self::Protocol => "an IETF protocol address",
            Self::Mapped => "an IPv4-mapped address",
            Self::Compatible => "an IPv4-compatible address",
            Self::Nat64 => "a NAT64 address",
            Self::SixToFour => "a 6to4 address",
            Self::Teredo => "a Teredo address",
            Self::Discard => "a discard address",
            Self::Reserved => "a reserved address",
        }
    }
}

impl Policy {
    /// Whether `address` may be reached; `plain` is true for `http://`.
    ///
    /// An IPv6 address that carries an IPv4 address is judged twice: itself, and what it leads to. So an `allow` for a
    /// NAT64 prefix does not open the way to 127.0.0.1 behind it.
    pub fn check(&self, address: IpAddr, plain: bool) -> Result<(), Refusal> {
        let carried = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => carried(address).map(IpAddr::V4),
        };
        let denied = |address: &IpAddr| self.deny.iter().any(|net| net.contains(address));
        if denied(&address) || carried.as_ref().is_some_and(denied) {
            return Err(Refusal::Denied);
        }
        if let Some(range) = carried.and_then(|carried| self.refused_range(carried)) {
            return Err(Refusal::Range(range));
        }
        if let Some(range) = self.refused_range(address) {
            return Err(Refusal::Range(range));
        }
        if plain && !self.names(&address) { Err(Refusal::Plain) } else { Ok(()) }
    }

    /// This policy with more networks allowed.
    #[must_use]
    pub fn allowing(&self, more: &[IpNet]) -> Self {
        Self { allow: [&self.allow, more].concat(), deny: self.deny.clone() }
    }

    fn names(&self, address: &IpAddr) -> bool {
        self.allow.iter().any(|net| net.contains(address))
    }

    fn refused_range(&self, address: IpAddr) -> Option<Range> {
        if self.names(&address) { None } else { range(address) }
    }
}

/// The special range that an address is in, if any.
pub fn range(address: IpAddr) -> Option<Range> {
    match address {
        IpAddr::V4(address) => range_v4(address),
        IpAddr::V6(address) => range_v6(address),
    }
}

fn range_v4(address: Ipv4Addr) -> Option<Range> {
    let range = match address.octets() {
        [0, 0, 0, 0] => Range::Unspecified,
        // Azure's is an address of the public range that only its own machines can reach.
        [169, 254, 169, 254] | [169, 254, 170, 2] | [100, 100, 100, 200] | [168, 63, 129, 16] => {
            Range::Metadata
        }
        [127, ..] => Range::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Range::Private,
        [100, 64..=127, ..] => Range::SharedCarrier,
        [169, 254, ..] => Range::LinkLocal,
        [192, 0, 0, _] => Range::Protocol,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Range::Documentation,
        [192, 88, 99, _] => Range::SixToFour,
        [198, 18..=19, ..] => Range::Benchmarking,
        [224..=239, ..] => Range::Multicast,
        [255, 255, 255, 255] => Range::Broadcast,
        [0 | 240..=255, ..] => Range::Reserved,
        _ => return None,
    };
    Some(range)
}

fn range_v6(address: Ipv6Addr) -> Option<Range> {
    let range = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Range::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Range::Loopback,
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Range::Mapped,
        [0, 0, 0, 0, 0, 0, ..] => Range::Compatible,
        [0x64, 0xff9b, 0 | 1, ..] => Range::Nat64,
        [0x100, 0, 0, 0, ..] => Range::Discard,
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Range::Metadata,
        [0xfc00..=0xfdff, ..] => Range::UniqueLocal,
        [0xfe80..=0xfebf, ..] => Range::LinkLocal,
        [0xfec0..=0xfeff, ..] => Range::SiteLocal,
        [0xff00..=0xffff, ..] => Range::Multicast,
        [0x2001, 0, ..] => Range::Teredo,
        [0x2001, 2, 0, ..] => Range::Benchmarking,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Range::Documentation,
        [0x2001, 1..=0x1ff, ..] => Range::Protocol,
        [0x2002, ..] => Range::SixToFour,
        // Only 2000::/3 is given out for global unicast.
        [0x2000..=0x3fff, ..] => return None,
        _ => Range::Reserved,
    };
    Some(range)
}

/// The IPv4 address that an IPv6 address leads to.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match address.segments() {
        // :: and ::1 carry nothing.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        // Teredo keeps the client's address with every bit turned (RFC 4380, section 4).
        [0x2001, 0, _, _, _, _, high, low] => v4(!high, !low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> Policy {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Policy { allow: nets(allow), deny: nets(deny) }
    }

    #[test]
    fn every_special_range_is_refused_with_its_name() {
        let cases = [
            ("0.0.0.0", Range::Unspecified),
            ("0.1.2.3", Range::Reserved),
            ("10.0.0.1", Range::Private),
            ("100.64.0.1", Range::SharedCarrier),
            ("100.127.255.255", Range::SharedCarrier),
            ("100.100.100.200", Range::Metadata),
            ("127.0.0.1", Range::Loopback),
            ("127.255.255.254", Range::Loopback),
            ("168.63.129.16", Range::Metadata),
            ("169.254.0.1", Range::LinkLocal),
            ("169.254.169.254", Range::Metadata),
            ("172.16.0.1", Range::Private),
            ("172.31.255.255", Range::Private),
            ("192.0.0.192", Range::Protocol),
            ("192.0.2.1", Range::Documentation),
            ("192.88.99.1", Range::SixToFour),
            ("192.168.1.1", Range::Private),
            ("198.18.0.1", Range::Benchmarking),
            ("198.19.255.255", Range::Benchmarking),
            ("198.51.100.1", Range::Documentation),
            ("203.0.113.1", Range::Documentation),
            ("224.0.0.1", Range::Multicast),
            ("239.255.255.255", Range::Multicast),
            ("240.0.0.1", Range::Reserved),
            ("255.255.255.255", Range::Broadcast),
            ("::", Range::Unspecified),
            ("::1", Range::Loopback),
            ("::7f00:1", Range::Loopback),
            ("::808:808", Range::Compatible),
            ("::ffff:127.0.0.1", Range::Loopback),
            ("::ffff:8.8.8.8", Range::Mapped),
            ("::ffff:0:8.8.8.8", Range::Mapped),
            ("64:ff9b::10.0.0.1", Range::Private),
            ("64:ff9b::8.8.8.8", Range::Nat64),
            ("64:ff9b:1::1", Range::Nat64),
            ("100::1", Range::Discard),
            ("2001::1", Range::Reserved),
            ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", Range::Teredo),
            ("2001:2::1", Range::Benchmarking),
            ("2001:10::1", Range::Protocol),
            ("2001:db8::1", Range::Documentation),
            ("2002:808:808::1", Range::SixToFour),
            ("2002:7f00:1::1", Range::Loopback),
            ("2002:a9fe:a9fe::1", Range::Metadata),
            ("3fff::1", Range::Documentation),
            ("4000::1", Range::Reserved),
            ("5f00::1", Range::Reserved),
            ("fc00::1", Range::UniqueLocal),
            ("fd00:ec2::254", Range::Metadata),
            ("fd12::1", Range::UniqueLocal),
            ("fe80::1", Range::LinkLocal),
            ("fec0::1", Range::SiteLocal),
            ("ff02::1", Range::Multicast),
        ];
        for (address, range) in cases {
            let verdict = Policy::default().check(address.parse().unwrap(), false);
            assert_eq!(verdict, Err(Refusal::Range(range)), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_reached_over_tls_alone() {
        for address in
            ["1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "2606:4700::1111"]
        {
            let address = address.parse().unwrap();
            assert_eq!(Policy::default().check(address, false), Ok(()), "{address}");
            assert_eq!(Policy::default().check(address, true), Err(Refusal::Plain), "{address}");
            assert_eq!(policy(&["0.0.0.0/0", "::/0"], &[]).check(address, true), Ok(()), "{address}");
        }
    }

    #[test]
    fn allow_names_what_is_refused_otherwise_and_deny_is_stronger() {
        let address: IpAddr = "10.1.2.3".parse().unwrap();
        assert_eq!(policy(&["10.1.0.0/16"], &[]).check(address, true), Ok(()));
        assert!(policy(&["10.2.0.0/16"], &[]).check(address, false).is_err());
        assert_eq!(policy(&["10.1.0.0/16"], &["10.1.2.3/32"]).check(address, false), Err(Refusal::Denied));
        let mapped = "::ffff:10.1.2.3".parse().unwrap();
        let both = policy(&["::/0", "10.0.0.0/8"], &["10.1.2.3/32"]);
        assert_eq!(both.check(mapped, false), Err(Refusal::Denied), "deny looks inside IPv6");
    }

    #[test]
    fn an_allowed_translation_prefix_does_not_open_the_way_to_loopback_behind_it() {
        let nat64 = policy(&["64:ff9b::/96"], &[]);
        assert_eq!(nat64.check("64:ff9b::8.8.8.8".parse().unwrap(), false), Ok(()));
        let loopback = nat64.check("64:ff9b::127.0.0.1".parse().unwrap(), false);
        assert_eq!(loopback, Err(Refusal::Range(Range::Loopback)));
    }
}
