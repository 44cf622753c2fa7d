//! Whom the client trusts, and what it says of whom it doesn't. The servers are real TLS on loopback.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};

use super::support::{Answers, Authority, Certificate, Server};
use super::{client, post};
use crate::egress::{Client, ClientSettings, Error, TcpDialer, TlsFailure, TlsSettings, TlsVersion};

/// What comes of a request to `server`, under the name `host`.
async fn ask(server: &Server, host: &str, tls: TlsSettings) -> Result<u16, Error> {
    let resolve = Answers::new(&[&["127.0.0.1"]]);
    let settings = ClientSettings { tls, ..ClientSettings::default() };
    let client = Client::with(settings, resolve, Arc::new(TcpDialer)).unwrap();
    let url = format!("https://{host}:{}/", server.address.port());
    post(&client, &url).await.map(|answer| answer.status)
}

fn trusting(pem: Vec<u8>) -> TlsSettings {
    TlsSettings { ca: Some(pem), ..TlsSettings::default() }
}

fn failed(failure: TlsFailure) -> Result<u16, Error> {
    Err(Error::Tls { host: "tls.example".into(), failure })
}

#[tokio::test]
async fn a_good_certificate_of_an_authority_of_ones_own_is_accepted() {
    let authority = Authority::new("known");
    let server = Server::start_tls(authority.server("good.example")).await;
    let both = trusting(authority.pem());
    let alone = TlsSettings { system_roots: false, ..both.clone() };
    for tls in [both, alone] {
        assert_eq!(ask(&server, "good.example", tls).await, Ok(200));
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted_where_it_is_named_itself() {
    let own = Certificate::for_host("self.example").self_signed();
    let server = Server::start_tls(own.server()).await;
    assert_eq!(ask(&server, "self.example", trusting(own.pem())).await, Ok(200));
}

#[tokio::test]
async fn each_bad_certificate_says_what_is_wrong_with_it() {
    let authority = Authority::new("known");
    let of = |certificate: Certificate| certificate.signed_by(&authority).server();
    let host = || Certificate::for_host("tls.example");
    let mut texts = Vec::new();
    for (tls, failure) in [
        (of(host().until(2001)), TlsFailure::Expired),
        (of(host().from(4000).until(4001)), TlsFailure::NotYetValid),
        (of(Certificate::for_host("other.example")), TlsFailure::WrongHost),
        (host().self_signed().server(), TlsFailure::SelfSigned),
        (Certificate::for_host("other.example").self_signed().server(), TlsFailure::SelfSigned),
        (Authority::new("unknown").server("tls.example"), TlsFailure::UnknownIssuer),
        (host().of_an_authority().self_signed().server(), TlsFailure::Authority),
    ] {
        let server = Server::start_tls(tls).await;
        let said = ask(&server, "tls.example", trusting(authority.pem())).await;
        assert_eq!(said, failed(failure.clone()));
        assert!(server.requests().is_empty());
        if texts.last() != Some(&failure.to_string()) {
            texts.push(failure.to_string());
        }
    }
    let expected = [
        "its certificate has expired",
        "its certificate is not valid yet",
        "its certificate is for another host",
        "its certificate is self-signed",
        "its certificate comes from an unknown authority, or its chain is incomplete",
        "its certificate is that of an authority, as self-signed ones often are, and not that of a server",
    ];
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn without_the_systems_authorities_only_ones_own_are_trusted() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let server = Server::start_tls(other.server("tls.example")).await;
    let tls = TlsSettings { system_roots: false, ..trusting(own.pem()) };
    assert_eq!(ask(&server, "tls.example", tls).await, failed(TlsFailure::UnknownIssuer));
    let none = TlsSettings { system_roots: false, ..TlsSettings::default() };
    assert_eq!(ask(&server, "tls.example", none).await, failed(TlsFailure::UnknownIssuer));
}

#[tokio::test]
async fn the_oldest_version_is_what_the_settings_say() {
    let authority = Authority::new("known");
    let certificate = || Certificate::for_host("tls.example").signed_by(&authority);
    let old = Server::start_tls(certificate().server_speaking(&[&TLS12])).await;
    let new = Server::start_tls(certificate().server_speaking(&[&TLS13])).await;
    let with = |min| TlsSettings { min, ..trusting(authority.pem()) };
    assert_eq!(ask(&old, "tls.example", with(TlsVersion::Tls12)).await, Ok(200));
    assert_eq!(ask(&old, "tls.example", with(TlsVersion::Tls13)).await, failed(TlsFailure::TooOld));
    assert_eq!(ask(&new, "tls.example", with(TlsVersion::Tls12)).await, Ok(200));
    assert_eq!(ask(&new, "tls.example", with(TlsVersion::Tls13)).await, Ok(200));
    assert_eq!((old.requests().len(), new.requests().len()), (1, 2));
}

/// What comes of a server that answers the hello of TLS with these bytes.
async fn answered(bytes: &[u8]) -> Error {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = client(Answers::new(&[&["127.0.0.1"]]), Arc::new(TcpDialer), None);
    let url = format!("https://tls.example:{port}/");
    let answer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await.unwrap();
        stream
    };
    let (error, _stream) = tokio::join!(post(&client, &url), answer);
    error.unwrap_err()
}

#[tokio::test]
async fn a_server_of_tls_1_0_or_without_tls_says_so() {
    // An alert: protocol_version (RFC 8446, section 6).
    let alert = [0x15, 3, 1, 0, 2, 2, 70];
    // A hello of TLS 1.0: version, random, no session, RSA with AES-128 in CBC, no compression.
    let hello = [&[0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    for bytes in [&alert[..], &hello] {
        assert_eq!(Err(answered(bytes).await), failed(TlsFailure::TooOld));
    }
    let plain = answered(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert_eq!(Err(plain), failed(TlsFailure::NotTls));
}
