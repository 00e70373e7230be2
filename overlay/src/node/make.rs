//! Makes a result: asks for what the plan wants, and puts together what comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Asked, Node, Refusal};
use crate::gather::Question;
use crate::peer_wire::ScanPart;
use crate::plan::{Missing, Plan, Wanted};
use crate::query::{Basis, Layout, Mode, Query, Uid};
use crate::results::{Answer, Made, Part, records_per_chunk};
use crate::topology::Strategies;
use crate::wire::{Coverage, MissingPartition, NodeVisit};

impl Plan {
    /// The name of what it leads to, if nothing is missing but `missing`.
    pub(super) fn uid(&self, asked: &Asked, layout: Layout, missing: &[Missing]) -> Uid {
        let missing: String = missing.iter().map(|missing| format!("{} ", missing.name)).collect();
        Uid::new(&asked.query, Basis { data: self.fingerprint(), missing: &missing, layout })
    }
}

impl Node {
    /// The result of a question, as its plan has it.
    pub(super) async fn make(
        &self,
        asked: &Asked,
        layout: Layout,
        plan: Plan,
        deadline: Instant,
    ) -> Made<Refusal> {
        let Asked { query, hops, query_id, .. } = asked;
        let turn = self.asker.next_turn();
        let mut tally = Tally { missing: plan.missing.clone(), ..Tally::default() };
        // Without a limit all rows are wanted: counting them first would be a way for nothing. With one, the first day
        // often has as many; the others are counted.
        let first_take = |place: usize| match query.limit {
            None => -1,
            Some(limit) if place == 0 => i64::try_from(limit).unwrap_or(i64::MAX),
            Some(_) => 0,
        };
        let wanted = plan.wanted.iter().enumerate();
        let mut wanted: Vec<_> = wanted.map(|(place, wanted)| (wanted.clone(), first_take(place))).collect();
        // Once, or once more for the other records; and again for those of later days if one of them has gone meanwhile.
        // It ends: after a round, what was wanted is there or is lost, and what is lost is not wanted again.
        while !wanted.is_empty() {
            tally.ask(&wanted);
            let deadline = round_end(query, Instant::now(), deadline);
            let question = Question { query_id, query, hops, deadline, turn };
            let missing = self.asker.gather(question, wanted, |part| tally.take(part)).await;
            if !missing.is_empty() {
                self.outlook.hurry();
            }
            tally.lose(missing);
            if !tally.missing.is_empty() && query.mode == Mode::Complete {
                let was_late = tally.was_late();
                return Made { outcome: Err(Refusal::Incomplete(tally.coverage(&plan))), was_late };
            }
            wanted = query.limit.map_or_else(Vec::new, |limit| tally.wanted(&plan, limit));
        }
        let matched: u64 = tally.days.values().map(|day| day.matched).sum();
        let uid = plan.uid(asked, layout, &tally.missing);
        let (coverage, was_late) = (tally.coverage(&plan), tally.was_late());
        let parts: Vec<Part> = tally.days.into_values().filter_map(|day| day.part).collect();
        let returned: u64 = parts.iter().map(|part| part.rows as u64).sum();
        let strategies =
            Strategies { chunking: layout.chunking, chunk_size: layout.chunk_size, ..self.asker.strategies };
        let chunk = records_per_chunk(&strategies, &parts, query);
        let answer = Answer { uid, parts, matched, returned, coverage, chunk };
        Made { outcome: Ok(Arc::new(answer)), was_late }
    }
}

/// Until when a round may take. One that has to leave out what does not answer leaves time for the next one, in which
/// the records of what did are fetched.
fn round_end(query: &Query, now: Instant, deadline: Instant) -> Instant {
    let is_last = query.mode == Mode::Complete || query.limit.is_none_or(|limit| limit == 0);
    if is_last { deadline } else { now + deadline.saturating_duration_since(now).mul_f64(0.75) }
}

/// What has come of each day.
#[derive(Debug, Default)]
struct Tally {
    /// How many rows each was asked for; negative: all.
    asked: BTreeMap<u32, i64>,
    days: BTreeMap<u32, Came>,
    /// By name.
    missing: Vec<Missing>,
    /// What processes on the way say of themselves.
    passed: BTreeMap<String, i64>,
}

#[derive(Debug)]
struct Came {
    process: String,
    matched: u64,
    scanned: u64,
    elapsed_us: i64,
    part: Option<Part>,
}

impl Came {
    /// Of what a worker says, if it is what it was asked for: so many of its rows, and as many in all as it said before.
    fn of(said: ScanPart, asked: i64, before: Option<&Self>) -> Result<Self, String> {
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let (matched, elapsed_us) = (count(said.matched), before.map_or(0, |came| came.elapsed_us));
        let part = match said.arrow.is_empty() {
            true => None,
            false => {
                let part = Part::of(&said);
                Some(part.map_err(|error| format!("what it sent are no records: {error}"))?)
            }
        };
        let came = Self {
            process: said.process,
            matched,
            scanned: count(said.rows_scanned),
            elapsed_us: elapsed_us + said.elapsed_us,
            part,
        };
        let expected = u64::try_from(asked).map_or(matched, |asked| asked.min(matched));
        match before {
            _ if came.rows() != expected => {
                Err(format!("it sent {} records instead of {expected}", came.rows()))
            }
            Some(before) if before.matched != matched => {
                Err(format!("it counted {} records, and then {matched}", before.matched))
            }
            _ => Ok(came),
        }
    }

    fn rows(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.rows as u64)
    }
}

impl Tally {
    /// What is asked for in a round.
    fn ask(&mut self, wanted: &[(Wanted, i64)]) {
        self.asked = wanted.iter().map(|(wanted, take)| (wanted.date.number(), *take)).collect();
    }

    /// Why it is not taken.
    fn take(&mut self, said: ScanPart) -> Result<(), String> {
        if said.date == 0 {
            *self.passed.entry(said.process).or_default() += said.elapsed_us;
            return Ok(());
        }
        let date = said.date;
        let asked = self.asked.get(&date).copied().unwrap_or_default();
        let came = Came::of(said, asked, self.days.get(&date))?;
        self.days.insert(date, came);
        Ok(())
    }

    /// What did not come is not there, even if it was counted before.
    fn lose(&mut self, missing: Vec<Missing>) {
        for missing in missing {
            if let Ok(date) = missing.name.parse() {
                self.days.remove(&date);
            }
            self.missing.push(missing);
        }
        self.missing.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// What is still to be asked for, so that the first `limit` records are there.
    fn wanted(&self, plan: &Plan, limit: u64) -> Vec<(Wanted, i64)> {
        let mut left = limit;
        let mut wanted = Vec::new();
        for one in &plan.wanted {
            let Some(day) = self.days.get(&one.date.number()) else { continue };
            let take = left.min(day.matched);
            left -= take;
            if take > day.rows() {
                wanted.push((one.clone(), i64::try_from(take).unwrap_or(i64::MAX)));
            }
        }
        wanted
    }

    fn visits(&self) -> Vec<NodeVisit> {
        let mut visits: BTreeMap<&str, NodeVisit> = BTreeMap::new();
        for (process, &elapsed_us) in &self.passed {
            let visit = NodeVisit { process: process.clone(), elapsed_us, ..NodeVisit::default() };
            visits.insert(process, visit);
        }
        for came in self.days.values() {
            let process = came.process.clone();
            let visit =
                visits.entry(&came.process).or_insert_with(|| NodeVisit { process, ..NodeVisit::default() });
            visit.elapsed_us += came.elapsed_us;
            visit.partitions += 1;
            visit.rows_scanned += i64::try_from(came.scanned).unwrap_or(i64::MAX);
        }
        visits.into_values().collect()
    }

    fn was_late(&self) -> bool {
        self.missing.iter().any(|missing| missing.was_late)
    }

    fn coverage(&self, plan: &Plan) -> Coverage {
        let answered = plan.wanted.iter().filter(|one| self.days.contains_key(&one.date.number()));
        let malformed: u64 = answered.map(|one| one.malformed).sum();
        let rows_malformed = i64::try_from(malformed).unwrap_or(i64::MAX);
        Coverage { rows_malformed, ..coverage(plan, self.days.len(), &self.missing, self.visits()) }
    }
}

/// How complete an answer is.
pub(super) fn coverage(
    plan: &Plan,
    answered: usize,
    missing: &[Missing],
    visited: Vec<NodeVisit>,
) -> Coverage {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let named = |missing: &Missing| MissingPartition {
        name: missing.name.clone(),
        process: missing.process.clone(),
        why: missing.why.clone(),
    };
    Coverage {
        partitions: number(plan.wanted.len() + plan.missing.len()),
        answered: number(answered),
        missing: missing.iter().map(named).collect(),
        rows_scanned: visited.iter().map(|visit| visit.rows_scanned).sum(),
        visited,
        rows_malformed: 0,
    }
}

#[cfg(test)]
mod tests;
