//! What the units tell of a wave, as far as one line for those who watch holds it: whoever reads lines bounds them.

use std::collections::BTreeMap;

use super::record::Happened;
use crate::trace::{self, Trace};

/// Bytes that the events of one wave take, at most.
const MOST_BYTES: usize = 512 * 1024;
/// Bytes of one, at most, with the comma that follows it.
pub(super) const LONGEST_EVENT: usize = 104;
/// How many there are, at most.
const MOST: usize = MOST_BYTES / LONGEST_EVENT;

/// Of each unit the same number of its first events, or all that it has: so many as there is room for. Which those are
/// does not depend on who told first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Traces {
    of: BTreeMap<u16, Trace>,
    count: usize,
    /// How many each may have: only ever fewer, the more units there are.
    level: usize,
}

impl Default for Traces {
    fn default() -> Self {
        Self { of: BTreeMap::new(), count: 0, level: trace::MOST }
    }
}

impl Traces {
    /// A unit has told.
    pub(super) fn add(&mut self, unit: u16, mut trace: Trace) {
        trace.cut(self.level);
        self.count += trace.events.len();
        if let Some(before) = self.of.insert(unit, trace) {
            self.count -= before.events.len();
        }
        while self.count > MOST {
            // Of each of those that have most, the last one.
            self.level -= 1;
            for trace in self.of.values_mut().filter(|trace| trace.events.len() > self.level) {
                trace.cut(self.level);
                self.count -= 1;
            }
        }
    }

    /// All of them, unit by unit, and how many others there were.
    pub(super) fn events(self) -> (Vec<Happened>, u64) {
        let left_out = self.of.values().fold(0_u64, |sum, trace| sum.saturating_add(trace.left_out));
        let of_unit = |(node, trace): (u16, Trace)| {
            trace.events.into_iter().enumerate().map(move |(seq, event)| Happened { node, seq, event })
        };
        (self.of.into_iter().flat_map(of_unit).collect(), left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Event, Kind, What};

    /// As long as one can be.
    const LONG: Event =
        Event { kind: Kind::Receive, peer: Some(u16::MAX), at_us: u64::MAX, what: Some(What::Released) };

    fn trace(events: usize) -> Trace {
        Trace { events: vec![LONG; events], left_out: 0 }
    }

    #[test]
    fn no_event_is_longer_than_what_is_reckoned_for_it() {
        let happened = Happened { node: u16::MAX, seq: trace::MOST - 1, event: LONG };
        let text = serde_json::to_string(&happened).expect("numbers and words");
        assert!(text.len() < LONGEST_EVENT, "{}: {text}", text.len());
    }

    #[test]
    fn there_is_room_for_everybody_whoever_tells_first() {
        // Half of them tell all they can, half of them little.
        let told: Vec<(u16, usize)> =
            (0..100).map(|unit| (8_000 + unit, if unit < 50 { 600 } else { usize::from(unit) })).collect();
        let (mut there, mut back) = (Traces::default(), Traces::default());
        for (unit, events) in &told {
            there.add(*unit, trace(*events));
        }
        for (unit, events) in told.iter().rev() {
            back.add(*unit, trace(*events));
        }
        assert!(there == back);
        let (events, left_out) = there.events();
        let text = serde_json::to_string(&events).expect("numbers and words");
        assert!(text.len() <= MOST_BYTES, "{}", text.len());
        assert_eq!(
            events.len() as u64 + left_out,
            told.iter().map(|(_, events)| *events as u64).sum::<u64>()
        );
        let of = |unit: u16| events.iter().filter(|happened| happened.node == unit).count();
        let most = of(8_000);
        assert!(most >= MOST / 100, "{most}");
        for (unit, events) in told {
            assert_eq!(of(unit), events.min(most), "{unit}");
        }
        assert!(events.len() + 100 > MOST, "what room there is is used: {}", events.len());
    }

    #[test]
    fn a_unit_that_tells_twice_is_there_once_and_one_that_tells_too_much_is_cut() {
        let mut traces = Traces::default();
        traces.add(8_000, trace(20_000));
        traces.add(8_000, Trace { events: vec![LONG; 3], left_out: u64::MAX });
        traces.add(8_001, trace(trace::MOST + 1));
        assert_eq!(traces.count, 3 + trace::MOST);
        let (events, left_out) = traces.events();
        assert_eq!((events.len(), left_out), (3 + trace::MOST, u64::MAX));
    }
}
