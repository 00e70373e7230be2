//! The schema of a SQLite store: made, brought up to date, or refused.

use sqlx::{Connection as _, SqliteConnection};

use super::doing;
use crate::error::Error;

/// One file a version, the first is version 1. A file that was released is never changed.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/sqlite/0001.sql")];

/// Whoever comes second waits for the first, and finds nothing to do.
pub(crate) async fn migrate(db: &mut SqliteConnection) -> Result<(), Error> {
    const DOING: &str = "looking at the schema";
    let mut transaction = db.begin_with("BEGIN IMMEDIATE").await.map_err(doing(DOING))?;
    let table = "CREATE TABLE IF NOT EXISTS slipring_schema (version INTEGER NOT NULL) STRICT";
    sqlx::query(table).execute(&mut *transaction).await.map_err(doing(DOING))?;
    let version = "SELECT coalesce(max(version), 0) FROM slipring_schema";
    let found: i64 = sqlx::query_scalar(version).fetch_one(&mut *transaction).await.map_err(doing(DOING))?;
    let known = MIGRATIONS.len();
    let next = match usize::try_from(found) {
        Ok(found) if found <= known => found,
        _ => return Err(Error::NewerSchema { found, known: crate::rows::count(known) }),
    };
    for (file, version) in MIGRATIONS.iter().zip(1_i64..).skip(next) {
        const DOING: &str = "bringing the schema up to date";
        sqlx::raw_sql(*file).execute(&mut *transaction).await.map_err(doing(DOING))?;
        let done = sqlx::query("INSERT INTO slipring_schema VALUES ($1)").bind(version);
        done.execute(&mut *transaction).await.map_err(doing(DOING))?;
    }
    transaction.commit().await.map_err(doing(DOING))
}
