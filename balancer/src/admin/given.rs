//! A call of ours to a member of a pool of given members: to an overlay's leader, say.
//!
//! One connection a call, as a heartbeat has: these calls are few, and what they need of the data plane (preference,
//! retries, ejection) is nothing. Always the first live member that takes requests is asked, in the order of identities,
//! so that calls that belong together reach the same process while it lives.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;

use crate::chain;
use crate::fleet::state::State;
use crate::proxy::connection::{ConnectError, bytes_to};
use crate::proxy::forward::Pool;
use crate::proxy::upstream::Upstream;
use crate::proxy::upstream_tls::Protocol;

/// Why a member did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{}", .0.words())]
    Connect(ConnectError),
    #[error("no answer: {}", chain::words(.0))]
    Lost(#[from] hyper::Error),
}

impl CallError {
    /// Whether nobody is there, which the fleet finds out by itself and mends.
    pub(super) fn is_nobody(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Lost(error) => {
                let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
                source.is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset)
            }
        }
    }
}

/// The member that is asked, if one is live that takes requests.
pub(super) fn first_live(pool: &Pool) -> Option<Arc<Upstream>> {
    let snapshot = pool.fleet.look();
    let routed = snapshot.table.members().iter().filter_map(|member| snapshot.entry(member.id));
    let live = routed.filter(|entry| entry.state == State::Live).filter_map(|entry| entry.upstream.clone());
    live.min_by_key(|upstream| upstream.health.is_ejected())
}

/// An answer whose body is still to come; without it the connection ends.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    pub(super) connection: AbortOnDropHandle<()>,
}

/// Asks a member of `pool`; its connection may take `within`, its answer is for the caller to bound.
pub(super) async fn ask(
    pool: &Pool,
    member: &Upstream,
    request: Request<Full<Bytes>>,
    within: Duration,
) -> Result<Answered, CallError> {
    let transport = &pool.config.forward.upstream.transport;
    let stream = bytes_to(member.address, transport, None, Protocol::Http1, (within, within));
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream.await.map_err(CallError::Connect)?)).await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a call to a given member ended early"); // its caller is told
        }
    }));
    let response = sender.send_request(request).await?;
    Ok(Answered { response, connection })
}
