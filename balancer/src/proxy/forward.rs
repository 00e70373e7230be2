//! One request: offered to the replicas of its key's slot, in their order, until one answers.
//!
//! A replica that takes no connection costs the client nothing: the request was not begun. One that dies with
//! the request costs nothing either if the request may be repeated (RFC 9110 section 9.2.2: idempotent) and had
//! no body; else the client learns that nobody knows what became of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::body::{AtEnd, Forwarded};
use super::error::ProxyError;
use super::headers::{REPLICA, add_forwarded, add_via, remove_hop_by_hop};
use super::key;
use super::pool::{ConnectError, Sender, connect};
use super::upstream::{Flight, Upstream};
use crate::config::ProxyConfig;
use crate::fleet::shell::Fleet;
use crate::metrics::Metrics;

/// What requests are forwarded with.
#[derive(Debug)]
pub struct Proxy {
    /// Limits, key sources, routes.
    pub config: ProxyConfig,
    /// The ring, the replicas' health, and an ear for refused connections.
    pub fleet: Fleet,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// An answer under way: when its body ends the connection is free for the next request.
#[derive(Debug)]
pub struct Answering {
    flight: Flight,
    exchange: Exchange,
}

impl AtEnd for Answering {
    fn at_end(self) {
        self.flight.0.pool.give_back(self.exchange.sender);
    }
}

/// A connection in use, and the place that it takes among the replica's.
#[derive(Debug)]
struct Exchange {
    sender: Sender,
    _place: OwnedSemaphorePermit,
}

/// The body of an answer.
pub type AnswerBody = Forwarded<Answering>;

type Outgoing = Request<Forwarded<()>>;

/// What offering a request to one replica came to.
enum Offer {
    Answered(Response<Incoming>, Exchange),
    /// Nothing of the request was taken; here it is again.
    NotBegun(Outgoing, ConnectError),
    /// It was begun, and no answer will come. `reused`: perhaps only because an old connection had ended.
    Lost {
        reused: bool,
        error: ProxyError,
    },
}

impl Proxy {
    /// Whether requests for this path go to replicas.
    pub fn routes(&self, path: &str) -> bool {
        self.config.paths.iter().any(|route| match route.strip_suffix("/*") {
            Some(stem) => {
                path.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            None => route == path,
        })
    }

    /// Forwards one request of `client` and returns the head of the answer, with its body still to come.
    pub async fn forward(
        &self,
        request: Request<Incoming>,
        client: IpAddr,
    ) -> Result<Response<AnswerBody>, ProxyError> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let found = key::of(&self.config.key, &head, client);
        let snapshot = self.fleet.snapshot();
        let slot = snapshot.table.slot_of(found.key());
        let bodyless = body.is_end_stream();
        let repeatable = bodyless && head.method.is_idempotent();
        let head = outgoing_head(head, client);
        let spare = repeatable.then(|| head.clone());
        let body =
            if bodyless { Forwarded::none() } else { Forwarded::new(body, self.config.idle_timeout, ()) };
        let mut request = Request::from_parts(head, body);

        let mut candidates = snapshot.candidates(slot);
        let mut candidate = candidates.next().ok_or(ProxyError::NoReplica)?;
        let mut attempts = 1;
        loop {
            let flight = candidate.enter();
            let error = match self.offer(candidate, request).await {
                Offer::Answered(response, exchange) => {
                    candidate.metrics.answered(response.status(), started.elapsed());
                    return Ok(self.answer(response, Answering { flight, exchange }));
                }
                Offer::NotBegun(same, error) => {
                    if matches!(error, ConnectError::Refused) {
                        self.fleet.report_refused(&candidate.instance);
                    }
                    request = same;
                    ProxyError::Unreachable(error)
                }
                Offer::Lost { reused, error } => {
                    let Some(spare) = spare.clone().filter(|_| !matches!(error, ProxyError::Timeout(_)))
                    else {
                        return Err(error);
                    };
                    request = Request::from_parts(spare, Forwarded::none());
                    if reused {
                        // Its other idle connections are as old: the next try opens a new one.
                        candidate.pool.clear();
                        self.metrics.retries.inc();
                        continue;
                    }
                    error
                }
            };
            drop(flight);
            tracing::debug!(replica = candidate.instance.name, error = %error, "offered to the next replica");
            attempts += 1;
            candidate = match candidates.next() {
                Some(next) if attempts <= self.config.max_attempts => next,
                _ => return Err(error),
            };
            self.metrics.retries.inc();
        }
    }

    /// A free place among the replica's connections, waited for in order of coming.
    async fn place(&self, upstream: &Upstream) -> Result<OwnedSemaphorePermit, ConnectError> {
        if let Ok(place) = upstream.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        let patience = self.config.first_byte_timeout;
        tokio::select! {
            place = tokio::time::timeout(patience, upstream.places.clone().acquire_owned()) => match place {
                Ok(place) => place.map_err(|_| ConnectError::Gone),
                Err(_) => Err(ConnectError::Timeout(patience)),
            },
            () = upstream.gone.cancelled() => Err(ConnectError::Gone),
        }
    }

    async fn offer(&self, upstream: &Upstream, mut request: Outgoing) -> Offer {
        let place = match self.place(upstream).await {
            Ok(place) => place,
            Err(error) => return Offer::NotBegun(request, error),
        };
        loop {
            let (mut sender, reused) = match upstream.pool.take() {
                Some(sender) => (sender, true),
                None => match connect(upstream.address, self.config.connect_timeout).await {
                    Ok(sender) => (sender, false),
                    Err(error) => return Offer::NotBegun(request, error),
                },
            };
            if let Err(error) = sender.ready().await {
                if reused {
                    continue;
                }
                return Offer::NotBegun(request, ConnectError::Handshake(error));
            }
            let patience = self.config.first_byte_timeout;
            let sent = tokio::select! {
                sent = tokio::time::timeout(patience, sender.try_send_request(request)) => sent,
                () = upstream.gone.cancelled() => return Offer::Lost { reused: false, error: ProxyError::Died },
            };
            match sent {
                Ok(Ok(response)) => return Offer::Answered(response, Exchange { sender, _place: place }),
                Ok(Err(mut failed)) => match failed.take_message() {
                    Some(same) if reused => request = same,
                    Some(same) => return Offer::NotBegun(same, ConnectError::Handshake(failed.into_error())),
                    None => {
                        return Offer::Lost { reused, error: ProxyError::Lost(Some(failed.into_error())) };
                    }
                },
                Err(_) => return Offer::Lost { reused, error: ProxyError::Timeout(patience) },
            }
        }
    }

    fn answer(&self, response: Response<Incoming>, answering: Answering) -> Response<AnswerBody> {
        let (mut head, body) = response.into_parts();
        let version = head.version;
        head.version = Version::HTTP_11;
        remove_hop_by_hop(&mut head.headers);
        add_via(&mut head.headers, version);
        head.headers.insert(REPLICA, answering.flight.0.header.clone());
        Response::from_parts(head, Forwarded::new(body, self.config.idle_timeout, answering))
    }
}

fn outgoing_head(mut head: Parts, client: IpAddr) -> Parts {
    let version = std::mem::replace(&mut head.version, Version::HTTP_11);
    if let Some(authority) = head.uri.authority() {
        // RFC 9112 section 3.2.2: the target's authority goes before the header.
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            head.headers.insert(HOST, host);
        }
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map_or_else(|| http::Uri::from_static("/"), http::Uri::from);
    }
    head.headers.entry(HOST).or_insert(HeaderValue::from_static(""));
    head.extensions.clear();
    remove_hop_by_hop(&mut head.headers);
    add_forwarded(&mut head.headers, client, version);
    head
}
