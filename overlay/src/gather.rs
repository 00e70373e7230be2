//! Asks for what a plan wants, on one way after the other, until it is there or no way is left.
//!
//! A way that takes longer than nearly all do is not given up, but another is asked beside it (`hedge`); whichever part
//! comes first counts, and the other one not.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use futures_util::FutureExt as _;
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
const WAITING: usize = 64;
/// How long to wait for other ways to fail when one has.
const CROWD: Duration = Duration::from_millis(1);
/// How long an answer that is there waits for what processes on the way say of themselves.
const LAST_WORDS: Duration = Duration::from_millis(20);

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
    /// The ways that are being asked, each with the number of its request.
    asked: Vec<(usize, Route)>,
    /// Why the last way that failed did.
    failure: Option<Failure>,
}

impl Open {
    fn is_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    fn has_more(&self) -> bool {
        !self.wanted.routes.is_empty()
    }

    fn missing(self, in_time: bool) -> Missing {
        let name = self.wanted.date.to_string();
        let route = self.asked.first().map(|(_, route)| route).or(self.wanted.routes.front());
        let worker = route.map(|route| route.worker.to_string()).unwrap_or_default();
        match self.failure {
            Some(Failure { process, words, kind }) => {
                let was_late = [Kind::Deadline, Kind::Cancelled].map(i32::from).contains(&kind);
                Missing { name, process, why: words, was_late: was_late || !in_time }
            }
            None if in_time => {
                Missing { name, process: worker, why: "it was left out".into(), was_late: false }
            }
            None => Missing { name, process: worker, why: "no answer in time".into(), was_late: true },
        }
    }
}

type AllOpen = BTreeMap<u32, Open>;

impl Asker {
    /// Asks for each partition as many of its rows as `take` says (negative: all; 0: none, they are counted); what comes
    /// is handed on as it comes, each partition once, and what processes on the way say of themselves (date 0). Returns
    /// what did not come.
    ///
    /// A way that fails is followed by the next one at once, whoever else is still being waited for.
    pub(crate) async fn gather(
        &self,
        question: Question<'_>,
        wanted: Vec<(Wanted, i64)>,
        mut came: impl FnMut(ScanPart) + Send,
    ) -> Vec<Missing> {
        let began = Instant::now();
        let open = |(wanted, take): (Wanted, i64)| {
            (wanted.date.number(), Open { wanted, take, asked: Vec::new(), failure: None })
        };
        let mut open: AllOpen = wanted.into_iter().map(open).collect();
        let mut asking = FuturesUnordered::new();
        let mut parts = SelectAll::new();
        let mut requests = 0;
        let mut ask = |open: &mut AllOpen, parts: &mut SelectAll<_>, which: &dyn Fn(&Open) -> bool| {
            // Another way is only one if there is time left for it; what has none may take all the time there is.
            let mut all = Vec::new();
            for has_more in [false, true] {
                let number = requests;
                requests += 1;
                let last_way = |one: &Open| one.wanted.routes.len() == 1;
                let request = request(question, open, number, &|one| which(one) && last_way(one) != has_more);
                if request.routes.is_empty() {
                    continue;
                }
                let left = question.deadline.saturating_duration_since(Instant::now());
                let deadline = Instant::now() + if has_more { left / 2 } else { left };
                let (sender, came) = mpsc::channel(WAITING);
                parts.push(ReceiverStream::new(came).map(move |part: ScanPart| (number, part)));
                all.push(async move { self.scan(request, deadline, &sender).await });
            }
            all
        };
        asking.extend(ask(&mut open, &mut parts, &|_| true));
        let mut may_hedge = open.values().any(Open::has_more);
        let patience = sleep_until(began + if may_hedge { self.hedging.patience() } else { Duration::ZERO });
        let end = sleep_until(question.deadline);
        // Failures come in crowds, and are to be one request.
        let settled = sleep_until(began);
        tokio::pin!(patience, end, settled);
        let (mut hedged, mut failed, mut settling) = (false, false, false);
        while !open.is_empty() || !hedged {
            let is_left = |one: &Open| !one.is_asked() && one.has_more();
            tokio::select! {
                biased;
                part = parts.next() => match part {
                    Some((number, part)) => {
                        failed |= part.failure.is_some();
                        take(&mut open, &self.own, number, part, &mut came);
                        if open.is_empty() {
                            // Only words of those on the way are still to come.
                            settling = true;
                            settled.as_mut().reset(Instant::now() + LAST_WORDS);
                        } else if !settling && open.values().any(is_left) {
                            settling = true;
                            settled.as_mut().reset(Instant::now() + CROWD);
                        }
                    }
                    // Nobody is asked any more.
                    None => {
                        open.values_mut().for_each(|one| one.asked.clear());
                        if !open.values().any(is_left) {
                            break;
                        }
                        asking.extend(ask(&mut open, &mut parts, &is_left));
                    }
                },
                Some(()) = asking.next() => {}
                () = &mut settled, if settling => {
                    settling = false;
                    if open.is_empty() {
                        break;
                    }
                    asking.extend(ask(&mut open, &mut parts, &is_left));
                }
                () = &mut patience, if may_hedge => {
                    may_hedge = false;
                    if open.values().any(|one| one.is_asked() && one.has_more()) && self.hedging.may() {
                        hedged = true;
                        asking.extend(ask(&mut open, &mut parts, &|_| true));
                    }
                }
                () = &mut end => break,
            }
        }
        // What those on the way have said of themselves, as far as it is here.
        while let Some(Some((number, part))) = parts.next().now_or_never() {
            take(&mut open, &self.own, number, part, &mut came);
        }
        let took = began.elapsed();
        self.hedging.took(took, !failed && open.is_empty());
        let elapsed_us = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        came(ScanPart { process: self.own.to_string(), elapsed_us, ..ScanPart::default() });
        let in_time = Instant::now() < question.deadline;
        open.into_values().map(|one| one.missing(in_time)).collect()
    }
}

/// The next way to each open partition that is one of `which`, those of one way together.
fn request(
    question: Question<'_>,
    open: &mut AllOpen,
    number: usize,
    which: &dyn Fn(&Open) -> bool,
) -> ScanRequest {
    let mut routes: BTreeMap<Vec<String>, Vec<Ask>> = BTreeMap::new();
    for (&date, one) in open.iter_mut().filter(|(_, one)| which(one)) {
        let Some(route) = one.wanted.routes.pop_front() else { continue };
        let path = route.path.iter().map(ToString::to_string).collect();
        let ask = Ask { date, fingerprint: route.fingerprint, take: one.take };
        routes.entry(path).or_default().push(ask);
        one.asked.push((number, route));
    }
    let routes = routes.into_iter().map(|(path, asks)| crate::peer_wire::Route { path, asks }).collect();
    let hops = question.hops.iter().map(ToString::to_string).collect();
    let conditions = question.query.conditions().normal_form();
    ScanRequest { query_id: question.query_id.to_owned(), conditions, routes, hops }
}

fn take(open: &mut AllOpen, own: &ProcessId, number: usize, part: ScanPart, came: &mut impl FnMut(ScanPart)) {
    let Some(failure) = &part.failure else {
        let is_others = part.date == 0 && *part.process != *own.as_str();
        if is_others || open.remove(&part.date).is_some() {
            came(part);
        }
        return;
    };
    let Some(one) = open.get_mut(&part.date) else { return };
    let Some(place) = one.asked.iter().position(|(request, _)| *request == number) else { return };
    let (_, failed) = one.asked.swap_remove(place);
    strike(&mut one.wanted.routes, own, &failed, failure);
    let mut failure = failure.clone();
    if failure.process.is_empty() {
        failure.process = failed.worker.to_string();
    }
    one.failure = Some(failure);
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
