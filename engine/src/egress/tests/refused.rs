//! Spellings of hosts that must never be reached. Each is refused as a URL or by the policy, and no connection is tried.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use super::support::Recorder;
use super::{Call, Client, ClientSettings, Error, Policy, Resolve, TIMEOUT, check_url, uri};

/// A resolver at its most obliging: whatever could be read as an inner name or address leads inside, all else is public.
struct Obliging;

impl Resolve for Obliging {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        _: OwnedSemaphorePermit,
    ) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let host = host.trim_end_matches('.');
        let inside = host.contains("localhost")
            || host.contains("127.0.0.1")
            || host.contains("169-254")
            || host.contains("internal")
            || host.contains("ip6-loopback")
            || host.contains("localtest");
        let address = if inside { "127.0.0.1" } else { "93.184.216.34" };
        Box::pin(async move { Ok(vec![address.parse().unwrap()]) })
    }
}

const HOSTS: &[&str] = &[
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
    "0",
    "0.0.0.0",
    "0x0",
    "00000",
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
    // Metadata services.
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "169.254.169.254.",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "[fd00:ec2::254]",
    // Private and special ranges.
    "10.0.0.1",
    "10.1",
    "167772161",
    "012.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.1",
    "0xc0a80001",
    "100.64.0.1",
    "198.18.0.1",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "4294967295",
    "240.0.0.1",
    // IPv6, and IPv4 inside of it.
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:A9FE:A9FE]",
    "[0:0:0:0:0:ffff:169.254.169.254]",
    "[::ffff:0:127.0.0.1]",
    "[::ffff:8.8.8.8]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::10.0.0.1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:0:0:0:0:80ff:fffe]",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
    "[fdff::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[100::1]",
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
    "169-254-169-254.sslip.io",
    "metadata.google.internal",
    // Not hosts at all.
    "127.0.0.256",
    "127.0.0.1.1",
    "0x7f.0x100000000",
    "[::1",
    "[::1%25lo]",
    "[::ffff:127.0.0.1.]",
    "local host",
    "127.0.0.1%00.example.com",
    "exa<mple.com",
    "",
    // Somebody else's name in front.
    "example.com@127.0.0.1",
    "example.com:443@127.0.0.1",
    "example.com%40@127.0.0.1",
    "user:password@example.com",
    "@example.com",
    ":@example.com",
    "example.com\\@127.0.0.1@",
    "127.0.0.1:443\\@example.com",
    "127.0.0.1#@example.com",
    "127.0.0.1?@example.com",
];

#[tokio::test]
async fn no_spelling_of_an_inner_address_is_reached() {
    assert!(HOSTS.len() >= 100);
    let dial = Arc::new(Recorder::default());
    let client = Client::with(ClientSettings::default(), Arc::new(Obliging), dial.clone()).unwrap();
    let pool = client.pool(&Policy::default(), TIMEOUT);
    let mut reached = Vec::new();
    for host in HOSTS {
        for scheme in ["https", "http"] {
            let Ok(url) = check_url(&format!("{scheme}://{host}/hook")) else { continue };
            let Ok(uri) = uri(&url) else { continue };
            let call = Call { uri, headers: http::HeaderMap::new(), body: bytes::Bytes::new() };
            match pool.post(call, &|| None).await {
                Err(Error::Refused { .. }) => {}
                other => reached.push(format!("{scheme}://{host} -> {url}: {other:?}")),
            }
        }
    }
    assert!(reached.is_empty(), "{reached:#?}");
    assert!(dial.dialed().is_empty(), "{:?}", dial.dialed());
}

#[tokio::test]
async fn the_same_client_does_dial_a_public_host() {
    let dial = Arc::new(Recorder::default());
    let client = Client::with(ClientSettings::default(), Arc::new(Obliging), dial.clone()).unwrap();
    let uri = uri(&check_url("https://example.com/").unwrap()).unwrap();
    let call = Call { uri, headers: http::HeaderMap::new(), body: bytes::Bytes::new() };
    let error = client.pool(&Policy::default(), TIMEOUT).post(call, &|| None).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert_eq!(dial.dialed(), ["93.184.216.34:443".parse().unwrap()]);
}
