//! What waves have in common: a name, and what a node does in answer to a message.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::NodeId;

/// What a node does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step<M, D> {
    /// Sends a message to a neighbor.
    Send(NodeId, M),
    /// Decides. At most once in a wave.
    Decide(D),
}

/// The name of a wave: who began it, and a number that its initiator never used before (with several initiators: who
/// asked for it). Written `8000-17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaveId {
    /// Who began it.
    pub initiator: NodeId,
    /// Which of its waves.
    pub number: u64,
}

/// This is no wave's name: NODE-NUMBER is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a wave's name is NODE-NUMBER, like 8000-17")]
pub struct NotAWave;

impl fmt::Display for WaveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.initiator, self.number)
    }
}

impl FromStr for WaveId {
    type Err = NotAWave;

    fn from_str(name: &str) -> Result<Self, NotAWave> {
        let (initiator, number) = name.split_once('-').ok_or(NotAWave)?;
        let wave = Self {
            initiator: initiator.parse().map_err(|_| NotAWave)?,
            number: number.parse().map_err(|_| NotAWave)?,
        };
        // `+8000-017` would be another name of the same wave.
        if wave.to_string() == name { Ok(wave) } else { Err(NotAWave) }
    }
}

impl Serialize for WaveId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WaveId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_in_no_other_way() {
        let wave = WaveId { initiator: 8000, number: 17 };
        assert_eq!("8000-17".parse(), Ok(wave));
        assert_eq!(wave.to_string(), "8000-17");
        for other in
            ["", "-", "8000", "8000-", "-17", "+8000-17", "8000-017", "8000-17-1", " 8000-17", "4294967296-1"]
        {
            assert_eq!(other.parse::<WaveId>(), Err(NotAWave), "{other:?}");
        }
    }
}
