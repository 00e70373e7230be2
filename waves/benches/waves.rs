//! Waves and plans beside their bounds: the simulator in place of the network, so that messages and rounds are exact and the
//! same everywhere; milliseconds are this machine's. `make bench`; the figures a decision rests on are archived under
//! `bench/runs`.

#![allow(clippy::print_stdout, reason = "it has figures to print")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use slipring_waves::balance::{
    Move, Station, Trial, disbalance, heap, lower_bound, rounds_to_balance, stealing, tree,
};
use slipring_waves::random::SplitMix64;
use slipring_waves::sim::{Conditions, Network, Order, Uninformed, finns};
use slipring_waves::topology::{Graph, Tree};
use slipring_waves::{Gather, NodeId};

const SEED: u64 = 1;

fn main() {
    // `cargo bench` says --bench; cargo test runs it without, to see that it is built.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    echo();
    finn();
    balancing();
}

fn graphs(nodes: usize) -> Vec<(&'static str, Graph)> {
    vec![
        ("line", Graph::line(nodes)),
        ("random tree", Graph::random_tree(nodes, SEED)),
        ("ring", Graph::ring(nodes)),
        ("star", Graph::star(nodes)),
        ("random, 2 links a node", Graph::random_connected(nodes, nodes, SEED)),
        ("random, 8 links a node", Graph::random_connected(nodes, 7 * nodes, SEED)),
    ]
}

/// The median of as many runs as fit into a second, three at least; what they start with is made beforehand.
fn median<T>(start: impl Fn() -> T, mut run: impl FnMut(T)) -> Duration {
    let began = Instant::now();
    let mut runs = Vec::new();
    while runs.len() < 3 || (began.elapsed() < Duration::from_secs(1) && runs.len() < 101) {
        let start = start();
        let began = Instant::now();
        run(start);
        runs.push(began.elapsed());
    }
    runs.sort_unstable();
    runs[runs.len() / 2]
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// What a wave is measured with: how many there are.
#[derive(Clone, Copy, Debug)]
struct Count(u64);

impl Gather for Count {
    fn gather(self, children: Vec<(NodeId, Self)>, _missing: &BTreeSet<NodeId>) -> Self {
        Self(self.0 + children.iter().map(|(_, child)| child.0).sum::<u64>())
    }
}

fn echo() {
    println!("\nEcho, 1,000 nodes, messages in any order: 2·E messages, under 10 ms");
    println!("{:<24} {:>8} {:>9} {:>9} {:>9}", "graph", "E", "messages", "2·E", "median ms");
    for (name, graph) in graphs(1_000) {
        let uninformed =
            graph.ids().map(|id| (id, Uninformed::Yes { neighbors: graph.neighbors(id), own: Count(1) }));
        let network = Network::new(uninformed.collect(), Conditions::new(SEED));
        let (outcome, _) = network.clone().run([0]);
        let counted = outcome.decided.first().map(|decided| decided.decision.0);
        assert_eq!(counted, Some(1_000), "everybody counts once");
        let median = median(|| network.clone(), |network| drop(network.run([0])));
        let edges = graph.edge_count();
        println!("{name:<24} {edges:>8} {:>9} {:>9} {:>9.2}", outcome.sent, 2 * edges, ms(median));
    }
}

fn finn() {
    println!("\nFinn, one initiator, each message one round on its way: at most 2·N·m messages, time O(D)");
    println!(
        "{:<24} {:>5} {:>6} {:>9} {:>9} {:>8} {:>7} {:>9} {:>10}",
        "graph", "N", "m", "messages", "2·N·m", "of it", "rounds", "diameter", "median ms"
    );
    for nodes in [100, 300, 1_000] {
        for (name, graph) in graphs(nodes) {
            if graph.arc_count() > 10_000 {
                // Three million messages each of which is two sets of a thousand: ten seconds, and nothing new.
                continue;
            }
            let conditions = Conditions { order: Order::Rounds, ..Conditions::new(SEED) };
            let network = Network::new(finns(&graph), conditions);
            let (outcome, _) = network.clone().run([0]);
            assert_eq!(outcome.decided.len(), nodes, "everybody decides");
            let last = outcome.decided.iter().map(|decided| decided.round).max().unwrap_or(0);
            let bound = 2 * nodes * graph.arc_count();
            println!(
                "{name:<24} {nodes:>5} {:>6} {:>9} {bound:>9} {:>7.1}% {last:>7} {:>9} {:>10.1}",
                graph.arc_count(),
                outcome.sent,
                100.0 * outcome.sent as f64 / bound as f64,
                graph.diameter(),
                ms(median(|| network.clone(), |network| drop(network.run([0])))),
            );
        }
    }
}

/// The units of a random tree, without tasks.
fn stations(units: usize) -> Vec<Station> {
    let tree = Tree::random(units, SEED).expect("as many as there may be");
    let place = |port: u16| usize::from(port - Tree::FIRST_PORT);
    let station = |unit: &slipring_waves::topology::Unit| Station {
        id: unit.port.into(),
        parent: tree.parent_of(unit.port).map(place),
        load: 0,
        cores: unit.cpu.into(),
    };
    tree.units().iter().map(station).collect()
}

/// Where the tasks are in the beginning: nine for ten cores, which is more than the original's limit of three for four.
fn starts(units: usize) -> Vec<(&'static str, Vec<Station>)> {
    let mut one = stations(units);
    let tasks = one.iter().map(|station| station.cores).sum::<u64>() * 9 / 10;
    let mut few = one.clone();
    let mut any = one.clone();
    if let Some(last) = one.last_mut() {
        last.load = tasks;
    }
    let mut random = SplitMix64::new(SEED);
    for _ in 0..tasks {
        // Squared, so that some have most of it.
        let place = random.below(units) * random.below(units) / units;
        few[place].load += 1;
        any[random.below(units)].load += 1;
    }
    vec![("all at one", one), ("skewed", few), ("anywhere", any)]
}

type Plan<'a> = dyn Fn(&[Station]) -> Vec<Move> + 'a;

fn balancing() {
    println!("\nBalancing a random tree, nine tasks for ten cores; nothing ends meanwhile");
    println!(
        "{:>5} {:<11} {:<9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>9}",
        "units", "start", "plan", "intervals", "moves", "links", "bound", "then off by", "plan ms"
    );
    for units in [8, 100, 1_000] {
        for (start, stations) in starts(units) {
            let bound = lower_bound(&stations);
            println!(
                "{units:>5} {start:<11} {:<9} {:>9} {:>9} {:>9} {bound:>9} {:>10.1}",
                "",
                "",
                "",
                "",
                disbalance(&stations).farthest
            );
            let percent = |stations: &[Station]| heap(stations, 75);
            let plans: [(&str, &Plan<'_>); 3] =
                [("tree", &tree), ("heap", &percent), ("stealing", &stealing)];
            for (name, plan) in plans {
                let trial = rounds_to_balance(&stations, 100_000, plan).expect("a plan can be carried out");
                if name == "tree" {
                    assert_eq!(trial.moves, bound, "no more moves than there must be");
                }
                print(units, start, name, &trial, median(|| (), |()| drop(plan(&stations))));
            }
        }
    }
}

fn print(units: usize, start: &str, plan: &str, trial: &Trial, took: Duration) {
    let intervals =
        if trial.is_balanced { trial.rounds.to_string() } else { format!("never ({})", trial.rounds) };
    println!(
        "{units:>5} {start:<11} {plan:<9} {intervals:>9} {:>9} {:>9} {:>9} {:>10.1} {:>9.3}",
        trial.moves,
        trial.hops,
        "",
        trial.left.farthest,
        ms(took)
    );
}
