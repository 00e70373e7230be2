//! Whom a client over TLS believes, and what it shows of itself.
//!
//! No list of the world's authorities is built in: a balancer's certificate is signed by whoever runs it, and that one
//! authority is named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

#[derive(clap::Args)]
pub(crate) struct Files {
    /// Over https: the authority that has signed the balancer's certificate, as PEM.
    #[arg(long, env = "SLIPRING_CA", value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
    /// The certificate that a balancer with admin.client_ca asks for, as PEM.
    #[arg(long, env = "SLIPRING_CERT", value_name = "FILE", requires = "key", global = true)]
    cert: Option<PathBuf>,
    /// Its key, as PEM.
    #[arg(long, env = "SLIPRING_KEY", value_name = "FILE", requires = "cert", global = true)]
    key: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TrustError {
    #[error(
        "https needs --ca FILE: the authority that has signed the balancer's certificate (it may be that itself)"
    )]
    NoCa,
    #[error("{} is no readable PEM file", .0.display())]
    File(PathBuf, #[source] pem::Error),
    #[error("{} holds no certificate of an authority", .0.display())]
    NoAuthority(PathBuf),
    #[error("the key {} does not go with {}", key.display(), cert.display())]
    Mismatch { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

impl Files {
    pub(crate) fn read(&self) -> Result<Arc<ClientConfig>, TrustError> {
        let ca = self.ca.as_deref().ok_or(TrustError::NoCa)?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(ca)? {
            roots.add(authority).map_err(|_| TrustError::NoAuthority(ca.to_owned()))?;
        }
        if roots.is_empty() {
            return Err(TrustError::NoAuthority(ca.to_owned()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TrustError::Setup)?
            .with_root_certificates(roots);
        let config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let own = PrivateKeyDer::from_pem_file(key)
                    .map_err(|source| TrustError::File(key.clone(), source))?;
                config
                    .with_client_auth_cert(certificates(cert)?, own)
                    .map_err(|source| TrustError::Mismatch { cert: cert.clone(), key: key.clone(), source })?
            }
            _ => config.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let failed = |source| TrustError::File(path.to_owned(), source);
    CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

/// What the user can do about it, if the cause of a failure lies in the certificates.
pub(crate) fn advice(failure: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use AlertDescription as Alert;
    match tls_error(failure)? {
        rustls::Error::AlertReceived(Alert::CertificateRequired | Alert::HandshakeFailure) => {
            Some("it lets in only who has a certificate of its authority: give --cert and --key")
        }
        rustls::Error::AlertReceived(
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::DecryptError
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::UnsupportedCertificate
            | Alert::AccessDenied,
        ) => Some("it does not take the certificate of --cert: its authority is another, or it has expired"),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("its certificate is for another name: use the name or address that it is for"),
        rustls::Error::InvalidCertificate(_) => {
            Some("its certificate is not of the authority of --ca, or has expired")
        }
        rustls::Error::InvalidMessage(_) => {
            Some("it speaks no TLS there: is the address right, or is it http?")
        }
        _ => None,
    }
}

/// The first error of TLS among the causes.
fn tls_error<'e>(failure: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let mut cause = Some(failure);
    while let Some(error) = cause {
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inside.and_then(|inside| inside.downcast_ref()).or(error.downcast_ref()) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
