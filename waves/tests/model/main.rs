//! Waves explored by stateright: every order of messages and every repetition, on every small graph.
//!
//! - Every connected graph of up to four nodes and every initiator, exhaustively.
//! - Those of five nodes as far as it goes; where it does not go to the end, seeded runs of the simulator come on top.
//! - What the exploration leaves out matters to nobody, and known bugs are found: else it would prove nothing.
//!
//! Each line of output says on which graphs, from how many beginnings, how many states there were, and whether these were
//! all. `make model` runs what `cargo test` leaves out because it takes longer.

#![allow(clippy::print_stdout, reason = "its table is to be seen")]

mod explore;
mod graphs;
mod mutants;
mod remembering;
mod simulate;
mod wave;
mod waves;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use slipring_waves::topology::Graph;

use explore::{Budget, Table};
use graphs::{directed, labelled, sorts, subsets, unlabelled};

/// For waves that would take minutes each.
const CUT: Budget = Budget(200_000);
/// For those of which there are many in the suite.
const CUT_SHORT: Budget = Budget(60_000);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each uses all cores, and they print.
    arguments.test_threads = Some(1);
    let quick = |name: &str, run: fn() -> Result<(), Failed>| Trial::test(name, run);
    let long = |name: &str, run: fn() -> Result<(), Failed>| Trial::test(name, run).with_ignored_flag(true);
    let trials = vec![
        quick("echo_up_to_four_nodes", echo_up_to_four),
        quick("echo_five_nodes", echo_five),
        quick("finn_up_to_four_nodes", finn_up_to_four),
        quick("finn_any_initiators", finn_any_initiators),
        quick("finn_directed", finn_directed),
        quick("barrier_directed", barrier_directed),
        quick("what_is_thrown_away_matters_to_nobody", remembering::check),
        quick("known_bugs_are_found", mutants::check),
        long("finn_four_nodes_dense", finn_four_dense),
        long("finn_five_nodes", finn_five),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        explore::print_sum();
    }
    conclusion.exit_code()
}

/// Under all names, which must make no difference.
fn echo_up_to_four() -> Result<(), Failed> {
    for nodes in 2..=4 {
        let mut table = Table::new(&format!("Echo, {nodes} nodes, every name"));
        for graph in labelled(nodes) {
            let states = graph.ids().map(|id| table.explore(&waves::echo(graph.clone(), id), Budget::ALL));
            let mut states = states.collect::<Result<Vec<_>, _>>()?;
            states.sort_unstable();
            table.expect_same(graphs::name(&graph), &states)?;
        }
        table.print();
    }
    Ok(())
}

fn echo_five() -> Result<(), Failed> {
    let mut table = Table::new("Echo, 5 nodes, up to names (21 graphs for 728)");
    for graph in unlabelled(5) {
        for initiator in sorts(&graph) {
            table.explore(&waves::echo(graph.clone(), initiator), Budget::ALL)?;
        }
        table.count_graph();
    }
    table.print();
    Ok(())
}

fn finn_up_to_four() -> Result<(), Failed> {
    for nodes in 2..=3 {
        let mut table = Table::new(&format!("Finn, {nodes} nodes, every name"));
        for graph in labelled(nodes) {
            let states =
                graph.ids().map(|id| table.explore(&waves::finn(graph.clone(), 1 << id), Budget::ALL));
            let mut states = states.collect::<Result<Vec<_>, _>>()?;
            states.sort_unstable();
            table.expect_same(graphs::name(&graph), &states)?;
        }
        table.print();
    }
    let mut table = Table::new("Finn, 4 nodes, up to names (4 graphs for 31)");
    for graph in unlabelled(4).into_iter().filter(|graph| graph.edge_count() < 5) {
        finn_from_each(&mut table, &graph, Budget::ALL)?;
    }
    table.print();
    Ok(())
}

fn finn_four_dense() -> Result<(), Failed> {
    let mut table = Table::new("Finn, 4 nodes, dense, up to names (the other 2 for 7)");
    for graph in unlabelled(4).into_iter().filter(|graph| graph.edge_count() >= 5) {
        finn_from_each(&mut table, &graph, Budget::ALL)?;
    }
    table.print();
    Ok(())
}

fn finn_five() -> Result<(), Failed> {
    let mut graphs = unlabelled(5);
    graphs.sort_by_key(Graph::edge_count);
    for edges in 4..=10 {
        let mut table = Table::new(&format!("Finn, 5 nodes, {edges} edges, up to names"));
        for graph in graphs.iter().filter(|graph| graph.edge_count() == edges) {
            // Trees to the end; a cycle makes a hundred times as many states and more.
            let budget = if edges == 4 { Budget::ALL } else { CUT };
            finn_from_each(&mut table, graph, budget)?;
        }
        table.print();
    }
    Ok(())
}

fn finn_from_each(table: &mut Table, graph: &Graph, budget: Budget) -> Result<(), Failed> {
    for initiator in sorts(graph) {
        table.explore_or_simulate(&waves::finn(graph.clone(), 1 << initiator), budget)?;
    }
    table.count_graph();
    Ok(())
}

/// Several begin, each when it likes.
fn finn_any_initiators() -> Result<(), Failed> {
    let mut table = Table::new("Finn, 2 to 4 nodes, any initiators");
    for graph in [2, 3, 4].into_iter().flat_map(unlabelled) {
        for initiators in subsets(&graph) {
            table.explore_or_simulate(&waves::finn(graph.clone(), initiators), CUT_SHORT)?;
        }
        table.count_graph();
    }
    table.print();
    Ok(())
}

/// Strongly connected or not: whoever decides knows its ancestors.
fn finn_directed() -> Result<(), Failed> {
    let mut table = Table::new("Finn, one-way arcs, 2 and 3 nodes, any initiators");
    for graph in [2, 3].into_iter().flat_map(directed) {
        for initiators in subsets(&graph) {
            table.explore(&waves::finn(graph.clone(), initiators), Budget::ALL)?;
        }
        table.count_graph();
    }
    table.print();
    Ok(())
}

fn barrier_directed() -> Result<(), Failed> {
    let mut table = Table::new("Barrier, one-way arcs, 2 to 4 nodes");
    for graph in [2, 3, 4].into_iter().flat_map(directed) {
        table.explore(&waves::barrier(graph), Budget::ALL)?;
        table.count_graph();
    }
    table.print();
    Ok(())
}
