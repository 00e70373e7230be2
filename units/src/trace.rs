//! What happened at a unit in a wave, for those who look at it afterwards.

use serde::{Deserialize, Serialize};

/// The most that is kept of one wave at one unit: Finn's waves are long on wide graphs.
pub(crate) const MOST: usize = 512;

/// What kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The unit began the wave.
    Begin,
    /// It sent a message.
    Send,
    /// It received one.
    Receive,
    /// It decided.
    Decide,
    /// It waits for a neighbor no longer.
    Missing,
}

/// Which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// Echo: there is a wave.
    Explore,
    /// Echo: what was gathered.
    Report,
    /// Finn: what the sender knows.
    Known,
    /// Barrier: the sender is through.
    Released,
}

/// One event. The n-th `send` to a peer is the n-th `receive` there from this unit: no message has a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// What kind.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// With whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<u16>,
    /// When, in microseconds since 1970, by the unit's clock.
    pub at_us: u64,
    /// Of a message, which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<What>,
}

/// What is kept of a wave at one unit: how it began, and how much more there was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trace {
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// How many came after them.
    #[serde(default, rename = "events_left_out", skip_serializing_if = "is_none")]
    pub left_out: u64,
}

/// Whether there are none: then nothing is said of them.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks in this way")]
pub(crate) const fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Trace {
    /// One more, which is counted if there is no room for it.
    pub(crate) fn push(&mut self, event: Event) {
        if self.events.len() < MOST {
            self.events.push(event);
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    /// Keeps the first of them; the others are counted.
    pub(crate) fn cut(&mut self, most: usize) {
        let more = self.events.len().saturating_sub(most);
        self.events.truncate(most);
        self.left_out = self.left_out.saturating_add(more as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_counted() {
        let event = Event { kind: Kind::Send, peer: Some(8001), at_us: 7, what: Some(What::Known) };
        let mut trace = Trace::default();
        for _ in 0..MOST + 3 {
            trace.push(event);
        }
        assert_eq!((trace.events.len(), trace.left_out), (MOST, 3));
        trace.cut(100);
        assert_eq!((trace.events.len(), trace.left_out), (100, MOST as u64 - 100 + 3));
    }

    #[test]
    fn an_event_is_text_as_the_page_reads_it() {
        let event = Event { kind: Kind::Begin, peer: None, at_us: 7, what: None };
        let trace = Trace { events: vec![event], left_out: 0 };
        let text = serde_json::to_string(&trace).expect("a list of numbers and words");
        assert_eq!(text, r#"{"events":[{"type":"begin","at_us":7}]}"#);
        assert_eq!(serde_json::from_str::<Trace>(&text).expect("as it was written"), trace);
        let more =
            r#"{"events":[{"type":"send","peer":8001,"at_us":7,"what":"explore"}],"events_left_out":2}"#;
        let trace: Trace = serde_json::from_str(more).expect("a trace");
        assert_eq!((trace.events[0].what, trace.left_out), (Some(What::Explore), 2));
    }
}
