//! The file as it is written, before anything in it is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Role, TopologyError};

#[derive(Debug, Deserialize)]
pub(super) struct File {
    #[serde(default)]
    pub(super) strategies: RawStrategies,
    pub(super) processes: Named<RawProcess>,
    /// Of ours: `dates` or `ring`.
    pub(super) placement: Option<String>,
    /// Of ours: with `ring`, how many workers hold each date.
    pub(super) replicas: Option<usize>,
    /// Of ours: how many leaders there are to be, if not one.
    pub(super) leaders: Option<usize>,
    /// Of ours: the dates of teams that the contract does not know.
    #[serde(default)]
    pub(super) teams: Named<Bounds>,
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, Value>,
}

/// An object of which no key may be there twice: JSON itself would keep the last one and say nothing.
#[derive(Debug)]
pub(super) struct Named<T> {
    pub(super) all: BTreeMap<String, T>,
    pub(super) doubled: BTreeSet<String>,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), doubled: BTreeSet::new() }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

struct Entries<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Named<T>, A::Error> {
        let mut named = Named::default();
        while let Some((name, value)) = entries.next_entry::<String, T>()? {
            if named.all.insert(name.clone(), value).is_some() {
                named.doubled.insert(name);
            }
        }
        Ok(named)
    }
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
