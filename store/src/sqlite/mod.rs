//! The store of one machine: a file, in WAL mode, with one connection that writes and a few that read.
//!
//! `synchronous = FULL`: a call that was answered is on the disk, and outlives the loss of power as far as the disk keeps
//! its word; the writer makes many calls durable with one flush. Several processes of one machine may open one file. They
//! hear no hints from each other: they poll.
//!
//! *The lock is a process's.* Whoever is stopped (SIGSTOP, a frozen container) in the middle of a transaction keeps SQLite's
//! lock, and nobody else writes before it goes on or dies: calls are [`Error::Unavailable`] after five seconds, and are
//! waited for with patience. A transaction holds one group of calls, waits for nothing but the disk, and so lasts
//! milliseconds; to end it sooner would be to answer before the disk has it. Reading goes on. Where processes are stopped
//! for long, PostgreSQL is the store: it gives a silent transaction up after thirty seconds.

mod apply;
mod claim;
mod schema;
mod writer;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, SqlitePool};

use crate::bounds;
use crate::change::{Change, Outcome};
use crate::clock::{Clock, Timestamp};
use crate::error::Error;
use crate::hints::{Hints, Wakes};
use crate::range::{Range, Record};
use crate::store::{Answer, Store};
use crate::task::{Campaign, Claim, Claimed, Counts, Finished, Running, Tenure};
use crate::{queries, rows};
use writer::Writer;

/// How long another process may hold the file's lock.
const BUSY: Duration = Duration::from_secs(5);
const READERS: u32 = 4;

/// See the module. Clones share its connections.
#[derive(Clone)]
pub struct Sqlite {
    clock: Clock,
    writer: Writer,
    readers: SqlitePool,
    wakes: Arc<Wakes>,
}

/// Sorts what the driver says.
fn doing(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| {
        let code = source.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
        // The lower byte of an extended code is the primary one: https://www.sqlite.org/rescode.html
        match (code.map(|code| code & 0xff), &source) {
            (Some(5..=7), _) => Error::Unavailable { doing, source },
            (Some(11 | 26), _) => Error::Corrupt { doing, source },
            (Some(13), _) => Error::Full { doing, source },
            (Some(_), _) => Error::Rejected { doing, source },
            (None, sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }) => {
                Error::Corrupt { doing, source }
            }
            (
                None,
                sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::Io(_),
            ) => Error::Unavailable { doing, source },
            (None, _) => Error::Rejected { doing, source },
        }
    }
}

/// Numbers as a JSON array, for `json_each`.
fn ids(numbers: &[i64]) -> String {
    let mut text = String::from("[");
    for number in numbers {
        let comma = if text.len() > 1 { "," } else { "" };
        write!(text, "{comma}{number}").expect("a string takes all");
    }
    text.push(']');
    text
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens a file, or makes it. It must be called within a tokio runtime, which the writer then lives in.
    ///
    /// # Errors
    /// [`Error::NewerSchema`], [`Error::Corrupt`] (also when the file is no database), [`Error::Rejected`] (no such
    /// folder, no right to write), [`Error::Full`], [`Error::Unavailable`] (locked for long).
    pub async fn open(path: impl AsRef<Path>, clock: Clock) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let mut db = options.connect().await.map_err(doing("opening the database"))?;
        schema::migrate(&mut db).await?;
        let pool =
            PoolOptions::new().max_connections(READERS).acquire_timeout(BUSY).test_before_acquire(false);
        let readers = pool.connect_lazy_with(options.clone().pragma("query_only", "ON"));
        let writer = Writer::start(db, options);
        Ok(Self { clock, writer, readers, wakes: Arc::new(Wakes::new()) })
    }
}

impl Store for Sqlite {
    fn now(&self) -> Answer<'_, Timestamp> {
        Box::pin(async { Ok(self.clock.now()) })
    }

    fn transact(&self, changes: Vec<Change>) -> Answer<'_, Outcome> {
        Box::pin(async move {
            bounds::changes(&changes)?;
            let changes = Arc::new(changes);
            let (clock, wakes) = (self.clock.clone(), self.wakes.clone());
            let given = changes.clone();
            let outcome = self.writer.run(move |db| {
                let (changes, now) = (given.clone(), clock.now());
                Box::pin(async move { apply::transact(db, &changes, now).await })
            });
            let outcome = outcome.await?;
            if matches!(outcome, Outcome::Committed(_)) {
                changes.iter().filter_map(Change::wakes).for_each(|queue| wakes.wake(queue));
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
            let who: Arc<(String, String)> = Arc::new((queue.to_owned(), worker.to_owned()));
            let clock = self.clock.clone();
            let claim = self.writer.run(move |db| {
                let (who, now) = (who.clone(), clock.now());
                Box::pin(async move {
                    let (queue, worker) = &*who;
                    claim::claim(db, queue, worker, now, now.plus(lease), most).await
                })
            });
            claim.await
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
            let who = Arc::new((queue.to_owned(), key.to_owned(), worker.to_owned()));
            let clock = self.clock.clone();
            let speculate = self.writer.run(move |db| {
                let (who, now) = (who.clone(), clock.now());
                Box::pin(async move {
                    let (queue, key, worker) = &*who;
                    claim::speculate(db, queue, key, worker, now, now.plus(lease)).await
                })
            });
            speculate.await
        })
    }

    fn renew<'a>(&'a self, claims: &'a [Claim], lease: Duration) -> Answer<'a, Vec<usize>> {
        Box::pin(async move {
            bounds::renewals(claims)?;
            let claims = Arc::new(claims.to_vec());
            let clock = self.clock.clone();
            let renew = self.writer.run(move |db| {
                let (claims, until) = (claims.clone(), clock.now().plus(lease));
                Box::pin(async move { claim::renew(db, &claims, until).await })
            });
            renew.await
        })
    }

    fn campaign<'a>(&'a self, office: &'a str, who: &'a str, lease: Duration) -> Answer<'a, Campaign> {
        Box::pin(async move {
            bounds::office(office)?;
            bounds::worker(who)?;
            let names = Arc::new((office.to_owned(), who.to_owned()));
            let clock = self.clock.clone();
            let campaign = self.writer.run(move |db| {
                let (names, now) = (names.clone(), clock.now());
                Box::pin(async move {
                    let (office, who) = &*names;
                    claim::campaign(db, office, who, now, now.plus(lease)).await
                })
            });
            campaign.await
        })
    }

    fn resign<'a>(&'a self, office: &'a str, epoch: u64) -> Answer<'a, bool> {
        Box::pin(async move {
            bounds::office(office)?;
            let office: Arc<str> = office.into();
            let resign = self.writer.run(move |db| {
                let office = office.clone();
                Box::pin(async move {
                    let query = "DELETE FROM slipring_office WHERE name = $1 AND epoch = $2";
                    let query = sqlx::query(query).bind(&*office).bind(rows::signed(epoch));
                    let gone = query.execute(db).await.map_err(doing("resigning"))?;
                    Ok(gone.rows_affected() > 0)
                })
            });
            resign.await
        })
    }

    fn tenure<'a>(&'a self, office: &'a str) -> Answer<'a, Option<Tenure>> {
        Box::pin(async move {
            const DOING: &str = "reading an office";
            bounds::office(office)?;
            let mut db = self.readers.acquire().await.map_err(doing(DOING))?;
            claim::tenure(&mut db, office).await
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<Record>> {
        Box::pin(async move {
            const DOING: &str = "reading a record";
            bounds::record(key)?;
            let query = sqlx::query_as(queries::RECORD).bind(key);
            let found = query.fetch_optional(&self.readers).await.map_err(doing(DOING))?;
            rows::record(key, found).map_err(doing(DOING))
        })
    }

    fn range(&self, range: Range) -> Answer<'_, Vec<Record>> {
        Box::pin(async move {
            const DOING: &str = "reading records";
            bounds::range(&range)?;
            let query = sqlx::query_as(queries::records(&range)).bind(&range.from).bind(&range.to);
            let query = query.bind(rows::count(range.limit));
            let found = query.fetch_all(&self.readers).await.map_err(doing(DOING))?;
            rows::records(found).map_err(doing(DOING))
        })
    }

    fn counts<'a>(&'a self, queue: &'a str) -> Answer<'a, Counts> {
        Box::pin(async move {
            const DOING: &str = "counting tasks";
            bounds::queue(queue)?;
            let query = sqlx::query_as(queries::COUNTS).bind(queue);
            let found: Vec<(i64, i64)> = query.fetch_all(&self.readers).await.map_err(doing(DOING))?;
            rows::counts(found).map_err(doing(DOING))
        })
    }

    fn finished<'a>(
        &'a self,
        queue: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Answer<'a, Vec<Finished>> {
        Box::pin(async move {
            const DOING: &str = "reading results";
            bounds::queue(queue)?;
            bounds::rows(limit)?;
            // No key is empty.
            let query = sqlx::query_as(queries::FINISHED)
                .bind(queue)
                .bind(after.unwrap_or(""))
                .bind(rows::count(limit));
            let found: Vec<rows::FinishedRow> = query.fetch_all(&self.readers).await.map_err(doing(DOING))?;
            found.into_iter().map(rows::finished).collect::<Result<_, _>>().map_err(doing(DOING))
        })
    }

    fn running<'a>(&'a self, queue: &'a str) -> Answer<'a, Vec<Running>> {
        Box::pin(async move {
            const DOING: &str = "reading leases";
            bounds::queue(queue)?;
            let query = sqlx::query_as(queries::RUNNING).bind(queue).bind(rows::count(bounds::MOST_ROWS));
            let found: Vec<rows::RunningRow> = query.fetch_all(&self.readers).await.map_err(doing(DOING))?;
            found.into_iter().map(rows::running).collect::<Result<_, _>>().map_err(doing(DOING))
        })
    }

    fn hints(&self, queue: &str) -> Hints {
        self.wakes.hints(queue)
    }

    fn contradictions(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            const DOING: &str = "checking the store";
            // One snapshot for all of it.
            let mut snapshot = self.readers.begin().await.map_err(doing(DOING))?;
            let query = "PRAGMA integrity_check";
            let damage: Vec<String> =
                sqlx::query_scalar(query).fetch_all(&mut *snapshot).await.map_err(doing(DOING))?;
            let mut found: Vec<_> = damage.into_iter().filter(|line| line != "ok").collect();
            let query = sqlx::query_as(queries::AUDIT).fetch_all(&mut *snapshot);
            let audit: Vec<rows::AuditRow> = query.await.map_err(doing(DOING))?;
            found.extend(rows::audit(audit).map_err(doing(DOING))?);
            let drawn = "SELECT drawn FROM slipring_counter";
            let drawn: i64 =
                sqlx::query_scalar(drawn).fetch_one(&mut *snapshot).await.map_err(doing(DOING))?;
            let newest: Option<i64> =
                sqlx::query_scalar(queries::NEWEST).fetch_one(&mut *snapshot).await.map_err(doing(DOING))?;
            if newest.is_some_and(|newest| newest > drawn) {
                found.push(rows::BEHIND.to_owned());
            }
            found.truncate(bounds::MOST_ROWS);
            Ok(found)
        })
    }
}
