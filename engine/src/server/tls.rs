//! The certificate that the listener shows, read from files and read again when asked.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Why there is no certificate to show. Never says what is in the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{} can't be read: {}", .0.display(), .1)]
    Unreadable(PathBuf, ErrorKind),
    /// The file of the certificate is no PEM, or holds none.
    #[error("{} holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// The file of the key is no PEM, or holds none.
    #[error("{} holds no private key in PEM form", .0.display())]
    NoKey(PathBuf),
    /// The two don't belong together, or can't be used.
    #[error("{} and {} can't be used together", .0.display(), .1.display())]
    Unusable(PathBuf, PathBuf, #[source] rustls::Error),
}

/// Certificate and key of the listener.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    acceptor: RwLock<TlsAcceptor>,
}

impl Tls {
    /// Reads both files.
    pub fn load(cert: PathBuf, key: PathBuf) -> Result<Arc<Self>, TlsError> {
        let acceptor = RwLock::new(read(&cert, &key)?);
        Ok(Arc::new(Self { cert, key, acceptor }))
    }

    /// Reads both again, for connections that come from now on. After an error the old ones stay.
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = read(&self.cert, &self.key)?;
        *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(cert: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let bytes = |path: &Path| {
        std::fs::read(path).map_err(|error| TlsError::Unreadable(path.to_owned(), error.kind()))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(cert)?).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| TlsError::NoCertificate(cert.to_owned()))?;
    let secret = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|_| TlsError::NoKey(key.to_owned()))?;
    let unusable = |error| TlsError::Unusable(cert.to_owned(), key.to_owned(), error);
    // Named here, because a process with two providers compiled in has no default one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(unusable)?.with_no_client_auth();
    let mut config = builder.with_single_cert(chain, secret).map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn files_that_can_not_be_used_are_named_and_the_old_ones_stay() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let cert = write(folder.path(), "cert.pem", &made.cert.pem());
        let key = write(folder.path(), "key.pem", &made.signing_key.serialize_pem());
        let foreign = write(folder.path(), "foreign.pem", &other.serialize_pem());
        let says = |cert: &PathBuf, key: &PathBuf| match Tls::load(cert.clone(), key.clone()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string().replace(&format!("{}/", folder.path().display()), ""),
        };
        assert_eq!(says(&cert, &key), "");
        assert_eq!(says(&cert, &foreign), "cert.pem and foreign.pem can't be used together");
        assert_eq!(says(&key, &key), "key.pem holds no certificate in PEM form");
        assert_eq!(says(&cert, &cert), "cert.pem holds no private key in PEM form");
        assert_eq!(says(&folder.path().join("no"), &key), "no can't be read: entity not found");

        let tls = Tls::load(cert.clone(), key).unwrap();
        let before = Arc::as_ptr(tls.acceptor().config());
        std::fs::write(&cert, "torn").unwrap();
        assert!(tls.reload().is_err());
        assert_eq!(Arc::as_ptr(tls.acceptor().config()), before);
        std::fs::write(&cert, made.cert.pem()).unwrap();
        tls.reload().unwrap();
        assert_ne!(Arc::as_ptr(tls.acceptor().config()), before);
    }
}
