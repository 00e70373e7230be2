//! A place for a store, which several may open.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use slipring_store::testing::{self, Cluster};
use slipring_store::{Change, Claimed, Clock, Memory, NewTask, Outcome, Refusal, Store, Why, open};
use tempfile::TempDir;

/// A lease or delay that is over at once.
pub(crate) const GONE: Duration = Duration::ZERO;
/// One that outlives every test.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
/// For what must happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Sqlite,
    Postgres,
}

pub(crate) struct Site {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    memory: Memory,
    _folder: TempDir,
}

/// The server that the tests of this process share. It ends with the process.
pub(crate) fn cluster() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| skip(Cluster::start(false)));
    cluster.as_ref()
}

pub(crate) fn skip(started: Result<Cluster, testing::Missing>) -> Option<Cluster> {
    match started {
        Ok(cluster) => Some(cluster),
        Err(missing) => {
            assert!(!testing::required(), "SLIPRING_REQUIRE holds postgres, and there is {missing}");
            eprintln!("SKIPPED: everything with PostgreSQL: {missing}");
            None
        }
    }
}

impl Site {
    /// `None`: skipped, which was said.
    pub(crate) async fn of(kind: Kind) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let url = match kind {
            Kind::Memory => "memory:".to_owned(),
            Kind::Sqlite => format!("sqlite:{}", folder.path().join("store.db").display()),
            Kind::Postgres => cluster()?.database().await,
        };
        Some(Self { kind, url, memory: Memory::new(Clock::system()), _folder: folder })
    }

    /// As another process would.
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        match self.kind {
            Kind::Memory => Arc::new(self.memory.clone()),
            _ => open(&self.url).await.unwrap(),
        }
    }
}

pub(crate) fn tasks<const N: usize>(keys: [&str; N]) -> Vec<NewTask> {
    keys.into_iter().map(|key| NewTask::new(key, format!("payload of {key}"))).collect()
}

pub(crate) async fn claim_one(store: &dyn Store, worker: &str, lease: Duration) -> Option<Claimed> {
    let mut claimed = store.claim("q", worker, lease, 1).await.unwrap();
    assert!(claimed.len() <= 1, "{claimed:?}");
    claimed.pop()
}

/// A task `t` in the queue `q`, claimed.
pub(crate) async fn claimed(store: &dyn Store, worker: &str, lease: Duration) -> Claimed {
    store.add("q", tasks(["t"])).await.unwrap();
    claim_one(store, worker, lease).await.expect("it was just added")
}

pub(crate) fn complete(claimed: &Claimed, result: &str) -> Change {
    Change::Complete { claim: claimed.claim.clone(), result: result.into() }
}

pub(crate) async fn commit(store: &dyn Store, changes: Vec<Change>) {
    let outcome = store.transact(changes).await.unwrap();
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
}

pub(crate) async fn refusals(store: &dyn Store, changes: Vec<Change>) -> Vec<(usize, Why)> {
    let refused = store.transact(changes).await.unwrap().committed().unwrap_err();
    refused.into_iter().map(|Refusal { change, why }| (change, why)).collect()
}
