//! The one-way variant of Finn's algorithm, under its true name: a node waits for all its in-neighbors, then tells all its
//! out-neighbors, once. m messages.
//!
//! It reaches every node of an acyclic graph. Where there is a cycle nobody on it is ever released, nor anybody behind it:
//! when nothing is under way any more, [`blocked`] finds the cycle in what each is still waiting for.

use std::collections::{BTreeMap, BTreeSet};

use crate::{NodeId, Step};

/// Somebody, and all before it, is through. What travels, and what is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Released;

/// One node at one barrier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Barrier {
    silent: BTreeSet<NodeId>,
    outs: BTreeSet<NodeId>,
    is_released: bool,
}

/// What a node does.
type Steps = Vec<Step<Released, Released>>;

impl Barrier {
    /// A node at the barrier.
    pub fn new(ins: impl IntoIterator<Item = NodeId>, outs: impl IntoIterator<Item = NodeId>) -> Self {
        Self { silent: ins.into_iter().collect(), outs: outs.into_iter().collect(), is_released: false }
    }

    /// The barrier opens: whoever waits for nobody is released.
    pub fn begin(&mut self) -> Steps {
        if self.is_released || !self.silent.is_empty() {
            return Vec::new();
        }
        self.is_released = true;
        let mut steps: Vec<_> = self.outs.iter().map(|out| Step::Send(*out, Released)).collect();
        steps.push(Step::Decide(Released));
        steps
    }

    /// A message from an in-neighbor; a second one, or one from anybody else, changes nothing.
    pub fn hear(&mut self, from: NodeId) -> Steps {
        if self.silent.remove(&from) { self.begin() } else { Vec::new() }
    }

    /// Whom it waits for.
    pub const fn silent(&self) -> &BTreeSet<NodeId> {
        &self.silent
    }

    /// Whether it is through.
    pub const fn is_released(&self) -> bool {
        self.is_released
    }
}

/// Why a barrier does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Each of them waits for the next, the last for the first: the smallest number comes first.
    pub cycle: Vec<NodeId>,
    /// Who else waits for one of them, or for somebody who does.
    pub behind: BTreeSet<NodeId>,
}

/// A cycle among nodes that wait, each for those given ([`Barrier::silent`]); there is none if everybody waits for somebody
/// who is through, or dead, in the end. Of several cycles it is the one that the smallest number leads to: when it is cut,
/// ask again.
pub fn blocked(waiting: &BTreeMap<NodeId, BTreeSet<NodeId>>) -> Option<Blocked> {
    // Whoever waits for nobody who waits is taken away, and whoever waits for none but those, and so on.
    let mut held: BTreeMap<NodeId, BTreeSet<NodeId>> = waiting.clone();
    let mut waited_by: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for (node, others) in &mut held {
        others.retain(|other| waiting.contains_key(other));
        for other in &*others {
            waited_by.entry(*other).or_default().push(*node);
        }
    }
    let mut free: Vec<_> =
        held.iter().filter(|(_, others)| others.is_empty()).map(|(node, _)| *node).collect();
    while let Some(node) = free.pop() {
        held.remove(&node);
        for other in waited_by.get(&node).into_iter().flatten() {
            if let Some(others) = held.get_mut(other)
                && others.remove(&node)
                && others.is_empty()
            {
                free.push(*other);
            }
        }
    }
    // Everybody who is left waits for somebody who is left: going on from any of them comes back to where one was.
    let mut way = Vec::new();
    let mut places = BTreeMap::new();
    let mut node = *held.keys().next()?;
    let from = loop {
        if let Some(place) = places.insert(node, way.len()) {
            break place;
        }
        way.push(node);
        node = *held.get(&node)?.first()?;
    };
    let mut cycle = way.split_off(from);
    let smallest = (0..cycle.len()).min_by_key(|place| cycle[*place])?;
    cycle.rotate_left(smallest);

    let on_it: BTreeSet<_> = cycle.iter().copied().collect();
    let mut behind = BTreeSet::new();
    let mut found = cycle.clone();
    while let Some(node) = found.pop() {
        for other in waited_by.get(&node).into_iter().flatten() {
            if !on_it.contains(other) && behind.insert(*other) {
                found.push(*other);
            }
        }
    }
    Some(Blocked { cycle, behind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(waiting: &[(NodeId, &[NodeId])], expected: Option<(&[NodeId], &[NodeId])>) {
        let waiting =
            waiting.iter().map(|(node, others)| (*node, others.iter().copied().collect())).collect();
        let found = blocked(&waiting).map(|blocked| (blocked.cycle, blocked.behind));
        let expected = expected.map(|(cycle, behind)| (cycle.to_vec(), behind.iter().copied().collect()));
        assert_eq!(found, expected, "{waiting:?}");
    }

    #[test]
    fn a_cycle_is_found_with_all_behind_it() {
        check(&[], None);
        check(&[(1, &[]), (2, &[1]), (3, &[2, 9])], None);
        check(&[(1, &[1])], Some((&[1], &[])));
        check(&[(5, &[7]), (7, &[5])], Some((&[5, 7], &[])));
        // 1 waits for the cycle, 0 for 1, 9 for nobody who waits.
        check(
            &[(0, &[1]), (1, &[4]), (4, &[2]), (2, &[3, 9]), (3, &[4]), (9, &[10])],
            Some((&[2, 3, 4], &[0, 1])),
        );
        // What the cycle waits for besides is not behind it.
        check(&[(1, &[2]), (2, &[1, 3]), (3, &[8])], Some((&[1, 2], &[])));
        // Two cycles: the smallest number leads to one of them.
        check(&[(1, &[2]), (2, &[1]), (3, &[4]), (4, &[3]), (5, &[4])], Some((&[1, 2], &[])));
    }

    #[test]
    fn a_long_cycle_is_found_as_quickly_as_a_short_one() {
        let waiting = (0..100_000).map(|node| (node, [(node + 1) % 100_000].into())).collect();
        let found = blocked(&waiting).map(|blocked| blocked.cycle.len());
        assert_eq!(found, Some(100_000));
    }
}
