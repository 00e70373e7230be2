//! The store of many machines: PostgreSQL 15 or newer.
//!
//! Everything that is decided about a task is decided under a lock of its row, in READ COMMITTED; claims pass over what is
//! locked (`SKIP LOCKED`), so claimers do not wait for each other. SERIALIZABLE would need no such care, and costs a
//! repetition whenever two claimers look at one queue. The database's clock is asked where it is written.
//!
//! Others are notified after a commit, not in it: a transaction that notifies holds a lock of all that do until it is on
//! the disk, and so no two of them would share a flush.

mod apply;
mod claim;
mod run;
mod schema;

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgPool};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::bounds;
use crate::change::{Change, Outcome};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::hints::{Hints, Wakes};
use crate::range::{Range, Record};
use crate::store::{Answer, Store};
use crate::task::{Campaign, Claim, Claimed, Counts, Finished, Running, Tenure};
use crate::{queries, rows};

/// The database's clock, in microseconds.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}
use now;

/// One of them listens.
const CONNECTIONS: u32 = 10;
/// How long a call waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(3);
/// Queues that wait for others to be notified; what comes while there are more is not told.
const MOST_WAKING: usize = 256;
/// From one try to listen to the next.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// See the module. Clones share its connections.
#[derive(Clone)]
pub struct Postgres {
    pool: PgPool,
    wakes: Arc<Wakes>,
    /// Queues whose waiters, anywhere, shall look.
    notify: mpsc::Sender<String>,
    _listening: Arc<Listening>,
}

/// Ends with the last clone.
struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let connections = self.pool.size();
        f.debug_struct("Postgres").field("connections", &connections).finish_non_exhaustive()
    }
}

impl Postgres {
    /// Connects, and brings the schema up to date. The tables are made in the connection's first schema
    /// (`?options=-csearch_path%3DNAME` chooses another). It must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::NewerSchema`], [`Error::Rejected`] (password, rights, no such database),
    /// [`crate::Invalid::OldServer`].
    pub async fn open(url: &str) -> Result<Self, Error> {
        const DOING: &str = "connecting";
        let options = PgConnectOptions::from_str(url).map_err(|error| run::sorted(DOING, error))?;
        let options = options
            .application_name("slipring")
            // Who stops in the middle of a transaction holds nobody up for long.
            .options([
                ("statement_timeout", "30s"),
                ("lock_timeout", "10s"),
                ("idle_in_transaction_session_timeout", "30s"),
            ])
            .disable_statement_logging();
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE);
        let pool = pool.connect_lazy_with(options);
        run::transaction(&pool, "looking at the schema", (), |db, ()| Box::pin(schema::migrate(db))).await?;
        let wakes = Arc::new(Wakes::new());
        let listening = tokio::spawn(listen(pool.clone(), wakes.clone()));
        let (notify, queues) = mpsc::channel(MOST_WAKING);
        tokio::spawn(tell(pool.clone(), queues));
        Ok(Self { notify, pool, wakes, _listening: Arc::new(Listening(listening.abort_handle())) })
    }
}

/// Notifies until the last clone of the store is dropped; many queues at once, if there are many.
async fn tell(pool: PgPool, mut queues: mpsc::Receiver<String>) {
    let mut some = Vec::new();
    while queues.recv_many(&mut some, MOST_WAKING).await > 0 {
        let mut some = std::mem::take(&mut some);
        some.sort_unstable();
        some.dedup();
        let told = run::transaction(&pool, "notifying others", some, |db, queues| {
            Box::pin(async move {
                // Nothing of it needs to outlive a loss of power.
                sqlx::raw_sql("SET LOCAL synchronous_commit = off").execute(&mut *db).await?;
                let query = "SELECT pg_notify('slipring_wake', queue) FROM unnest($1::text[]) AS a (queue)";
                sqlx::query(query).bind(queues).execute(db).await?;
                Ok(())
            })
        });
        if let Err(error) = told.await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "others were not notified; pollers look by themselves");
        }
    }
}

/// Turns notifications into hints. Whatever was notified while the connection was away is not known: everybody looks.
async fn listen(pool: PgPool, wakes: Arc<Wakes>) {
    loop {
        let heard: Result<(), sqlx::Error> = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen("slipring_wake").await?;
            wakes.wake_all();
            loop {
                match listener.try_recv().await? {
                    Some(notification) => wakes.wake(notification.payload()),
                    None => wakes.wake_all(),
                }
            }
        }
        .await;
        if let Err(error) = heard {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "no hints from the database for now; pollers look by themselves");
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

impl Store for Postgres {
    fn now(&self) -> Answer<'_, Timestamp> {
        Box::pin(run::read(&self.pool, "asking for the time", (), |db, ()| {
            Box::pin(async {
                sqlx::query_scalar(concat!("SELECT ", now!())).fetch_one(db).await.map(Timestamp)
            })
        }))
    }

    fn transact(&self, changes: Vec<Change>) -> Answer<'_, Outcome> {
        Box::pin(async move {
            bounds::changes(&changes)?;
            let wakes: Vec<_> = changes.iter().filter_map(Change::wakes).map(str::to_owned).collect();
            let outcome = run::transaction(&self.pool, "a transaction", changes, |db, changes| {
                Box::pin(apply::transact(db, changes))
            });
            let outcome = outcome.await?;
            if matches!(outcome, Outcome::Committed(_)) {
                for queue in wakes {
                    self.wakes.wake(&queue);
                    // One hint less, if there are so many.
                    drop(self.notify.try_send(queue));
                }
            }
            Ok(outcome)
        })
    }

    fn claim<'a>(
        &'a self,
        queue: &'a str,
        worker: &'a str,
        lease: Duration,
        most: usize,
    ) -> Answer<'a, Vec<Claimed>> {
        Box::pin(async move {
            bounds::queue(queue)?;
            bounds::worker(worker)?;
            bounds::claims(most)?;
            run::transaction(
                &self.pool,
                "claiming tasks",
                (queue, worker, lease, most),
                |db, (queue, worker, lease, most)| Box::pin(claim::claim(db, queue, worker, *lease, *most)),
            )
            .await
        })
    }

    fn speculate<'a>(
        &'a self,
        queue: &'a str,
        key: &'a str,
        worker: &'a str,
        lease: Duration,
    ) -> Answer<'a, Option<Claimed>> {
        Box::pin(async move {
            bounds::queue(queue)?;
            bounds::task(key)?;
            bounds::worker(worker)?;
            run::transaction(
                &self.pool,
                "speculating on a task",
                (queue, key, worker, lease),
                |db, (queue, key, worker, lease)| Box::pin(claim::speculate(db, queue, key, worker, *lease)),
            )
            .await
        })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], lease: Duration) -> Answer<'a, Vec<usize>> {
        Box::pin(async move {
            bounds::renewals(claims)?;
            run::transaction(&self.pool, "renewing leases", (claims, lease), |db, (claims, lease)| {
                Box::pin(claim::renew(db, claims, *lease))
            })
            .await
        })
    }

    fn campaign<'a>(&'a self, office: &'a str, who: &'a str, lease: Duration) -> Answer<'a, Campaign> {
        Box::pin(async move {
            bounds::office(office)?;
            bounds::worker(who)?;
            run::transaction(&self.pool, "campaigning", (office, who, lease), |db, (office, who, lease)| {
                Box::pin(claim::campaign(db, office, who, *lease))
            })
            .await
        })
    }

    fn resign<'a>(&'a self, office: &'a str, epoch: u64) -> Answer<'a, bool> {
        Box::pin(async move {
            bounds::office(office)?;
            run::transaction(&self.pool, "resigning", (office, epoch), |db, (office, epoch)| {
                Box::pin(claim::resign(db, office, *epoch))
            })
            .await
        })
    }

    fn tenure<'a>(&'a self, office: &'a str) -> Answer<'a, Option<Tenure>> {
        Box::pin(async move {
            bounds::office(office)?;
            run::read(&self.pool, "reading an office", (office,), |db, (office,)| {
                Box::pin(claim::tenure(db, office))
            })
            .await
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Record>> {
        Box::pin(async move {
            bounds::record(key)?;
            run::read(&self.pool, "reading a record", key, |db, key| {
                Box::pin(async move {
                    let found = sqlx::query_as(queries::RECORD).bind(key).fetch_optional(db).await?;
                    rows::record(key, found)
                })
            })
            .await
        })
    }

    fn range(&self, range: Range) -> Answer<'_, Vec<Record>> {
        Box::pin(async move {
            bounds::range(&range)?;
            run::read(&self.pool, "reading records", range, |db, range| {
                Box::pin(async move {
                    let query = sqlx::query_as(queries::records(range)).bind(&range.from).bind(&range.to);
                    rows::records(query.bind(rows::count(range.limit)).fetch_all(db).await?)
                })
            })
            .await
        })
    }

    fn counts<'a>(&'a self, queue: &'a str) -> Answer<'a, Counts> {
        Box::pin(async move {
            bounds::queue(queue)?;
            run::read(&self.pool, "counting tasks", queue, |db, queue| {
                Box::pin(async move {
                    rows::counts(sqlx::query_as(queries::COUNTS).bind(queue).fetch_all(db).await?)
                })
            })
            .await
        })
    }

    fn finished<'a>(
        &'a self,
        queue: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answer<'a, Vec<Finished>> {
        Box::pin(async move {
            bounds::queue(queue)?;
            bounds::rows(limit)?;
            run::read(&self.pool, "reading results", (queue, after, limit), |db, (queue, after, limit)| {
                Box::pin(async move {
                    // No key is empty.
                    let query = sqlx::query_as(queries::FINISHED).bind(queue).bind(after.unwrap_or(""));
                    let found: Vec<rows::FinishedRow> = query.bind(rows::count(*limit)).fetch_all(db).await?;
                    found.into_iter().map(rows::finished).collect()
                })
            })
            .await
        })
    }

    fn running<'a>(&'a self, queue: &'a str) -> Answer<'a, Vec<Running>> {
        Box::pin(async move {
            bounds::queue(queue)?;
            run::read(&self.pool, "reading leases", queue, |db, queue| {
                Box::pin(async move {
                    let query =
                        sqlx::query_as(queries::RUNNING).bind(queue).bind(rows::count(bounds::MOST_ROWS));
                    let found: Vec<rows::RunningRow> = query.fetch_all(db).await?;
                    found.into_iter().map(rows::running).collect()
                })
            })
            .await
        })
    }

    fn hints(&self, queue: &str) -> Hints {
        self.wakes.hints(queue)
    }

    fn contradictions(&self) -> Answer<'_, Vec<String>> {
        Box::pin(run::transaction(&self.pool, "checking the store", (), |db, ()| {
            Box::pin(async move {
                // One snapshot for all of it.
                let level = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
                sqlx::raw_sql(level).execute(&mut *db).await?;
                let rows: Vec<rows::AuditRow> = sqlx::query_as(queries::AUDIT).fetch_all(&mut *db).await?;
                let mut found = rows::audit(rows)?;
                let newest: Option<i64> = sqlx::query_scalar(queries::NEWEST).fetch_one(&mut *db).await?;
                // A sequence is of no snapshot, and only goes ahead.
                let drawn = "SELECT last_value FROM slipring_drawn";
                let drawn: i64 = sqlx::query_scalar(drawn).fetch_one(&mut *db).await?;
                if newest.is_some_and(|newest| newest > drawn) {
                    found.push(rows::BEHIND.to_owned());
                }
                found.truncate(bounds::MOST_ROWS);
                Ok(found)
            })
        }))
    }
}
