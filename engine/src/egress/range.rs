//! The special ranges of addresses. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

    /// Whether a host name in `allow` opens it: networks that a name of one's own may well lead into. Whoever rules the
    /// DNS of that name must get no further than that.
    pub(super) const fn opens_by_name(self) -> bool {
        match self {
            Self::Loopback | Self::Private | Self::SharedCarrier | Self::UniqueLocal | Self::SiteLocal => {
                true
            }
            Self::Unspecified
            | Self::LinkLocal
            | Self::Metadata
            | Self::Multicast
            | Self::Broadcast
            | Self::Documentation
            | Self::Benchmarking
            | Self::Protocol
            | Self::Mapped
            | Self::Compatible
            | Self::Nat64
            | Self::SixToFour
            | Self::Teredo
            | Self::Discard
            | Self::Reserved => false,
        }
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
        // All clouds; containers of AWS; Scaleway, Tencent, Alibaba. Azure's is an address of the public range that only
        // its own machines can reach.
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [169, 254, 42, 42]
        | [169, 254, 0, 23]
        | [100, 100, 100, 200]
        | [168, 63, 129, 16] => Range::Metadata,
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
        // AWS, its containers, Google, Scaleway, OpenStack.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x23]
        | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
        | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]
        | [0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe] => Range::Metadata,
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
pub(super) fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match address.segments() {
        // :: and ::1 carry nothing.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // A network's own prefix (RFC 8215): in each of its /96 the address stands at the end.
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        // Teredo keeps the client's address with every bit turned (RFC 4380, section 4).
        [0x2001, 0, _, _, _, _, high, low] => v4(!high, !low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address of each range, and of each form that carries one.
    const CASES: &[(&str, Range)] = &[
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
        ("169.254.170.23", Range::Metadata),
        ("169.254.42.42", Range::Metadata),
        ("169.254.0.23", Range::Metadata),
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
        ("64:ff9b:1::8.8.8.8", Range::Nat64),
        ("64:ff9b:1:2::10.0.0.1", Range::Private),
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
        ("fd00:ec2::23", Range::Metadata),
        ("fd00:42::42", Range::Metadata),
        ("fd20:ce::254", Range::Metadata),
        ("fe80::a9fe:a9fe", Range::Metadata),
        ("fd12::1", Range::UniqueLocal),
        ("fe80::1", Range::LinkLocal),
        ("fec0::1", Range::SiteLocal),
        ("ff02::1", Range::Multicast),
    ];

    #[test]
    fn every_special_range_is_refused_with_its_name() {
        for &(address, range) in CASES {
            let address: IpAddr = address.parse().unwrap();
            let inside = match address {
                IpAddr::V4(_) => None,
                IpAddr::V6(address) => carried(address).and_then(|inside| super::range(inside.into())),
            };
            assert_eq!(inside.or(super::range(address)), Some(range), "{address}");
        }
    }
}
