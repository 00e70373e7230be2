//! A wave, when it is over: for callers, for the page, and for those who look back.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use slipring_waves::WaveId;

use super::traces::LONGEST_EVENT;
use crate::frame::Algorithm;
use crate::gathered::Gathered;
use crate::trace::{self, Event};

/// Tasks that go from one unit to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Move {
    /// From whom.
    pub from: u16,
    /// To whom.
    pub to: u16,
    /// How many were to go.
    pub count: u64,
    /// How many went.
    pub moved: u64,
    /// If they were fewer, why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An event, and where it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Happened {
    /// At whom.
    pub node: u16,
    /// The how many-th there, from 0.
    pub seq: usize,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    /// `wave`, as others in the same stream are something else.
    pub kind: &'static str,
    /// Its name.
    pub id: WaveId,
    /// Which.
    pub algorithm: Algorithm,
    /// Why.
    pub purpose: String,
    /// Who was asked to begin.
    pub initiators: BTreeSet<u16>,
    /// When, in milliseconds since 1970.
    pub started_ms: u64,
    /// Until it was over here, in microseconds.
    pub took_us: u64,
    /// Messages that were sent.
    pub messages: u64,
    /// How many the closed form says, of a complete wave: 2·E of an Echo, m of a barrier.
    pub expected: Option<u64>,
    /// How many there may be at most, of Finn: 2·N·m.
    pub bound: Option<u64>,
    /// Whether every unit took part.
    pub is_complete: bool,
    /// Whether the number of messages is not what it must be.
    pub is_wrong: bool,
    /// Who did not.
    pub missing: BTreeSet<u16>,
    /// The same as subtrees: whom nobody heard, with all below that are missing too.
    pub missing_subtrees: BTreeMap<u16, BTreeSet<u16>>,
    /// Who decided.
    pub decided: BTreeSet<u16>,
    /// Who told whom first.
    pub fathers: BTreeMap<u16, u16>,
    /// What was moved because of it.
    pub moves: Vec<Move>,
    /// What happened, unit by unit.
    pub events: Vec<Happened>,
    /// How much more, which is not among them.
    #[serde(skip_serializing_if = "trace::is_none")]
    pub events_left_out: u64,
    /// Who took part, or may have, and whose events are not known: it was gone or too late, or, of one wave among too many,
    /// nobody asked.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub untold: BTreeSet<u16>,
    /// Whether everybody who decided had the neighbors that the tree gives it.
    #[serde(skip)]
    pub is_still: bool,
    /// What an Echo gathered.
    #[serde(skip)]
    pub tree: Option<Gathered>,
}

impl Record {
    /// Looks at the number of messages.
    #[must_use]
    pub(super) fn checked(self) -> Self {
        Self { is_wrong: self.has_other_messages(), ..self }
    }

    fn has_other_messages(&self) -> bool {
        // Who changed its place while the wave was under way was told of it by two; of an Echo's, one of them missed it.
        let is_still =
            self.is_still && self.tree.iter().flat_map(Gathered::all).all(|unit| unit.missing.is_empty());
        let is_other = self.expected.is_some_and(|expected| expected != self.messages);
        let is_more = self.bound.is_some_and(|bound| self.messages > bound);
        self.is_complete && is_still && (is_other || is_more)
    }

    /// How long it is when it is told, at most, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let ports = [
            self.initiators.len(),
            self.missing.len(),
            self.decided.len(),
            self.untold.len(),
            2 * self.fathers.len(),
        ];
        let subtrees = self.missing_subtrees.values().map(|subtree| 2 + subtree.len()).sum::<usize>();
        let moves = self.moves.iter().map(Move::bytes).sum::<usize>();
        // A port is at most five digits, with quotes, colon and comma eight; a character of a purpose may be written as six.
        512 + 6 * self.purpose.len()
            + 8 * (ports.iter().sum::<usize>() + subtrees)
            + moves
            + LONGEST_EVENT * self.events.len()
    }
}

impl Move {
    fn bytes(&self) -> usize {
        96 + 6 * self.reason.as_ref().map_or(0, String::len)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::trace::{Kind, What};

    /// One with so many events.
    pub(in crate::balancer) fn record(number: u64, events: usize) -> Record {
        let event =
            Event { kind: Kind::Send, peer: Some(65_535), at_us: u64::MAX, what: Some(What::Released) };
        Record {
            kind: "wave",
            id: WaveId { initiator: 7999, number },
            algorithm: Algorithm::Barrier,
            purpose: "\u{1}".repeat(64),
            initiators: [65_535].into(),
            started_ms: u64::MAX,
            took_us: u64::MAX,
            messages: u64::MAX,
            expected: Some(u64::MAX),
            bound: Some(u64::MAX),
            is_complete: false,
            is_wrong: false,
            missing: (64_536..=65_535).collect(),
            missing_subtrees: (64_536..=65_535).map(|port| (port, [port].into())).collect(),
            decided: (64_536..=65_535).collect(),
            fathers: (64_536..=65_535).map(|port| (port, port)).collect(),
            moves: vec![
                Move {
                    from: 65_535,
                    to: 65_535,
                    count: u64::MAX,
                    moved: u64::MAX,
                    reason: Some("\u{1}".repeat(128)),
                };
                10
            ],
            events: (0..events).map(|seq| Happened { node: 65_535, seq: seq % 512, event }).collect(),
            events_left_out: u64::MAX,
            untold: (64_536..=65_535).collect(),
            is_still: true,
            tree: None,
        }
    }

    #[test]
    fn a_record_is_not_longer_than_it_is_reckoned() {
        let record = Record { tree: None, ..record(u64::MAX, 100) };
        let text = serde_json::to_string(&record).expect("only maps with keys of text");
        assert!(text.len() <= record.bytes(), "{} of {}", text.len(), record.bytes());
        assert!(text.len() * 3 > record.bytes() * 2, "it is not far from it, too: {}", text.len());
    }

    #[test]
    fn it_says_whether_the_closed_form_holds_and_what_was_left_out() {
        let whole = Record { is_complete: true, expected: Some(14), bound: None, ..record(1, 0) };
        let told = |record: Record| serde_json::to_value(record.checked()).expect("JSON");
        let right = told(Record { messages: 14, events_left_out: 0, ..whole.clone() });
        assert_eq!(right["is_wrong"], false);
        assert_eq!(right.get("events_left_out"), None);
        let wrong = told(Record { messages: 15, events_left_out: 7, ..whole.clone() });
        assert_eq!((&wrong["is_wrong"], &wrong["events_left_out"]), (&true.into(), &7.into()));
        let many = Record { messages: 225, expected: None, bound: Some(224), ..whole.clone() };
        assert_eq!(told(many)["is_wrong"], true);
        // Who hung elsewhere may have been told of it by two.
        let moved = Record { messages: 15, is_still: false, ..whole.clone() };
        assert_eq!(told(moved)["is_wrong"], false);
        // Of one that is not complete nothing is known.
        assert_eq!(told(Record { messages: 15, is_complete: false, ..whole })["is_wrong"], false);
    }
}
