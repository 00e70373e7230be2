//! What comes before a request on a new connection to a replica: a header of the PROXY protocol, and TLS behind it.
//!
//! A pool's transport is one value with a mark. A connection carries the mark of what it was opened with, so that one
//! from before a reload is not used after it; the mark of a connection in the clear without anything before the
//! request is zero, and costs a comparison.

use std::net::SocketAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::connection::ConnectError;
use super::proxy_protocol::{Ends, header};
use super::stream::Stream;
use super::upstream_tls::{Protocol, UpstreamTls};

/// See the module.
#[derive(Clone, Default)]
pub struct Transport {
    tls: Option<Arc<UpstreamTls>>,
    says_whose: bool,
    mark: u64,
}

impl Transport {
    /// Over TLS, unless there is none; with a header of the PROXY protocol before it, if `says_whose`.
    pub fn new(tls: Option<UpstreamTls>, says_whose: bool) -> Self {
        if tls.is_none() && !says_whose {
            return Self::default();
        }
        let mut digest = Sha256::new();
        digest.update([u8::from(says_whose)]);
        if let Some(tls) = &tls {
            digest.update(tls.fingerprint());
        }
        let first = digest.finalize().first_chunk().copied().unwrap_or_default();
        Self { tls: tls.map(Arc::new), says_whose, mark: u64::from_le_bytes(first).max(1) }
    }

    /// Tells connections apart that were opened with another transport.
    pub fn mark(&self) -> u64 {
        self.mark
    }

    /// Whether a request is the first that is said on a connection.
    pub fn is_plain(&self) -> bool {
        self.mark == 0
    }

    /// Whether a connection is one client's, because a header said so.
    pub fn says_whose(&self) -> bool {
        self.says_whose
    }

    /// TLS, if it is spoken.
    pub fn tls(&self) -> Option<&UpstreamTls> {
        self.tls.as_deref()
    }

    /// What should not be so for long is said whenever it begins.
    pub fn warn(&self, pool: &str) {
        if self.tls().is_some_and(|tls| !tls.verifies()) {
            tracing::warn!(
                pool,
                "proxy.upstream_tls is \"insecure\": whoever answers in the place of a replica is believed; set proxy.upstream_ca and \"on\""
            );
        }
    }

    /// Says what comes before a request on a connection to `address`: whose it is, and TLS for `protocol`. The caller
    /// has the deadline.
    ///
    /// # Errors
    /// When the connection ends, or the replica is not who it should be.
    pub async fn prepare(
        &self,
        mut stream: TcpStream,
        address: SocketAddr,
        ends: Option<&Ends>,
        protocol: Protocol,
    ) -> Result<Stream, ConnectError> {
        if self.says_whose {
            stream.write_all(&header(ends)).await.map_err(ConnectError::Io)?;
        }
        match &self.tls {
            Some(tls) => tls.agree(stream, address.ip(), protocol).await,
            None => Ok(Stream::Plain(stream)),
        }
    }
}

/// What a connection is prepared with is the same if and only if the marks are.
impl PartialEq for Transport {
    fn eq(&self, other: &Self) -> bool {
        self.mark == other.mark
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transport({:016x})", self.mark)
    }
}
