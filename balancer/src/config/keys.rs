//! Every key with its value: what a later configuration is compared with, and whether a change of it can wait for no
//! restart.
//!
//! Kept is what each value was understood as, so that `1s` and `1000ms` are the same; and how it was written, for
//! those who read of a change.

use std::collections::BTreeMap;

use serde::Serialize;

/// When a change of a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// As soon as the configuration is read again.
    AtReload,
    /// When the balancer starts: another value is refused while it runs.
    AtRestart,
}

/// One key's value.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) effect: Effect,
    /// As it was understood; of a secret, itself.
    pub(super) meaning: String,
    /// As it was written; nothing of a secret.
    pub(super) shown: String,
    /// A pool has it from the balancer.
    pub(super) inherited: bool,
}

/// The values of all keys, those of pools as `pool.NAME.KEY`.
#[derive(Clone, Default)]
pub(super) struct Keys(pub(super) BTreeMap<String, Value>);

/// Some of them are secrets.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// A key that has another value now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// Its name.
    pub key: String,
    /// What it was, as it was written; `…` for a secret.
    pub was: String,
    /// What it is.
    pub is: String,
}

impl std::fmt::Display for KeyChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}, was {:?}", self.key, self.is, self.was)
    }
}

impl Keys {
    /// The keys with another value in `next`, each with when it takes effect. Those of pools that are not in both are
    /// nobody's change; and what a pool inherits in both is a change of the balancer's key.
    pub(super) fn changes(&self, next: &Self) -> Vec<(KeyChange, Effect)> {
        let both = self.0.iter().filter_map(|(key, was)| Some((key, was, next.0.get(key)?)));
        let changed =
            both.filter(|(_, was, is)| was.meaning != is.meaning && !(was.inherited && is.inherited));
        let change = |(key, was, is): (&String, &Value, &Value)| {
            let change = KeyChange { key: key.clone(), was: was.shown.clone(), is: is.shown.clone() };
            (change, is.effect)
        };
        changed.map(change).collect()
    }
}
