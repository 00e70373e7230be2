//! From a graph to a tree, where a tree is needed.
//!
//! The root is the first node at which nothing points, or, where every link counts both ways, the first of all; links that
//! count one way must lead away from it. Children come in the order of their nodes. Whoever has no port gets the next free
//! one from 8000 up, in depth-first order, as the original's generator does; whoever has no `cpu` gets
//! [`Tree::USUAL_CPU`].

use std::collections::BTreeSet;

use super::{Graph, Tree, Unit};

/// Why a graph is no tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotATree {
    /// It has no nodes.
    #[error("there is no root: the graph is empty")]
    Empty,
    /// Links lead back.
    #[error("a tree has no cycle, and here is one: {}", .0.join(", "))]
    Cycle(Vec<String>),
    /// Not all are connected with the root.
    #[error("'{other}' is not connected with the root '{root}'")]
    Apart {
        /// The root.
        root: String,
        /// Somebody else.
        other: String,
    },
    /// A link that counts one way, and that is towards the root.
    #[error("'{child}' points at '{parent}', which is nearer to the root '{root}': links lead away from it")]
    Upwards {
        /// From whom.
        child: String,
        /// To whom.
        parent: String,
        /// Who is the root.
        root: String,
    },
    /// Too far from the root.
    #[error("'{0}' is too deep: {most} levels are the most", most = Tree::MOST_LEVELS)]
    TooDeep(String),
    /// Two units are too far from each other.
    #[error(
        "from '{from}' to '{to}' the way is {units} units long: {most} are the most",
        most = Tree::LONGEST_PATH
    )]
    TooLong {
        /// One.
        from: String,
        /// The other.
        to: String,
        /// How many there are on the way, with them.
        units: usize,
    },
    /// More than may be run.
    #[error("{units} units are too many: each is a process, and {most} are the most")]
    TooMany {
        /// How many there are.
        units: usize,
        /// How many there may be.
        most: usize,
    },
    /// No port is left.
    #[error("there is no port left for '{0}'")]
    NoPort(String),
}

impl Tree {
    /// The cores of a unit of which nothing was said.
    pub const USUAL_CPU: u32 = 4;
    /// The port of the first unit of which nothing was said.
    pub const FIRST_PORT: u16 = 8000;
}

impl Graph {
    /// The tree that this graph is, of at most [`Tree::MOST_UNITS`] units. The module says how it is hung up.
    ///
    /// # Errors
    /// When it is none.
    pub fn to_tree(&self) -> Result<Tree, NotATree> {
        if self.nodes().len() > Tree::MOST_UNITS {
            return Err(NotATree::TooMany { units: self.nodes().len(), most: Tree::MOST_UNITS });
        }
        let root = self.root().ok_or(NotATree::Empty)?;
        let hung = self.hang(root)?;
        let name = |place: usize| self.nodes()[place].name.clone();
        let reached: BTreeSet<_> = hung.iter().map(|(place, _)| *place).collect();
        if let Some(other) = (0..self.nodes().len()).find(|place| !reached.contains(place)) {
            return Err(NotATree::Apart { root: name(root), other: name(other) });
        }
        let taken: BTreeSet<_> = self.nodes().iter().filter_map(|node| node.port).collect();
        let mut free = (Tree::FIRST_PORT..=u16::MAX).filter(|port| !taken.contains(port));
        let mut units = Vec::new();
        for (place, _) in &hung {
            let node = &self.nodes()[*place];
            let port = node.port.or_else(|| free.next()).ok_or_else(|| NotATree::NoPort(name(*place)))?;
            let cpu = node.cpu.unwrap_or(Tree::USUAL_CPU);
            units.push(Unit { name: node.name.clone(), port, cpu });
        }
        let tree = Tree::of(units, hung.into_iter().map(|(_, parent)| parent).collect());
        let (from, to, units) = tree.longest_path();
        if units > Tree::LONGEST_PATH {
            return Err(NotATree::TooLong { from: from.name.clone(), to: to.name.clone(), units });
        }
        Ok(tree)
    }

    fn root(&self) -> Option<usize> {
        let is_pointed_at = |place: usize| self.linked(place).any(|other| self.has_arc(other, place));
        let mut places = 0..self.nodes().len();
        let first = places.clone().next();
        places.find(|place| !is_pointed_at(*place)).or(first)
    }

    /// What is connected with the root, depth first: places, each with where in this list its parent is.
    fn hang(&self, root: usize) -> Result<Vec<(usize, Option<usize>)>, NotATree> {
        let name = |place: usize| self.nodes()[place].name.clone();
        let mut at: Vec<Option<usize>> = vec![None; self.nodes().len()];
        let mut hung: Vec<(usize, Option<usize>)> = Vec::new();
        let mut waiting = vec![(root, None, 1)];
        while let Some((place, parent, level)) = waiting.pop() {
            if let Some(met) = at[place] {
                let cycle = cycle(&hung, met, parent);
                return Err(NotATree::Cycle(cycle.into_iter().map(name).collect()));
            }
            if level > Tree::MOST_LEVELS {
                return Err(NotATree::TooDeep(name(place)));
            }
            let here = hung.len();
            at[place] = Some(here);
            hung.push((place, parent));
            let above = parent.map(|parent| hung[parent].0);
            if let Some(above) = above.filter(|above| !self.has_arc(*above, place)) {
                return Err(NotATree::Upwards { child: name(place), parent: name(above), root: name(root) });
            }
            let mut below: Vec<_> = self.linked(place).filter(|other| Some(*other) != above).collect();
            below.reverse();
            waiting.extend(below.into_iter().map(|other| (other, Some(here), level + 1)));
        }
        Ok(hung)
    }
}

/// The way from somebody who was met twice to where it was met, along parents: depth first, one is above the other.
fn cycle(hung: &[(usize, Option<usize>)], met: usize, last: Option<usize>) -> Vec<usize> {
    let up = std::iter::successors(last, |at| if *at == met { None } else { hung[*at].1 });
    let mut cycle: Vec<_> = up.map(|at| hung[at].0).collect();
    cycle.reverse();
    cycle
}
