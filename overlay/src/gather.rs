//! Asks for what a plan wants, on one way after the other, until it is there or no way is left.
//!
//! A way that takes longer than nearly all do is not given up, but another is asked beside it (`hedge`); whichever part
//! comes first counts, and the other one not.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;

use futures_util::stream::{FuturesUnordered, SelectAll, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

use crate::hedge::Hedging;
use crate::holdings::Holdings;
use crate::peer_wire::failure::Kind;
use crate::peer_wire::{Ask, Failure, ScanPart, ScanRequest};
use crate::peers::Peers;
use crate::plan::{Missing, Route, Wanted};
use crate::query::Query;
use crate::topology::{ProcessId, Strategies};

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
    pub(crate) hedging: Hedging,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) query_id: &'a str,
    pub(crate) query: &'a Query,
    pub(crate) hops: &'a [ProcessId],
    pub(crate) deadline: Instant,
}

/// A partition that is not there yet.
#[derive(Debug)]
struct Open {
    wanted: Wanted,
    /// How many of its rows: negative: all; 0: none, they are counted.
    take: i64,
    /// The ways that are being asked: the first one, and the hedge.
    asked: [Option<Route>; 2],
    /// Why the last way that failed did.
    failure: Failure,
}

type AllOpen = BTreeMap<u32, Open>;

impl Asker {
    /// Asks for each partition as many of its rows as `take` says (negative: all; 0: none, they are counted); what comes
    /// is handed on as it comes, each partition once, and what processes on the way say of themselves (date 0). Returns
    /// what did not come.
    pub(crate) async fn gather(
        &self,
        question: Question<'_>,
        wanted: Vec<(Wanted, i64)>,
        mut came: impl FnMut(ScanPart) + Send,
    ) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut open: AllOpen = wanted
            .into_iter()
            .map(|(wanted, take)| {
                let failure = Failure { words: "no way leads to it".into(), ..Failure::default() };
                (wanted.date.number(), Open { wanted, take, asked: [None, None], failure })
            })
            .collect();
        loop {
            let late = Instant::now() >= question.deadline;
            open.retain(|_, one| {
                let given_up = late || one.wanted.routes.is_empty();
                if given_up {
                    missing.push(one.missing(late));
                }
                !given_up
            });
            if open.is_empty() {
                missing.sort_by(|a, b| a.name.cmp(&b.name));
                return missing;
            }
            self.round(question, &mut open, &mut came).await;
        }
    }

    /// Asks for all that is open on the first way to each, and after a while on the second.
    async fn round(
        &self,
        question: Question<'_>,
        open: &mut AllOpen,
        came: &mut (impl FnMut(ScanPart) + Send),
    ) {
        let began = Instant::now();
        let mut asking = FuturesUnordered::new();
        let mut parts = SelectAll::new();
        let ask = |wave: usize, open: &mut AllOpen, parts: &mut SelectAll<_>| {
            let (request, has_more) = request(question, open, wave);
            // Another way is only one if there is time left for it.
            let left = question.deadline.saturating_duration_since(Instant::now());
            let deadline = Instant::now() + if has_more { left / 2 } else { left };
            let (sender, came) = mpsc::channel(WAITING);
            parts.push(ReceiverStream::new(came).map(move |part: ScanPart| (wave, part)));
            async move { self.scan(request, deadline, &sender).await }
        };
        asking.push(ask(0, open, &mut parts));
        let mut hedge = open.values().any(|one| !one.wanted.routes.is_empty());
        let mut hedged = false;
        let patience = sleep_until(began + if hedge { self.hedging.patience() } else { Default::default() });
        tokio::pin!(patience);
        loop {
            tokio::select! {
                biased;
                part = parts.next() => match part {
                    None => break,
                    Some((wave, part)) => take(open, &self.own, wave, part, came),
                },
                Some(()) = asking.next() => {}
                () = &mut patience, if hedge => {
                    hedge = false;
                    let worth = open.values().any(|one| one.asked[0].is_some() && !one.wanted.routes.is_empty());
                    if worth && self.hedging.may() {
                        hedged = true;
                        asking.push(ask(1, open, &mut parts));
                    }
                }
            }
            // Whoever is still being asked is asked for nothing any more.
            if hedged && open.values().all(|one| one.asked.iter().all(Option::is_none)) {
                break;
            }
        }
        for one in open.values_mut() {
            one.asked = [None, None];
        }
        self.hedging.took(began.elapsed());
    }
}

impl Open {
    fn missing(&self, late: bool) -> Missing {
        let Failure { process, words, .. } = &self.failure;
        let route = self.wanted.routes.front();
        let (process, why) = match (process.is_empty(), late) {
            (_, true) if self.failure.kind() == Kind::Unspecified => {
                (route.map(|route| route.worker.to_string()).unwrap_or_default(), "no answer in time".into())
            }
            (true, _) => (route.map(|route| route.worker.to_string()).unwrap_or_default(), words.clone()),
            (false, _) => (process.clone(), words.clone()),
        };
        Missing { name: self.wanted.date.to_string(), process, why }
    }
}

/// The next way to each open partition, those of one way together; and whether any of them has another.
fn request(question: Question<'_>, open: &mut AllOpen, wave: usize) -> (ScanRequest, bool) {
    let mut routes: BTreeMap<Vec<String>, Vec<Ask>> = BTreeMap::new();
    let mut has_more = false;
    for (&date, one) in open {
        let Some(route) = one.wanted.routes.pop_front() else { continue };
        has_more |= !one.wanted.routes.is_empty();
        let path = route.path.iter().map(ToString::to_string).collect();
        let ask = Ask { date, fingerprint: route.fingerprint, take: one.take };
        routes.entry(path).or_default().push(ask);
        one.asked[wave] = Some(route);
    }
    let routes = routes.into_iter().map(|(path, asks)| crate::peer_wire::Route { path, asks }).collect();
    let hops = question.hops.iter().map(ToString::to_string).collect();
    let conditions = question.query.conditions().normal_form();
    (ScanRequest { query_id: question.query_id.to_owned(), conditions, routes, hops }, has_more)
}

fn take(open: &mut AllOpen, own: &ProcessId, wave: usize, part: ScanPart, came: &mut impl FnMut(ScanPart)) {
    let Some(failure) = &part.failure else {
        if part.date == 0 || open.remove(&part.date).is_some() {
            came(part);
        }
        return;
    };
    let Some(one) = open.get_mut(&part.date) else { return };
    let Some(failed) = one.asked[wave].take() else { return };
    strike(&mut one.wanted.routes, own, &failed, failure);
    one.failure = failure.clone();
    if one.failure.process.is_empty() {
        one.failure.process = failed.worker.to_string();
    }
}

/// Strikes the ways that cannot lead to anything else.
fn strike(routes: &mut VecDeque<Route>, own: &ProcessId, failed: &Route, failure: &Failure) {
    if matches!(failure.kind(), Kind::Unreadable | Kind::Changed) {
        // Another way to the same worker leads to the same answer.
        routes.retain(|route| route.worker != failed.worker);
        return;
    }
    // The step that failed is not taken again: from whoever could not reach it to the process that is named. That
    // process may still be reached from elsewhere.
    let Some(place) = failed.path.iter().position(|hop| *hop.as_str() == *failure.process) else { return };
    let step =
        |path: &[ProcessId], place: usize| (path[..place].last().unwrap_or(own).clone(), path[place].clone());
    let broken = step(&failed.path, place);
    routes.retain(|route| (0..route.path.len()).all(|place| step(&route.path, place) != broken));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &[&str]) -> Route {
        let path: Vec<_> = path.iter().map(|&id| ProcessId::from(id)).collect();
        Route { worker: path.last().unwrap().clone(), path, fingerprint: 1 }
    }

    fn left(kind: Kind, process: &str) -> Vec<String> {
        let failed = route(&["B", "D"]);
        let mut routes = VecDeque::from([
            route(&["E", "D"]),
            route(&["B", "C", "D"]),
            route(&["E", "B", "D"]),
            route(&["E", "F"]),
        ]);
        let failure = Failure { kind: kind.into(), process: process.into(), words: String::new() };
        strike(&mut routes, &"A".into(), &failed, &failure);
        routes.iter().map(|route| route.path.iter().map(ProcessId::as_str).collect()).collect()
    }

    #[test]
    fn only_the_step_that_failed_is_struck() {
        assert_eq!(left(Kind::Unreachable, "D"), ["ED", "BCD", "EF"], "from B to D");
        assert_eq!(left(Kind::Deadline, "B"), ["ED", "EBD", "EF"], "from A to B");
        assert_eq!(left(Kind::Unreadable, "D"), ["EF"], "D has said it");
        assert_eq!(left(Kind::Changed, "D"), ["EF"]);
        assert_eq!(left(Kind::Unreachable, "X"), ["ED", "BCD", "EBD", "EF"], "a stranger");
    }
}
