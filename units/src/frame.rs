//! What travels over a link: JSON text with a `route` and a `sender`, as in the original; what we add has names of its own.
//!
//! Who sent a frame is known by its connection, which began with [`Frame::Hello`]; what it says of its sender is for others.
//! A frame without a wave's name is one of the original's: a wave of its own is begun for it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use slipring_waves::{Known, WaveId};

use crate::gathered::{self, Gathered};
use crate::tasks::{Offer, Verdict};
use crate::trace::Trace;

/// The longest text that a link takes, in bytes. A tree of a thousand units is a tenth of it.
pub(crate) const LONGEST: usize = 1 << 20;

/// Which algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Algorithm {
    /// One initiator gathers everybody.
    Echo,
    /// Everybody decides.
    Finn,
    /// Everybody waits for those above.
    Barrier,
}

impl Algorithm {
    /// As JSON and metrics say it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Finn => "finn",
            Self::Barrier => "barrier",
        }
    }
}

/// What a wave is for, and how long it may still take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errand {
    /// Its name; none in frames of the original's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<WaveId>,
    /// Why it was begun.
    #[serde(default)]
    pub purpose: String,
    /// How long it may still take, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_us: Option<u64>,
    /// Whether it keeps to those below who began it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_below: bool,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "route", rename_all = "snake_case")]
pub(crate) enum Frame {
    /// The first on a link: who it is that connects.
    Hello {
        /// Its port.
        sender: u16,
    },
    /// Echo: there is a wave.
    Echo {
        /// Whoever it says.
        #[serde(default)]
        sender: Sender,
        /// Which.
        #[serde(flatten)]
        errand: Errand,
        /// Of no use here; the original has one.
        #[serde(default)]
        payload: Nothing,
    },
    /// Echo: what was gathered, to the father.
    EchoBack {
        /// Whoever it says.
        #[serde(default)]
        sender: Sender,
        /// Of which wave.
        #[serde(flatten)]
        errand: Errand,
        /// The tree.
        payload: Gathered,
    },
    /// Finn: what the sender knows.
    Finn {
        /// Whoever it says.
        #[serde(default)]
        sender: Sender,
        /// Of which wave.
        #[serde(flatten)]
        errand: Errand,
        /// Its two sets.
        #[serde(flatten)]
        known: Known,
    },
    /// Barrier: the sender, and all above it, are through.
    Barrier {
        /// Whoever it says.
        #[serde(default)]
        sender: Sender,
        /// Which.
        #[serde(flatten)]
        errand: Errand,
    },
    /// From the balancer: begin a wave.
    Start {
        /// Whoever it says.
        #[serde(default)]
        sender: Sender,
        /// Which algorithm.
        algorithm: Algorithm,
        /// Which wave.
        #[serde(flatten)]
        errand: Errand,
    },
    /// To the balancer: a unit has decided.
    Decided {
        /// Which wave.
        wave: WaveId,
        /// Who.
        sender: u16,
        /// Messages that it sent; of an Echo, that all sent.
        sent: u64,
        /// Of an Echo, what was gathered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tree: Option<Gathered>,
        /// Of Finn, on whom.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        on: BTreeSet<u32>,
        /// Whether its neighbors in this wave were others than the tree gives it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_elsewhere: bool,
    },
    /// From the balancer: what happened in a wave?
    Recall {
        /// Whoever it says.
        #[serde(default)]
        sender: Sender,
        /// Which.
        wave: WaveId,
    },
    /// To the balancer: that.
    Recalled {
        /// Which wave.
        wave: WaveId,
        /// Whose events.
        sender: u16,
        /// Messages that it sent.
        sent: u64,
        /// Who told it of the wave first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        father: Option<u16>,
        /// What happened there.
        #[serde(flatten)]
        trace: Trace,
    },
    /// To the balancer, whenever it changes: how a unit is.
    State(State),
    /// From the balancer: give tasks to another unit.
    Move {
        /// Whoever it says.
        #[serde(default)]
        sender: Sender,
        /// By what the answer is told apart.
        ticket: u64,
        /// To whom.
        to: u16,
        /// How many.
        count: u64,
    },
    /// From the balancer: here are new tasks.
    Add {
        /// Whoever it says.
        #[serde(default)]
        sender: Sender,
        /// By what the answer is told apart.
        ticket: u64,
        /// How many.
        count: u64,
    },
    /// To the balancer: that was done, or not.
    Moved {
        /// Whoever it says.
        #[serde(default)]
        sender: Sender,
        /// Of which order.
        ticket: u64,
        /// How many were moved, or added.
        moved: u64,
        /// If they were fewer, why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// From unit to unit: take these tasks.
    Offer {
        /// Who offers.
        sender: u16,
        /// What.
        #[serde(flatten)]
        offer: Offer,
    },
    /// The answer.
    Answer {
        /// Who answers.
        sender: u16,
        /// To which offer.
        batch: u64,
        /// What has become of it.
        verdict: Verdict,
    },
}

/// How a unit is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Its port.
    pub sender: u16,
    /// All its tasks.
    pub load: u64,
    /// Those that run.
    pub running: u64,
    /// Those that wait.
    pub queued: u64,
    /// Those that were offered to another unit, which has not answered yet.
    pub reserved: u64,
    /// How many it has finished, ever.
    pub finished: u64,
    /// Whom it hangs on now.
    pub link: Option<u16>,
}

impl State {
    /// Whether it can be counted with.
    pub(crate) fn is_countable(&self) -> bool {
        [self.load, self.running, self.queued, self.reserved].iter().all(|count| *count <= gathered::MOST)
    }
}

/// A port, in our frames; in others', whatever they like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sender(pub u16);

impl<'de> Deserialize<'de> for Sender {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Port(u16),
            Other(serde::de::IgnoredAny),
        }
        Ok(match Any::deserialize(deserializer)? {
            Any::Port(port) => Self(port),
            Any::Other(_) => Self(0),
        })
    }
}

/// `null`, and whatever else somebody writes there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nothing;

impl Serialize for Nothing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Frame {
    /// As it travels.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("only maps with keys of text")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use slipring_waves::topology::Tree;
    use slipring_waves::{Known, WaveId};

    use super::*;
    use crate::tasks::Task;

    #[test]
    fn every_message_says_its_route_and_its_sender_and_is_read_as_it_was_written() {
        let (sender, wave) = (Sender(8001), WaveId { initiator: 7999, number: 3 });
        let errand = Errand { wave: Some(wave), purpose: "ask".into(), left_us: Some(9), is_below: true };
        let known = Known { inc: [8000].into_iter().collect(), ninc: [8000].into_iter().collect() };
        let (trace, offer) = (
            Trace::default(),
            Offer { journal: 1, batch: 2, tasks: vec![Task { id: "a".into(), left_ms: 3 }] },
        );
        let payload = Gathered { name: "a".into(), port: 8001, ..Gathered::default() };
        let frames = [
            ("hello", Frame::Hello { sender: 8001 }),
            ("echo", Frame::Echo { sender, errand: errand.clone(), payload: Nothing }),
            ("echo_back", Frame::EchoBack { sender, errand: errand.clone(), payload: payload.clone() }),
            ("finn", Frame::Finn { sender, errand: errand.clone(), known }),
            ("barrier", Frame::Barrier { sender, errand: errand.clone() }),
            ("start", Frame::Start { sender, algorithm: Algorithm::Echo, errand }),
            (
                "decided",
                Frame::Decided {
                    wave,
                    sender: 8001,
                    sent: 1,
                    tree: Some(payload),
                    on: [8000].into(),
                    is_elsewhere: true,
                },
            ),
            ("recall", Frame::Recall { sender, wave }),
            ("recalled", Frame::Recalled { wave, sender: 8001, sent: 1, father: Some(8000), trace }),
            ("state", Frame::State(State { sender: 8001, ..State::default() })),
            ("move", Frame::Move { sender, ticket: 1, to: 8002, count: 2 }),
            ("add", Frame::Add { sender, ticket: 1, count: 2 }),
            ("moved", Frame::Moved { sender, ticket: 1, moved: 2, reason: Some("full".into()) }),
            ("offer", Frame::Offer { sender: 8001, offer }),
            ("answer", Frame::Answer { sender: 8001, batch: 2, verdict: Verdict::Accepted }),
        ];
        for (route, frame) in frames {
            let text = frame.text();
            let value: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!((&value["route"], &value["sender"]), (&route.into(), &8001.into()), "{text}");
            assert_eq!(serde_json::from_str::<Frame>(&text).expect("a frame"), frame);
        }
    }

    #[test]
    fn what_is_gathered_along_the_longest_path_is_read_again() {
        let path = (0..Tree::LONGEST_PATH).fold(Vec::new(), |below, _| {
            vec![Gathered { name: "a".into(), children: below, ..Gathered::default() }]
        });
        let wave = WaveId { initiator: 7999, number: 3 };
        let decided = |tree| Frame::Decided {
            wave,
            sender: 8001,
            sent: 1,
            tree,
            on: BTreeSet::new(),
            is_elsewhere: false,
        };
        let longest = decided(path.first().cloned());
        assert_eq!(serde_json::from_str::<Frame>(&longest.text()).expect("a frame"), longest);
        let tree = Some(Gathered { children: path, ..Gathered::default() });
        let longer = decided(tree);
        assert!(serde_json::from_str::<Frame>(&longer.text()).is_err(), "the bound is where it has to be");
    }
}
