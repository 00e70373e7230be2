//! Sets of nodes that are joined again and again.
//!
//! Numbers that lie close together, as ports and indices do, share a word of 64 bits; of words only those are kept that are
//! not empty, so that a set of scattered numbers costs no more than a list of them. Joining two sets of a thousand
//! neighbors is sixteen instructions where a tree of numbers looks up each.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::NodeId;

/// See the module. Its elements come in the order of their numbers; as JSON it is a list of them.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct NodeSet {
    /// Which 64 numbers, in order, and which of them, never none. A set that is told to ten neighbors is one set.
    words: Arc<[(u32, u64)]>,
}

const fn split(node: NodeId) -> (u32, u64) {
    (node / 64, 1 << (node % 64))
}

impl NodeSet {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.iter().map(|(_, bits)| bits.count_ones() as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether this one is among them.
    pub fn contains(&self, node: NodeId) -> bool {
        let (at, bit) = split(node);
        self.find(at).is_ok_and(|place| self.words[place].1 & bit != 0)
    }

    fn find(&self, at: u32) -> Result<usize, usize> {
        self.words.binary_search_by_key(&at, |(at, _)| *at)
    }

    /// One more; false if it was there.
    pub fn insert(&mut self, node: NodeId) -> bool {
        let (at, bit) = split(node);
        match self.find(at) {
            Ok(place) => {
                let was_there = self.words[place].1 & bit != 0;
                if !was_there {
                    Arc::make_mut(&mut self.words)[place].1 |= bit;
                }
                !was_there
            }
            Err(place) => {
                let (before, behind) = self.words.split_at(place);
                self.words = [before, &[(at, bit)], behind].concat().into();
                true
            }
        }
    }

    /// All of another set as well; false if they were there.
    pub fn extend_by(&mut self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.words, &other.words) {
            return false;
        }
        let is_aligned = self.words.len() == other.words.len()
            && self.words.iter().zip(&*other.words).all(|(mine, theirs)| mine.0 == theirs.0);
        if is_aligned {
            let grew = self.words.iter().zip(&*other.words).any(|(mine, theirs)| theirs.1 & !mine.1 != 0);
            if grew {
                for ((_, mine), (_, theirs)) in Arc::make_mut(&mut self.words).iter_mut().zip(&*other.words) {
                    *mine |= theirs;
                }
            }
            return grew;
        }
        let mut grew = false;
        let mut joined = Vec::with_capacity(self.words.len().max(other.words.len()));
        let mut theirs = other.words.iter().copied().peekable();
        for mine in &*self.words {
            while let Some(word) = theirs.next_if(|word| word.0 < mine.0) {
                joined.push(word);
                grew = true;
            }
            let same = theirs.next_if(|word| word.0 == mine.0).map_or(0, |word| word.1);
            grew |= same & !mine.1 != 0;
            joined.push((mine.0, mine.1 | same));
        }
        for word in theirs {
            joined.push(word);
            grew = true;
        }
        if grew {
            self.words = joined.into();
        }
        grew
    }

    /// Its elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.words.iter().flat_map(|(at, bits)| {
            let some = |bits: u64| (bits != 0).then_some(bits);
            let rest = std::iter::successors(some(*bits), move |bits| some(bits & (bits - 1)));
            rest.map(move |bits| at * 64 + bits.trailing_zeros())
        })
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<NodeId> for NodeSet {
    /// Sorted first: a list from outside in the worst of orders would else be moved as often as it is long.
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut nodes: Vec<_> = nodes.into_iter().collect();
        nodes.sort_unstable();
        let mut words: Vec<(u32, u64)> = Vec::new();
        for (at, bit) in nodes.into_iter().map(split) {
            match words.last_mut() {
                Some(last) if last.0 == at => last.1 |= bit,
                _ => words.push((at, bit)),
            }
        }
        Self { words: words.into() }
    }
}

impl<const N: usize> From<[NodeId; N]> for NodeSet {
    fn from(nodes: [NodeId; N]) -> Self {
        nodes.into_iter().collect()
    }
}

impl Serialize for NodeSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for NodeSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<NodeId>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Close together, and anywhere.
    fn nodes() -> impl Strategy<Value = BTreeSet<NodeId>> {
        proptest::collection::btree_set(prop_oneof![0_u32..300, 8000_u32..8100, any::<u32>()], 0..40)
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn it_is_the_set_that_it_replaces(one in nodes(), other in nodes()) {
            let (mut mine, theirs): (NodeSet, NodeSet) = (one.iter().copied().collect(), other.iter().copied().collect());
            prop_assert_eq!(mine.iter().collect::<Vec<_>>(), one.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(mine.len(), one.len());
            prop_assert!(other.iter().all(|node| mine.contains(*node) == one.contains(node)));
            prop_assert_eq!(mine.extend_by(&theirs), !other.is_subset(&one));
            let both = &one | &other;
            prop_assert_eq!(&mine, &both.iter().copied().collect());
            let mut built = NodeSet::default();
            for node in both.iter().rev() {
                prop_assert!(built.insert(*node));
                prop_assert!(!built.insert(*node));
            }
            prop_assert_eq!(&built, &mine);
            prop_assert_eq!(serde_json::to_string(&mine).unwrap(), serde_json::to_string(&both).unwrap());
            prop_assert_eq!(serde_json::from_str::<NodeSet>(&serde_json::to_string(&mine).unwrap()).unwrap(), mine);
        }
    }

    #[test]
    fn a_list_in_no_order_with_repetitions_is_a_set() {
        let set: NodeSet = serde_json::from_str("[9,1,4294967295,1,9,0]").unwrap();
        assert_eq!(set, NodeSet::from([0, 1, 9, u32::MAX]));
        assert_eq!(format!("{set:?}"), "{0, 1, 9, 4294967295}");
    }
}
