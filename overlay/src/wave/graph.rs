//! The overlay as a wave sees it: every link is one both ways, whoever of the two the file says it of.

use std::collections::BTreeSet;

use slipring_waves::NodeId;

use crate::topology::{ProcessId, Topology};

/// Processes by number: their places in the order of their names.
#[derive(Debug)]
pub(crate) struct Graph {
    names: Vec<ProcessId>,
    neighbors: Vec<BTreeSet<NodeId>>,
}

impl Graph {
    pub(crate) fn of(topology: &Topology) -> Self {
        let names: Vec<_> = topology.processes.keys().cloned().collect();
        let neighbors = vec![BTreeSet::new(); names.len()];
        let mut graph = Self { names, neighbors };
        for (one, process) in (0..).zip(topology.processes.values()) {
            for neighbor in &process.neighbors {
                if let Some(other) = graph.number(neighbor.as_str()) {
                    graph.neighbors[one as usize].insert(other);
                    graph.neighbors[other as usize].insert(one);
                }
            }
        }
        graph
    }

    /// A process's number, if there is one of this name.
    pub(crate) fn number(&self, name: &str) -> Option<NodeId> {
        let place = self.names.binary_search_by(|id| id.as_str().cmp(name)).ok()?;
        NodeId::try_from(place).ok()
    }

    /// Whether there is a process of this number.
    pub(crate) fn has(&self, number: NodeId) -> bool {
        (number as usize) < self.names.len()
    }

    /// The process of a number that [`Graph::number`] gave.
    pub(crate) fn name(&self, number: NodeId) -> &ProcessId {
        &self.names[number as usize]
    }

    /// All processes, in their order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = NodeId> + use<> {
        0..NodeId::try_from(self.names.len()).unwrap_or(NodeId::MAX)
    }

    pub(crate) fn neighbors(&self, number: NodeId) -> &BTreeSet<NodeId> {
        &self.neighbors[number as usize]
    }

    /// Two on each link: so many messages a wave takes.
    pub(crate) fn messages(&self) -> usize {
        self.neighbors.iter().map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_one_whoever_of_the_two_the_file_says_it_of() {
        let mut topology = Topology::parse(include_str!("../../topologies/baseline.json")).unwrap();
        let six = Graph::of(&topology);
        assert_eq!((six.numbers().count(), six.messages()), (6, 12), "six links");
        assert_eq!((six.number("D"), six.number(""), six.number("G")), (Some(3), None, None));
        let names = |number: &NodeId| six.name(*number).as_str();
        let of = |name: &str| six.neighbors(six.number(name).unwrap()).iter().map(names).collect::<String>();
        assert_eq!(["A", "B", "C", "D", "E", "F"].map(of), ["BE", "ACD", "B", "BE", "ADF", "E"]);
        for worker in ["C", "D", "F"] {
            topology.processes.get_mut(worker).unwrap().neighbors.clear();
        }
        assert_eq!(Graph::of(&topology).neighbors, six.neighbors);
    }
}
