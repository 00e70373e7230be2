//! Asks for what a plan wants, on one way after the other, until it is there or no way is left.
//!
//! A way that is silent for longer than nearly all are is not given up, but another is asked beside it (`hedge`);
//! whichever part comes first counts, and the other one not. Whoever was silent a moment ago is asked last: that is the
//! worker where those before it say that they wait for it. With the last part the answer is there: whatever else was asked is dropped, which ends it everywhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, SelectAll, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

use crate::hedge::{Hedging, Silence};
use crate::holdings::Holdings;
use crate::peer_wire::failure::Kind;
use crate::peer_wire::{Ask, Failure, ScanPart, ScanRequest};
use crate::peers::Peers;
use crate::plan::{Missing, Route, Wanted};
use crate::query::Query;
use crate::topology::{Forwarding, ProcessId, Strategies};

/// Parts that may wait for whoever takes them.
const WAITING: usize = 64;
/// How long to wait for other ways to fail when one has.
const CROWD: Duration = Duration::from_millis(1);

/// What a process asks with.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) own: ProcessId,
    pub(crate) peers: Peers,
    pub(crate) holdings: Holdings,
    pub(crate) strategies: Strategies,
    /// Where the next question of `round_robin` begins.
    pub(crate) turn: AtomicU32,
    pub(crate) hedging: Hedging,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) query_id: &'a str,
    pub(crate) query: &'a Query,
    pub(crate) hops: &'a [ProcessId],
    pub(crate) deadline: Instant,
    /// Of all rounds of the question, and of all processes on its way.
    pub(crate) turn: u32,
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
    /// Whose turn it is in a question that begins.
    pub(crate) fn next_turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the next processes are asked concurrently.
    pub(crate) fn asks_at_once(&self) -> bool {
        self.strategies.async_forwarding || self.strategies.forwarding == Forwarding::Parallel
    }

    /// Asks for each partition as many of its rows as `take` says (negative: all; 0: none, they are counted); what comes
    /// is handed on as it comes, each partition once, and what processes on the way say of themselves (date 0). What
    /// `came` refuses, and says why, has not come: it is asked for elsewhere. Returns what did not come.
    ///
    /// A way that fails is followed by the next one at once, whoever else is still being waited for.
    pub(crate) async fn gather(
        &self,
        question: Question<'_>,
        wanted: Vec<(Wanted, i64)>,
        mut came: impl FnMut(ScanPart) -> Result<(), String> + Send,
    ) -> Vec<Missing> {
        let began = Instant::now();
        let distrusted = self.hedging.distrusted(began);
        let open = |(mut wanted, take): (Wanted, i64)| {
            // Whoever holds it and is not distrusted comes first, whatever leads there; then the way that passes fewest of
            // those who are.
            let silent = |route: &Route| {
                let is_silent = |id: &&ProcessId| distrusted.contains(*id);
                (distrusted.contains(&route.worker), route.path.iter().filter(is_silent).count())
            };
            if !distrusted.is_empty() {
                wanted.routes.make_contiguous().sort_by_key(silent);
            }
            (wanted.date.number(), Open { wanted, take, asked: Vec::new(), failure: None })
        };
        let mut open: AllOpen = wanted.into_iter().map(open).collect();
        let mut asking = FuturesUnordered::new();
        let mut parts = SelectAll::new();
        let mut requests = 0;
        let (hurry, hurried) = watch::channel(false);
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
            let mut hurried = hurried.clone();
            async move {
                let mut asked = FuturesUnordered::new();
                // Those with another way have half of the time, the others all that is left.
                for one in all.into_iter().rev() {
                    asked.push(one);
                    if !self.asks_at_once() {
                        // One after another, but nobody waits for one that is silent and asked for elsewhere.
                        tokio::select! {
                            () = all_of(&mut asked) => {}
                            _ = hurried.wait_for(|is_hurried| *is_hurried) => {}
                        }
                    }
                }
                all_of(&mut asked).await;
            }
        };
        asking.push(ask(&mut open, &mut parts, &|_| true));
        let mut may_hedge = open.values().any(Open::has_more);
        let usual = self.hedging.patience();
        let mut silence = Silence::new(usual, began);
        let mut unheard = self.hedging.all_unheard();
        let (mut since, mut suspects) = (began, BTreeSet::new());
        let patience = sleep_until(silence.end());
        let end = sleep_until(question.deadline);
        // Failures come in crowds, and are to be one request.
        let settled = sleep_until(began);
        tokio::pin!(patience, end, settled);
        let (mut failed, mut settling) = (false, false);
        // Who passes something on says with each message how long that has taken so far.
        let mut on_the_way: BTreeMap<String, (i64, Instant)> = BTreeMap::new();
        // The ways that were silent when others were asked beside them.
        let mut silent: Vec<(usize, u32, Route)> = Vec::new();
        while !open.is_empty() {
            let is_left = |one: &Open| !one.is_asked() && one.has_more();
            tokio::select! {
                biased;
                part = parts.next() => match part {
                    Some((_, part)) if part.date == 0 => {
                        let now = Instant::now();
                        let (so_far, heard) = on_the_way.entry(part.process).or_insert((0, now));
                        (*so_far, *heard) = (part.elapsed_us.max(*so_far), now);
                    }
                    Some((number, part)) => {
                        let now = Instant::now();
                        silence.broken(now);
                        silent.retain(|(asked, date, _)| (*asked, *date) != (number, part.date));
                        if !unheard.is_empty() && part.failure.is_none() {
                            // It came from the last one through all the others.
                            let ways = open.get(&part.date).into_iter().flat_map(|one| &one.asked);
                            let hops = ways.filter(|(asked, _)| *asked == number).flat_map(|(_, way)| &way.path);
                            hops.filter(|hop| unheard.remove(*hop)).for_each(|hop| self.hedging.heard(hop));
                        }
                        let may_be_late = Hedging::is_frozen(now - began, usual);
                        let has_failed = self.take(&mut open, number, part, may_be_late, &mut came);
                        failed |= has_failed;
                        if has_failed && !settling && open.values().any(is_left) {
                            settling = true;
                            settled.as_mut().reset(now + CROWD);
                        }
                    }
                    // Nobody is asked any more.
                    None => {
                        open.values_mut().for_each(|one| one.asked.clear());
                        if !open.values().any(is_left) {
                            break;
                        }
                        asking.push(ask(&mut open, &mut parts, &is_left));
                    }
                },
                Some(()) = asking.next() => {}
                () = &mut settled, if settling => {
                    settling = false;
                    asking.push(ask(&mut open, &mut parts, &is_left));
                }
                () = &mut patience, if may_hedge => {
                    let now = Instant::now();
                    if silence.end() > now {
                        patience.as_mut().reset(silence.end()); // somebody was heard meanwhile
                        continue;
                    }
                    may_hedge = false;
                    if !open.values().any(|one| one.is_asked() && one.has_more()) {
                        continue;
                    }
                    for (&date, one) in &open {
                        silent.extend(one.asked.iter().map(|(asked, way)| (*asked, date, way.clone())));
                    }
                    since = silence.since();
                    suspects = suspected(&silent, &on_the_way, since);
                    suspects.iter().for_each(|one| self.hedging.unheard(one, since, now, usual));
                    if self.hedging.may() {
                        asking.push(ask(&mut open, &mut parts, &|_| true));
                        hurry.send_replace(true);
                    }
                }
                () = &mut end => break,
            }
        }
        let now = Instant::now();
        // Meanwhile some of those who were suspected may have said that they wait for others.
        let known = suspected(&silent, &on_the_way, since);
        suspects.difference(&known).for_each(|one| self.hedging.trust(one));
        known.iter().for_each(|one| self.hedging.unheard(one, since, now, usual));
        self.hedging.took(silence.longest(now), !failed && open.is_empty());
        on_the_way.insert(self.own.to_string(), (micros(now - began), now));
        for (process, (elapsed_us, _)) in on_the_way {
            // A time is nothing that could be refused.
            drop(came(ScanPart { process, elapsed_us, ..ScanPart::default() }));
        }
        let in_time = now < question.deadline;
        open.into_values().map(|one| one.missing(in_time)).collect()
    }

    /// Whether it is none that can be used.
    fn take(
        &self,
        open: &mut AllOpen,
        number: usize,
        mut part: ScanPart,
        may_be_late: bool,
        came: &mut impl FnMut(ScanPart) -> Result<(), String>,
    ) -> bool {
        let (date, failure) = (part.date, part.failure.take());
        let Some(one) = open.get_mut(&date) else { return failure.is_some() };
        let failure = match failure {
            Some(failure) => failure,
            None => {
                let process = part.process.clone();
                let Err(words) = came(part) else {
                    open.remove(&date);
                    return false;
                };
                tracing::warn!(
                    date,
                    process,
                    words,
                    "a part cannot be used: another copy is asked for, if there is one"
                );
                Failure { kind: Kind::Unreadable.into(), process, words }
            }
        };
        let Some(place) = one.asked.iter().position(|(request, _)| *request == number) else { return true };
        let (_, failed) = one.asked.swap_remove(place);
        // Who was given little time is not to blame for it.
        let is_silent = match failure.kind() {
            Kind::Deadline => may_be_late,
            kind => kind == Kind::Unreachable,
        };
        if let Some(named) = failed.path.iter().find(|hop| is_silent && *hop.as_str() == *failure.process) {
            self.hedging.distrust(named, Instant::now());
        }
        strike(&mut one.wanted.routes, &self.own, &failed, &failure);
        let process =
            if failure.process.is_empty() { failed.worker.to_string() } else { failure.process.clone() };
        one.failure = Some(Failure { process, ..failure });
        true
    }
}

/// Who is silent on these ways: on each the first one of whom nothing was heard since then, because those before it say
/// from time to time that they are waiting.
fn suspected(
    silent: &[(usize, u32, Route)],
    heard: &BTreeMap<String, (i64, Instant)>,
    since: Instant,
) -> BTreeSet<ProcessId> {
    let is_well = |id: &&ProcessId| heard.get(id.as_str()).is_some_and(|(_, at)| *at > since);
    let first = |way: &Route| way.path.iter().find(|id| **id == way.worker || !is_well(id)).cloned();
    silent.iter().filter_map(|(.., way)| first(way)).collect()
}

/// Until all have ended.
async fn all_of(asked: &mut FuturesUnordered<impl Future<Output = ()>>) {
    while asked.next().await.is_some() {}
}

/// A time, as processes say it to each other.
pub(crate) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
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
    ScanRequest { query_id: question.query_id.to_owned(), conditions, routes, hops, turn: question.turn }
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
mod tests;
