//! The checker at work, and what it reports.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use stateright::{Checker, HasDiscoveries, Model};

use crate::simulate;
use crate::wave::{Subject, Wave};

/// How many states the checker may come upon in one wave, the same one as often as a way leads to it. A number and no
/// time, so that what is explored is the same everywhere.
#[derive(Clone, Copy)]
pub(crate) struct Budget(pub(crate) usize);

impl Budget {
    /// To the end.
    pub(crate) const ALL: Self = Self(usize::MAX);
}

/// What became of one wave.
pub(crate) struct Explored {
    pub(crate) states: usize,
    met: usize,
    is_all: bool,
    took: Duration,
    /// The properties that do not hold, each with what leads there.
    pub(crate) broken: BTreeMap<&'static str, String>,
}

pub(crate) fn explore<P: Subject>(wave: &Wave<P>, budget: Budget) -> Explored {
    explore_until(wave, budget, HasDiscoveries::AnyFailures)
}

/// Until something in particular is found.
pub(crate) fn explore_until<P: Subject>(wave: &Wave<P>, budget: Budget, found: HasDiscoveries) -> Explored {
    let began = Instant::now();
    let checker = wave.clone().checker().threads(threads()).finish_when(found);
    let checker = if budget.0 == usize::MAX { checker } else { checker.target_state_count(budget.0) };
    let checker = checker.spawn_bfs().join();
    let broken = checker.discoveries().into_iter();
    Explored {
        states: checker.unique_state_count(),
        met: checker.state_count(),
        is_all: checker.state_count() < budget.0,
        took: began.elapsed(),
        broken: broken.map(|(property, path)| (property, format!("{:?}", path.into_actions()))).collect(),
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Waves of one kind, as one line.
pub(crate) struct Table {
    what: String,
    graphs: usize,
    waves: usize,
    exhausted: usize,
    states: usize,
    met: usize,
    largest: usize,
    runs: usize,
    took: Duration,
    same: BTreeMap<String, Vec<usize>>,
}

impl Table {
    pub(crate) fn new(what: &str) -> Self {
        Self {
            what: what.to_owned(),
            graphs: 0,
            waves: 0,
            exhausted: 0,
            states: 0,
            met: 0,
            largest: 0,
            runs: 0,
            took: Duration::ZERO,
            same: BTreeMap::new(),
        }
    }

    /// To the end, or as far as the budget goes; how many states there were.
    pub(crate) fn explore<P: Subject>(&mut self, wave: &Wave<P>, budget: Budget) -> Result<usize, Failed> {
        let explored = explore(wave, budget);
        self.waves += 1;
        self.exhausted += usize::from(explored.is_all);
        self.states += explored.states;
        self.met += explored.met;
        self.largest = self.largest.max(explored.states);
        self.took += explored.took;
        if let Some((property, events)) = explored.broken.first_key_value() {
            let arcs: Vec<_> = wave.graph.arcs().collect();
            return Err(format!("{}, arcs {arcs:?}: not so: {property}, after {events}", self.what).into());
        }
        Ok(explored.states)
    }

    /// The same, and seeded runs where the budget did not reach to the end.
    pub(crate) fn explore_or_simulate<P: Subject>(
        &mut self,
        wave: &Wave<P>,
        budget: Budget,
    ) -> Result<(), Failed> {
        let before = self.exhausted;
        self.explore(wave, budget)?;
        if self.exhausted == before {
            let began = Instant::now();
            self.runs += simulate::check(wave)?;
            self.took += began.elapsed();
        }
        Ok(())
    }

    pub(crate) fn count_graph(&mut self) {
        self.graphs += 1;
    }

    /// Graphs that differ in names alone have as many states.
    pub(crate) fn expect_same(&mut self, unnamed: String, states: &[usize]) -> Result<(), Failed> {
        self.count_graph();
        let before = self.same.entry(unnamed).or_insert_with(|| states.to_vec());
        if before == states {
            Ok(())
        } else {
            Err(format!("names make a difference: {before:?}, {states:?}").into())
        }
    }

    /// The line.
    pub(crate) fn print(&self) {
        SUM.lock().expect("nobody panics with it").add(self);
        let extent = match (self.exhausted == self.waves, self.runs) {
            (true, _) => "exhaustive".to_owned(),
            (false, 0) => format!("{} of them exhaustive", self.exhausted),
            (false, runs) => format!(
                "{} of them exhaustive, the others cut off; {runs} seeded runs of those",
                self.exhausted
            ),
        };
        let seconds = self.took.as_secs_f64();
        println!(
            "model: {}: {} graphs, {} waves, {extent}; {} states (at most {} in one wave), met {} times, {seconds:.1} s, {:.0} states/s",
            self.what,
            self.graphs,
            self.waves,
            self.states,
            self.largest,
            self.met,
            self.met as f64 / seconds,
        );
    }
}

/// Of all lines.
static SUM: Mutex<Sum> = Mutex::new(Sum { waves: 0, exhausted: 0, states: 0, met: 0, took: Duration::ZERO });

struct Sum {
    waves: usize,
    exhausted: usize,
    states: usize,
    met: usize,
    took: Duration,
}

impl Sum {
    fn add(&mut self, table: &Table) {
        self.waves += table.waves;
        self.exhausted += table.exhausted;
        self.states += table.states;
        self.met += table.met;
        self.took += table.took;
    }
}

/// The line under all others.
pub(crate) fn print_sum() {
    let sum = SUM.lock().expect("nobody panics with it");
    let seconds = sum.took.as_secs_f64();
    println!(
        "model: in all {} waves, {} of them exhaustive; {} states, met {} times, {seconds:.1} s, {:.0} states/s",
        sum.waves,
        sum.exhausted,
        sum.states,
        sum.met,
        sum.met as f64 / seconds.max(f64::MIN_POSITIVE),
    );
}
