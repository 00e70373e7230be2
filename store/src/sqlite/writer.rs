//! The one connection that writes.
//!
//! Calls queue up; whatever has come by the time the last transaction is on the disk goes into the next one together, so
//! that one flush makes many calls durable. A call decides before it writes, so a refusal leaves nothing behind in the
//! transaction of the others. If one fails, all are undone and each is repeated alone, and only it hears of its error.
//! The alternative, a savepoint for each call, costs two statements more for each.
//!
//! A caller that goes away takes nothing with it: its call is done, or was never begun.

use futures_util::future::BoxFuture;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::doing;
use crate::error::Error;

/// Calls of a transaction.
const MOST_OF_GROUP: usize = 256;
/// Calls that wait; more wait for their turn to wait.
const MOST_WAITING: usize = 1024;

/// A call and whom to tell.
trait Job: Send {
    /// Possibly more than once: the former time is undone then.
    fn run<'a>(&'a mut self, db: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), Error>>;
    /// `Ok`: what ran last is on the disk.
    fn answer(self: Box<Self>, committed: Result<(), Error>);
}

struct Work<F, T> {
    run: F,
    done: Option<T>,
    caller: oneshot::Sender<Result<T, Error>>,
}

impl<F, T> Job for Work<F, T>
where
    F: for<'c> Fn(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Error>> + Send,
    T: Send,
{
    fn run<'a>(&'a mut self, db: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.done = Some((self.run)(db).await?);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let Self { done, caller, .. } = *self;
        let answer = match (committed, done) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(done)) => Ok(done),
            (Ok(()), None) => Err(gone()),
        };
        // Who has gone away does not need it.
        drop(caller.send(answer));
    }
}

fn gone() -> Error {
    Error::Unavailable { doing: "handing the call to the writer", source: sqlx::Error::WorkerCrashed }
}

/// Hands calls to the connection. It closes when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Box<dyn Job>>);

impl Writer {
    /// Takes the connection; `options` makes another if it breaks.
    pub(crate) fn start(db: SqliteConnection, options: SqliteConnectOptions) -> Self {
        let (sender, jobs) = mpsc::channel(MOST_WAITING);
        tokio::spawn(serve(db, options, jobs));
        Self(sender)
    }

    /// Runs a call in a transaction, and returns when it is on the disk. The call decides first and writes then.
    pub(crate) async fn run<T, F>(&self, run: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let job = Box::new(Work { run, done: None, caller });
        self.0.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn serve(
    mut db: SqliteConnection,
    options: SqliteConnectOptions,
    mut jobs: mpsc::Receiver<Box<dyn Job>>,
) {
    let mut group = Vec::new();
    while jobs.recv_many(&mut group, MOST_OF_GROUP).await > 0 {
        if group.len() > 1 && commit(&mut db, &options, &mut group).await.is_ok() {
            group.drain(..).for_each(|job| job.answer(Ok(())));
        }
        for mut job in group.drain(..) {
            let done = commit(&mut db, &options, std::slice::from_mut(&mut job)).await;
            job.answer(done);
        }
    }
    if let Err(error) = db.close().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the store was not closed in good order");
    }
}

/// All of them, on the disk, or nothing.
async fn commit(
    db: &mut SqliteConnection,
    options: &SqliteConnectOptions,
    group: &mut [Box<dyn Job>],
) -> Result<(), Error> {
    let done = attempt(db, group).await;
    if done.is_err() {
        undo(db, options).await;
    }
    done
}

async fn attempt(db: &mut SqliteConnection, group: &mut [Box<dyn Job>]) -> Result<(), Error> {
    let begin = sqlx::query("BEGIN IMMEDIATE").execute(&mut *db).await;
    begin.map_err(doing("beginning a transaction"))?;
    for job in group {
        job.run(db).await?;
    }
    let commit = sqlx::query("COMMIT").execute(db).await;
    commit.map(drop).map_err(doing("committing a transaction"))
}

/// SQLite undoes by itself after some errors, and says then that there is no transaction. A connection that has neither
/// is replaced.
async fn undo(db: &mut SqliteConnection, options: &SqliteConnectOptions) {
    let Err(error) = sqlx::query("ROLLBACK").execute(&mut *db).await else { return };
    if error.as_database_error().is_some_and(|error| error.message().contains("no transaction is active")) {
        return;
    }
    match options.connect().await {
        Ok(new) => *db = new,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the store's writer cannot open the database again");
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;
    use tokio::join;

    use super::*;
    use crate::change::{Change, Expect, Outcome};
    use crate::clock::Timestamp;
    use crate::sqlite::{apply, schema};

    /// A writer whose disk has room for a few pages more than an empty store takes.
    async fn nearly_full(folder: &tempfile::TempDir) -> Writer {
        let options =
            SqliteConnectOptions::new().filename(folder.path().join("store.db")).create_if_missing(true);
        let mut db = options.connect().await.unwrap();
        schema::migrate(&mut db).await.unwrap();
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut db).await.unwrap();
        let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {}", pages + 20));
        sqlx::raw_sql(limit).execute(&mut db).await.unwrap();
        Writer::start(db, options)
    }

    async fn put(writer: &Writer, key: &'static str, bytes: usize) -> Result<Outcome, Error> {
        let run = writer.run(move |db| {
            Box::pin(async move {
                let change = Change::Put { key: key.into(), value: vec![7; bytes], expect: Expect::Absent };
                apply::transact(db, &[change], Timestamp(0)).await
            })
        });
        run.await
    }

    #[tokio::test]
    async fn a_full_disk_fails_the_call_that_needs_it_and_none_that_came_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let writer = nearly_full(&folder).await;
        // All three are there when the writer looks, so it takes them for a group.
        let (first, large, last) =
            join!(put(&writer, "first", 10), put(&writer, "large", 1 << 20), put(&writer, "last", 10));
        assert!(matches!(large, Err(Error::Full { .. })), "{large:?}");
        assert!(matches!(first, Ok(Outcome::Committed(_))), "{first:?}");
        assert!(matches!(last, Ok(Outcome::Committed(_))), "{last:?}");
        for (key, there) in [("first", true), ("large", false), ("last", true)] {
            let again = put(&writer, key, 10).await.unwrap();
            assert_eq!(matches!(again, Outcome::Refused(_)), there, "{key}");
        }
    }
}
