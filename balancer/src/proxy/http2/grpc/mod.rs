//! gRPC: HTTP/2 on both sides, trailers and all, message frames passed as they come.
//!
//! A thread keeps connections to each replica and multiplexes its calls over them ([`Calls`]); each call has its place
//! among the replica's as any other request has, for as long as it lasts. `grpc-timeout` is honoured here as well: a call
//! whose caller has given up is ended at the replica, and the caller is told DEADLINE_EXCEEDED by whoever noticed
//! first. It is the caller's patience and not the balancer's: whatever it is, a call on which nothing moves ends as other
//! requests do. What the balancer itself has to say it says in gRPC's words.
//!
//! A call that its replica has not looked at (it was never sent, or was refused unread) is sent again whatever it is, first
//! to the same replica over a connection that is newer than the loss: servers that let connections grow only so old say
//! farewell while calls are on their way. Nothing was begun, so that the retry budget is not asked.

mod answer;
mod asking;
mod call;
mod calls;
mod head;
mod link;
mod told;
mod traffic;
mod words;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use h2::RecvStream;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::head::{as_head, cookies, fields};
use super::{AnswerBody, boxed};
use crate::proxy::access_log::Tally;
use crate::proxy::connection::ConnectError;
use crate::proxy::error::{PANIC, ProxyError, REPLICA};
use crate::proxy::forward::{Candidate, MOST_OFFERS, Pool};
use crate::proxy::key;
use crate::proxy::proxy_protocol::Ends;
use crate::proxy::upstream::{Flight, Upstream};
use crate::proxy::wire::Framing;
use crate::proxy::wire::emit::Arrival;
use crate::proxy::worker::Worker;
use answer::Answering;
use asking::Asking;
use call::{Carried, Lost, Rest, Sending, ask};
use calls::Unreached;
pub use calls::{Calls, Known};
use link::{Slot, To};
pub(super) use told::Account;
use traffic::{Limits, Over, Traffic};
use words::{Code, Ended, failure, is_cancelled, is_farewell, is_refusal, is_the_replicas_fault, meaning};
pub use words::{deadline, is_grpc};

const TOO_LATE: &str = "the deadline has passed";
const GIVEN_UP: &str = "the replica died before the end of the call";

/// How a call gets to its replica.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    /// Over one of these connections.
    pub(super) calls: &'a Calls,
    /// Whose they are, if replicas are told so.
    pub(super) ends: Option<&'a Ends>,
}

/// A call's end in the place of an answer.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    ended: Ended,
}

impl Refused {
    fn new(code: Code, words: impl Into<String>) -> Self {
        let status = match code {
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, ended: Ended { code, limit: None, words: words.into() } }
    }

    /// For want of a place at the replica: no fault of its own.
    fn full(error: &ProxyError) -> Self {
        let refused = Self::new(Code::ResourceExhausted, error.to_string());
        Self { ended: Ended { limit: error.limit(), ..refused.ended }, ..refused }
    }
}

impl From<Over> for Refused {
    fn from(over: Over) -> Self {
        let status = match over {
            Over::Silence(_) => StatusCode::GATEWAY_TIMEOUT,
            Over::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Over::SlowBody(_) => StatusCode::REQUEST_TIMEOUT,
        };
        Self { status, ended: Ended::of(over, "the replica did not answer within") }
    }
}

/// A call whose answer has begun.
struct Begun {
    response: Response<RecvStream>,
    flight: Flight,
    slot: Slot,
    rest: Rest,
}

/// Forwards one call and its answer.
pub(super) async fn forward(
    worker: &Rc<Worker>,
    pool: &Arc<Pool>,
    way: Way<'_>,
    request: Request<Incoming>,
    arrival: &Arrival<'_>,
    tally: &Tally,
) -> Response<AnswerBody> {
    let began = Instant::now();
    let metrics = &worker.front.metrics;
    let within = deadline(request.headers());
    let ends = within.and_then(|within| tokio::time::Instant::now().checked_add(within));
    let most_bytes = pool.config.forward.max_body_bytes;
    let limits = Limits { patience: pool.patience, most_bytes, ends };
    let traffic = Traffic::new(worker.watch.ticket(), limits);
    let call = async {
        if length(request.headers()).is_some_and(|length| length > most_bytes) {
            return Err(Over::TooLarge.into());
        }
        carry(worker, pool, way, request, arrival, (&traffic, began, tally)).await
    };
    let answered = match ends {
        None => call.await,
        Some(ends) => tokio::time::timeout_at(ends, call)
            .await
            .unwrap_or_else(|_| Err(Refused::new(Code::DeadlineExceeded, TOO_LATE))),
    };
    match answered {
        Ok(Begun { response, flight, slot, rest }) => {
            let replica = flight.upstream.header.clone();
            let _sending = rest.map(Sending::beside);
            let status = response.status().as_u16();
            let pool = pool.clone();
            let carried =
                Carried { pool, flight, slot: Some(slot), traffic, status, has_broken: false, _sending };
            let mut response = response.map(|body| boxed(Answering::new(body, carried, metrics.clone())));
            response.headers_mut().insert(REPLICA, replica);
            response
        }
        Err(Refused { status, ended }) => {
            metrics.refused(status);
            ended.limit.into_iter().for_each(|limit| metrics.limit_hit(limit));
            failure(ended.code, &ended.words)
        }
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The answer to a call for which there is no route.
pub(super) fn unrouted(worker: &Worker, path: &str) -> Response<AnswerBody> {
    worker.front.metrics.refused(StatusCode::NOT_FOUND);
    failure(Code::Unimplemented, &format!("no route has {path}"))
}

/// The answer to a call that is not even looked at.
pub(super) fn unwelcome(error: &ProxyError) -> Response<AnswerBody> {
    let code = if error.limit().is_some() { Code::ResourceExhausted } else { Code::Internal };
    failure(code, &error.to_string())
}

/// The wait for a replica's answer to a call. However it ends, by whomever, a replica that had the whole request for as long
/// as an answer may take has failed.
struct Wait<'a> {
    pool: &'a Pool,
    upstream: &'a Upstream,
    traffic: &'a Traffic,
    is_over: bool,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.traffic.is_overdue() {
            self.upstream.health.failed();
            self.pool.judge(self.upstream);
        }
    }
}

/// Why offering a call to one replica came to nothing.
enum Unanswered {
    /// The caller is to be told so.
    Refused(Refused),
    /// The replica cannot be reached.
    Unreached(Unreached),
    /// It did not look at it. `slot`: what it was lost over.
    Unread(Lost, Slot),
}

async fn carry(
    worker: &Rc<Worker>,
    pool: &Pool,
    way: Way<'_>,
    request: Request<Incoming>,
    arrival: &Arrival<'_>,
    (traffic, began, tally): (&Rc<Traffic>, Instant, &Tally),
) -> Result<Begun, Refused> {
    let (head, body) = request.into_parts();
    let (key, head) = {
        let cookies = cookies(&head.headers);
        let fields = fields(&head.headers, cookies.as_deref());
        let request = as_head(&head, &fields, Framing::Chunked)
            .map_err(|error| Refused::new(Code::Internal, error.to_string()))?;
        (
            key::of(&pool.config.forward.key, &request, arrival.client),
            Request::from_parts(
                head::prepared(&head, &request, arrival, pool.transport().tls().is_some()),
                (),
            ),
        )
    };
    let mut asking = Some(Asking::new(body, traffic.clone()));
    let mut tried = Vec::new();
    let mut begun = 0;
    let mut last = None;
    let mut owed: Option<Arc<Upstream>> = None;
    pool.budget.came(worker.index);
    while tried.len() < MOST_OFFERS
        && begun < pool.config.forward.max_attempts
        && let Some(Candidate { mut flight, panic }) = pool.candidate(key.key(), &tried).await
    {
        let upstream = flight.upstream.clone();
        if last.is_some() && !pool.may_offer_again(owed.take(), (worker.index, worker.watch.now_ms())).await {
            break;
        }
        tried.push(upstream.instance.incarnation);
        tally.attempts.set(tally.attempts.get() + 1);
        tally.replica.replace(Some(upstream.header.clone()));
        let place = timeout(pool.patience.first_byte, flight.place());
        let place = match &mut asking {
            Some(asking) => asking.meanwhile(place).await,
            None => place.await,
        };
        match place {
            Ok(Ok(())) => {}
            // Its key stays its key: a crowd at one replica is not sent on to the next.
            Ok(Err(ConnectError::Full)) => return Err(Refused::full(&ProxyError::QueueFull)),
            Ok(Err(error)) => {
                last = Some(error.to_string());
                continue;
            }
            Err(_) => return Err(Refused::full(&ProxyError::NoPlace(pool.patience.first_byte))),
        }
        let offered = offer(pool, way, &upstream, &head, &mut asking, traffic).await;
        match &offered {
            Err(Unanswered::Unread(lost, slot)) if !is_refusal(&lost.error) && slot.blames() => {
                upstream.health.failed();
            }
            Err(Unanswered::Unreached(Unreached { error, first: true })) if blames(error, &upstream) => {
                upstream.health.failed();
            }
            Ok(_) | Err(_) => {} // an answer counts when it has ended
        }
        pool.judge(&upstream);
        let lost = match offered {
            Ok((mut response, slot, rest)) => {
                if panic {
                    response.headers_mut().insert(PANIC, HeaderValue::from_static("1"));
                }
                upstream.metrics.answered(response.status().as_u16(), began.elapsed());
                return Ok(Begun { response, flight, slot, rest });
            }
            Err(Unanswered::Refused(refused)) => return Err(refused),
            Err(Unanswered::Unread(lost, _)) => {
                // Nothing of it was done: that is no attempt that the budget knows.
                begun += 1;
                last = Some(format!("the replica took no call: {}", lost.error));
                continue;
            }
            Err(Unanswered::Unreached(lost)) => lost,
        };
        last = Some(lost.error.words());
        if lost.first {
            upstream.complain(&lost.error);
        }
        match &*lost.error {
            ConnectError::Refused => pool.fleet.report_refused(&upstream.instance),
            ConnectError::Gone => {}
            error if is_not_spoken(error, &upstream) => begun += 1,
            // As for other requests: only what cost time counts.
            _ => {
                begun += 1;
                owed = Some(upstream);
            }
        }
    }
    Err(Refused::new(Code::Unavailable, last.unwrap_or_else(|| ProxyError::NoReplica.to_string())))
}

/// Whether it speaks HTTP/1 only. Whoever calls it gets no answer, and it no blame: callers choose what is spoken. One that
/// has spoken HTTP/2 before has failed.
fn is_not_spoken(error: &ConnectError, upstream: &Upstream) -> bool {
    error.is_about_protocol() && !upstream.has_spoken_http2()
}

/// Whether a replica that cannot be reached so has failed.
fn blames(error: &ConnectError, upstream: &Upstream) -> bool {
    !matches!(error, ConnectError::Refused | ConnectError::Gone)
        && !error.is_our_own_want()
        && !is_not_spoken(error, upstream)
}

/// Offers a call to a replica, and once more over a new connection if it has not looked at it.
async fn offer(
    pool: &Pool,
    way: Way<'_>,
    upstream: &Arc<Upstream>,
    head: &Request<()>,
    asking: &mut Option<Asking>,
    traffic: &Rc<Traffic>,
) -> Result<(Response<RecvStream>, Slot, Rest), Unanswered> {
    let transport = pool.transport();
    let key = (upstream.serial, transport.mark());
    let to = || To {
        address: upstream.address,
        transport: transport.clone(),
        ends: way.ends.copied(),
        within: pool.config.forward.connect_timeout,
        unread: pool.patience.idle,
    };
    let (mut again, mut after) = (false, 0);
    loop {
        let Some(body) = asking else {
            return Err(Unanswered::Refused(Refused::new(Code::Internal, "the call was given away")));
        };
        let slot = tokio::select! {
            slot = body.meanwhile(way.calls.to(key, to, (after, traffic.now_ms()))) => match slot {
                Ok(slot) => slot,
                Err(unreached) => return Err(Unanswered::Unreached(unreached)),
            },
            () = upstream.given_up() => {
                return Err(Unanswered::Unreached(Unreached { error: Rc::new(ConnectError::Gone), first: false }));
            }
        };
        upstream.speaks_http2();
        traffic.moved();
        let mut wait = Wait { pool, upstream, traffic, is_over: false };
        let sent = tokio::select! {
            biased;
            sent = ask(&slot, head.clone(), body) => sent,
            () = upstream.given_up() => return Err(Unanswered::Refused(Refused::new(Code::Unavailable, GIVEN_UP))),
            over = traffic.over(true) => return Err(Unanswered::Refused(over.into())),
        };
        wait.is_over = true;
        if let Err(lost) = &sent
            && is_refusal(&lost.error)
        {
            slot.is_refused();
        }
        match sent {
            Ok((response, rest)) => {
                body.settle();
                let rest = rest.and_then(|stream| Some((stream, asking.take()?)));
                return Ok((response, slot, rest));
            }
            Err(lost) if lost.unread && body.rewind() => {
                if again {
                    return Err(Unanswered::Unread(lost, slot));
                }
                again = true;
                if !is_refusal(&lost.error) {
                    after = slot.lost(way.calls.latest()); // one that is not about to end as well
                }
            }
            // It keeps the deadline as well.
            Err(Lost { error, .. }) if is_cancelled(&error) && traffic.is_late() => {
                return Err(Unanswered::Refused(Refused::new(Code::DeadlineExceeded, TOO_LATE)));
            }
            Err(Lost { error, .. }) => {
                let is_fault = is_the_replicas_fault(&error) && !is_farewell(&error);
                if is_fault && (error.is_reset() || slot.blames()) {
                    upstream.health.failed();
                }
                return Err(Unanswered::Refused(Refused::new(meaning(&error), error.to_string())));
            }
        }
    }
}
