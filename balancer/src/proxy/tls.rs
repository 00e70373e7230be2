//! TLS towards clients and administrators: rustls with ring, the certificate, and whose clients are let in, taken anew
//! when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
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
    /// An authority cannot be used.
    #[error("{} holds a certificate that no authority has", path.display())]
    Authority { path: PathBuf, source: rustls::Error },
    /// Nothing is known of this machine's authorities.
    #[error("this machine has no file of authorities ({} not there)", names(files))]
    NoRoots { files: Vec<PathBuf> },
    /// TLS itself.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

fn names(files: &[PathBuf]) -> String {
    let names: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
    format!("{}: {}", names.join(", "), if names.len() == 1 { "it is" } else { "they are" })
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
    /// Another one only when whose clients are let in has changed.
    config: Arc<ArcSwap<ServerConfig>>,
    current: Arc<Current>,
    files: TlsFiles,
    protocols: Vec<Vec<u8>>,
}

impl Tls {
    /// Reads the files. `protocols`: what is offered by ALPN, the best first.
    ///
    /// # Errors
    /// When they cannot be used; the message names the file.
    pub fn load(files: TlsFiles, protocols: &[&[u8]]) -> Result<Self, TlsError> {
        let current = Arc::new(Current(ArcSwap::from_pointee(read(&files)?)));
        let protocols: Vec<_> = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let config = configured(&files, current.clone(), protocols.clone())?;
        Ok(Self { config: Arc::new(ArcSwap::from_pointee(config)), current, files, protocols })
    }

    /// For the next connection. Whoever keeps it still shows the present certificate, but lets in whom it let in.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Whether only clients with a certificate are let in.
    pub fn asks_for_certificates(&self) -> bool {
        self.files.client_ca.is_some()
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
            match self.again() {
                Ok(()) => {
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

    /// All of it or nothing.
    fn again(&self) -> Result<(), TlsError> {
        let key = read(&self.files)?;
        if self.asks_for_certificates() {
            let config = configured(&self.files, self.current.clone(), self.protocols.clone())?;
            self.config.store(Arc::new(config));
        }
        self.current.0.store(Arc::new(key));
        Ok(())
    }

    fn stamp(&self) -> [Option<(SystemTime, u64)>; 3] {
        let files = [Some(&self.files.certificate), Some(&self.files.key), self.files.client_ca.as_ref()];
        files.map(|path| {
            let about = std::fs::metadata(path?).ok()?;
            Some((about.modified().ok()?, about.len()))
        })
    }
}

fn configured(
    files: &TlsFiles,
    current: Arc<Current>,
    protocols: Vec<Vec<u8>>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots_of(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            let refused = |source| TlsError::ClientCa { path: path.clone(), source };
            builder.with_client_cert_verifier(verifier.map_err(refused)?)
        }
    };
    let mut config = builder.with_cert_resolver(current);
    if files.client_ca.is_some() {
        // A session that is resumed shows no certificate: one who was let in once would be for as long as it likes.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = protocols;
    Ok(config)
}

/// The authorities in this file, PEM, every one of them.
///
/// # Errors
/// When one cannot be used; the message names the file.
pub fn roots_of(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let wrong = |source| TlsError::Authority { path: path.to_owned(), source };
        roots.add(certificate).map_err(wrong)?;
    }
    Ok(roots)
}

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
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
