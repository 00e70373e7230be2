//! A client's HTTP/1 connection: one request after the other, each forwarded, administered or refused.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use httparse::EMPTY_HEADER;
use tower::ServiceExt;

use super::access_log::{Noted, Tally};
use super::buffer::{Buffer, Outbox};
use super::client::Http1;
use super::error::{ProxyError, Refusal};
use super::exchange::{Client, ClientFailure, Outcome, Terms};
use super::forward::{Asked, Pool, Uncarried};
use super::http2::upgrade::{SWITCHING, Upgrade, Upgraded};
use super::http2::{self, PREFACE};
use super::key::{self, Found};
use super::pools::{Pools, Way};
use super::stream::{Rewound, Stream};
use super::tunnel::{End, tunnel};
use super::watch::Ticket;
use super::wire::body::BodyReader;
use super::wire::emit::{self, Arrival, ClientName};
use super::wire::request::{MOST_FIELDS, Request, RequestError, head_end, is_idempotent};
use super::wire::{Framing, Version};
use super::worker::Worker;
use crate::admin::PAYLOAD_TIMEOUT;

/// The largest body of a call of the administration, in bytes.
const LARGEST_CALL: usize = 64 * 1024;
/// After an answer that ends the connection, what the client still sends is read and forgotten for this long, so
/// that it sees the answer and not a reset (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(1);
/// When a drain begins, a client that has connected and not yet asked may still ask within this.
const FIRST_WORDS: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 1024 * 1024;

/// What is to be done with a request.
enum Plan<'p> {
    Forward { pool: &'p Pool, head: Outbox, key: Found, to_head: bool, idempotent: bool, upgrade: bool },
    Administer(http::Request<()>),
    Upgrade(Upgrade),
    Refuse(ProxyError),
}

/// A request that was understood.
struct Planned<'p> {
    plan: Plan<'p>,
    framing: Framing,
    to_head: bool,
}

/// What a client's connection turned out to carry.
enum Heard {
    /// A request, whose head has this length.
    Head(usize),
    /// HTTP/2.
    Http2,
    /// Nothing more.
    End,
}

/// A client's connection, served.
pub struct Session {
    worker: Rc<Worker>,
    client: Http1,
    ticket: Ticket,
    name: ClientName,
    peer: SocketAddr,
    tls: bool,
    requests: u64,
    noted: Option<Box<Noted>>,
}

impl Session {
    /// A connection on which some bytes may have arrived already.
    pub fn new(worker: Rc<Worker>, stream: Stream, input: Buffer, peer: SocketAddr) -> Self {
        let ticket = worker.watch.ticket();
        let tls = matches!(stream, Stream::Tls(_));
        let name = ClientName::new(peer.ip());
        Self { client: Http1::new(stream, input), name, ticket, peer, tls, worker, requests: 0, noted: None }
    }

    /// Serves it to its end.
    pub async fn run(mut self) {
        let mut first = true;
        loop {
            let length = match self.head(first).await {
                Ok(Heard::Head(length)) => length,
                Ok(Heard::Http2) => return self.become_http2().await,
                Ok(Heard::End) => return,
                Err(error) => return self.turn_away(error).await,
            };
            first = false;
            self.requests += 1;
            let pools = self.worker.pools();
            let planned = match self.plan(length, &pools) {
                Ok(planned) => planned,
                Err(error) => return self.refuse_and_close(error, false).await,
            };
            self.client.input.consume(length);
            self.client.body = BodyReader::new(planned.framing);
            self.client.keep_alive &= !self.worker.draining.get();
            let most = self.worker.front.config.calm.max_requests_per_connection;
            if most > 0 && self.requests >= most {
                self.client.keep_alive = false;
                self.worker.front.metrics.limit_hit("requests_per_connection");
            }
            let tally = Tally::default();
            let goes_on = match planned.plan {
                Plan::Forward { pool, head, key, to_head, idempotent, upgrade } => {
                    let terms = Terms {
                        head: head.data(),
                        ticket: &self.ticket,
                        patience: pool.patience,
                        framing: planned.framing,
                        to_head,
                        may_upgrade: upgrade,
                        began: Instant::now(),
                    };
                    let (worker, logged) = (self.worker.index, self.noted.is_some());
                    let asked = Asked { key: &key, idempotent, terms, worker, tally: &tally, logged };
                    let carried = pool.forward(asked, &mut self.client).await;
                    if !matches!(carried, Err(Uncarried::Refused(_))) {
                        self.log(&tally);
                    }
                    match carried {
                        Ok(carried) => match (carried.outcome, carried.connection) {
                            (Outcome::Upgraded, Some(mut connection)) => {
                                let ends = (
                                    End {
                                        stream: &mut self.client.stream,
                                        input: &mut self.client.input,
                                        ended: false,
                                    },
                                    End {
                                        stream: &mut connection.stream,
                                        input: &mut connection.input,
                                        ended: false,
                                    },
                                );
                                let idle = pool.config.forward.tunnel_timeout;
                                tunnel(ends.0, ends.1, &self.ticket, idle).await;
                                drop(carried.flight);
                                return;
                            }
                            (Outcome::Answered { client: true, .. }, _) => self.client.keep_alive,
                            _ => {
                                self.client.keep_alive = false;
                                false
                            }
                        },
                        Err(Uncarried::Refused(refusal)) => {
                            let whole = self.client.body.is_over();
                            if !whole {
                                self.client.keep_alive = false;
                                self.tallied_refusal(&refusal, to_head, &tally).await;
                                return self.linger().await;
                            }
                            self.tallied_refusal(&refusal, to_head, &tally).await
                        }
                        Err(Uncarried::Broken | Uncarried::Gone) => return,
                    }
                }
                Plan::Upgrade(upgrade) => return self.upgrade(upgrade).await,
                Plan::Administer(request) => self.administer(request).await,
                Plan::Refuse(error) => {
                    if self.client.body.is_over() {
                        self.refuse(&error.into(), planned.to_head).await
                    } else {
                        return self.refuse_and_close(error.into(), planned.to_head).await;
                    }
                }
            };
            if !goes_on {
                return self.linger().await;
            }
        }
    }

    /// Leaves the line of the present request in the access log.
    fn log(&mut self, tally: &Tally) {
        if let (Some(noted), Some(log)) = (self.noted.take(), &self.worker.front.calm.log) {
            log.write(&noted, self.peer.ip(), tally);
        }
    }

    /// Waits for the head of a request, or for the client to have no more to ask.
    async fn head(&mut self, first: bool) -> Result<Heard, ProxyError> {
        let limits = &self.worker.front.config;
        let (header_timeout, idle_timeout) = (limits.header_timeout, limits.idle_timeout);
        let largest = limits.max_header_bytes;
        let (client, ticket, worker) = (&mut self.client, &self.ticket, &self.worker);
        let (mut seen, mut leaving) = (0, false);
        let mut begun = first || !client.input.is_empty();
        ticket.set(if begun { header_timeout } else { idle_timeout });
        std::future::poll_fn(|cx| {
            loop {
                while client.input.data().starts_with(b"\r\n") && seen == 0 {
                    client.input.consume(2); // RFC 9112 section 2.2
                }
                let data = client.input.data();
                let preface = &PREFACE[..data.len().min(PREFACE.len())];
                let is_preface = first && !data.is_empty() && data.starts_with(preface);
                if is_preface && preface.len() == PREFACE.len() {
                    return Poll::Ready(Ok(Heard::Http2));
                }
                if data.len() > seen && !is_preface {
                    if let Some(end) = head_end(data, seen)? {
                        if end > largest {
                            return Poll::Ready(Err(ProxyError::LargeHead(largest)));
                        }
                        return Poll::Ready(Ok(Heard::Head(end)));
                    }
                    if data.len() >= largest || client.input.is_full() {
                        return Poll::Ready(Err(ProxyError::LargeHead(largest)));
                    }
                    seen = if data == b"\r" { 0 } else { data.len() };
                    if !begun {
                        begun = true;
                        ticket.set(header_timeout);
                    }
                }
                match client.input.poll_fill(cx, &mut client.stream) {
                    Poll::Ready(Ok(count)) if count > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(Ok(Heard::End)),
                    Poll::Pending => {
                        if client.input.is_empty() && worker.draining.get() {
                            if !first {
                                return Poll::Ready(Ok(Heard::End));
                            }
                            if !leaving {
                                leaving = true;
                                ticket.set(FIRST_WORDS.min(header_timeout));
                            }
                        }
                        if !ticket.has_expired(cx) {
                            return Poll::Pending;
                        }
                        return Poll::Ready(if client.input.is_empty() && (!first || leaving) {
                            Ok(Heard::End)
                        } else {
                            Err(ProxyError::SlowHead(header_timeout))
                        });
                    }
                }
            }
        })
        .await
    }

    async fn become_http2(self) {
        let Http1 { stream, input, .. } = self.client;
        drop(self.ticket);
        Box::pin(http2::serve(self.worker, Rewound { head: input, stream }, self.peer, self.tls)).await;
    }

    async fn upgrade(mut self, upgrade: Upgrade) {
        self.client.out.bytes().extend_from_slice(SWITCHING);
        if self.flush().await.is_err() {
            return;
        }
        let Http1 { stream, input, .. } = self.client;
        drop(self.ticket);
        let stream = Upgraded::new(Rewound { head: input, stream }, upgrade);
        Box::pin(http2::serve(self.worker, stream, self.peer, false)).await;
    }

    /// Understands the head that has arrived.
    fn plan<'p>(&mut self, length: usize, pools: &'p Pools) -> Result<Planned<'p>, Refusal> {
        let mut storage = [EMPTY_HEADER; MOST_FIELDS];
        let front = &self.worker.front;
        let parsed = Request::parse(&self.client.input.data()[..length], &mut storage);
        self.noted = front.calm.note("HTTP/1.1");
        let (request, _) = match parsed {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Err(ProxyError::BadRequest(super::wire::request::RequestError::Syntax).into()),
            Err(error) => return Err(ProxyError::from(error).into()),
        };
        if let Some(noted) = &mut self.noted {
            note(noted, &request);
        }
        if request.fields.len() > front.config.calm.max_header_fields {
            return Err(ProxyError::from(RequestError::Fields).into());
        }
        let path = request.target.path();
        let way = pools.way(|| request.host(), path);
        let pool = if let Way::To(pool) = way { pool } else { pools.main() };
        let allowance = pool.config.forward.max_body_bytes;
        if let Framing::Length(length) = request.framing
            && length > allowance
        {
            return Err(ProxyError::TooLarge.into());
        }
        self.client.allowance = allowance;
        self.client.version = request.version;
        self.client.keep_alive = request.keeps_alive();
        let to_head = request.method == "HEAD";
        let mut upgrade = None;
        if request.said.offers_h2c {
            upgrade = Upgrade::of(&request).filter(|_| !self.tls && !self.worker.draining.get());
        }
        let plan = if let Err(wait) = front.calm.clients.request(self.peer.ip()) {
            Plan::Refuse(ProxyError::TooOften(wait))
        } else if let Some(upgrade) = upgrade {
            Plan::Upgrade(upgrade)
        } else if let Way::Administer = way {
            Plan::Administer(as_http(&request)?)
        } else if let Way::Nowhere = way {
            Plan::Refuse(ProxyError::NoRoute(path.to_owned()))
        } else {
            let key = key::of(&pool.config.forward.key, &request, &self.name);
            let mut head = Outbox::default();
            let request_id = self.worker.request_id();
            let arrival = Arrival {
                client: &self.name,
                trusted: front.config.trusts(self.peer.ip()),
                tls: self.tls,
                request_id: &request_id,
            };
            if let Some(noted) = &mut self.noted
                && noted.request_id.is_empty()
            {
                noted.request_id = request_id.to_vec();
            }
            emit::request(head.bytes(), &request, &arrival, request.framing);
            let upgrade = request.said.upgrade.is_some() && request.version == Version::Http11;
            Plan::Forward { pool, head, key, to_head, idempotent: is_idempotent(request.method), upgrade }
        };
        Ok(Planned { plan, framing: request.framing, to_head })
    }

    /// Answers a call of the administration. Whether another request may follow.
    async fn administer(&mut self, request: http::Request<()>) -> bool {
        let to_head = request.method() == http::Method::HEAD;
        let body = match self.call_body(&request).await {
            Ok(body) => body,
            Err(error) => {
                self.client.keep_alive = false;
                return self.refuse(&error.into(), to_head).await;
            }
        };
        let mut request = request.map(|()| axum::body::Body::from(body));
        request.extensions_mut().insert(axum::extract::ConnectInfo(self.peer));
        let answered: Result<_, std::convert::Infallible> =
            self.worker.front.contract.clone().oneshot(request).await;
        let (head, body) = match answered {
            Ok(answer) => answer.into_parts(),
            Err(never) => match never {},
        };
        let Ok(body) = body.collect().await else { return false };
        let body = body.to_bytes();
        let tally = Tally::default();
        tally.status.set(head.status.as_u16());
        tally.bytes.set(body.len() as u64);
        self.log(&tally);
        write_answer(self.client.out.bytes(), &head, &body, self.client.keep_alive, to_head);
        self.flush().await.is_ok() && self.client.keep_alive
    }

    async fn call_body(&mut self, request: &http::Request<()>) -> Result<Vec<u8>, ProxyError> {
        if request.headers().get(http::header::EXPECT).is_some() {
            self.client.out.bytes().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            if self.flush().await.is_err() {
                return Err(ProxyError::BadBody);
            }
        }
        let patience = self.worker.front.config.idle_timeout.min(PAYLOAD_TIMEOUT);
        let (client, ticket) = (&mut self.client, &self.ticket);
        let mut body = Vec::new();
        ticket.set(patience);
        std::future::poll_fn(|cx| {
            loop {
                match client.poll_body(cx) {
                    Poll::Ready(Ok(Some(count))) => {
                        if body.len() + count > LARGEST_CALL {
                            return Poll::Ready(Err(ProxyError::LargeCall(LARGEST_CALL)));
                        }
                        body.extend_from_slice(&client.body()[..count]);
                        client.took(count);
                    }
                    Poll::Ready(Ok(None)) => {
                        client.put_last_chunk(&mut Vec::new());
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(Err(ClientFailure::TooLarge)) => {
                        return Poll::Ready(Err(ProxyError::TooLarge));
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(ProxyError::BadBody)),
                    Poll::Pending if ticket.has_expired(cx) => {
                        return Poll::Ready(Err(ProxyError::SlowCall(patience)));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await?;
        ticket.unset();
        Ok(body)
    }

    /// Sends a refusal after which another request may follow, if the client allows. Whether it may.
    async fn refuse(&mut self, refusal: &Refusal, to_head: bool) -> bool {
        self.tallied_refusal(refusal, to_head, &Tally::default()).await
    }

    async fn tallied_refusal(&mut self, refusal: &Refusal, to_head: bool, tally: &Tally) -> bool {
        self.worker.front.refused(refusal, self.peer.ip());
        let length = refusal.write(self.client.out.bytes(), self.client.keep_alive, to_head);
        if self.worker.front.calm.log.is_some() {
            tally.status.set(refusal.error.status().as_u16());
            tally.bytes.set(length as u64);
            tally.replica.replace(refusal.replica.clone());
            self.log(tally);
        }
        self.flush().await.is_ok() && self.client.keep_alive
    }

    /// Refuses what was not even understood, and ends the connection.
    pub async fn turn_away(mut self, error: ProxyError) {
        self.noted = self.worker.front.calm.note("HTTP/1.1");
        self.refuse_and_close(error.into(), false).await;
    }

    async fn refuse_and_close(mut self, refusal: Refusal, to_head: bool) {
        self.client.keep_alive = false;
        self.refuse(&refusal, to_head).await;
        self.linger().await;
    }

    async fn flush(&mut self) -> io::Result<()> {
        let (client, ticket) = (&mut self.client, &self.ticket);
        ticket.set(self.worker.front.config.idle_timeout);
        std::future::poll_fn(|cx| match client.poll_flush(cx) {
            Poll::Pending if ticket.has_expired(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            polled => polled,
        })
        .await
    }

    /// Ends the connection so that the client gets everything that was said.
    async fn linger(mut self) {
        let (client, ticket) = (&mut self.client, &self.ticket);
        ticket.set(LINGER);
        let mut heard = 0;
        std::future::poll_fn(|cx| {
            use tokio::io::AsyncWrite;
            if ready!(std::pin::Pin::new(&mut client.stream).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            loop {
                let held = client.input.data().len();
                client.input.consume(held);
                match client.input.poll_fill(cx, &mut client.stream) {
                    Poll::Ready(Ok(count)) if count > 0 && heard < LINGER_BYTES => heard += count,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending if ticket.has_expired(cx) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }
}

/// Writes down what the access log wants of a request.
fn note(noted: &mut Noted, request: &Request<'_>) {
    let field = |name| request.field(name).unwrap_or_default().to_vec();
    request.method.clone_into(&mut noted.method);
    request.target.path_and_query.clone_into(&mut noted.target);
    if request.version == Version::Http10 {
        noted.protocol = "HTTP/1.0";
    }
    noted.request_id = request.said.request_id.unwrap_or_default().to_vec();
    noted.referer = field("referer");
    noted.agent = field("user-agent");
}

/// The request as the administration takes it.
fn as_http(request: &Request<'_>) -> Result<http::Request<()>, Refusal> {
    let mut built = http::Request::builder().method(request.method).uri(request.target.path_and_query);
    for field in request.fields {
        built = built.header(field.name, field.value);
    }
    built.body(()).map_err(|_| ProxyError::BadRequest(super::wire::request::RequestError::Syntax).into())
}

fn write_answer(
    out: &mut Vec<u8>,
    head: &http::response::Parts,
    body: &[u8],
    keep_alive: bool,
    to_head: bool,
) {
    use std::io::Write as _;
    let reason = head.status.canonical_reason().unwrap_or_default();
    write!(out, "HTTP/1.1 {} {reason}\r\n", head.status.as_str()).expect("writing into memory");
    for (name, value) in &head.headers {
        if *name != http::header::CONTENT_LENGTH && *name != http::header::TRANSFER_ENCODING {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    let length = match head.headers.get(http::header::CONTENT_LENGTH).filter(|_| to_head) {
        Some(length) => String::from_utf8_lossy(length.as_bytes()).into_owned(),
        None => body.len().to_string(),
    };
    let connection = if keep_alive { "keep-alive" } else { "close" };
    write!(out, "Content-Length: {length}\r\nConnection: {connection}\r\n\r\n").expect("writing into memory");
    if !to_head {
        out.extend_from_slice(body);
    }
}
