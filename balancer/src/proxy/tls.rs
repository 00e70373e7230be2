//! TLS towards clients: rustls with ring, the certificate taken anew when its files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

/// How often the files are looked at.
const LOOKING: Duration = Duration::from_secs(1);

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Whose clients are let in, PEM; `None`: anyone's.
    pub client_ca: Option<PathBuf>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read, or is not PEM.
    #[error("{} is no readable PEM file", path.display())]
    File { path: PathBuf, source: rustls::pki_types::pem::Error },
    /// It has no certificate.
    #[error("{} holds no certificate", path.display())]
    Empty { path: PathBuf },
    /// The key is not the certificate's, or not usable.
    #[error("the key {} does not go with {}", key.display(), certificate.display())]
    Mismatch { key: PathBuf, certificate: PathBuf, source: rustls::Error },
    /// The clients' authority cannot be used.
    #[error("{} cannot vouch for clients", path.display())]
    ClientCa { path: PathBuf, source: rustls::server::VerifierBuilderError },
    /// TLS itself.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// A server's TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// For new connections.
    pub config: Arc<ServerConfig>,
    current: Arc<Current>,
    files: TlsFiles,
}

impl Tls {
    /// Reads the files. `protocols`: what is offered by ALPN, the best first.
    ///
    /// # Errors
    /// When they cannot be used; the message names the file.
    pub fn load(files: TlsFiles, protocols: &[&[u8]]) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let current = Arc::new(Current(ArcSwap::from_pointee(read(&files)?)));
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(TlsError::Setup)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                let refused = |source| TlsError::ClientCa { path: path.clone(), source };
                builder.with_client_cert_verifier(verifier.map_err(refused)?)
            }
        };
        let mut config = builder.with_cert_resolver(current.clone());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Self { config: Arc::new(config), current, files })
    }

    /// Takes the certificate anew whenever its files change; connections that are there keep what they have. For
    /// ever. A pair that cannot be used is left aside with a message: half of it may still be being written.
    pub async fn follow(self) {
        let mut seen = self.stamp();
        let mut ticks = tokio::time::interval(LOOKING);
        loop {
            ticks.tick().await;
            let now = self.stamp();
            if now == seen {
                continue;
            }
            match read(&self.files) {
                Ok(key) => {
                    self.current.0.store(Arc::new(key));
                    tracing::info!(certificate = %self.files.certificate.display(), "the certificate is new");
                }
                Err(error) => {
                    let error = crate::chain::words(&error);
                    tracing::warn!(error, "the new certificate is not used");
                }
            }
            seen = now;
        }
    }

    fn stamp(&self) -> [Option<(SystemTime, u64)>; 2] {
        [&self.files.certificate, &self.files.key].map(|path| {
            let about = std::fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len()))
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    let chain = chain.map_err(failed)?;
    if chain.is_empty() { Err(TlsError::Empty { path: path.to_owned() }) } else { Ok(chain) }
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::File { path: files.key.clone(), source })?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(|source| {
        TlsError::Mismatch { key: files.key.clone(), certificate: files.certificate.clone(), source }
    })
}
