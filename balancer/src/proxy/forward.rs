//! One request: offered to the replicas of its key's slot, in their order, until one answers.
//!
//! A replica that takes no connection costs the client nothing: the request was not begun. One that dies with
//! the request costs nothing either if the request may be repeated (RFC 9110 section 9.2.2: idempotent) and had
//! no body; else the client learns that nobody knows what became of it. Before each offer the fleet is looked at
//! anew: a request that waited for a dying replica must not trust what it knew when it came.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::body::{AtEnd, BodyError, Forwarded};
use super::error::{ProxyError, Refusal};
use super::headers::{REPLICA, add_forwarded, add_via, remove_hop_by_hop};
use super::key;
use super::pool::{ConnectError, Sender, connect};
use super::upload::{Upload, UploadEnd, watched};
use super::upstream::{Flight, Upstream};
use crate::config::ProxyConfig;
use crate::fleet::handle::Fleet;
use crate::metrics::Metrics;
use crate::sampled::Sampled;

/// Replicas that one request is offered to at the very most, those that took no connection included.
const MOST_OFFERS: usize = 32;

/// What requests are forwarded with.
#[derive(Debug)]
pub struct Proxy {
    /// Limits, key sources, routes.
    pub config: ProxyConfig,
    /// How long a request waits for the first replicas of a balancer that has just started.
    pub start_timeout: Duration,
    /// The ring, the replicas' health, and an ear for refused connections.
    pub fleet: Fleet,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Failures, told in the log now and then.
    pub complaints: Sampled,
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

    fn at_failure(self, error: &BodyError) {
        let upstream = &self.flight.0;
        upstream.metrics.broke_off();
        if let Some(silent) = upstream.complaints.pass(Instant::now()) {
            let cause = error.source().map(ToString::to_string);
            tracing::warn!(%error, cause, replica = upstream.instance.name, silent, "an answer broke off");
        }
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

/// A request as it is sent to a replica.
pub type Outgoing = Request<Forwarded<Upload>>;

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

/// How long an offer may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Of the whole request, however many replicas it is offered to: for a place and, with nothing to be sent before
    /// it, for the answer.
    deadline: tokio::time::Instant,
    bodyless: bool,
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
    ) -> Result<Response<AnswerBody>, Refusal> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let found = key::of(&self.config.key, &head, client);
        let bodyless = body.is_end_stream();
        let repeatable = bodyless && head.method.is_idempotent();
        let head = outgoing_head(head, client, !bodyless);
        let spare = repeatable.then(|| head.clone());
        let (body, mut upload) = watched(body, self.config.idle_timeout);
        let mut request = Request::from_parts(head, body);

        let mut tried: Vec<u64> = Vec::new();
        let mut begun = 0;
        let mut fresh = false;
        let mut last: Option<Refusal> = None;
        let mut deadline = None;
        while tried.len() < MOST_OFFERS && begun < self.config.max_attempts {
            let Some(flight) = self.candidate(found.key(), &tried).await else { break };
            // From the first offer on: the fleet's own start is not the replicas' fault.
            let deadline =
                *deadline.get_or_insert_with(|| tokio::time::Instant::now() + self.config.first_byte_timeout);
            if last.is_some() && tokio::time::Instant::now() >= deadline {
                break;
            }
            let upstream = flight.0.clone();
            if last.is_some() {
                self.metrics.retries.inc();
            }
            let refusal = |error| Refusal { error, replica: Some(upstream.header.clone()) };
            let limits = Limits { deadline, bodyless };
            match self.offer(&upstream, request, &mut upload, fresh, limits).await {
                Offer::Answered(response, exchange) => {
                    upstream.metrics.answered(response.status(), started.elapsed());
                    return Ok(self.answer(response, Answering { flight, exchange }));
                }
                Offer::NotBegun(same, error) => {
                    if matches!(error, ConnectError::Refused) {
                        self.fleet.report_refused(&upstream.instance);
                    }
                    // Only what cost time counts as an attempt: refusals are over at once.
                    begun += usize::from(!matches!(error, ConnectError::Refused | ConnectError::Gone));
                    tried.push(upstream.instance.incarnation);
                    fresh = false;
                    request = same;
                    last = Some(refusal(ProxyError::Unreachable(error)));
                }
                Offer::Lost { reused, error } => {
                    let Some(spare) = spare.clone().filter(|_| error.may_be_repeated()) else {
                        return Err(refusal(error));
                    };
                    request = Request::from_parts(spare, Forwarded::none());
                    // An old connection may have ended by itself: the same replica is tried once more on a new one.
                    fresh = reused;
                    if !reused {
                        begun += 1;
                        tried.push(upstream.instance.incarnation);
                    }
                    last = Some(refusal(error));
                }
            }
        }
        Err(last.unwrap_or(Refusal { error: ProxyError::NoReplica, replica: None }))
    }

    /// The best replica for `key` at this moment that was not tried yet, entered.
    async fn candidate(&self, key: slipring_hashing::Key<'_>, tried: &[u64]) -> Option<Flight> {
        let find = || {
            let snapshot = self.fleet.snapshot();
            let slot = snapshot.table.slot_of(key);
            let untried = |upstream: &&Arc<Upstream>| !tried.contains(&upstream.instance.incarnation);
            snapshot.candidates(slot).filter(untried).find_map(Upstream::enter)
        };
        if let Some(flight) = find() {
            return Some(flight);
        }
        if self.fleet.has_settled()
            || tokio::time::timeout(self.start_timeout, self.fleet.settled()).await.is_err()
        {
            return None;
        }
        find()
    }

    /// A free place among the replica's connections, waited for in order of coming.
    async fn place(
        &self,
        upstream: &Upstream,
        deadline: tokio::time::Instant,
    ) -> Result<OwnedSemaphorePermit, ConnectError> {
        if let Ok(place) = upstream.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        tokio::select! {
            place = tokio::time::timeout_at(deadline, upstream.places.clone().acquire_owned()) => match place {
                Ok(place) => place.map_err(|_| ConnectError::Gone),
                Err(_) => Err(ConnectError::Timeout(self.config.first_byte_timeout)),
            },
            () = upstream.gone.cancelled() => Err(ConnectError::Gone),
        }
    }

    async fn offer(
        &self,
        upstream: &Upstream,
        mut request: Outgoing,
        upload: &mut UploadEnd,
        fresh: bool,
        limits: Limits,
    ) -> Offer {
        let place = match self.place(upstream, limits.deadline).await {
            Ok(place) => place,
            Err(error) => return Offer::NotBegun(request, error),
        };
        loop {
            let (mut sender, reused) = match upstream.pool.take().filter(|_| !fresh) {
                Some(sender) => (sender, true),
                None => {
                    match connect(upstream.address, self.config.connect_timeout, self.config.idle_timeout)
                        .await
                    {
                        Ok(sender) => (sender, false),
                        Err(error) => return Offer::NotBegun(request, error),
                    }
                }
            };
            if let Err(error) = sender.ready().await {
                if reused {
                    continue;
                }
                return Offer::NotBegun(request, ConnectError::Handshake(error));
            }
            if upstream.gone.is_cancelled() {
                return Offer::NotBegun(request, ConnectError::Gone);
            }
            let patience = self.config.first_byte_timeout;
            let silence = async {
                upload.ended().await;
                let from_now = tokio::time::Instant::now() + patience;
                tokio::time::sleep_until(if limits.bodyless { limits.deadline } else { from_now }).await;
            };
            let sent = tokio::select! {
                biased;
                sent = sender.try_send_request(request) => sent,
                () = silence => return Offer::Lost { reused: false, error: ProxyError::Timeout(patience) },
                () = upstream.gone.cancelled() => return Offer::Lost { reused: false, error: ProxyError::Died },
            };
            match sent {
                Ok(response) => return Offer::Answered(response, Exchange { sender, _place: place }),
                Err(mut failed) => match failed.take_message() {
                    Some(same) if reused => request = same,
                    Some(same) => return Offer::NotBegun(same, ConnectError::Handshake(failed.into_error())),
                    None => {
                        let lost = || self.lost(failed.into_error());
                        return Offer::Lost { reused, error: upload.failure().unwrap_or_else(lost) };
                    }
                },
            }
        }
    }

    fn lost(&self, error: hyper::Error) -> ProxyError {
        let mut cause = error.source();
        let mut timed_out = false;
        while let Some(error) = cause {
            timed_out |= error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
            cause = error.source();
        }
        if timed_out { ProxyError::Unread(self.config.idle_timeout) } else { ProxyError::Lost(Some(error)) }
    }

    fn answer(&self, response: Response<Incoming>, answering: Answering) -> Response<AnswerBody> {
        let (mut head, body) = response.into_parts();
        let version = head.version;
        head.version = Version::HTTP_11;
        if head.headers.contains_key(TRANSFER_ENCODING) {
            // RFC 9112 section 6.3: the length is not that of this body, and says nothing from here on.
            head.headers.remove(CONTENT_LENGTH);
        }
        remove_hop_by_hop(&mut head.headers);
        add_via(&mut head.headers, version);
        head.headers.insert(REPLICA, answering.flight.0.header.clone());
        Response::from_parts(head, Forwarded::new(body, self.config.idle_timeout, answering))
    }
}

fn outgoing_head(mut head: Parts, client: IpAddr, has_body: bool) -> Parts {
    let version = std::mem::replace(&mut head.version, Version::HTTP_11);
    head.extensions.clear();
    remove_hop_by_hop(&mut head.headers);
    if has_body && !head.headers.contains_key(CONTENT_LENGTH) {
        // hyper takes a GET without either header for one without a body.
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(authority) = head.uri.authority() {
        // RFC 9112 section 3.2.2: the target's authority goes before the header.
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            head.headers.insert(HOST, host);
        }
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map_or_else(|| http::Uri::from_static("/"), http::Uri::from);
    }
    head.headers.entry(HOST).or_insert(HeaderValue::from_static(""));
    add_forwarded(&mut head.headers, client, version);
    head
}
