//! The file as it is written, before anything in it is believed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Role, TopologyError};

#[derive(Debug, Deserialize)]
pub(super) struct File {
    #[serde(default)]
    pub(super) strategies: RawStrategies,
    pub(super) processes: BTreeMap<String, RawProcess>,
    /// Of ours: `dates` or `ring`.
    pub(super) placement: Option<String>,
    /// Of ours: with `ring`, how many workers hold each date.
    pub(super) replicas: Option<usize>,
    /// Of ours: how many leaders there are to be, if not one.
    pub(super) leaders: Option<usize>,
    /// Of ours: the dates of teams that the contract does not know.
    #[serde(default)]
    pub(super) teams: BTreeMap<String, Bounds>,
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct RawStrategies {
    pub(super) forwarding_strategy: Option<String>,
    pub(super) async_forwarding: Option<bool>,
    pub(super) chunking_strategy: Option<String>,
    pub(super) fairness_strategy: Option<String>,
    pub(super) chunk_size: Option<i64>,
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RawProcess {
    pub(super) id: Option<String>,
    pub(super) role: Role,
    pub(super) team: String,
    pub(super) host: String,
    pub(super) port: u16,
    #[serde(default)]
    pub(super) neighbors: Vec<String>,
    pub(super) date_bounds: Option<Bounds>,
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, Value>,
}

/// `["20200810", "20200820"]`, numbers as well, or `{"start": …, "end": …}`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Bounds {
    Pair([Day; 2]),
    Named {
        #[serde(alias = "date_start", alias = "from")]
        start: Day,
        #[serde(alias = "date_end", alias = "to")]
        end: Day,
    },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Day {
    Text(String),
    Number(u32),
}

impl Day {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

impl File {
    pub(super) fn parse(text: &str) -> Result<Self, TopologyError> {
        serde_json::from_str(text).map_err(TopologyError::Syntax)
    }
}
