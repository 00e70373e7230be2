//! One heartbeat: a fresh connection, one GET, any 2xx in time; or the connection alone, over TLS with its handshake.
//!
//! A fresh connection each time, because it is the replica's accepting of connections that clients depend on.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{PathAndQuery, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::core::Beat;
use crate::chain;
use crate::proxy::connection::{ConnectError, bytes_to};
use crate::proxy::stream::Stream;
use crate::proxy::transport::Transport;
use crate::proxy::upstream_tls::{Protocol, advice, refuses_us};

/// A heartbeat's body is of no interest, and this long at the most.
const LONGEST_BODY: usize = 64 * 1024;

/// Asks `path` at `address` by `transport`, or only for a connection, over TLS for a handshake; all of it may take
/// `within`. The PROXY protocol says that it is the balancer's own.
pub async fn probe(
    address: SocketAddr,
    transport: &Transport,
    path: Option<&PathAndQuery>,
    within: Duration,
) -> Beat {
    match tokio::time::timeout(within, ask(address, transport, path, within)).await {
        Ok(beat) => beat,
        Err(_) => Beat::Missed(format!("no answer within {within:?}")),
    }
}

async fn ask(
    address: SocketAddr,
    transport: &Transport,
    path: Option<&PathAndQuery>,
    within: Duration,
) -> Beat {
    // Without a path nothing is said: a replica for gRPC alone need not speak HTTP/1.
    let protocol = if path.is_some() { Protocol::Http1 } else { Protocol::Either };
    let mut stream = match bytes_to(address, transport, None, protocol, (within, within)).await {
        Ok(stream) => stream,
        Err(ConnectError::Refused) => return Beat::Refused,
        Err(error) => return Beat::Missed(error.words()),
    };
    let Some(path) = path else {
        if transport.tls().is_some()
            && let Err(error) = stream.shutdown().await
        {
            tracing::debug!(%error, %address, "a replica was gone before the end of its heartbeat");
        }
        return Beat::Good;
    };
    match converse(stream, address, path).await {
        Ok(status) if status.is_success() => Beat::Good,
        Ok(status) => Beat::Missed(format!("it answered {status}")),
        Err(error) => Beat::Missed(match advice_on(&error) {
            Some(advice) => format!("no answer: {}: {advice}", chain::words(&error)),
            None => format!("no answer: {}", chain::words(&error)),
        }),
    }
}

/// What to do about a replica that refuses us: in TLS 1.3 it says so when the handshake is over on our side.
fn advice_on(error: &hyper::Error) -> Option<&'static str> {
    let error = std::error::Error::source(error)?.downcast_ref()?;
    refuses_us(error).then(|| advice(error))
}

fn request(address: SocketAddr, path: &PathAndQuery) -> Request<Empty<Bytes>> {
    let request = Request::get(Uri::from(path.clone())).header(HOST, address.to_string());
    request.body(Empty::new()).expect("an address is a header, and a path is a path")
}

async fn converse(
    stream: Stream,
    address: SocketAddr,
    path: &PathAndQuery,
) -> Result<http::StatusCode, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request(address, path)).await?;
        let status = response.status();
        if let Err(error) = Limited::new(response.into_body(), LONGEST_BODY).collect().await {
            tracing::debug!(%error, %address, "a heartbeat's body ended early");
        }
        Ok(status)
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        biased;
        status = &mut exchange => status,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    proptest::proptest! {
        #[test]
        fn whatever_the_configuration_takes_for_a_path_can_be_asked(path in "/?[!-~]{0,20}|\\PC{0,20}") {
            let flags = [("fleet.heartbeat_path".to_owned(), path.clone())].into();
            if let Ok(config) = Config::load(&Sources { flags, ..Sources::default() }) {
                match config.main.fleet.heartbeat_path {
                    Some(parsed) => {
                        let request = request(([127, 0, 0, 1], 1).into(), &parsed);
                        proptest::prop_assert_eq!(request.uri().to_string(), path);
                    }
                    None => proptest::prop_assert_eq!(path, ""),
                }
            }
        }
    }

    #[test]
    fn paths_that_no_request_can_have_are_mistakes() {
        for path in ["/<", "/>", "/`", "/é", "/a b", "a", " ", "/#", "/\u{7f}"] {
            let flags = [("fleet.heartbeat_path".to_owned(), path.to_owned())].into();
            assert!(Config::load(&Sources { flags, ..Sources::default() }).is_err(), "{path:?}");
        }
    }
}
