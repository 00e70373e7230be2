//! Asks for what a plan wants, on one way after the other, until it is there or no way is left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::date::Date;
use crate::holdings::Holdings;
use crate::peer_wire::failure::Kind;
use crate::peer_wire::{Ask, Failure, Route, ScanPart, ScanRequest};
use crate::peers::Peers;
use crate::plan::{Missing, Wanted};
use crate::query::Query;
use crate::record;
use crate::topology::{Forwarding, ProcessId, Strategies};

/// Parts that may wait for whoever takes them.
const WAITING: usize = 16;

/// What a process asks with.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) own: ProcessId,
    pub(crate) peers: Peers,
    pub(crate) holdings: Holdings,
    pub(crate) strategies: Strategies,
    /// Where the next round of `round_robin` begins.
    pub(crate) turn: AtomicUsize,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) query_id: &'a str,
    pub(crate) query: &'a Query,
    pub(crate) hops: &'a [ProcessId],
    pub(crate) deadline: Instant,
}

impl Asker {
    /// Asks for each partition as many of its rows as `take` says (negative: all; 0: none, they are counted); what comes
    /// is handed on as it comes, each partition once. Returns what did not.
    pub(crate) async fn gather(
        &self,
        question: Question<'_>,
        wanted: Vec<(Wanted, i64)>,
        mut came: impl FnMut(ScanPart) + Send,
    ) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut open: BTreeMap<u32, (Wanted, i64)> =
            wanted.into_iter().map(|one| (one.0.date.number(), one)).collect();
        while !open.is_empty() {
            let (routes, has_more) = routes(&open);
            let hops = question.hops.iter().map(ToString::to_string).collect();
            let conditions = question.query.conditions().normal_form();
            let request = ScanRequest { query_id: question.query_id.to_owned(), conditions, routes, hops };
            // Another way is only one if there is time left for it.
            let left = question.deadline.saturating_duration_since(Instant::now());
            let deadline = Instant::now() + if has_more { left / 2 } else { left };
            let (sender, mut parts) = mpsc::channel(WAITING);
            let asking = async {
                self.scan(request, deadline, &sender).await;
                drop(sender);
            };
            let taking = async {
                while let Some(part) = parts.recv().await {
                    match part.failure {
                        None => {
                            if open.remove(&part.date).is_some() {
                                came(part);
                            }
                        }
                        Some(failure) => fail(&mut open, part.date, &failure, &mut missing),
                    }
                }
            };
            tokio::join!(asking, taking);
            if Instant::now() >= question.deadline {
                for (wanted, _) in std::mem::take(&mut open).into_values() {
                    let process =
                        wanted.routes.front().map(|route| route.worker.to_string()).unwrap_or_default();
                    missing.push(Missing {
                        name: wanted.date.to_string(),
                        process,
                        why: "no answer in time".into(),
                    });
                }
            }
        }
        missing.sort_by(|a, b| a.name.cmp(&b.name));
        missing
    }

    /// Carries a request on: what is here is scanned, the rest goes to the next process of each way. Every partition
    /// asked for has its part in the end, unless nobody takes them any more.
    pub(crate) async fn scan(&self, request: ScanRequest, deadline: Instant, parts: &mpsc::Sender<ScanPart>) {
        let ScanRequest { query_id, conditions, routes, mut hops } = request;
        hops.push(self.own.to_string());
        let mut here = Vec::new();
        let mut onward: BTreeMap<ProcessId, Vec<Route>> = BTreeMap::new();
        for Route { mut path, asks } in routes {
            if path.is_empty() {
                here.extend(asks);
            } else {
                let next = ProcessId::from(path.remove(0).as_str());
                onward.entry(next).or_default().push(Route { path, asks });
            }
        }
        let onward = self.in_order(onward).into_iter().map(|(next, routes)| {
            let (query_id, conditions, hops) = (query_id.clone(), conditions.clone(), hops.clone());
            let request = ScanRequest { query_id, conditions, routes, hops };
            self.pass_on(next, request, deadline, parts)
        });
        let onward = async {
            if self.strategies.async_forwarding || self.strategies.forwarding == Forwarding::Parallel {
                join_all(onward).await;
            } else {
                for one in onward {
                    one.await;
                }
            }
        };
        tokio::join!(self.scan_here(&conditions, here, deadline, parts), onward);
    }

    /// The next processes, in the order in which they are asked.
    fn in_order(&self, onward: BTreeMap<ProcessId, Vec<Route>>) -> Vec<(ProcessId, Vec<Route>)> {
        let mut all: Vec<_> = onward.into_iter().collect();
        match self.strategies.forwarding {
            Forwarding::Parallel => {}
            Forwarding::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                if !all.is_empty() {
                    let first = turn % all.len();
                    all.rotate_left(first);
                }
            }
            Forwarding::Capacity => {
                let share =
                    |id: &ProcessId| self.peers.get(id).map_or(f64::MAX, crate::peers::Peer::share_in_use);
                all.sort_by(|a, b| share(&a.0).total_cmp(&share(&b.0)));
            }
        }
        all
    }

    async fn pass_on(
        &self,
        next: ProcessId,
        request: ScanRequest,
        deadline: Instant,
        parts: &mpsc::Sender<ScanPart>,
    ) {
        let loops = request.hops.iter().any(|hop| *hop == *next.as_str());
        match self.peers.get(&next) {
            Some(peer) if !loops => peer.scan(request, deadline, parts).await,
            peer => {
                let (kind, words) = match peer {
                    Some(_) => (Kind::Loop, format!("the way leads back to {next}")),
                    None => (Kind::Unreachable, format!("{next} is no neighbor of {}", self.own)),
                };
                let failure = Failure { kind: kind.into(), process: self.own.to_string(), words };
                for ask in request.routes.iter().flat_map(|route| &route.asks) {
                    let failure = Some(failure.clone());
                    if parts.send(ScanPart { date: ask.date, failure, ..ScanPart::default() }).await.is_err()
                    {
                        return;
                    }
                }
            }
        }
    }

    /// On a thread that may work: a scan is arithmetic, and must not hold up those who wait for others.
    async fn scan_here(
        &self,
        conditions: &str,
        asks: Vec<Ask>,
        deadline: Instant,
        parts: &mpsc::Sender<ScanPart>,
    ) {
        if asks.is_empty() {
            return;
        }
        let own = self.own.to_string();
        let query = match Query::from_json(conditions) {
            Ok(query) => query,
            Err(error) => {
                let failure =
                    Failure { kind: Kind::Unspecified.into(), process: own, words: error.to_string() };
                for ask in asks {
                    let failure = Some(failure.clone());
                    drop(parts.send(ScanPart { date: ask.date, failure, ..ScanPart::default() }).await);
                }
                return;
            }
        };
        let held = tokio::select! {
            held = self.holdings.all() => held,
            () = tokio::time::sleep_until(deadline) => Arc::default(),
        };
        let parts = parts.clone();
        let scanning = tokio::task::spawn_blocking(move || {
            for ask in asks {
                let held = Date::from_number(ask.date).and_then(|date| held.get(&date));
                let part = scan_one(&own, &query, &ask, held);
                if parts.blocking_send(part).is_err() {
                    return; // nobody waits for the others
                }
            }
        });
        if let Err(error) = scanning.await {
            tracing::error!(%error, "a scan ended early");
        }
    }
}

fn scan_one(own: &str, query: &Query, ask: &Ask, held: Option<&crate::holdings::Held>) -> ScanPart {
    let failed = |kind: Kind, words: &str| {
        let failure = Failure { kind: kind.into(), process: own.to_owned(), words: words.to_owned() };
        ScanPart { date: ask.date, process: own.to_owned(), failure: Some(failure), ..ScanPart::default() }
    };
    let partition = match held {
        None => return failed(Kind::Unreadable, "it does not hold this date"),
        Some(Err(why)) => return failed(Kind::Unreadable, why),
        Some(Ok(partition)) => partition,
    };
    if partition.fingerprint != ask.fingerprint {
        return failed(Kind::Changed, "it holds other data than it said");
    }
    let began = std::time::Instant::now();
    let most = usize::try_from(ask.take).unwrap_or(usize::MAX); // negative: all
    let selection = partition.select(query, most);
    let (rows, arrow) = match selection.taken() {
        0 => (0, bytes::Bytes::new()),
        rows => (rows as i64, record::encode(&record::batch_of(partition, &selection))),
    };
    ScanPart {
        date: ask.date,
        process: own.to_owned(),
        matched: selection.matched as i64,
        rows_scanned: selection.scanned as i64,
        elapsed_us: i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX),
        rows,
        arrow,
        failure: None,
    }
}

/// The first way of each open partition, those of one way together; and whether any of them has another.
fn routes(open: &BTreeMap<u32, (Wanted, i64)>) -> (Vec<Route>, bool) {
    let mut routes: BTreeMap<Vec<String>, Vec<Ask>> = BTreeMap::new();
    let mut has_more = false;
    for (&date, (wanted, take)) in open {
        let Some(route) = wanted.routes.front() else { continue };
        has_more |= wanted.routes.len() > 1;
        let path = route.path.iter().map(ToString::to_string).collect();
        let ask = Ask { date, fingerprint: route.fingerprint, take: *take };
        routes.entry(path).or_default().push(ask);
    }
    (routes.into_iter().map(|(path, asks)| Route { path, asks }).collect(), has_more)
}

/// The way failed: the next one is taken, if it can lead to something else.
fn fail(open: &mut BTreeMap<u32, (Wanted, i64)>, date: u32, failure: &Failure, missing: &mut Vec<Missing>) {
    let Some((mut wanted, take)) = open.remove(&date) else { return };
    let failed = wanted.routes.pop_front();
    if let Some(failed) = &failed {
        let at_the_worker = matches!(failure.kind(), Kind::Unreadable | Kind::Changed)
            || failure.process == failed.worker.as_str();
        // Another way to the same worker leads to the same answer; whoever could not be reached is not passed again.
        wanted.routes.retain(|route| {
            let same = at_the_worker && route.worker == failed.worker;
            let through = route.path.iter().any(|hop| *hop.as_str() == *failure.process);
            !same && !through
        });
    }
    if wanted.routes.is_empty() {
        let process = if failure.process.is_empty() {
            failed.map(|route| route.worker.to_string()).unwrap_or_default()
        } else {
            failure.process.clone()
        };
        missing.push(Missing { name: wanted.date.to_string(), process, why: failure.words.clone() });
    } else {
        open.insert(date, (wanted, take));
    }
}
