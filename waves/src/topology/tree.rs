//! A tree of units, each with a port of its own.
//!
//! It is kept as a list in depth-first order: what hangs below a unit is the piece of the list that begins with it, so that
//! subtrees, children and order need no second structure. A [`Tree`] that exists is right: ports and names are unique, every
//! `cpu` is in range, and neither it nor what a wave gathers of it, from whichever unit, is too deep to be written as JSON and
//! read again ([`Tree::parse`]).

use std::collections::BTreeMap;
use std::iter;

use serde::ser::{Serialize, SerializeSeq, SerializeStruct, Serializer};

/// One unit: a server that has tasks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// What it is called; no other has this name.
    pub name: String,
    /// Where it listens; no other has this port.
    pub port: u16,
    /// How many tasks it can run at once.
    pub cpu: u32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    units: Vec<Unit>,
    parents: Vec<Option<usize>>,
    /// Where the subtree of each unit ends in the list.
    ends: Vec<usize>,
    places: BTreeMap<u16, usize>,
}

impl Tree {
    /// The most units of a tree that is run: each of them is a process.
    pub const MOST_UNITS: usize = 1_000;
    /// The most levels, the root's included. A level is two of JSON, of which its readers accept 127, and a message that
    /// carries a tree needs some for itself.
    pub const MOST_LEVELS: usize = 60;
    /// The most units on the way from one to another, both included: a wave that begins at one end gathers the whole way,
    /// a unit within the other.
    pub const LONGEST_PATH: usize = 63;
    /// The most cores of one unit.
    pub const MOST_CPU: u32 = 1_024;
    /// The longest name, in bytes.
    pub const LONGEST_NAME: usize = 128;

    /// Of units in depth-first order, each with the place of its parent in the list, which are known to be right.
    pub(super) fn of(units: Vec<Unit>, parents: Vec<Option<usize>>) -> Self {
        let mut ends: Vec<usize> = (1..=units.len()).collect();
        for (place, parent) in parents.iter().enumerate().rev() {
            if let Some(parent) = *parent {
                ends[parent] = ends[parent].max(ends[place]);
            }
        }
        let places = units.iter().enumerate().map(|(place, unit)| (unit.port, place)).collect();
        Self { units, parents, ends, places }
    }

    /// All units in depth-first order, the root first.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The unit above all others.
    pub fn root(&self) -> &Unit {
        &self.units[0]
    }

    /// The unit with this port.
    pub fn unit(&self, port: u16) -> Option<&Unit> {
        Some(&self.units[*self.places.get(&port)?])
    }

    /// Who is above a unit; nobody is above the root, or above a port that is no unit's.
    pub fn parent_of(&self, port: u16) -> Option<u16> {
        let parent = self.parents[*self.places.get(&port)?]?;
        Some(self.units[parent].port)
    }

    /// Who is right below a unit, in the order of the file.
    pub fn children_of(&self, port: u16) -> impl Iterator<Item = u16> + '_ {
        let (first, end) = self.places.get(&port).map_or((0, 0), |place| (place + 1, self.ends[*place]));
        let within = move |place: usize| (place < end).then_some(place);
        iter::successors(within(first), move |place| within(self.ends[*place]))
            .map(|place| self.units[place].port)
    }

    /// Who is above a unit, its parent first, the root last.
    pub fn ancestors(&self, port: u16) -> impl Iterator<Item = u16> + '_ {
        iter::successors(self.parent_of(port), |port| self.parent_of(*port))
    }

    /// Whom a unit is connected with: its parent, then its children.
    pub fn neighbors(&self, port: u16) -> impl Iterator<Item = u16> + '_ {
        self.parent_of(port).into_iter().chain(self.children_of(port))
    }

    /// A unit and all below it, in depth-first order; nobody for a port that is no unit's.
    pub fn subtree(&self, port: u16) -> &[Unit] {
        self.places.get(&port).map_or(&[], |place| &self.units[*place..self.ends[*place]])
    }

    /// Every connection, as parent and child, in depth-first order of the children.
    pub fn edges(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let pairs = self.parents.iter().zip(&self.units);
        pairs.filter_map(|(parent, unit)| Some((self.units[(*parent)?].port, unit.port)))
    }

    /// How many levels there are.
    pub fn levels(&self) -> usize {
        let depths = self.units.iter().map(|unit| self.ancestors(unit.port).count() + 1);
        depths.max().unwrap_or(0)
    }

    /// Two units that are as far from each other as any, and how many are on the way between them, both included.
    pub fn longest_path(&self) -> (&Unit, &Unit, usize) {
        // Of each unit the way down that is the longest: how many are on it, and who is its end.
        let mut down: Vec<_> = (0..self.units.len()).map(|place| (1, place)).collect();
        let mut longest = (0, 0, 1);
        for (place, parent) in self.parents.iter().enumerate().rev() {
            let Some(parent) = *parent else { continue };
            let ((below, end), (beside, other)) = (down[place], down[parent]);
            if below + beside > longest.2 {
                longest = (other, end, below + beside);
            }
            if below + 1 > beside {
                down[parent] = (below + 1, end);
            }
        }
        (&self.units[longest.0], &self.units[longest.1], longest.2)
    }

    /// As [`Tree::parse`] reads it, indented.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names, numbers and lists are always JSON")
    }
}

impl Serialize for Tree {
    /// As `{"name","port","cpu","children":[…]}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Below { tree: self, unit: self.root() }.serialize(serializer)
    }
}

/// A unit with all that is below it.
struct Below<'a> {
    tree: &'a Tree,
    unit: &'a Unit,
}

impl Serialize for Below<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Unit", 4)?;
        fields.serialize_field("name", &self.unit.name)?;
        fields.serialize_field("port", &self.unit.port)?;
        fields.serialize_field("cpu", &self.unit.cpu)?;
        fields.serialize_field("children", &Children(self))?;
        fields.end()
    }
}

struct Children<'a>(&'a Below<'a>);

impl Serialize for Children<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Below { tree, unit } = *self.0;
        let mut list = serializer.serialize_seq(None)?;
        for unit in tree.children_of(unit.port).filter_map(|port| tree.unit(port)) {
            list.serialize_element(&Below { tree, unit })?;
        }
        list.end()
    }
}
