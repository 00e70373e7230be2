//! TLS towards replicas: who is believed to be one, what name is asked for, and who we say that we are.
//!
//! The files are read when the configuration is, so that a mistake in them is one of the configuration. A session is
//! resumed where the replica offers it: idle connections are few, and a handshake costs a hundred times a request.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connection::ConnectError;
use super::stream::Stream;
use super::tls::{TlsError, certificates};

/// What is spoken over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2, and nothing else: gRPC needs it.
    Http2,
    /// Nothing: it is only seen whether there is somebody. One or the other.
    Either,
}

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those of these authorities.
    Roots(RootCertStore),
    /// Anybody's.
    Anyone,
}

/// Who we say that we are.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// This machine's own authorities: those in the first of `files` that is there, as far as they can be understood.
///
/// # Errors
/// When there is none, or none in it.
pub fn roots_of_machine(files: &[PathBuf]) -> Result<RootCertStore, TlsError> {
    let Some(path) = files.iter().find(|path| path.exists()) else {
        return Err(TlsError::NoRoots { files: files.to_vec() });
    };
    let unreadable = |source| TlsError::File { path: path.clone(), source };
    let mut certificates = Vec::new();
    for section in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        match section {
            Ok(certificate) => certificates.push(certificate),
            Err(error @ pem::Error::Io(_)) => return Err(unreadable(error)),
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "an authority of this machine is left aside");
            }
        }
    }
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(TlsError::Empty { path: path.clone() }),
        _ => Ok(roots),
    }
}

impl Identity {
    /// Reads a chain, our own certificate first, and its key.
    ///
    /// # Errors
    /// When they cannot be read; the message names the file.
    pub fn load(certificate: &std::path::Path, key: &std::path::Path) -> Result<Self, TlsError> {
        let unreadable = |source| TlsError::File { path: key.to_owned(), source };
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable)?;
        Ok(Self { chain, key })
    }
}

/// See the module.
pub struct UpstreamTls {
    http1: TlsConnector,
    http2: TlsConnector,
    either: TlsConnector,
    name: Option<ServerName<'static>>,
    verifies: bool,
    fingerprint: [u8; 32],
}

impl UpstreamTls {
    /// Believes whom `trust` says if they are called `name`, or have the address that they are reached at; and is
    /// `identity` if it is asked.
    ///
    /// # Errors
    /// When the key is not the certificate's.
    pub fn new(
        trust: Trust,
        name: Option<ServerName<'static>>,
        identity: Option<Identity>,
    ) -> Result<Self, Error> {
        let mut digest = Sha256::new();
        let mut note = |kind: u8, bytes: &[u8]| {
            digest.update([kind]);
            digest.update(bytes.len().to_le_bytes());
            digest.update(bytes);
        };
        let verifies = matches!(trust, Trust::Roots(_));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match trust {
            Trust::Roots(roots) => {
                for root in &roots.roots {
                    note(0, &root.subject);
                    note(1, &root.subject_public_key_info);
                    note(2, root.name_constraints.as_deref().unwrap_or_default());
                }
                builder.with_root_certificates(roots)
            }
            Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        };
        if let Some(name) = &name {
            note(3, name.to_str().as_bytes());
        }
        let config = match identity {
            Some(Identity { chain, key }) => {
                chain.iter().for_each(|certificate| note(4, certificate));
                note(5, key.secret_der());
                builder.with_client_auth_cert(chain, key)?
            }
            None => builder.with_no_client_auth(),
        };
        let speaking = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        let (http1, http2) = (speaking(&[b"http/1.1"]), speaking(&[b"h2"]));
        let either = speaking(&[b"h2", b"http/1.1"]);
        Ok(Self { http1, http2, either, name, verifies, fingerprint: digest.finalize().into() })
    }

    /// Whether it matters who answers.
    pub fn verifies(&self) -> bool {
        self.verifies
    }

    /// The same for the same trust, name and identity.
    pub(super) fn fingerprint(&self) -> &[u8] {
        &self.fingerprint
    }

    /// Agrees on TLS over a new connection to a replica at `address`.
    ///
    /// # Errors
    /// When that fails; with what to do about it.
    pub(super) async fn agree(
        &self,
        stream: TcpStream,
        address: IpAddr,
        protocol: Protocol,
    ) -> Result<Stream, ConnectError> {
        let connector = match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
            Protocol::Either => &self.either,
        };
        let name = self.name.clone().unwrap_or_else(|| ServerName::from(address));
        let stream = connector.connect(name, stream).await.map_err(ConnectError::tls)?;
        if protocol == Protocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ConnectError::tls(io::Error::other(Error::NoApplicationProtocol)));
        }
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

impl std::fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("name", &self.name)
            .field("verifies", &self.verifies)
            .finish_non_exhaustive()
    }
}

/// What TLS itself says of a failure, if it does.
fn said(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// What a user can do about a failed handshake.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    use AlertDescription as Alert;
    use CertificateError as Wrong;
    match said(error) {
        Some(Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. })) => {
            "let proxy.upstream_name be a name that its certificate has"
        }
        Some(Error::InvalidCertificate(
            Wrong::Expired
            | Wrong::ExpiredContext { .. }
            | Wrong::NotValidYet
            | Wrong::NotValidYetContext { .. },
        )) => "give it a certificate that is valid now, and see that both clocks are right",
        Some(Error::InvalidCertificate(_)) => {
            "let proxy.upstream_ca be the file of the authority that vouches for its certificate"
        }
        Some(Error::AlertReceived(Alert::UnrecognisedName)) => {
            "let proxy.upstream_name be a name that it goes by"
        }
        Some(Error::NoApplicationProtocol | Error::AlertReceived(Alert::NoApplicationProtocol)) => {
            "let it offer what is needed by ALPN: h2 for gRPC, http/1.1 for all else"
        }
        Some(Error::AlertReceived(Alert::ProtocolVersion) | Error::PeerIncompatible(_)) => {
            "let it speak TLS 1.2 or 1.3 with a cipher that is not outdated"
        }
        Some(Error::AlertReceived(_)) => {
            "see what its log says; it may want proxy.upstream_certificate and proxy.upstream_key, or others"
        }
        _ => "see whether it speaks TLS at this address",
    }
}

/// Whether a replica does not speak the protocol that it was asked for by ALPN.
pub(super) fn wants_another_protocol(error: &io::Error) -> bool {
    matches!(
        said(error),
        Some(Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol))
    )
}

/// Whether a replica has refused who we are. In TLS 1.3 it says so after our side of the handshake is over, and then
/// it has read nothing of what followed (RFC 8446 section 4.4.2.4).
pub(crate) fn refuses_us(error: &io::Error) -> bool {
    use AlertDescription as Alert;
    matches!(
        said(error),
        Some(Error::AlertReceived(
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
        ))
    )
}

/// Believes everyone, but that they have the key of what they show.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
