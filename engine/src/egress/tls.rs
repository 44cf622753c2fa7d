//! The TLS settings that all endpoints share.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::CredentialsError;
use super::verify::Verifier;

/// What is spoken over TLS, in the order of preference (RFC 7301; RFC 9113, section 3.1). The endpoint chooses.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Whom to trust, and from which version on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsSettings {
    /// Certificate authorities of one's own, as PEM.
    pub ca: Option<Vec<u8>>,
    /// Whether the system's authorities are trusted too.
    pub system_roots: bool,
    /// The oldest version that is spoken.
    pub min: TlsVersion,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { ca: None, system_roots: true, min: TlsVersion::Tls12 }
    }
}

/// A version of TLS. Older ones are not spoken at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// This version and the newer ones.
    fn and_newer(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
        match self {
            Self::Tls12 => &BOTH,
            Self::Tls13 => &BOTH[1..],
        }
    }
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The certificate authorities of one's own are not PEM.
    #[error("the certificate authorities are not PEM: {0}")]
    NotPem(rustls_pki_types::pem::Error),
    /// PEM without a certificate in it.
    #[error("the file of certificate authorities holds no certificate")]
    NoCertificate,
    /// A certificate in it can't be used as an authority.
    #[error("a certificate among the authorities can't be used")]
    NotAuthority(#[source] rustls::Error),
    /// The credentials for the proxy can't be used.
    #[error("the credentials for the proxy can't be used")]
    Proxy(#[source] CredentialsError),
    /// The TLS library refuses its own defaults.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
}

/// What the settings say, for the TLS library.
pub(super) fn config(settings: &TlsSettings) -> Result<Arc<ClientConfig>, ClientError> {
    let mut roots = RootCertStore::empty();
    if settings.system_roots {
        add_system(&mut roots);
    }
    if let Some(pem) = &settings.ca {
        add_pem(&mut roots, pem)?;
    }
    // Named here, because a process with two providers compiled in has no default one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(settings.min.and_newer())
        .map_err(ClientError::Tls)?;
    // Without any root all are unknown, which the library's own verifier says as well.
    let builder = match Verifier::new(roots, provider) {
        Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
        Err(_) => builder.with_root_certificates(RootCertStore::empty()),
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Arc::new(config))
}

fn add_system(roots: &mut RootCertStore) {
    let native = rustls_native_certs::load_native_certs();
    let (added, ignored) = roots.add_parsable_certificates(native.certs);
    if added == 0 {
        let errors = native.errors.len();
        tracing::warn!(
            ignored,
            errors,
            "no system certificate authorities found: https endpoints can't be verified"
        );
    }
}

fn add_pem(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), ClientError> {
    let mut any = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(ClientError::NotPem)?).map_err(ClientError::NotAuthority)?;
        any = true;
    }
    if any { Ok(()) } else { Err(ClientError::NoCertificate) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_of_ones_own_must_be_a_certificate() {
        let with = |pem: &[u8]| config(&TlsSettings { ca: Some(pem.to_vec()), ..TlsSettings::default() });
        assert!(matches!(with(b""), Err(ClientError::NoCertificate)));
        let broken = b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        assert!(matches!(with(broken), Err(ClientError::NotPem(_))));
        let other = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(with(other), Err(ClientError::NotAuthority(_))));
    }
}
