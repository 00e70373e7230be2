//! A client's HTTP/1 connection: one request after the other, each forwarded, administered or refused.

mod administer;
mod idle;

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::access_log::{Noted, Tally};
use super::buffer::Outbox;
use super::client::Http1;
use super::error::{ProxyError, Refusal};
use super::exchange::{Client, Outcome, Terms};
use super::farewell;
use super::forward::{Asked, Carried, Pool, Uncarried};
use super::http2::upgrade::{SWITCHING, Upgrade, Upgraded};
use super::http2::{self, PREFACE};
use super::key::{self, Found};
use super::pools::{Pools, Way};
use super::stream::{Rewound, Stream};
use super::tunnel::{End, Passed, tunnel};
use super::watch::Ticket;
use super::wire::body::BodyReader;
use super::wire::emit::{self, Arrival, ClientName};
use super::wire::fields::{Known, known, room};
use super::wire::request::{Request, RequestError, head_end, is_idempotent};
use super::wire::{Framing, Version};
use super::worker::{Place, Worker};
use crate::config::ProxyConfig;
use crate::limit::Limit;
use administer::as_http;
pub use idle::Session;

/// Who asks again within this is likely to do so once more: the connection is kept as a busy one for as long.
const HURRY: Duration = Duration::from_millis(100);

/// What is to be done with a request.
enum Plan<'p> {
    Forward(Forwarded<'p>),
    Administer(http::Request<()>),
    Upgrade(Upgrade),
    Refuse(ProxyError),
}

/// A request for a replica.
struct Forwarded<'p> {
    pool: &'p Pool,
    head: Outbox,
    key: Found,
    to_head: bool,
    idempotent: bool,
    upgrade: bool,
    expects: bool,
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
    /// Nothing for now.
    Rest,
    /// Nothing more.
    End,
}

/// A client's connection, busy.
struct Talk {
    worker: Rc<Worker>,
    place: Place,
    client: Http1,
    ticket: Ticket,
    name: ClientName,
    /// Its word about its own clients counts.
    trusted: bool,
    tls: bool,
    requests: u64,
    idle_since_ms: u64,
    /// It has asked again soon after its last answer.
    hurries: bool,
    noted: Option<Box<Noted>>,
}

impl Talk {
    fn new(session: Session) -> Self {
        let Session { stream, place, ticket, requests, idle_since_ms } = session;
        let worker = place.worker.clone();
        let trusted = place.whose.is_trusted(&worker.pools().config);
        let tls = matches!(stream, Stream::Tls(_));
        let idle_ms = ticket.now_ms().saturating_sub(idle_since_ms);
        let hurries = requests > 0 && u128::from(idle_ms) <= HURRY.as_millis();
        Self {
            client: Http1::new(stream),
            name: place.whose.name(),
            worker,
            place,
            ticket,
            trusted,
            tls,
            requests,
            idle_since_ms,
            hurries,
            noted: None,
        }
    }

    /// What is left of it when nothing is asked.
    fn rest(self) -> Session {
        let Self { client, place, ticket, requests, idle_since_ms, .. } = self;
        Session { stream: client.stream, place, ticket, requests, idle_since_ms }
    }

    /// Serves requests until none has come for a while; then it is idle. `None`: it has ended.
    async fn busy(mut self) -> Option<Session> {
        loop {
            let length = match self.head().await {
                Ok(Heard::Head(length)) => length,
                Ok(Heard::Rest) => return Some(self.rest()),
                Ok(Heard::Http2) => {
                    Box::pin(self.become_http2()).await;
                    return None;
                }
                Ok(Heard::End) => {
                    self.leave().await;
                    return None;
                }
                Err(error) => {
                    self.turn_away(error).await;
                    return None;
                }
            };
            self.requests += 1;
            let pools = self.worker.pools();
            let planned = match self.plan(length, &pools) {
                Ok(planned) => planned,
                Err(refusal) => {
                    self.client.keep_alive = false;
                    self.refuse(&refusal, false).await;
                    self.linger().await;
                    return None;
                }
            };
            self.client.input.consume(length);
            self.client.body = BodyReader::new(planned.framing);
            let most = pools.config.calm.max_requests_per_connection;
            if most > 0 && self.requests >= most {
                self.client.keep_alive = false;
                self.worker.front.metrics.limit_hit(Limit::RequestsPerConnection);
            }
            let goes_on = match planned.plan {
                Plan::Forward(forwarded) => self.forward(forwarded, planned.framing).await?,
                Plan::Upgrade(upgrade) => {
                    Box::pin(self.upgrade(upgrade)).await;
                    return None;
                }
                Plan::Administer(request) => self.administer(request).await,
                Plan::Refuse(error) => {
                    self.client.keep_alive &= self.client.body.is_over();
                    self.refuse(&error.into(), planned.to_head).await
                }
            };
            if !goes_on {
                self.linger().await;
                return None;
            }
            self.idle_since_ms = self.ticket.now_ms();
        }
    }

    /// Carries a request to its end. Whether another may follow; `None`: there is nobody to end anything for.
    async fn forward(&mut self, forwarded: Forwarded<'_>, framing: Framing) -> Option<bool> {
        let Forwarded { pool, head, key, to_head, idempotent, upgrade, expects } = forwarded;
        let tally = Tally::default();
        let terms = Terms {
            head: head.data(),
            ticket: &self.ticket,
            patience: pool.patience,
            framing,
            to_head,
            may_upgrade: upgrade,
            expects,
            began: Instant::now(),
            draining: &self.worker.draining,
        };
        let (worker, logged) = (self.worker.index, self.noted.is_some());
        let ends = pool.ends(&self.place.whose, || self.client.stream.here());
        let ends = ends.as_ref();
        let asked = Asked { key: &key, idempotent, terms, worker, tally: &tally, logged, ends };
        let carried = pool.forward(asked, &mut self.client).await;
        let is_told_later = match &carried {
            Ok(carried) => carried.outcome == Outcome::Upgraded,
            Err(uncarried) => matches!(uncarried, Uncarried::Refused(_)),
        };
        if !is_told_later {
            self.log(&tally);
        }
        match carried {
            Ok(Carried { outcome: Outcome::Upgraded, connection: Some(mut connection), flight }) => {
                let client = End::new(&mut self.client.stream, &mut self.client.input);
                let replica = End::new(&mut connection.stream, &mut connection.input);
                let idle = pool.config.forward.tunnel_timeout;
                if tunnel(client, replica, &self.ticket, idle, &tally.bytes).await == Passed::Nothing {
                    self.worker.front.metrics.limit_hit(Limit::TunnelTime);
                }
                drop(flight);
                self.log(&tally);
                None
            }
            Ok(Carried { outcome: Outcome::Answered { client: true, .. }, .. }) => {
                Some(self.client.keep_alive)
            }
            Ok(_) => Some(false),
            Err(Uncarried::Refused(refusal)) => {
                self.client.keep_alive &= self.client.body.is_over();
                Some(self.tallied_refusal(&refusal, to_head, &tally).await)
            }
            Err(Uncarried::Broken | Uncarried::Gone) => None,
        }
    }

    /// Leaves the line of the present request in the access log, and ends its span.
    fn log(&mut self, tally: &Tally) {
        if let Some(noted) = self.noted.take() {
            self.worker.pools().calm.tell(&noted, self.place.whose.peer.ip(), tally);
        }
    }

    /// Waits for the head of a request; not for long if nothing of it comes.
    async fn head(&mut self) -> Result<Heard, ProxyError> {
        let (header_timeout, largest) = {
            let pools = self.worker.pools(); // it may take long until somebody asks
            (pools.config.header_timeout, pools.config.max_header_bytes)
        };
        let (client, ticket, worker) = (&mut self.client, &self.ticket, &self.worker);
        let (first, since_ms, hurries) = (self.requests == 0, self.idle_since_ms, self.hurries);
        let begins = |ticket: &Ticket| match first {
            true => ticket.set_from(since_ms, header_timeout),
            false => ticket.set(header_timeout),
        };
        let (mut seen, mut begun) = (0, !client.input.is_empty());
        match begun {
            true => begins(ticket),
            false => ticket.set(HURRY),
        }
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
                }
                if !data.is_empty() && !begun {
                    begun = true;
                    begins(ticket);
                }
                match client.input.poll_fill(cx, &mut client.stream) {
                    Poll::Ready(Ok(count)) if count > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(Ok(Heard::End)),
                    Poll::Pending
                        if client.input.is_empty() && (!hurries || worker.draining.get().is_some()) =>
                    {
                        return Poll::Ready(Ok(Heard::Rest));
                    }
                    Poll::Pending if !ticket.has_expired(cx) => return Poll::Pending,
                    Poll::Pending if client.input.is_empty() => return Poll::Ready(Ok(Heard::Rest)),
                    Poll::Pending => return Poll::Ready(Err(ProxyError::SlowHead(header_timeout))),
                }
            }
        })
        .await
    }

    async fn become_http2(self) {
        let since_ms = self.idle_since_ms;
        let Self { client: Http1 { stream, input, .. }, ticket, worker, tls, place, .. } = self;
        drop(ticket);
        let whose = (place.whose, stream.here());
        let stream = Rewound::new(input.data().to_vec(), stream);
        http2::serve(worker, stream, whose, tls, since_ms).await;
    }

    async fn upgrade(mut self, upgrade: Upgrade) {
        self.client.out.bytes().extend_from_slice(SWITCHING);
        if self.flush().await.is_err() {
            return;
        }
        let since_ms = self.ticket.now_ms();
        let Self { client: Http1 { stream, input, .. }, ticket, worker, place, .. } = self;
        drop(ticket);
        let whose = (place.whose, stream.here());
        let stream = Upgraded::new(Rewound::new(input.data().to_vec(), stream), upgrade);
        http2::serve(worker, stream, whose, false, since_ms).await;
    }

    /// Understands the head that has arrived.
    fn plan<'p>(&mut self, length: usize, pools: &'p Pools) -> Result<Planned<'p>, Refusal> {
        let mut storage = room();
        let limits = &pools.config;
        let parsed = Request::parse(&self.client.input.data()[..length], &mut storage);
        self.noted = pools.calm.note("HTTP/1.1", || match &parsed {
            Ok(Some((request, _))) => request.only("traceparent"),
            _ => None,
        });
        let (request, _) = match parsed {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Err(ProxyError::BadRequest(super::wire::request::RequestError::Syntax).into()),
            Err(error) => return Err(ProxyError::from(error).into()),
        };
        if let Some(noted) = &mut self.noted {
            note(noted, &request, self.tls);
        }
        if request.fields.len() > limits.calm.max_header_fields {
            return Err(ProxyError::from(RequestError::Fields).into());
        }
        let path = request.target.path();
        let way = pools.way(|| request.host(), path);
        let pool = if let Way::To(pool) = way { pool } else { pools.main() };
        if let (Some(noted), Way::To(pool)) = (&mut self.noted, way) {
            noted.pool = Some(pool.config.name.clone());
        }
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
            upgrade = Upgrade::of(&request).filter(|_| !self.tls && self.worker.draining.get().is_none());
        }
        // One that is upgraded is counted where it is answered, as the first of its connection.
        let plan = if let Some(upgrade) = upgrade {
            Plan::Upgrade(upgrade)
        } else if let Err(wait) = pools.calm.clients.request(|| self.charged(limits, &request)) {
            Plan::Refuse(ProxyError::TooOften(wait))
        } else if let Way::Administer = way {
            Plan::Administer(as_http(&request)?)
        } else if let Way::Nowhere = way {
            Plan::Refuse(ProxyError::NoRoute(path.to_owned()))
        } else {
            let key = key::of(&pool.config.forward.key, &request, &self.name);
            let mut head = Outbox::default();
            let request_id = self.worker.request_id();
            if let Some(noted) = &mut self.noted
                && noted.request_id.is_empty()
            {
                noted.request_id = request_id.to_vec();
            }
            let arrival = Arrival {
                client: &self.name,
                trusted: self.trusted,
                tls: self.tls,
                request_id: &request_id,
                onward: self.noted.as_ref().map(|noted| noted.span.onward()).unwrap_or_default(),
            };
            emit::request(head.bytes(), &request, &arrival, request.framing);
            let upgrade = request.said.upgrade.is_some() && request.version == Version::Http11;
            let idempotent = is_idempotent(request.method);
            let expects = request.said.expects_continue && request.version == Version::Http11;
            Plan::Forward(Forwarded { pool, head, key, to_head, idempotent, upgrade, expects })
        };
        Ok(Planned { plan, framing: request.framing, to_head })
    }

    /// Whose rate a request counts against.
    fn charged(&self, config: &ProxyConfig, request: &Request<'_>) -> Option<IpAddr> {
        let named =
            request.fields.iter().rev().filter(|field| known(field.name) == Some(Known::ForwardedFor));
        self.place.whose.charged(config, named.map(|field| field.value))
    }

    /// Sends a refusal after which another request may follow, if the client allows. Whether it may.
    async fn refuse(&mut self, refusal: &Refusal, to_head: bool) -> bool {
        self.tallied_refusal(refusal, to_head, &Tally::default()).await
    }

    async fn tallied_refusal(&mut self, refusal: &Refusal, to_head: bool, tally: &Tally) -> bool {
        self.worker.front.refused(refusal, self.place.whose.peer.ip());
        self.client.keep_alive &= self.worker.draining.get().is_none();
        let length = refusal.write(self.client.out.bytes(), self.client.keep_alive, to_head);
        if self.noted.is_some() {
            tally.status.set(refusal.error.status().as_u16());
            tally.bytes.set(length as u64);
            tally.replica.replace(refusal.replica.clone());
            self.log(tally);
        }
        self.flush().await.is_ok() && self.client.keep_alive
    }

    /// Ends an idle connection.
    async fn leave(mut self) {
        farewell::leave(&mut self.client.stream, &self.ticket).await;
    }

    /// Refuses what was not even understood, and ends the connection.
    async fn turn_away(mut self, error: ProxyError) {
        self.noted = self.worker.pools().calm.note("HTTP/1.1", || None);
        self.client.keep_alive = false;
        self.refuse(&error.into(), false).await;
        self.linger().await;
    }

    async fn flush(&mut self) -> io::Result<()> {
        let (client, ticket) = (&mut self.client, &self.ticket);
        ticket.set(self.worker.pools().config.idle_timeout);
        std::future::poll_fn(|cx| match client.poll_flush(cx) {
            Poll::Pending if ticket.has_expired(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            polled => polled,
        })
        .await
    }

    /// Ends the connection so that the client gets everything that was said.
    async fn linger(mut self) {
        farewell::linger(&mut self.client.stream, &mut self.client.input, &self.ticket).await;
    }
}

/// Writes down what the access log and a span want of a request.
fn note(noted: &mut Noted, request: &Request<'_>, tls: bool) {
    if noted.span.is_recorded() {
        noted.secure = tls;
        request.host().clone_into(&mut noted.host);
    }
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
