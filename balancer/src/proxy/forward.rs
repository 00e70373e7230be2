//! One request: offered to the replicas of its key's slot, in their order, until one answers.
//!
//! A replica that takes no connection costs the client nothing: the request was not begun. One that dies with
//! the request costs nothing either if the request may be repeated (RFC 9110 section 9.2.2: idempotent) and had
//! no body; else the client learns that nobody knows what became of it. Before each offer the fleet is looked at
//! anew: a request that waited for a dying replica must not trust what it knew when it came.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slipring_hashing::Key;
use slipring_hashing::bounded::BoundedLoads;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::access_log::Tally;
use super::budget::Budget;
use super::connection::{ConnectError, Connection};
use super::ejection::Ejector;
use super::error::{ProxyError, Refusal};
use super::exchange::{Client, ClientFailure, Exchange, Failure, Outcome, Patience, Terms};
use super::key::Found;
use super::proxy_protocol::Ends;
use super::stream::Stream;
use super::transport::Transport;
use super::upstream::{Flight, Upstream};
use super::upstream_tls::refuses_us;
use super::whose::Whose;
use super::wire::Framing;
use crate::config::{PoolConfig, ProxyConfig};
use crate::fleet::handle::Fleet;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;

/// Replicas that one request is offered to at the very most, those that took no connection included.
pub(super) const MOST_OFFERS: usize = 32;

/// A fleet, and what requests are carried to it with.
#[derive(Debug)]
pub struct Pool {
    /// Name, routes, limits, key sources.
    pub config: PoolConfig,
    /// How long the stages of a request may take.
    pub patience: Patience,
    /// The ring, the replicas' health, and an ear for refused connections.
    pub fleet: Fleet,
    /// Retries that are left.
    pub budget: Budget,
    /// Who leaves replicas out.
    pub ejector: Ejector,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    use_of: Arc<InUse>,
}

/// Ends when no request, and nobody else, knows a pool any more under any configuration.
#[derive(Debug)]
struct InUse {
    over: CancellationToken,
    _guard: DropGuard,
}

/// A request that is to be forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What it is routed by.
    pub key: &'a Found,
    /// Whether asking twice is as good as asking once.
    pub idempotent: bool,
    /// The rest.
    pub terms: Terms<'a>,
    /// Which thread this is.
    pub worker: usize,
    /// Where to note what came of it.
    pub tally: &'a Tally,
    /// Whether that is going to be written down.
    pub logged: bool,
    /// Whose connection it came over, if its replica is told so before anything else.
    pub ends: Option<&'a Ends>,
}

/// A request that was carried to its end.
#[derive(Debug)]
pub struct Carried {
    /// How.
    pub outcome: Outcome,
    /// By whom; it counts as in flight, and has its place, while this is held.
    pub flight: Flight,
    /// Over what, if the connection now belongs to another protocol.
    pub connection: Option<Connection>,
}

/// Why a request was not carried to its end.
#[derive(Debug)]
pub enum Uncarried {
    /// The client can still be told.
    Refused(Refusal),
    /// The answer had begun; its connection can only be broken off.
    Broken,
    /// Nobody is there to be told.
    Gone,
}

/// What offering a request to one replica came to.
enum Offer {
    Carried(Outcome, Option<Connection>),
    /// Nothing of the request was taken.
    NotBegun(ConnectError),
    /// All its places were taken for so long.
    NoPlace(Duration),
    /// It was begun, and no answer will come. `reused`: perhaps only because an old connection had ended.
    Lost {
        reused: bool,
        error: ProxyError,
    },
    /// Its answer had begun, and broke off.
    Broke(ProxyError),
    Over(Uncarried),
}

impl Offer {
    /// Whether the replica itself failed: not its old connection, not the client, and not before the fleet knew.
    fn is_the_replicas_fault(&self) -> bool {
        match self {
            // What is spoken is a client's choice.
            Self::NotBegun(error) if error.is_about_protocol() || error.is_our_own_want() => false,
            Self::NotBegun(error) => {
                use ConnectError::{Ended, Io, Timeout, Tls};
                matches!(error, Timeout(_) | Io(_) | Tls { .. } | Ended)
            }
            Self::Lost { reused, error: ProxyError::Lost(_) } => !reused,
            Self::Lost { error, .. } => {
                use ProxyError::{Garbled, Timeout, Unreachable, Unread};
                matches!(error, Garbled | Timeout(_) | Unread(_) | Unreachable(_))
            }
            // One that stalls perhaps had nothing to say.
            Self::Broke(error) => {
                use ProxyError::{SlowReader, Stalled, Unheard};
                !matches!(error, Stalled(_) | SlowReader(_) | Unheard(_))
            }
            // A crowd says nothing of whom it wants.
            Self::NoPlace(_) | Self::Carried(..) | Self::Over(_) => false,
        }
    }
}

/// A replica that is to be asked, entered.
#[derive(Debug)]
pub(super) struct Candidate {
    /// The request counts as in flight while this is held.
    pub(super) flight: Flight,
    /// No replica is well; this one is asked all the same.
    pub(super) panic: bool,
}

fn patience(config: &PoolConfig, proxy: &ProxyConfig) -> Patience {
    let forward = &config.forward;
    Patience {
        first_byte: forward.first_byte_timeout,
        idle: forward.idle_timeout,
        min_rate: proxy.calm.min_body_rate,
        grace: proxy.calm.body_grace,
        half_closed: proxy.half_closed_timeout,
    }
}

impl Pool {
    /// A pool with this fleet, for clients who are treated as `proxy` says.
    pub fn new(config: PoolConfig, proxy: &ProxyConfig, fleet: Fleet, metrics: Arc<Metrics>) -> Self {
        config.forward.upstream.transport.warn(&config.name);
        let patience = patience(&config, proxy);
        let budget = Budget::new(config.forward.retry_budget, proxy.workers);
        let ejector = Ejector::new(config.forward.ejection, metrics.clone());
        let over = CancellationToken::new();
        let use_of = Arc::new(InUse { _guard: over.clone().drop_guard(), over });
        Self { config, patience, fleet, budget, ejector, metrics, use_of }
    }

    /// The pool as it is to be from now on: the very same if nothing of it changes; else with the same fleet, and with
    /// what it knows of requests and failures.
    #[must_use]
    pub fn again(self: &Arc<Self>, config: &PoolConfig, proxy: &ProxyConfig) -> Arc<Self> {
        let patience = patience(config, proxy);
        if self.config == *config && self.patience == patience {
            return self.clone();
        }
        if config.forward.upstream.transport != *self.transport() {
            config.forward.upstream.transport.warn(&config.name);
        }
        Arc::new(Self {
            config: config.clone(),
            patience,
            fleet: self.fleet.clone(),
            budget: self.budget.with_share(config.forward.retry_budget),
            ejector: self.ejector.with_policy(config.forward.ejection),
            metrics: self.metrics.clone(),
            use_of: self.use_of.clone(),
        })
    }

    /// Resolves when nobody holds this pool any more, as it is or as it was.
    pub fn unused(&self) -> WaitForCancellationFutureOwned {
        self.use_of.over.clone().cancelled_owned()
    }

    /// What comes before a request on a connection to one of its replicas.
    pub fn transport(&self) -> &Transport {
        &self.config.forward.upstream.transport
    }

    /// The ends of a client's connection, if replicas are told whose it is.
    pub fn ends(&self, whose: &Whose, here: impl FnOnce() -> Option<SocketAddr>) -> Option<Ends> {
        if self.transport().says_whose() { whose.ends(here) } else { None }
    }

    /// A second has passed; one thread says so.
    pub fn tick(&self, snapshot: &Snapshot) {
        self.budget.tick();
        self.ejector.tick(snapshot);
    }

    /// Leaves a replica out that has failed too often.
    pub(super) fn judge(&self, upstream: &Upstream) {
        if upstream.health.is_suspicious() {
            self.ejector.judge(upstream, &self.fleet.look());
        }
    }

    /// Forwards one request and its answer.
    pub async fn forward<C: Client>(&self, asked: Asked<'_>, client: &mut C) -> Result<Carried, Uncarried> {
        let repeatable = asked.idempotent && asked.terms.framing == Framing::None;
        let asked = Asked { idempotent: repeatable, ..asked }; // as far as a lost connection is concerned
        let mut exchange = Exchange::new(client, asked.terms);
        let mut tried: Vec<u64> = Vec::new();
        let mut begun = 0;
        let mut fresh = false;
        let mut last: Option<Refusal> = None;
        let mut owed: Option<Arc<Upstream>> = None;
        self.budget.came(asked.worker);
        let mut deadline = None;
        let gone = |_: ClientFailure| Uncarried::Gone;
        while tried.len() < MOST_OFFERS && begun < self.config.forward.max_attempts {
            let found = self.find(asked.key.key(), &tried);
            let mut at_once = found.is_some() && tried.is_empty();
            let candidate = match found {
                Some(found) => Some(found),
                None => exchange.unless_gone(self.candidate(asked.key.key(), &tried)).await.map_err(gone)?,
            };
            let Some(Candidate { mut flight, panic }) = candidate else { break };
            // From the first offer on: the fleet's own start is not the replicas' fault.
            let deadline = *deadline.get_or_insert_with(|| {
                let from = if at_once { asked.terms.began } else { Instant::now() };
                from + asked.terms.patience.first_byte
            });
            at_once &= last.is_none();
            if last.is_some() && Instant::now() >= deadline {
                break;
            }
            let upstream = flight.upstream.clone();
            if last.is_some() {
                let again = self.may_offer_again(owed.take(), (asked.worker, asked.terms.ticket.now_ms()));
                if !exchange.unless_gone(again).await.map_err(gone)? {
                    break;
                }
            }
            exchange.in_panic(panic);
            let refusal = |error| Refusal { error, replica: Some(upstream.header.clone()), panic };
            let offer = self.offer(&mut flight, &mut exchange, &asked, fresh, (deadline, at_once)).await;
            let (status, sent) = exchange.answered();
            asked.tally.status.set(status);
            asked.tally.bytes.set(sent);
            asked.tally.attempts.set(asked.tally.attempts.get() + 1);
            if asked.logged {
                asked.tally.replica.replace(Some(upstream.header.clone()));
            }
            if offer.is_the_replicas_fault() {
                upstream.health.failed();
            } else if status > 0 {
                upstream.health.answered(status);
            }
            self.judge(&upstream);
            match offer {
                Offer::Carried(outcome, connection) => return Ok(Carried { outcome, flight, connection }),
                Offer::Broke(_) => {
                    asked.tally.broken_off.set(true);
                    return Err(Uncarried::Broken);
                }
                Offer::Over(uncarried) => return Err(uncarried),
                // Its key stays its key: a crowd at one replica is not sent on to the next.
                Offer::NoPlace(within) => {
                    return Err(Uncarried::Refused(refusal(ProxyError::NoPlace(within))));
                }
                Offer::NotBegun(ConnectError::Full) => {
                    return Err(Uncarried::Refused(refusal(ProxyError::QueueFull)));
                }
                Offer::NotBegun(error) => {
                    if matches!(error, ConnectError::Refused) {
                        self.fleet.report_refused(&upstream.instance);
                    }
                    // Only what cost time counts as an attempt: refusals are over at once.
                    let cost = !matches!(error, ConnectError::Refused | ConnectError::Gone);
                    owed = cost.then(|| upstream.clone());
                    begun += usize::from(cost);
                    tried.push(upstream.instance.incarnation);
                    fresh = false;
                    last = Some(refusal(ProxyError::Unreachable(error)));
                }
                Offer::Lost { reused, error } => {
                    if !(repeatable && error.may_be_repeated()) {
                        return Err(Uncarried::Refused(refusal(error)));
                    }
                    exchange.rewind();
                    owed = Some(upstream.clone());
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
        Err(Uncarried::Refused(last.unwrap_or(ProxyError::NoReplica.into())))
    }

    /// The best replica for `key` at this moment that was not tried yet, entered.
    pub(super) async fn candidate(&self, key: Key<'_>, tried: &[u64]) -> Option<Candidate> {
        if let Some(candidate) = self.find(key, tried) {
            return Some(candidate);
        }
        if !self.fleet.has_settled()
            && tokio::time::timeout(self.config.fleet.start_timeout, self.fleet.settled()).await.is_err()
        {
            return None;
        }
        // Looked for again even if it has settled: perhaps just now, after the first look.
        self.find(key, tried)
    }

    fn find(&self, key: Key<'_>, tried: &[u64]) -> Option<Candidate> {
        let snapshot = self.fleet.look();
        let slot = snapshot.table.slot_of(key);
        let untried = |upstream: &&Arc<Upstream>| !tried.contains(&upstream.instance.incarnation);
        let well = |flight| Candidate { flight, panic: false };
        if let Some(bounded) = self.config.forward.bounded_load
            && let Some(flight) = self.find_within(bounded, &snapshot, slot, tried)
        {
            return Some(well(flight));
        }
        if let Some(flight) = snapshot.healthy(slot).filter(untried).find_map(Upstream::enter) {
            return Some(well(flight));
        }
        let flight = snapshot.sick(slot).filter(untried).find_map(Upstream::enter)?;
        let panic = snapshot.is_in_panic();
        self.ejector.see(panic);
        Some(Candidate { flight, panic })
    }

    /// The first in the order of preference that does not hold too many requests already.
    fn find_within(
        &self,
        bounded: BoundedLoads,
        snapshot: &Snapshot,
        slot: u32,
        tried: &[u64],
    ) -> Option<Flight> {
        let all = || snapshot.healthy(slot);
        let (count, under_way) =
            all().fold((0, 0), |(count, sum), one| (count + 1, sum + one.in_flight() as u64));
        let bound = bounded.bound(under_way, count);
        for (place, upstream) in all().enumerate() {
            if tried.contains(&upstream.instance.incarnation) || upstream.in_flight() as u64 >= bound {
                continue;
            }
            if let Some(flight) = upstream.enter() {
                if place > 0 && tried.is_empty() {
                    self.metrics.overflows.inc();
                }
                return Some(flight);
            }
        }
        None
    }

    async fn offer<C: Client>(
        &self,
        flight: &mut Flight,
        exchange: &mut Exchange<'_, C>,
        asked: &Asked<'_>,
        mut fresh: bool,
        (deadline, mut at_once): (Instant, bool),
    ) -> Offer {
        if !flight.try_place() {
            at_once = false;
            let placed = tokio::time::timeout_at(deadline.into(), flight.place());
            match exchange.unless_gone(placed).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => return Offer::NotBegun(error),
                Ok(Err(_)) => return Offer::NoPlace(asked.terms.patience.first_byte),
                Err(_) => return Offer::Over(Uncarried::Gone),
            }
        }
        let upstream = &*flight.upstream;
        let pool = upstream.pool(asked.worker);
        loop {
            let pooled = if fresh { None } else { pool.take(self.transport().mark(), asked.ends) };
            let reused = pooled.is_some();
            let mut connection = match pooled {
                // What must not be done twice is not given to a connection that may have ended.
                Some(mut old) => {
                    if !asked.idempotent && !old.is_open() {
                        continue;
                    }
                    old
                }
                None => {
                    at_once = false;
                    let within = self.config.forward.connect_timeout;
                    let way = (self.transport(), asked.ends);
                    let opening = Connection::open(upstream.address, way, within, asked.terms.patience.idle);
                    match exchange.unless_gone(opening).await {
                        Ok(Ok(new)) => new,
                        Ok(Err(error)) => {
                            upstream.complain(&error);
                            return Offer::NotBegun(error);
                        }
                        Err(_) => return Offer::Over(Uncarried::Gone),
                    }
                }
            };
            if upstream.is_gone() {
                return Offer::NotBegun(ConnectError::Gone);
            }
            // Nothing was waited for: the clock need not be asked.
            let left = match at_once {
                true => asked.terms.patience.first_byte,
                false => deadline.saturating_duration_since(Instant::now()),
            };
            let failure = match exchange.over(&mut connection, upstream, left).await {
                Ok(Outcome::Upgraded) => return Offer::Carried(Outcome::Upgraded, Some(connection)),
                Ok(outcome) => {
                    if matches!(outcome, Outcome::Answered { replica: true, .. }) && !upstream.is_gone() {
                        pool.give_back(connection, asked.terms.ticket.now_ms());
                    }
                    return Offer::Carried(outcome, None);
                }
                Err(failure) => failure,
            };
            return match failure {
                Failure::Before(ProxyError::Lost(_)) if exchange.is_untouched() => {
                    if reused {
                        fresh = true;
                        continue;
                    }
                    Offer::NotBegun(ConnectError::Ended)
                }
                // Nobody has read any of it: only on a new connection is that so.
                Failure::Before(ProxyError::Lost(Some(error)))
                    if !reused && matches!(connection.stream, Stream::Tls(_)) && refuses_us(&error) =>
                {
                    let error = ConnectError::tls(error);
                    upstream.complain(&error);
                    if asked.terms.framing == Framing::None {
                        exchange.rewind();
                        return Offer::NotBegun(error);
                    }
                    // And yet some of the body may be gone.
                    Offer::Lost { reused, error: ProxyError::Unreachable(error) }
                }
                Failure::Before(error) => Offer::Lost { reused, error },
                Failure::During(error @ (ProxyError::SlowReader(_) | ProxyError::Unheard(_))) => {
                    error.limit().into_iter().for_each(|limit| self.metrics.limit_hit(limit));
                    Offer::Broke(error)
                }
                Failure::During(error) => {
                    upstream.metrics.broke_off();
                    if let Some(silent) = upstream.complaints.pass(Instant::now()) {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        let replica = &upstream.instance.name;
                        tracing::warn!(%error, cause, replica, silent, "an answer broke off");
                    }
                    Offer::Broke(error)
                }
                Failure::Client(ClientFailure::Gone) => Offer::Over(Uncarried::Gone),
                Failure::Client(ClientFailure::Garbled) => {
                    Offer::Over(Uncarried::Refused(ProxyError::BadBody.into()))
                }
                Failure::Client(ClientFailure::TooLarge) => {
                    Offer::Over(Uncarried::Refused(ProxyError::TooLarge.into()))
                }
            };
        }
    }
}
