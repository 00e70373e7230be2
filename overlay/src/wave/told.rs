//! What a wave gathers, in memory and on the wire. What neighbors send is read with mistrust: a report that says what cannot
//! be is refused whole, because half of it would be counted.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use slipring_waves::{Gather, NodeId};

use super::Graph;
use crate::wave_wire as wire;
use crate::wire::MetricsResponse;

/// Bytes that one process may say of itself: what a wave gathers is no larger than that and a little, times processes.
const LARGEST_SAID: usize = 16 << 10;

/// Why a neighbor was not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Why {
    Unreachable,
    /// No word of it before the deadline.
    Silent,
    /// It carries as many waves as it may.
    Overloaded,
    /// It answered with something else than that it took the message.
    Refused,
    /// It had ended the wave.
    Over,
}

impl Why {
    /// As a person reads it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Unreachable => "it cannot be reached",
            Self::Silent => "no word of it in time",
            Self::Overloaded => "it carries as many waves as it may",
            Self::Refused => "it refuses",
            Self::Over => "it had ended the wave",
        }
    }

    fn wire(self) -> wire::Why {
        match self {
            Self::Unreachable => wire::Why::Unreachable,
            Self::Silent => wire::Why::Silent,
            Self::Overloaded => wire::Why::Overloaded,
            Self::Refused => wire::Why::Refused,
            Self::Over => wire::Why::Over,
        }
    }

    fn read(why: i32) -> Option<Self> {
        Some(match wire::Why::try_from(why).ok()? {
            wire::Why::Unspecified => return None,
            wire::Why::Unreachable => Self::Unreachable,
            wire::Why::Silent => Self::Silent,
            wire::Why::Overloaded => Self::Overloaded,
            wire::Why::Refused => Self::Refused,
            wire::Why::Over => Self::Over,
        })
    }
}

/// What one process tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct One {
    pub(crate) father: Option<NodeId>,
    /// That it has sent, without those that did not arrive.
    pub(crate) messages: u32,
    pub(crate) given_up: BTreeMap<NodeId, Why>,
    pub(crate) metrics: MetricsResponse,
}

/// What processes tell, each once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told(pub(crate) BTreeMap<NodeId, One>);

impl Gather for Told {
    /// Who was given up the [`Table`](super::Table) adds, which knows why.
    fn gather(mut self, children: Vec<(NodeId, Self)>, _missing: &BTreeSet<NodeId>) -> Self {
        for (process, one) in children.into_iter().flat_map(|(_, told)| told.0) {
            self.0.entry(process).or_insert(one);
        }
        self
    }
}

/// Why a report is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Garbled {
    #[error("it tells of '{0}', which is no process here: have all processes the same file?")]
    Stranger(String),
    #[error("it tells of {0} twice")]
    Twice(String),
    #[error("it does not tell the metrics of {0}")]
    NoMetrics(String),
    #[error("it tells more than {LARGEST_SAID} bytes of {0}")]
    TooLong(String),
    #[error("it does not tell why {0} was given up")]
    NoReason(String),
    #[error("it does not tell of {0}, who sends it")]
    NotItself(String),
}

impl Told {
    /// As it is sent.
    pub(crate) fn wire(self, graph: &Graph) -> wire::Report {
        let name = |number| graph.name(number).to_string();
        let told = self.0.into_iter().map(|(process, one)| wire::One {
            process: name(process),
            father: one.father.map(name).unwrap_or_default(),
            messages: one.messages,
            given_up: one
                .given_up
                .into_iter()
                .map(|(process, why)| wire::GivenUp { process: name(process), why: why.wire().into() })
                .collect(),
            metrics: Some(one.metrics),
        });
        wire::Report { told: told.collect() }
    }

    /// What `from` sends.
    pub(crate) fn read(report: wire::Report, from: NodeId, graph: &Graph) -> Result<Self, Garbled> {
        let number = |name: &str| graph.number(name).ok_or_else(|| Garbled::Stranger(cut(name)));
        let mut told = BTreeMap::new();
        for wire::One { process, father, messages, given_up, metrics } in report.told {
            let own = number(&process)?;
            let father = if father.is_empty() { None } else { Some(number(&father)?) };
            let metrics = metrics
                .filter(|metrics| metrics.process_id == process)
                .ok_or_else(|| Garbled::NoMetrics(process.clone()))?;
            if metrics.encoded_len() > LARGEST_SAID {
                return Err(Garbled::TooLong(process));
            }
            let mut reasons = BTreeMap::new();
            for wire::GivenUp { process, why } in given_up {
                let why = Why::read(why).ok_or_else(|| Garbled::NoReason(cut(&process)))?;
                if reasons.insert(number(&process)?, why).is_some() {
                    return Err(Garbled::Twice(process));
                }
            }
            if told.insert(own, One { father, messages, given_up: reasons, metrics }).is_some() {
                return Err(Garbled::Twice(process));
            }
        }
        if told.contains_key(&from) {
            Ok(Self(told))
        } else {
            Err(Garbled::NotItself(graph.name(from).to_string()))
        }
    }
}

/// A stranger's word, as far as it is worth repeating.
fn cut(name: &str) -> String {
    name.chars().take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    fn graph() -> Graph {
        Graph::of(&Topology::parse(include_str!("../../topologies/baseline.json")).unwrap())
    }

    fn one(process: &str) -> wire::One {
        let metrics = MetricsResponse { process_id: process.into(), ..MetricsResponse::default() };
        let given_up = vec![wire::GivenUp { process: "F".into(), why: wire::Why::Silent.into() }];
        wire::One {
            process: process.into(),
            father: "B".into(),
            messages: 2,
            given_up,
            metrics: Some(metrics),
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_sent() {
        let graph = graph();
        let report = wire::Report { told: vec![one("C"), one("D")] };
        let told = Told::read(report.clone(), 3, &graph).unwrap();
        assert_eq!(told.0.keys().copied().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(told.0[&3].given_up, BTreeMap::from([(5, Why::Silent)]));
        assert_eq!(told.wire(&graph), report);
    }

    #[test]
    fn a_report_that_says_what_cannot_be_is_refused_whole() {
        let changed = |change: &dyn Fn(&mut wire::One)| {
            let mut wrong = one("D");
            change(&mut wrong);
            Told::read(wire::Report { told: vec![one("C"), wrong] }, 2, &graph())
        };
        let name = || "D".to_owned();
        assert_eq!(changed(&|d| d.process = "Z".repeat(100)), Err(Garbled::Stranger("Z".repeat(63))));
        assert_eq!(changed(&|d| d.father = "Z".into()), Err(Garbled::Stranger("Z".into())));
        assert_eq!(changed(&|d| *d = one("C")), Err(Garbled::Twice("C".into())));
        assert_eq!(changed(&|d| d.metrics = None), Err(Garbled::NoMetrics(name())));
        assert_eq!(changed(&|d| d.metrics = one("C").metrics), Err(Garbled::NoMetrics(name())));
        let long =
            |d: &mut wire::One| d.metrics.as_mut().unwrap().recent_logs = vec!["x".repeat(LARGEST_SAID)];
        assert_eq!(changed(&long), Err(Garbled::TooLong(name())));
        for why in [0, 6, -1] {
            assert_eq!(changed(&|d| d.given_up[0].why = why), Err(Garbled::NoReason("F".into())), "{why}");
        }
        assert_eq!(changed(&|d| d.given_up.push(d.given_up[0].clone())), Err(Garbled::Twice("F".into())));
        let other = wire::Report { told: vec![one("C")] };
        assert_eq!(Told::read(other, 3, &graph()), Err(Garbled::NotItself(name())));
    }

    #[test]
    fn whoever_is_told_of_twice_counts_once() {
        let told = |numbers: &[NodeId]| {
            Told(numbers.iter().map(|&n| (n, One { messages: n, ..One::default() })).collect())
        };
        let all = told(&[0]).gather(vec![(1, told(&[1, 2])), (4, told(&[2, 4]))], &BTreeSet::new());
        assert_eq!(all, told(&[0, 1, 2, 4]));
    }
}
