//! What another configuration would change in a balancer that runs, and whether it can without a restart.

use serde::Serialize;

use super::keys::{Effect, KeyChange};
use super::{Config, PoolConfig};

/// Everything that a reload changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Keys with another value, but for those of pools that come or go.
    pub keys: Vec<KeyChange>,
    /// The pools.
    pub pools: PoolChanges,
}

/// Names of pools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolChanges {
    /// Those that are new.
    pub added: Vec<String>,
    /// Those that are no longer there.
    pub removed: Vec<String>,
    /// Those that go on in another way.
    pub changed: Vec<String>,
}

/// Keys that cannot change while the balancer runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsRestart(pub Vec<KeyChange>);

impl std::fmt::Display for NeedsRestart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.0.len();
        let (s, verb) = if count == 1 { ("", "needs") } else { ("s", "need") };
        write!(f, "{count} key{s} {verb} a restart to change; nothing was changed")?;
        self.0.iter().try_for_each(|change| write!(f, "\n  {change}"))
    }
}

impl std::error::Error for NeedsRestart {}

impl Difference {
    /// From what runs to what is wanted.
    ///
    /// # Errors
    /// All keys that differ and may not.
    pub fn between(present: &Config, next: &Config) -> Result<Self, NeedsRestart> {
        let (fixed, keys): (Vec<_>, Vec<_>) = present
            .keys
            .changes(&next.keys)
            .into_iter()
            .partition(|(_, effect)| *effect == Effect::AtRestart);
        let only_changes = |list: Vec<(KeyChange, Effect)>| list.into_iter().map(|(change, _)| change);
        let mut fixed: Vec<KeyChange> = only_changes(fixed).collect();
        let mut pools = PoolChanges::default();
        for old in present.all_pools() {
            let Some(new) = next.all_pools().find(|new| new.name == old.name) else {
                pools.removed.push(old.name.to_string());
                continue;
            };
            let prefix = if old.is_default() { String::new() } else { format!("pool.{}.", old.name) };
            if old != new {
                pools.changed.push(old.name.to_string());
            }
            // The file of an overlay may say something else under the same name.
            if let (Some(was), Some(is)) = (&old.overlay, &new.overlay)
                && was.members != is.members
                && let key = format!("{prefix}{}", is.kind.key())
                && fixed.iter().all(|change| change.key != key)
            {
                let file = is.topology.display();
                fixed.push(KeyChange {
                    key,
                    was: format!("{file} as it was read"),
                    is: format!("{file} as it is now"),
                });
            }
            // Addresses make the runtime of a pool static, also where its key says nothing; what an overlay makes of it
            // was told with its file.
            let key = format!("{prefix}fleet.runtime");
            let alike = old.told_kind() == new.told_kind();
            if alike && old.fleet.runtime != new.fleet.runtime && fixed.iter().all(|change| change.key != key)
            {
                let word = |pool: &PoolConfig| format!("{:?}", pool.fleet.runtime).to_lowercase();
                fixed.push(KeyChange { key, was: word(old), is: word(new) });
            }
        }
        let is_new = |pool: &&PoolConfig| present.all_pools().all(|old| old.name != pool.name);
        pools.added = next.all_pools().filter(is_new).map(|pool| pool.name.to_string()).collect();
        if fixed.is_empty() {
            Ok(Self { keys: only_changes(keys).collect(), pools })
        } else {
            Err(NeedsRestart(fixed))
        }
    }
}
