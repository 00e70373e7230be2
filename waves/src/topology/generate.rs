//! Topologies from a seed, and those that need none.

use std::collections::BTreeSet;

use super::graph::Sketch;
use super::{Graph, NotATree, Tree, Unit};
use crate::random::SplitMix64;

/// How a random unit is called: one of these, and one of those.
const FIRST: [&str; 40] = [
    "amber", "bold", "brisk", "calm", "clear", "coral", "crisp", "dusky", "early", "fern", "gentle",
    "golden", "hazel", "ivory", "jolly", "keen", "lilac", "lively", "lunar", "merry", "misty", "noble",
    "olive", "pale", "plain", "proud", "quick", "quiet", "rosy", "rustic", "sandy", "silver", "sleepy",
    "snowy", "solar", "steady", "sunny", "swift", "vivid", "warm",
];
const SECOND: [&str; 40] = [
    "acorn", "anchor", "badger", "beacon", "birch", "canyon", "cedar", "cloud", "comet", "cove", "delta",
    "dune", "ember", "falcon", "fjord", "forest", "garnet", "glade", "harbor", "heron", "island", "lantern",
    "lark", "maple", "marble", "meadow", "orchid", "otter", "pebble", "pine", "prairie", "raven", "reef",
    "river", "sparrow", "summit", "thistle", "valley", "willow", "wren",
];

impl Tree {
    /// A tree like the original's generator draws them: the root has two children, the others have up to three, `cpu` is
    /// even from 2 to 8, names are random words, ports go depth-first from 8000.
    ///
    /// # Errors
    /// When there are to be no units at all, or more than [`Tree::MOST_UNITS`].
    pub fn random(units: usize, seed: u64) -> Result<Self, NotATree> {
        if units == 0 {
            return Err(NotATree::Empty);
        }
        if units > Self::MOST_UNITS {
            return Err(NotATree::TooMany { units, most: Self::MOST_UNITS });
        }
        let mut random = SplitMix64::new(seed);
        let children = hang(units, &mut random);
        let mut names = names(units, &mut random).into_iter();
        let mut waiting = vec![(0, None)];
        let (mut list, mut parents) = (Vec::new(), Vec::new());
        for (port, name) in (Self::FIRST_PORT..).zip(names.by_ref()) {
            let Some((unit, parent)) = waiting.pop() else { break };
            let here = list.len();
            waiting.extend(children[unit].iter().rev().map(|child| (*child, Some(here))));
            list.push(Unit { name, port, cpu: 2 + 2 * random.below(4) as u32 });
            parents.push(parent);
        }
        Ok(Self::of(list, parents))
    }
}

/// The most levels: whatever way is taken over the root, it is not too long.
const LEVELS: usize = Tree::LONGEST_PATH.div_ceil(2);

/// Of each unit the children. A new one is hung where there is room, wherever that is, but never too deep.
fn hang(units: usize, random: &mut SplitMix64) -> Vec<Vec<usize>> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); units];
    let mut levels = vec![1; units];
    let mut room = Vec::new();
    for unit in 1..units {
        if unit > 2 && room.is_empty() {
            // Chance has given nobody room: the first that may have another child gets it.
            let mut others = 1..unit;
            let may = |other: &usize| children[*other].len() < 3 && levels[*other] < LEVELS;
            room.extend(others.find(may));
        }
        let parent = if unit <= 2 { 0 } else { room.swap_remove(random.below(room.len())) };
        children[parent].push(unit);
        levels[unit] = levels[parent] + 1;
        if levels[unit] < LEVELS {
            room.extend(vec![unit; random.below(4)]);
        }
    }
    children
}

fn names(units: usize, random: &mut SplitMix64) -> Vec<String> {
    let pairs = FIRST.iter().flat_map(|first| SECOND.iter().map(move |second| format!("{first}-{second}")));
    let mut names: Vec<_> = pairs.collect();
    random.shuffle(&mut names);
    names.truncate(units);
    names
}

/// Nodes that are called by their numbers.
fn numbered(nodes: usize, links: impl IntoIterator<Item = (usize, usize)>, both_ways: bool) -> Graph {
    let mut sketch = Sketch::default();
    for node in 0..nodes.min(Graph::MOST_NODES) {
        sketch.add(&node.to_string()).expect("a number is a name, and they are not too many");
    }
    for (from, to) in links {
        sketch.link(from, to, both_ways).expect("nobody is linked with itself here");
    }
    sketch.finish()
}

impl Graph {
    /// `nodes` in a row, each linked with the next, both ways.
    pub fn line(nodes: usize) -> Self {
        numbered(nodes, (1..nodes).map(|node| (node - 1, node)), true)
    }

    /// The same, and the last with the first.
    pub fn ring(nodes: usize) -> Self {
        let back = (nodes > 2).then_some((nodes - 1, 0));
        numbered(nodes, (1..nodes).map(|node| (node - 1, node)).chain(back), true)
    }

    /// Each points at the next, the last at the first: as strongly connected as little can be.
    pub fn one_way_ring(nodes: usize) -> Self {
        let back = (nodes > 1).then(|| (nodes - 1, 0));
        numbered(nodes, (1..nodes).map(|node| (node - 1, node)).chain(back), false)
    }

    /// All others linked with the first.
    pub fn star(nodes: usize) -> Self {
        numbered(nodes, (1..nodes).map(|node| (0, node)), true)
    }

    /// Everybody linked with everybody.
    pub fn complete(nodes: usize) -> Self {
        numbered(nodes, (0..nodes).flat_map(|a| (0..a).map(move |b| (b, a))), true)
    }

    /// A random tree: each node is linked with any of those before it.
    pub fn random_tree(nodes: usize, seed: u64) -> Self {
        Self::random_connected(nodes, 0, seed)
    }

    /// A random tree, and so many links more, as far as there are pairs for them.
    pub fn random_connected(nodes: usize, more: usize, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let mut order: Vec<_> = (0..nodes).collect();
        random.shuffle(&mut order);
        let tree = (1..nodes).map(|at| ordered(order[random.below(at)], order[at]));
        let mut links: BTreeSet<_> = tree.collect();
        let pairs = nodes.saturating_sub(1) * nodes / 2;
        let wanted = (links.len() + more).min(pairs);
        while links.len() < wanted {
            let (a, b) = (random.below(nodes), random.below(nodes));
            if a != b {
                links.insert(ordered(a, b));
            }
        }
        numbered(nodes, links, true)
    }

    /// So many of all possible arcs, whether they connect anything or not.
    pub fn random_directed(nodes: usize, arcs: usize, seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let wanted = arcs.min(nodes.saturating_sub(1) * nodes);
        let mut links = BTreeSet::new();
        while links.len() < wanted {
            let (from, to) = (random.below(nodes), random.below(nodes));
            if from != to {
                links.insert((from, to));
            }
        }
        numbered(nodes, links, false)
    }

    /// Arcs among all pairs of nodes, chosen by a bit each, in the order of [`Graph::complete`]'s edges: every graph of so
    /// many nodes has one such number.
    pub fn of_bits(nodes: usize, bits: u64) -> Self {
        let pairs = (0..nodes).flat_map(|a| (0..a).map(move |b| (b, a)));
        let links = pairs.enumerate().filter(|(bit, _)| *bit < 64 && bits >> bit & 1 == 1);
        numbered(nodes, links.map(|(_, pair)| pair), true)
    }
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
