//! The table: what is refused, and why.

use crate::egress::{Range, UrlError};

/// Why a URL is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// Its host is, resolves to or carries an address of this range.
    Range(Range),
    NotUrl,
    Unclear,
    Scheme,
    UserInfo,
    PortZero,
    NotUri,
    TooLong,
}

impl From<UrlError> for Why {
    fn from(error: UrlError) -> Self {
        match error {
            UrlError::NotUrl(_) => Self::NotUrl,
            UrlError::Unclear => Self::Unclear,
            UrlError::Scheme(_) | UrlError::OtherScheme => Self::Scheme,
            UrlError::UserInfo => Self::UserInfo,
            UrlError::PortZero => Self::PortZero,
            UrlError::TooLong(_) => Self::TooLong,
            UrlError::NotUri => Self::NotUri,
        }
    }
}

/// Hosts that lead to a socket on loopback of this machine.
pub(super) const LOOPBACK: (Why, &[&str]) = (
    Why::Range(Range::Loopback),
    &[
        // One address, spelt out and in every base.
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "127.255.255.254",
        "2130706433",
        "2130706433.",
        "017700000001",
        "0x7f000001",
        "0X7F000001",
        "0x7f.0.0.1",
        "0x7f.0x0.0x0.0x1",
        "0177.0.0.1",
        "0177.0.0.01",
        "0177.0x0.0.1",
        "127.0x1",
        "127.0.0.0x1",
        "00000177.00000000.00000000.00000001",
        "%31%32%37%2e%30%2e%30%2e%31",
        "127%2e0%2e0%2e1",
        // Digits and dots of other scripts: full-width, ideographic, circled, mathematical, superscript.
        "\u{ff11}\u{ff12}\u{ff17}.\u{ff10}.\u{ff10}.\u{ff11}",
        "\u{ff11}\u{ff12}\u{ff17}\u{ff0e}\u{ff10}\u{ff0e}\u{ff10}\u{ff0e}\u{ff11}",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "127\u{ff61}0\u{ff61}0\u{ff61}1",
        "127\u{ff0e}0\u{ff0e}0\u{ff0e}1",
        "\u{ff10}\u{ff58}7f000001",
        "\u{2460}\u{2461}\u{2466}.\u{24ea}.\u{24ea}.\u{2460}",
        "\u{1d7cf}\u{1d7d0}\u{1d7d5}.\u{1d7ce}.\u{1d7ce}.\u{1d7cf}",
        "\u{b9}\u{b2}\u{2077}.\u{2070}.\u{2070}.\u{b9}",
        "127.0.0.1\u{ad}",
        "127.0.\u{200b}0.1",
        // IPv6, and IPv4 inside of it.
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[0000:0000:0000:0000:0000:0000:0000:0001]",
        "[::0.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:FFFF:7F00:1]",
        // Names.
        "localhost",
        "LOCALHOST",
        "LocalHost.",
        "localhost.localdomain",
        "sub.localhost",
        "\u{24db}\u{24de}\u{24d2}\u{24d0}\u{24db}\u{24d7}\u{24de}\u{24e2}\u{24e3}",
        "local\u{ad}host",
        "localho\u{17f}t",
        "ip6-loopback",
        "localtest.me",
        "127.0.0.1.nip.io",
        // Somebody else's name behind it.
        "127.0.0.1#@example.com",
        "127.0.0.1?@example.com",
    ],
);

/// Hosts that lead, or would lead, elsewhere.
pub(super) const HOSTS: &[(Why, &[&str])] = &[
    // Loopback of whoever translates it.
    (
        Why::Range(Range::Loopback),
        &[
            "[::127.0.0.1]",
            "[::ffff:0:127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b:1::7f00:1]",
            "[2002:7f00:1::]",
            "[2001:0:0:0:0:0:80ff:fffe]",
        ],
    ),
    (Why::Range(Range::Unspecified), &["0", "0.0.0.0", "0x0", "00000", "0.0", "[::]", "[0::0]"]),
    (
        Why::Range(Range::Metadata),
        &[
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0xA9.0xFE.0xA9.0xFE",
            "0251.0376.0251.0376",
            "169.254.43518",
            "169.16689662",
            "169.254.169.254.",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "[fd00:ec2::254]",
            "[fd20:ce::254]",
            "[fe80::a9fe:a9fe]",
            "[::FFFF:A9FE:A9FE]",
            "[0:0:0:0:0:ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:a9fe:a9fe::1]",
            "169-254-169-254.sslip.io",
            "metadata.google.internal",
        ],
    ),
    (
        Why::Range(Range::Private),
        &[
            "10.0.0.1",
            "10.1",
            "167772161",
            "012.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "192.168.1",
            "0xc0a80001",
            "[64:ff9b:1::10.0.0.1]",
            "[::ffff:192.168.0.1]",
        ],
    ),
    (Why::Range(Range::SharedCarrier), &["100.64.0.1", "0x64400001", "[::ffff:100.127.255.255]"]),
    (Why::Range(Range::LinkLocal), &["169.254.0.1", "[fe80::1]", "[FEBF::1]", "[64:ff9b::169.254.1.1]"]),
    (Why::Range(Range::UniqueLocal), &["[fc00::1]", "[fdff::1]"]),
    (Why::Range(Range::SiteLocal), &["[fec0::1]"]),
    (
        Why::Range(Range::Multicast),
        &["224.0.0.1", "239.255.255.250", "0xe0000001", "[ff02::1]", "[::ffff:224.0.0.1]"],
    ),
    (Why::Range(Range::Broadcast), &["255.255.255.255", "4294967295"]),
    (Why::Range(Range::Benchmarking), &["198.18.0.1", "[2001:2::1]"]),
    (Why::Range(Range::Documentation), &["203.0.113.7", "[2001:db8::1]", "[3fff::1]"]),
    (Why::Range(Range::Protocol), &["192.0.0.192"]),
    (Why::Range(Range::Mapped), &["[::ffff:8.8.8.8]"]),
    (Why::Range(Range::Compatible), &["[::8.8.8.8]"]),
    (Why::Range(Range::Nat64), &["[64:ff9b::8.8.8.8]"]),
    (Why::Range(Range::SixToFour), &["[2002:808:808::1]", "192.88.99.1"]),
    (Why::Range(Range::Teredo), &["[2001:0:4136:e378:8000:63bf:f7f7:f7f7]"]),
    (Why::Range(Range::Discard), &["[100::1]"]),
    (Why::Range(Range::Reserved), &["240.0.0.1", "0.1.2.3", "[5f00::1]"]),
    (
        Why::NotUrl,
        &[
            "127.0.0.256",
            "127.0.0.1.1",
            "0x7f.0x100000000",
            "4294967296",
            "[::1",
            "[::1%25lo]",
            "[::ffff:127.0.0.1.]",
            "127.0.0.1%00.example.com",
            "exa<mple.com",
            "local host",
            "127.0.0.1:65536",
            "127.0.0.1:80:80",
        ],
    ),
    (Why::Unclear, &["", "example.com\\@127.0.0.1@", "127.0.0.1:443\\@example.com"]),
    // Somebody else's name in front.
    (
        Why::UserInfo,
        &[
            "example.com@127.0.0.1",
            "example.com:443@127.0.0.1",
            "example.com%40@127.0.0.1",
            "user:password@example.com",
            "@example.com",
            ":@example.com",
            "127.0.0.1@example.com",
        ],
    ),
    (Why::PortZero, &["127.0.0.1:0", "example.com:0"]),
];

/// URLs that are wrong as a whole.
pub(super) const URLS: &[(Why, &[&str])] = &[
    (
        Why::Scheme,
        &[
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "gopher://127.0.0.1:70/_x",
            "dict://127.0.0.1:11211/stats",
            "ws://127.0.0.1/",
            "unix:///run/docker.sock",
            "javascript:alert(1)",
        ],
    ),
    (Why::NotUrl, &["", "127.0.0.1", "//127.0.0.1/", "/hook", "https://", "http://:80/"]),
    (
        Why::Unclear,
        &[
            "https:127.0.0.1/",
            "https:/127.0.0.1/",
            "https:///127.0.0.1/",
            "https:\\\\127.0.0.1\\",
            " https://127.0.0.1/",
            "ht\ttps://127.0.0.1/",
            "https://127.0.0\n.1/",
        ],
    ),
];
