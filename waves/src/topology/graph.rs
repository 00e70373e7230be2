//! Nodes and the one-way arcs between them; a link that counts both ways is two arcs.
//!
//! Every node has a name, by which files speak of it, and a number, by which the algorithms do: its port if it has one, else
//! its name if that is a number, else the lowest that is free. Arcs are sets: said twice is said once. Nobody is its own
//! neighbor.

use std::collections::{BTreeMap, BTreeSet};

use super::Tree;
use crate::NodeId;

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its number; no other has it.
    pub id: NodeId,
    /// Its name; no other has it.
    pub name: String,
    /// Where it listens, if that was said.
    pub port: Option<u16>,
    /// How many tasks it can run at once, if that was said.
    pub cpu: Option<u32>,
    /// What is to be shown instead of its name, as DOT writes it.
    pub label: Option<String>,
}

/// See the module. Nodes are kept in the order in which they were first named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    nodes: Vec<Node>,
    outs: Vec<BTreeSet<usize>>,
    ins: Vec<BTreeSet<usize>>,
    places: BTreeMap<NodeId, usize>,
}

impl Graph {
    /// The most nodes that a text may name.
    pub const MOST_NODES: usize = 100_000;

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node with this number.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        Some(&self.nodes[*self.places.get(&id)?])
    }

    /// The node with this name.
    pub fn named(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// All numbers, in the nodes' order.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().map(|node| node.id)
    }

    /// Whom a node tells; nobody, for a number that is no node's.
    pub fn outs(&self, id: NodeId) -> BTreeSet<NodeId> {
        self.around(&self.outs, id)
    }

    /// By whom a node is told.
    pub fn ins(&self, id: NodeId) -> BTreeSet<NodeId> {
        self.around(&self.ins, id)
    }

    /// Whom a node is linked with, one way or the other.
    pub fn neighbors(&self, id: NodeId) -> BTreeSet<NodeId> {
        &self.outs(id) | &self.ins(id)
    }

    fn around(&self, arcs: &[BTreeSet<usize>], id: NodeId) -> BTreeSet<NodeId> {
        let places = self.places.get(&id).map(|place| &arcs[*place]);
        places.into_iter().flatten().map(|place| self.nodes[*place].id).collect()
    }

    /// Every arc, as from and to.
    pub fn arcs(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        let arcs = self.outs.iter().enumerate();
        arcs.flat_map(move |(from, outs)| {
            outs.iter().map(move |to| (self.nodes[from].id, self.nodes[*to].id))
        })
    }

    /// How many arcs there are: what is called m.
    pub fn arc_count(&self) -> usize {
        self.outs.iter().map(BTreeSet::len).sum()
    }

    /// Every pair that is linked, one way or the other, once, in the order of the nodes.
    pub fn edges(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        let pairs = (0..self.nodes.len()).flat_map(|a| self.linked(a).map(move |b| (a, b)));
        pairs.filter(|(a, b)| a < b).map(|(a, b)| (self.nodes[a].id, self.nodes[b].id))
    }

    /// How many pairs are linked: what is called E.
    pub fn edge_count(&self) -> usize {
        self.edges().count()
    }

    /// The places that a place is linked with, in order.
    pub(super) fn linked(&self, place: usize) -> impl Iterator<Item = usize> + '_ {
        self.outs[place].union(&self.ins[place]).copied()
    }

    pub(super) fn has_arc(&self, from: usize, to: usize) -> bool {
        self.outs[from].contains(&to)
    }

    /// Whether every link counts both ways.
    pub fn is_symmetric(&self) -> bool {
        self.outs == self.ins
    }

    /// The same nodes, every link counting both ways.
    #[must_use]
    pub fn both_ways(&self) -> Self {
        let outs: Vec<BTreeSet<_>> =
            (0..self.nodes.len()).map(|place| self.linked(place).collect()).collect();
        Self { ins: outs.clone(), outs, ..self.clone() }
    }

    /// Whether everybody can be reached from everybody along links, whichever way they count.
    pub fn is_connected(&self) -> bool {
        let reached = self.reach(0, |place| self.linked(place).collect());
        reached.len() == self.nodes.len()
    }

    /// Whether everybody can be reached from everybody along arcs.
    pub fn is_strongly_connected(&self) -> bool {
        let all = self.nodes.len();
        self.reach(0, |place| self.outs[place].iter().copied().collect()).len() == all
            && self.reach(0, |place| self.ins[place].iter().copied().collect()).len() == all
    }

    /// From whom arcs lead to a node, itself among them.
    pub fn ancestors(&self, id: NodeId) -> BTreeSet<NodeId> {
        self.from(id, &self.ins)
    }

    /// Whither arcs lead from a node, itself among them.
    pub fn descendants(&self, id: NodeId) -> BTreeSet<NodeId> {
        self.from(id, &self.outs)
    }

    fn from(&self, id: NodeId, arcs: &[BTreeSet<usize>]) -> BTreeSet<NodeId> {
        let Some(place) = self.places.get(&id) else { return BTreeSet::new() };
        let reached = self.reach(*place, |place| arcs[place].iter().copied().collect());
        reached.into_iter().map(|(place, _)| self.nodes[place].id).collect()
    }

    /// The longest way along arcs that is the shortest between two nodes, of those that can reach one another.
    pub fn diameter(&self) -> usize {
        let starts = 0..self.nodes.len();
        let farthest = starts.filter_map(|start| {
            let reached = self.reach(start, |place| self.outs[place].iter().copied().collect());
            reached.last().map(|(_, steps)| *steps)
        });
        farthest.max().unwrap_or(0)
    }

    /// Everybody that is reached from a place, with the number of steps, the nearest first.
    fn reach(&self, start: usize, next: impl Fn(usize) -> Vec<usize>) -> Vec<(usize, usize)> {
        if start >= self.nodes.len() {
            return Vec::new();
        }
        let mut seen = vec![false; self.nodes.len()];
        seen[start] = true;
        let mut reached = vec![(start, 0)];
        let mut done = 0;
        while let Some((place, steps)) = reached.get(done).copied() {
            done += 1;
            for other in next(place) {
                if !std::mem::replace(&mut seen[other], true) {
                    reached.push((other, steps + 1));
                }
            }
        }
        reached
    }
}

impl From<&Tree> for Graph {
    /// Its links count both ways, its ports are the nodes' numbers.
    fn from(tree: &Tree) -> Self {
        let mut sketch = Sketch::default();
        for unit in tree.units() {
            let node = sketch.add(&unit.name).expect("a tree has fewer units than a graph may have nodes");
            sketch.set_port(node, unit.port).expect("a tree's ports are unique");
            sketch.nodes[node].cpu = Some(unit.cpu);
            if let Some(parent) = tree.parent_of(unit.port).and_then(|port| tree.unit(port)) {
                let parent = sketch.add(&parent.name).expect("it is there already");
                sketch.link(parent, node, true).expect("nobody is its own parent");
            }
        }
        sketch.finish()
    }
}

/// What cannot be said of a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphMistake {
    /// A name that is none.
    #[error("the name {0:?} cannot be: it takes 1 to {most} bytes of text in one line", most = Tree::LONGEST_NAME)]
    Name(String),
    /// More nodes than a text may name.
    #[error("there are too many nodes: {most} are the most", most = Graph::MOST_NODES)]
    TooMany,
    /// A link from a node to itself.
    #[error("'{0}' cannot be its own neighbor")]
    Itself(String),
    /// Two nodes have one port.
    #[error("'{name}' has the port {port}, and so has '{of}'")]
    PortTaken {
        /// Who comes second.
        name: String,
        /// The port.
        port: u16,
        /// Who had it.
        of: String,
    },
}

/// A graph in the making: named nodes and arcs, no numbers yet.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    pub(super) nodes: Vec<Sketched>,
    arcs: Vec<(usize, usize)>,
    names: BTreeMap<String, usize>,
    ports: BTreeMap<u16, usize>,
}

#[derive(Debug)]
pub(super) struct Sketched {
    name: String,
    port: Option<u16>,
    pub(super) cpu: Option<u32>,
    pub(super) label: Option<String>,
}

impl Sketch {
    /// The node of this name, which is added if it is not there.
    pub(super) fn add(&mut self, name: &str) -> Result<usize, GraphMistake> {
        if let Some(place) = self.names.get(name) {
            return Ok(*place);
        }
        if !super::words::is_name(name) {
            return Err(GraphMistake::Name(super::words::cut(name)));
        }
        if self.nodes.len() >= Graph::MOST_NODES {
            return Err(GraphMistake::TooMany);
        }
        let place = self.nodes.len();
        self.names.insert(name.to_owned(), place);
        self.nodes.push(Sketched { name: name.to_owned(), port: None, cpu: None, label: None });
        Ok(place)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn set_port(&mut self, node: usize, port: u16) -> Result<(), GraphMistake> {
        if let Some(of) = self.ports.get(&port).filter(|of| **of != node) {
            let name = |node: usize| self.nodes[node].name.clone();
            return Err(GraphMistake::PortTaken { name: name(node), port, of: name(*of) });
        }
        if let Some(before) = self.nodes[node].port.replace(port) {
            self.ports.remove(&before);
        }
        self.ports.insert(port, node);
        Ok(())
    }

    pub(super) fn link(&mut self, from: usize, to: usize, both_ways: bool) -> Result<(), GraphMistake> {
        if from == to {
            return Err(GraphMistake::Itself(self.nodes[from].name.clone()));
        }
        self.arcs.push((from, to));
        if both_ways {
            self.arcs.push((to, from));
        }
        Ok(())
    }

    /// Everybody gets a number.
    pub(super) fn finish(self) -> Graph {
        let mut places: BTreeMap<NodeId, usize> =
            self.ports.into_iter().map(|(port, place)| (port.into(), place)).collect();
        let mut ids: Vec<Option<NodeId>> =
            self.nodes.iter().map(|node| node.port.map(NodeId::from)).collect();
        for (place, node) in self.nodes.iter().enumerate() {
            let number = node.name.parse().ok().filter(|number: &NodeId| number.to_string() == node.name);
            if let (None, Some(number)) = (ids[place], number.filter(|number| !places.contains_key(number))) {
                places.insert(number, place);
                ids[place] = Some(number);
            }
        }
        let mut free = 0..;
        let nodes = self.nodes.into_iter().zip(ids).enumerate().map(|(place, (node, id))| {
            let id = id.or_else(|| free.find(|id| !places.contains_key(id)));
            let id = id.expect("there are more numbers than nodes");
            places.insert(id, place);
            Node { id, name: node.name, port: node.port, cpu: node.cpu, label: node.label }
        });
        let nodes: Vec<_> = nodes.collect();
        let none = vec![BTreeSet::new(); nodes.len()];
        let mut graph = Graph { nodes, outs: none.clone(), ins: none, places };
        for (from, to) in self.arcs {
            graph.outs[from].insert(to);
            graph.ins[to].insert(from);
        }
        graph
    }
}
