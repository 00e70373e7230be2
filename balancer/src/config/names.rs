//! What was probably meant by a name that no key has.

use std::collections::BTreeSet;

/// The names there are.
pub(super) struct Names<'a> {
    /// The balancer's keys.
    pub(super) keys: Vec<&'static str>,
    /// Those of them that a pool may have, and those of pools alone.
    pub(super) of_pools: Vec<&'static str>,
    /// The pools.
    pub(super) pools: BTreeSet<&'a str>,
}

/// Names of the original project, and the keys that they are here.
const RENAMED: [(&str, &str); 6] = [
    ("hash_num", "ring.hash"),
    ("virtual_nodes", "ring.virtual_servers"),
    ("docker_task_batch", "fleet.task_batch"),
    ("max_fail_count", "fleet.failures"),
    ("n", "fleet.replicas"),
    ("port", "listen"),
];

impl Names<'_> {
    /// The key that an unknown variable would set.
    pub(super) fn key_of(&self, variable: &str) -> String {
        let words = variable["SLIPRING_".len()..].to_lowercase();
        let of_pool = |pool: &&str| {
            let name = pool.replace('-', "_");
            let rest = words.strip_prefix("pool_")?.strip_prefix(&*name)?.strip_prefix('_')?;
            Some(format!("pool.{pool}.{}", rest.replacen('_', ".", 1)))
        };
        self.pools.iter().find_map(of_pool).unwrap_or_else(|| words.replacen('_', ".", 1))
    }

    /// What to write instead of an unknown key.
    pub(super) fn advice(&self, key: &str) -> String {
        if !key.starts_with("pool.") {
            return nearest("", key, &self.keys);
        }
        let Some(pool) = pool_of(key).filter(|pool| self.pools.contains(pool)) else {
            return "a pool begins with [pool.NAME] in the file; a variable can only change one that is there"
                .to_owned();
        };
        let (prefix, rest) = key.split_at("pool.".len() + pool.len() + 1);
        if self.keys.contains(&rest) {
            return format!("`{rest}` is the whole balancer's, a pool has none of its own");
        }
        nearest(prefix, rest, &self.of_pools)
    }
}

/// The name in `pool.NAME.…`.
pub(super) fn pool_of(key: &str) -> Option<&str> {
    key.strip_prefix("pool.")?.split_once('.').map(|(name, _)| name)
}

/// The one of `keys` that was probably meant: the same last word elsewhere, or a near spelling.
fn nearest(prefix: &str, key: &str, keys: &[&'static str]) -> String {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let renamed = RENAMED.iter().find(|(old, _)| *old == last(key)).map(|(_, new)| *new);
    let likely = || {
        keys.iter()
            .map(|known| (strsim::jaro_winkler(&last(known), &last(key)), *known))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known)
    };
    let nearest = renamed
        .filter(|new| keys.contains(new))
        .or_else(|| keys.iter().copied().find(|known| last(known) == last(key)))
        .or_else(likely);
    match nearest {
        Some(nearest) => format!("the key is called `{prefix}{nearest}`"),
        None => "`slipring balancer --print-config` lists the keys there are".to_owned(),
    }
}
