//! A store by its URL.

use std::sync::Arc;

use crate::clock::Clock;
use crate::error::{Error, Invalid};
use crate::memory::Memory;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::store::Store;

/// Opens the store that a URL names, and brings its schema up to date:
/// `memory:` (gone with the process), `sqlite:PATH` (a file, made if it is missing; its folder must be there),
/// `postgres://USER:PASSWORD@HOST:PORT/DATABASE` (15 or newer; `?sslmode=require` for TLS, `?host=/FOLDER` for a socket).
/// It must be called within a tokio runtime, which the store then lives in.
///
/// # Errors
/// [`Invalid::Url`], [`Error::NewerSchema`], and whatever the database says.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, Error> {
    if url == "memory:" {
        return Ok(Arc::new(Memory::new(Clock::system())));
    }
    if let Some(path) = url.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
        // `sqlite:///folder/file` is how others write `sqlite:/folder/file`.
        let path = path.strip_prefix("//").unwrap_or(path);
        return Ok(Arc::new(Sqlite::open(path, Clock::system()).await?));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Arc::new(Postgres::open(url).await?));
    }
    Err(Invalid::Url { url: without_secrets(url) }.into())
}

/// A wrong URL may hold a password all the same.
fn without_secrets(url: &str) -> String {
    let shown = url.chars().take(60).collect::<String>();
    match shown.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://…"),
        None if url.contains('@') => "…".to_owned(),
        None => shown,
    }
}
