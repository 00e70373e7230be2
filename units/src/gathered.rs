//! What an Echo wave gathers: the tree of those it reached, as the original's page expects it, and how complete it is.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use slipring_waves::topology::Tree;
use slipring_waves::{Gather, NodeId};

/// The most tasks of a unit, and the most messages of a wave, that anybody is believed: of all units together they are still
/// numbers that can be counted with.
pub(crate) const MOST: u64 = 1 << 32;

/// A unit, and those that told it. Children are sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gathered {
    /// The unit's name.
    pub name: String,
    /// Its tasks: waiting, running, and reserved for somebody who has not taken them yet.
    pub load: u64,
    /// Its cores.
    pub cpu: u32,
    /// Its port.
    pub port: u16,
    /// Tasks that can be moved from it.
    #[serde(default)]
    pub movable: u64,
    /// Messages that it and those behind it sent in this wave.
    #[serde(default)]
    pub sent: u64,
    /// Units that it knows of and that did not answer: what is behind them is missing as well.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub missing: BTreeSet<u16>,
    /// Who told it.
    pub children: Vec<Self>,
}

impl Gather for Gathered {
    fn gather(mut self, children: Vec<(NodeId, Self)>, missing: &BTreeSet<NodeId>) -> Self {
        self.children = children.into_iter().map(|(_, child)| child).collect();
        self.children.sort_by(|one, other| (&one.name, one.port).cmp(&(&other.name, other.port)));
        self.sent += self.children.iter().map(|child| child.sent).sum::<u64>();
        self.missing.extend(missing.iter().filter_map(|node| u16::try_from(*node).ok()));
        self
    }
}

impl Gathered {
    /// Everyone in it, itself first; not recursive, since others say how deep it is.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Self> {
        let mut left = vec![self];
        std::iter::from_fn(move || {
            let unit = left.pop()?;
            left.extend(unit.children.iter().rev());
            Some(unit)
        })
    }

    /// Whether it can be counted with: a neighbor can claim anything.
    pub(crate) fn is_countable(&self) -> bool {
        let is_one = |unit: &Self| {
            unit.load <= MOST && unit.movable <= unit.load && unit.sent <= MOST && unit.cpu <= Tree::MOST_CPU
        };
        self.all().all(is_one) && self.all().count() <= Tree::MOST_UNITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_have_is_not_counted_with() {
        let unit = Gathered { load: 5, movable: 5, cpu: 2, ..Gathered::default() };
        let below = |unit: &Gathered| Gathered { children: vec![unit.clone()], ..Gathered::default() };
        let most = Gathered { load: MOST, movable: MOST, sent: MOST, cpu: 1_024, ..Gathered::default() };
        for one in [&unit, &most] {
            assert!(one.is_countable() && below(one).is_countable());
        }
        for other in [
            Gathered { load: MOST + 1, ..unit.clone() },
            Gathered { movable: 6, ..unit.clone() },
            Gathered { sent: u64::MAX, ..unit.clone() },
            Gathered { cpu: u32::MAX, ..unit.clone() },
            Gathered { children: vec![unit.clone(); 1_000], ..unit },
        ] {
            assert!(!other.is_countable() && !below(&other).is_countable(), "{:?}", other.load);
        }
    }
}
