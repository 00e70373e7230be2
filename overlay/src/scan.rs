//! Carries a question along its ways: what is here is scanned, the rest goes to the next process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::date::Date;
use crate::gather::{Asker, micros};
use crate::holdings::Held;
use crate::peer_wire::failure::Kind;
use crate::peer_wire::{Ask, Failure, Route, ScanPart, ScanRequest};
use crate::query::Query;
use crate::record;
use crate::topology::{Forwarding, ProcessId};

/// How long a count may wait for others to travel with.
const TOGETHER: Duration = Duration::from_millis(2);

impl Asker {
    /// Every partition asked for has its part in the end, unless nobody takes them any more.
    pub(crate) async fn scan(&self, request: ScanRequest, deadline: Instant, parts: &mpsc::Sender<ScanPart>) {
        let ScanRequest { query_id, conditions, routes, mut hops, turn } = request;
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
        let onward = self.in_order(onward, turn).into_iter().map(|(next, routes)| {
            let (query_id, conditions, hops) = (query_id.clone(), conditions.clone(), hops.clone());
            (next, ScanRequest { query_id, conditions, routes, hops, turn })
        });
        let onward = async {
            if self.asks_at_once() {
                join_all(onward.map(|(next, request)| self.pass_on(next, request, deadline, parts))).await;
            } else {
                let mut left = u32::try_from(onward.len()).unwrap_or(u32::MAX);
                for (next, request) in onward {
                    // One that does not answer may not use up the time of those after it.
                    let now = Instant::now();
                    let share = now + deadline.saturating_duration_since(now) / left;
                    self.pass_on(next, request, share, parts).await;
                    left -= 1;
                }
            }
        };
        tokio::join!(self.scan_here(&conditions, here, deadline, parts), onward);
    }

    /// The next processes, in the order in which they are asked.
    fn in_order(&self, onward: BTreeMap<ProcessId, Vec<Route>>, turn: u32) -> Vec<(ProcessId, Vec<Route>)> {
        let mut all: Vec<_> = onward.into_iter().collect();
        match self.strategies.forwarding {
            Forwarding::Parallel => {}
            Forwarding::RoundRobin => {
                if !all.is_empty() {
                    let first = turn as usize % all.len();
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
                let failure = Failure { kind: kind.into(), process: next.to_string(), words };
                let asks = request.routes.into_iter().flat_map(|route| route.asks);
                fail(asks, &failure, parts).await;
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
        let failure = |kind: Kind, words: String| Failure { kind: kind.into(), process: own.clone(), words };
        let query = match Query::from_json(conditions) {
            Ok(query) => query,
            Err(error) => {
                return fail(asks.into_iter(), &failure(Kind::Unreadable, error.to_string()), parts).await;
            }
        };
        let has_place = query.has_place();
        let Ok(held) = timeout_at(deadline, self.holdings.all()).await else {
            let words = "its partitions are still being loaded".to_owned();
            return fail(asks.into_iter(), &failure(Kind::Deadline, words), parts).await;
        };
        let scan_one = move |ask: &Ask| {
            let held = Date::from_number(ask.date).and_then(|date| held.get(&date));
            scan_one(&own, &query, ask, held)
        };
        // What is counted without looking at a row is not worth another thread.
        let (counted, asks): (Vec<_>, Vec<_>) = asks.into_iter().partition(|ask| ask.take == 0 && !has_place);
        let mut counted: Vec<_> = counted.iter().map(&scan_one).collect();
        if asks.is_empty() {
            for part in counted {
                if parts.send(part).await.is_err() {
                    return; // nobody waits for the others
                }
            }
            return;
        }
        let (parts, runtime) = (parts.clone(), Handle::current());
        let scanning = tokio::task::spawn_blocking(move || {
            // Somebody who waits for a part and does not take it must not keep this thread.
            let send = |part: ScanPart| match parts.try_send(part) {
                Err(mpsc::error::TrySendError::Full(part)) => {
                    runtime.block_on(timeout_at(deadline, parts.send(part))).is_ok_and(|sent| sent.is_ok())
                }
                sent => sent.is_ok(),
            };
            // Those without records go together: each message on the way has its price.
            let mut last = Instant::now();
            for ask in asks {
                let part = scan_one(&ask);
                let has_records = !part.arrow.is_empty();
                counted.push(part);
                if has_records || last.elapsed() >= TOGETHER {
                    last = Instant::now();
                    if !counted.drain(..).all(send) {
                        return; // nobody waits for the others
                    }
                }
            }
            let _all_sent = counted.into_iter().all(send);
        });
        if let Err(error) = scanning.await {
            tracing::error!(%error, "a scan ended early");
        }
    }
}

/// Tells all who asked.
async fn fail(asks: impl Iterator<Item = Ask>, failure: &Failure, parts: &mpsc::Sender<ScanPart>) {
    for ask in asks {
        let failure = Some(failure.clone());
        if parts.send(ScanPart { date: ask.date, failure, ..ScanPart::default() }).await.is_err() {
            return;
        }
    }
}

fn scan_one(own: &str, query: &Query, ask: &Ask, held: Option<&Held>) -> ScanPart {
    let failed = |kind: Kind, words: &str| {
        let failure = Failure { kind: kind.into(), process: own.to_owned(), words: words.to_owned() };
        ScanPart { date: ask.date, process: own.to_owned(), failure: Some(failure), ..ScanPart::default() }
    };
    let partition = match held {
        None => return failed(Kind::Unreadable, "it does not hold this date"),
        Some(Err(why)) => return failed(Kind::Unreadable, why),
        Some(Ok(partition)) => Arc::clone(partition),
    };
    if partition.fingerprint != ask.fingerprint {
        return failed(Kind::Changed, "it holds other data than it said");
    }
    let began = std::time::Instant::now();
    let most = usize::try_from(ask.take).unwrap_or(usize::MAX); // negative: all
    let selection = partition.select(query, most);
    let (rows, arrow) = match selection.taken() {
        0 => (0, bytes::Bytes::new()),
        rows => (rows as i64, record::encode(&record::batch_of(&partition, &selection))),
    };
    ScanPart {
        date: ask.date,
        process: own.to_owned(),
        matched: selection.matched as i64,
        rows_scanned: selection.scanned as i64,
        elapsed_us: micros(began.elapsed()),
        rows,
        arrow,
        ..ScanPart::default()
    }
}

#[cfg(test)]
mod tests;
