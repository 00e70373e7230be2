//! Clients that speak HTTP/2, over TLS (ALPN) or in the clear (prior knowledge, or [`upgrade`]).
//!
//! The framing is hyper's. Each stream is carried like a request of HTTP/1, over one connection to a replica, by
//! the same [`super::exchange`]; only gRPC, which needs HTTP/2 all the way, has a path of its own ([`grpc`]).

mod client;
pub mod grpc;
mod head;
mod paced;
mod pipe;
mod streams;
pub mod upgrade;

use std::cell::{Cell, OnceCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, oneshot};
use tower::ServiceExt;

use super::access_log::{Noted, Tally};
use super::calm::Calm;
use super::error::{ProxyError, Refusal};
use super::exchange::Terms;
use super::forward::{Asked, Pool, Uncarried};
use super::key;
use super::pools::{Pools, Way};
use super::trace::{self, Onward};
use super::whose::Whose;
use super::wire::Framing;
use super::wire::emit::{self, Arrival, ClientName};
use super::wire::request::{RequestError, is_idempotent};
use super::worker::Worker;
use crate::limit::Limit;
use client::Http2;
use grpc::{Account, Calls};
use head::{as_head, cookies, fields, framing};
use paced::Paced;
use pipe::PipeBody;
use streams::{Most, Streams};

/// How often a silent connection is asked whether it is still there.
const PING: Duration = Duration::from_secs(20);
/// Streams that a client opened and reset before they were looked at; beyond them it is sent away
/// (CVE-2023-44487). Those that were looked at already are counted by [`streams`].
const MOST_RESETS: usize = 64;
/// Bytes of one answer that wait for a client that does not read.
const SEND_BUFFER: usize = 64 * 1024;

/// The body of an answer.
pub type AnswerBody = Either<PipeBody, Pin<Box<dyn Body<Data = Bytes, Error = pipe::BrokenOff>>>>;

/// The preface of a connection that is HTTP/2 from its first byte (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A client's connection, as its streams see it.
#[derive(Debug)]
struct Peer {
    worker: Rc<Worker>,
    whose: Whose,
    /// The address that its connection came to.
    here: Option<SocketAddr>,
    /// Connections to replicas for its gRPC alone.
    calls: OnceCell<Calls>,
    name: ClientName,
    tls: bool,
    requests: Cell<u64>,
    enough: Notify,
}

/// Serves a connection, with whose it is and the address that it came to, to its end. Its first request is due by what was left for a head when it began,
/// at `since_ms` of the thread's clock.
pub async fn serve<S>(
    worker: Rc<Worker>,
    stream: S,
    (whose, here): (Whose, Option<SocketAddr>),
    tls: bool,
    since_ms: u64,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let address = whose.peer;
    let pools = worker.pools();
    let limits = &pools.config;
    let mut http = http2::Builder::new(Local);
    http.timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MOST_RESETS)
        .max_local_error_reset_streams(MOST_RESETS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(limits.header_timeout)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(limits.stream_window.min(limits.connection_window))
        .initial_connection_window_size(limits.connection_window);
    let (first, last) = (limits.header_timeout, limits.header_timeout);
    let streams = Streams::new(
        worker.watch.ticket(),
        (since_ms, first),
        limits.idle_timeout,
        Most { streams: limits.max_streams, resets: limits.max_resets },
        worker.front.metrics.clone(),
    );
    drop(pools); // what holds for its requests is asked for each
    let peer = Rc::new(Peer {
        name: whose.name(),
        worker: worker.clone(),
        whose,
        here,
        calls: OnceCell::new(),
        tls,
        requests: Cell::new(0),
        enough: Notify::new(),
    });
    let served = peer.clone();
    let service = service_fn({
        let streams = streams.clone();
        move |request| {
            let (peer, stream) = (peer.clone(), streams.open());
            async move { Ok::<_, Infallible>(stream.answer(peer.handle(request).await)) }
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(Paced::new(stream)), service));
    let (mut drained, mut sent_away) = (false, false);
    let ended = loop {
        tokio::select! {
            ended = &mut connection => break ended,
            () = served.enough.notified(), if !drained => {
                drained = true;
                connection.as_mut().graceful_shutdown();
            }
            () = worker.drain_begun(), if !drained => {
                drained = true;
                connection.as_mut().graceful_shutdown();
            }
            why = streams.over() => match why {
                streams::Over::Idle if !sent_away => {
                    let asked = served.requests.get() > 0;
                    let limit = if asked { Limit::IdleTime } else { Limit::HeaderTime };
                    worker.front.metrics.limit_hit(limit);
                    sent_away = true;
                    streams.patience(last);
                    connection.as_mut().graceful_shutdown();
                }
                why => {
                    if why == streams::Over::Resets {
                        worker.front.metrics.limit_hit(Limit::Resets);
                    }
                    return tracing::debug!(?why, %address, "a client's connection is cut");
                }
            },
        }
    };
    if let Err(error) = ended {
        if is_flood(&error) {
            worker.front.metrics.limit_hit(Limit::Floods);
        }
        tracing::debug!(%error, %address, "a client's connection ended early");
    }
}

/// Whether the framing below has ended a connection because it was flooded; it does not say what with.
fn is_flood(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|error| error.downcast_ref::<h2::Error>())
        .is_some_and(|error| error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

impl Peer {
    async fn handle(self: Rc<Self>, request: Request<Incoming>) -> Response<AnswerBody> {
        let front = &self.worker.front;
        let pools = self.worker.pools();
        let most = pools.config.calm.max_requests_per_connection;
        self.requests.set(self.requests.get() + 1);
        if most > 0 && self.requests.get() == most {
            front.metrics.limit_hit(Limit::RequestsPerConnection);
            self.enough.notify_one();
        }
        let way = pools.way(|| host(&request), request.uri().path());
        let noted = self.note(&pools.calm, &request, way);
        if grpc::is_grpc(request.headers()) {
            return self.call(&pools, request, way, noted).await;
        }
        // One that is carried like a request of HTTP/1 has its line written when it has ended.
        if matches!(way, Way::To(_)) {
            return self.answer(&pools, request, way, noted).await;
        }
        let Some(noted) = noted else {
            return self.answer(&pools, request, way, None).await;
        };
        let response = self.clone().answer(&pools, request, way, None).await;
        self.tell(&noted, &response);
        response
    }

    /// Answers a call of gRPC.
    async fn call(
        self: Rc<Self>,
        pools: &Pools,
        request: Request<Incoming>,
        way: Way<'_>,
        noted: Option<Box<Noted>>,
    ) -> Response<AnswerBody> {
        let request_id = self.worker.request_id();
        let tally = Rc::new(Tally::default());
        let account = noted.map(|mut noted| {
            if noted.request_id.is_empty() {
                noted.request_id = request_id.to_vec();
            }
            Account::new(self.clone(), noted, tally.clone())
        });
        let answered = match (self.unwelcome(pools, &request), way) {
            (Some(error), _) => {
                let answer = grpc::unwelcome(&error);
                self.worker.front.refused(&error.into(), self.whose.peer.ip());
                answer
            }
            (None, Way::Administer) => self.administer(request).await,
            (None, Way::Nowhere) => grpc::unrouted(&self.worker, request.uri().path()),
            (None, Way::To(pool)) => {
                let ends = pool.ends(&self.whose, || self.here);
                let calls = if ends.is_some() { self.own_calls() } else { &self.worker.calls };
                let way = grpc::Way { calls, ends: ends.as_ref() };
                let onward = account.as_ref().map(|account| account.noted.span.onward()).unwrap_or_default();
                let arrival = self.arrival(&request_id, onward);
                grpc::forward(&self.worker, pool, way, request, &arrival, &tally).await
            }
        };
        match account {
            Some(account) => account.answered(answered),
            None => answered,
        }
    }

    /// The connections to replicas of this client alone.
    fn own_calls(&self) -> &Calls {
        self.calls.get_or_init(|| {
            let calls = Calls::default();
            self.worker.knows(calls.known());
            calls
        })
    }

    /// Why a request is not even looked at, if it is not.
    fn unwelcome(&self, pools: &Pools, request: &Request<Incoming>) -> Option<ProxyError> {
        if let Err(error) = head::names_one_host(request.uri(), request.headers()) {
            return Some(error);
        }
        if let Err(error) = head::target(request.method(), request.uri()) {
            return Some(error.into());
        }
        let named = || request.headers().get_all("x-forwarded-for").iter().rev().map(HeaderValue::as_bytes);
        if let Err(wait) = pools.calm.clients.request(|| self.whose.charged(&pools.config, named())) {
            return Some(ProxyError::TooOften(wait));
        }
        (request.headers().len() > pools.config.calm.max_header_fields).then(|| RequestError::Fields.into())
    }

    fn note(&self, calm: &Calm, request: &Request<Incoming>, way: Way<'_>) -> Option<Box<Noted>> {
        let traceparent =
            || trace::only(request.headers().get_all("traceparent").iter().map(HeaderValue::as_bytes));
        let mut noted = calm.note("HTTP/2.0", traceparent)?;
        let field =
            |name: &str| request.headers().get(name).map_or(Vec::new(), |value| value.as_bytes().to_vec());
        request.method().as_str().clone_into(&mut noted.method);
        request.uri().path_and_query().map_or("/", |path| path.as_str()).clone_into(&mut noted.target);
        noted.request_id = field("x-request-id");
        noted.referer = field("referer");
        noted.agent = field("user-agent");
        if let Way::To(pool) = way {
            noted.pool = Some(pool.config.name.clone());
        }
        if noted.span.is_recorded() {
            noted.secure = self.tls;
            let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
            authority.unwrap_or_else(|| host(request)).clone_into(&mut noted.host);
        }
        Some(noted)
    }

    fn log(&self, noted: &Noted, tally: &Tally) {
        self.worker.pools().calm.tell(noted, self.whose.peer.ip(), tally);
    }

    /// Refuses what is not carried. One who is `noted` here is told of nowhere else.
    fn turn_away(
        &self,
        error: ProxyError,
        bodyless: bool,
        noted: Option<Box<Noted>>,
    ) -> Response<AnswerBody> {
        let response = self.refuse(error.into(), bodyless);
        if let Some(noted) = noted {
            self.tell(&noted, &response);
        }
        response
    }

    /// Tells of a request that was answered here.
    fn tell(&self, noted: &Noted, response: &Response<AnswerBody>) {
        let tally = Tally::default();
        tally.status.set(response.status().as_u16());
        tally.bytes.set(response.body().size_hint().exact().unwrap_or(0));
        self.log(noted, &tally);
    }

    /// Answers a request. What is carried like one of HTTP/1 is `noted`; of the rest the caller tells.
    async fn answer(
        self: Rc<Self>,
        pools: &Pools,
        request: Request<Incoming>,
        way: Way<'_>,
        noted: Option<Box<Noted>>,
    ) -> Response<AnswerBody> {
        let to_head = request.method() == Method::HEAD;
        if let Some(error) = self.unwelcome(pools, &request) {
            return self.turn_away(error, to_head, noted);
        }
        let pool = match way {
            Way::Administer => return self.administer(request).await,
            Way::Nowhere => {
                let error = ProxyError::NoRoute(request.uri().path().to_owned());
                return self.refuse(error.into(), to_head);
            }
            Way::To(pool) => pool,
        };
        let (done, answered) = oneshot::channel();
        tokio::task::spawn_local(self.clone().carry_and_log(pool.clone(), request, done, noted));
        // Whoever carries it answers, unless the client has gone away.
        answered.await.unwrap_or_else(|_| self.refuse(ProxyError::Died.into(), to_head))
    }

    async fn carry_and_log(
        self: Rc<Self>,
        pool: Arc<Pool>,
        request: Request<Incoming>,
        done: oneshot::Sender<Response<AnswerBody>>,
        mut noted: Option<Box<Noted>>,
    ) {
        let tally = Tally::default();
        self.carry(&pool, request, done, &tally, noted.as_deref_mut()).await;
        if let Some(noted) = noted {
            self.log(&noted, &tally);
        }
    }

    async fn carry(
        &self,
        pool: &Pool,
        request: Request<Incoming>,
        done: oneshot::Sender<Response<AnswerBody>>,
        tally: &Tally,
        mut noted: Option<&mut Noted>,
    ) {
        let began = std::time::Instant::now();
        let (head, body) = request.into_parts();
        let to_head = head.method == Method::HEAD;
        let framing = framing(&head.headers, &body);
        let most = pool.config.forward.max_body_bytes;
        let mut client = Http2::new(body, most, done);
        if matches!(framing, Framing::Length(length) if length > most) {
            return client.refuse(self.refuse(ProxyError::TooLarge.into(), to_head));
        }
        let cookies = cookies(&head.headers);
        let fields = fields(&head.headers, cookies.as_deref());
        let (mut text, key) = (Vec::with_capacity(512), {
            let head = match as_head(&head, &fields, framing) {
                Ok(head) => head,
                Err(error) => return client.refuse(self.refuse(error.into(), to_head)),
            };
            (key::of(&pool.config.forward.key, &head, &self.name), head)
        });
        let (key, head) = key;
        let request_id = self.worker.request_id();
        let logged = noted.is_some();
        if let Some(noted) = noted.as_mut().filter(|noted| noted.request_id.is_empty()) {
            noted.request_id = request_id.to_vec();
        }
        let onward = noted.as_ref().map(|noted| noted.span.onward()).unwrap_or_default();
        emit::request(&mut text, &head, &self.arrival(&request_id, onward), framing);
        if head.fields.iter().any(|field| field.name == "te") {
            // HTTP/2 knows only `trailers` here. Replicas ask for it before they send any (RFC 9110 section 6.5.1).
            text.truncate(text.len() - 2);
            text.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n\r\n");
        }
        let ticket = self.worker.watch.ticket();
        let terms = Terms {
            head: &text,
            ticket: &ticket,
            patience: pool.patience,
            framing,
            to_head,
            may_upgrade: false,
            expects: false, // it would never be told
            began,
            draining: &self.worker.draining,
        };
        let ends = pool.ends(&self.whose, || self.here);
        let asked = Asked {
            key: &key,
            idempotent: is_idempotent(head.method),
            terms,
            worker: self.worker.index,
            tally,
            logged,
            ends: ends.as_ref(),
        };
        match pool.forward(asked, &mut client).await {
            // The replica's place is held until the client has got everything.
            Ok(carried) => client.delivered(&ticket, pool.patience.idle, carried.flight).await,
            Err(Uncarried::Refused(refusal)) => {
                tally.status.set(refusal.error.status().as_u16());
                client.refuse(self.refuse(refusal, to_head));
            }
            Err(Uncarried::Broken | Uncarried::Gone) => {}
        }
    }

    /// What a replica is told of a request that came over this connection.
    fn arrival<'a>(&'a self, request_id: &'a [u8], onward: Onward<'a>) -> Arrival<'a> {
        let trusted = self.whose.is_trusted(&self.worker.pools().config);
        Arrival { client: &self.name, trusted, tls: self.tls, request_id, onward }
    }

    async fn administer(&self, mut request: Request<Incoming>) -> Response<AnswerBody> {
        request.extensions_mut().insert(axum::extract::ConnectInfo(self.whose.caller()));
        let request = request.map(|body| axum::body::Body::new(body.map_err(axum::Error::new)));
        let answered: Result<_, Infallible> = self.worker.front.contract.clone().oneshot(request).await;
        match answered {
            Ok(answer) => answer.map(|body| boxed(body.map_err(|_| pipe::BrokenOff))),
            Err(never) => match never {},
        }
    }

    /// `bodyless`: it asked with HEAD.
    fn refuse(&self, refusal: Refusal, bodyless: bool) -> Response<AnswerBody> {
        self.worker.front.refused(&refusal, self.whose.peer.ip());
        refusal.response(bodyless).map(whole)
    }
}

fn boxed(body: impl Body<Data = Bytes, Error = pipe::BrokenOff> + 'static) -> AnswerBody {
    Either::Right(Box::pin(body))
}

/// The host that a request is for, as [`Head::host`] has it.
fn host(request: &Request<Incoming>) -> &[u8] {
    match request.uri().authority() {
        Some(authority) => authority.host().as_bytes(),
        None => request.headers().get(HOST).map_or(b"", HeaderValue::as_bytes),
    }
}

fn whole(body: Full<Bytes>) -> AnswerBody {
    boxed(body.map_err(|never| match never {}))
}
