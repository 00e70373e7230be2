//! The schema of a PostgreSQL store: made, brought up to date, or refused.

use sqlx::PgConnection;

use super::run::Failure;
use crate::error::{Error, Invalid};
use crate::rows;

/// One file a version, the first is version 1. A file that was released is never changed.
const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/postgres/0001.sql")];

/// The oldest that the tests have seen.
const OLDEST: i64 = 15;

/// Whose lock this is: "slipring" in ASCII.
const LOCK: i64 = 0x736c_6970_7269_6e67;

/// Runs in a transaction. Whoever comes second waits for the first, and finds nothing to do.
pub(crate) async fn migrate(db: &mut PgConnection) -> Result<(), Failure> {
    let number: i64 = sqlx::query_scalar("SELECT current_setting('server_version_num')::bigint")
        .fetch_one(&mut *db)
        .await?;
    let found = number / 10_000;
    if found < OLDEST {
        return Err(Error::Invalid(Invalid::OldServer { found, least: OLDEST }).into());
    }
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *db).await?;
    let there: bool =
        sqlx::query_scalar("SELECT to_regclass('slipring_schema') IS NOT NULL").fetch_one(&mut *db).await?;
    if !there {
        let table = "CREATE TABLE slipring_schema (version BIGINT NOT NULL)";
        sqlx::query(table).execute(&mut *db).await?;
    }
    let found: i64 = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM slipring_schema")
        .fetch_one(&mut *db)
        .await?;
    let known = MIGRATIONS.len();
    let next = match usize::try_from(found) {
        Ok(found) if found <= known => found,
        _ => return Err(Error::NewerSchema { found, known: rows::count(known) }.into()),
    };
    for (file, version) in MIGRATIONS.iter().zip(1_i64..).skip(next) {
        sqlx::raw_sql(*file).execute(&mut *db).await?;
        sqlx::query("INSERT INTO slipring_schema VALUES ($1)").bind(version).execute(&mut *db).await?;
    }
    Ok(())
}
