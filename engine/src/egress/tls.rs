//! The TLS settings that all endpoints share.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The extra certificate authority is not PEM.
    #[error("the extra certificate authority is not PEM: {0}")]
    NotPem(rustls_pki_types::pem::Error),
    /// PEM without a certificate in it.
    #[error("the extra certificate authority holds no certificate")]
    NoCertificate,
    /// A certificate in it can't be used as an authority.
    #[error("the extra certificate authority can't be used")]
    NotAuthority(#[source] rustls::Error),
    /// The TLS library refuses its own defaults.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
}

/// TLS 1.2 and 1.3 with the system's authorities and those in `extra_ca` (PEM).
pub(super) fn config(extra_ca: Option<&[u8]>) -> Result<Arc<ClientConfig>, ClientError> {
    let mut roots = RootCertStore::empty();
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
    if let Some(pem) = extra_ca {
        add_pem(&mut roots, pem)?;
    }
    // Named here, because a process with two providers compiled in has no default one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map_err(ClientError::Tls)?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
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
    fn an_extra_authority_must_be_a_certificate() {
        assert!(matches!(config(Some(b"")), Err(ClientError::NoCertificate)));
        let broken = b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        assert!(matches!(config(Some(broken)), Err(ClientError::NotPem(_))));
    }
}
