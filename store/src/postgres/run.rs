//! How a call runs on a connection of the pool: in one transaction, again after a deadlock, and never halfway.

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};

use crate::error::Error;

/// Deadlocks and races that a call stands before it gives up.
const MOST_TRIES: usize = 10;

/// Why a call did not work.
pub(crate) enum Failure {
    /// The driver's.
    Database(sqlx::Error),
    /// Another transaction came between looking and writing: look again.
    Again,
    /// Ours.
    Answer(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Answer(error)
    }
}

/// Sorts what the driver says, by SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub(crate) fn sorted(doing: &'static str, source: sqlx::Error) -> Error {
    let code = source.as_database_error().and_then(|error| Some(error.code()?.into_owned()));
    let Some(code) = code else {
        return match source {
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => Error::Corrupt { doing, source },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Error::Unavailable { doing, source },
            _ => Error::Rejected { doing, source },
        };
    };
    match code.as_str() {
        "53100" => Error::Full { doing, source },
        "XX001" | "XX002" => Error::Corrupt { doing, source },
        // Starting, stopping, crashed, crowded, out of memory, too slow, locked, a deadlock each time.
        "57P01" | "57P02" | "57P03" | "57P05" | "53000" | "53200" | "53300" | "57014" | "55P03" | "40001"
        | "40P01" | "25P03" | "25P04" => Error::Unavailable { doing, source },
        code if code.starts_with("08") => Error::Unavailable { doing, source },
        _ => Error::Rejected { doing, source },
    }
}

/// Rolled back by the database, through no fault of the call's.
fn is_race(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| Some(error.code()?.into_owned()));
    matches!(code.as_deref(), Some("40001" | "40P01"))
}

/// A connection that is closed, and its transaction with it, unless the call came to its end: nobody shall find it with
/// half a conversation.
struct Held(Option<PoolConnection<Postgres>>);

impl Held {
    async fn of(pool: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self(Some(pool.acquire().await?)))
    }

    fn db(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("it is taken at the end only")
    }

    /// Back into the pool.
    fn whole(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Runs a call that only reads, in one statement.
pub(crate) async fn read<A, T, F>(pool: &PgPool, doing: &'static str, about: A, call: F) -> Result<T, Error>
where
    F: for<'c> Fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T, sqlx::Error>>,
{
    let mut held = Held::of(pool).await.map_err(|error| sorted(doing, error))?;
    let answer = call(held.db(), &about).await.map_err(|error| sorted(doing, error))?;
    held.whole();
    Ok(answer)
}

/// Runs a call in a transaction of READ COMMITTED. `Ok`: it is durable. An error of the connection is the caller's to
/// repeat: whether the commit arrived is not known.
pub(crate) async fn transaction<A, T, F>(
    pool: &PgPool,
    doing: &'static str,
    about: A,
    call: F,
) -> Result<T, Error>
where
    F: for<'c> Fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T, Failure>>,
{
    for tries_left in (0..MOST_TRIES).rev() {
        let mut held = Held::of(pool).await.map_err(|error| sorted(doing, error))?;
        let failure = match attempt(held.db(), &about, &call).await {
            Ok(answer) => {
                held.whole();
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        if sqlx::raw_sql("ROLLBACK").execute(held.db()).await.is_ok() {
            held.whole();
        }
        match failure {
            Failure::Answer(error) => return Err(error),
            Failure::Database(error) if !is_race(&error) => return Err(sorted(doing, error)),
            Failure::Database(error) if tries_left == 0 => return Err(sorted(doing, error)),
            Failure::Again | Failure::Database(_) => {}
        }
    }
    let source = sqlx::Error::Protocol(format!("others were faster {MOST_TRIES} times"));
    Err(Error::Unavailable { doing, source })
}

async fn attempt<A, T, F>(db: &mut PgConnection, about: &A, call: &F) -> Result<T, Failure>
where
    F: for<'c> Fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T, Failure>>,
{
    sqlx::raw_sql("BEGIN").execute(&mut *db).await?;
    let answer = call(db, about).await?;
    sqlx::raw_sql("COMMIT").execute(db).await?;
    Ok(answer)
}
