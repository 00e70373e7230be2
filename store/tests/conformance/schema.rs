//! Opening: new, old, newer, damaged, and several at a time.

use slipring_store::{Error, Invalid, open};
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tokio::task::JoinSet;

use super::site::{Kind, LONG, Site, claimed, commit, complete};

async fn execute(site: &Site, sql: &'static str) {
    match site.kind {
        Kind::Memory => {}
        Kind::Sqlite => {
            let mut db = SqliteConnection::connect(&site.url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
            db.close().await.unwrap();
        }
        Kind::Postgres => {
            let mut db = PgConnection::connect(&site.url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
            db.close().await.unwrap();
        }
    }
}

async fn a_newer_schema_is_refused(kind: Kind) {
    let Some(site) = Site::of(kind).await else { return };
    drop(site.open().await);
    execute(&site, "INSERT INTO slipring_schema VALUES (7)").await;
    let error = open(&site.url).await.unwrap_err();
    assert!(matches!(error, Error::NewerSchema { found: 7, known: 1 }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("schema 7") && words.contains("up to 1: start the newer program"), "{words}");
}

#[tokio::test]
async fn a_newer_schema_of_sqlite_is_refused() {
    a_newer_schema_is_refused(Kind::Sqlite).await;
}

#[tokio::test]
async fn a_newer_schema_of_postgresql_is_refused() {
    a_newer_schema_is_refused(Kind::Postgres).await;
}

async fn many_start_at_once(kind: Kind) {
    let Some(site) = Site::of(kind).await else { return };
    let mut starters = JoinSet::new();
    for _ in 0..8 {
        let url = site.url.clone();
        starters.spawn(async move { open(&url).await });
    }
    for store in starters.join_all().await {
        assert_eq!(store.unwrap().contradictions().await.unwrap(), [""; 0]);
    }
}

#[tokio::test]
async fn many_start_at_once_on_sqlite() {
    many_start_at_once(Kind::Sqlite).await;
}

#[tokio::test]
async fn many_start_at_once_on_postgresql() {
    many_start_at_once(Kind::Postgres).await;
}

async fn what_is_written_is_there_after_a_restart(kind: Kind) {
    let Some(site) = Site::of(kind).await else { return };
    let store = site.open().await;
    let task = claimed(&*store, "w", LONG).await;
    commit(&*store, vec![complete(&task, "r")]).await;
    drop(store);
    let store = site.open().await;
    assert_eq!(store.finished("q", None, 1).await.unwrap()[0].epoch, task.claim.epoch);
}

#[tokio::test]
async fn what_is_written_is_there_after_a_restart_of_sqlite() {
    what_is_written_is_there_after_a_restart(Kind::Sqlite).await;
}

#[tokio::test]
async fn what_is_written_is_there_after_a_restart_of_postgresql() {
    what_is_written_is_there_after_a_restart(Kind::Postgres).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_corrupt_and_one_in_no_folder_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("noise");
    std::fs::write(&file, "this is no database, ".repeat(1000)).unwrap();
    let error = open(&format!("sqlite:{}", file.display())).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    let nowhere = folder.path().join("nowhere/store.db");
    let error = open(&format!("sqlite:{}", nowhere.display())).await.unwrap_err();
    assert!(matches!(error, Error::Rejected { .. }), "{error:?}");
}

#[tokio::test]
async fn a_url_that_names_no_store_says_what_would_and_shows_no_password() {
    for url in ["", "sqlite:", "file.db", "mysql://root:secret@host/db", "memory"] {
        let error = open(url).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(Invalid::Url { .. })), "{error:?}");
        let words = error.to_string();
        assert!(words.contains("sqlite:PATH") && !words.contains("secret"), "{words}");
    }
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_no_reason_to_wait() {
    let Some(cluster) = super::site::cluster() else { return };
    let error = open(&cluster.url("nowhere")).await.unwrap_err();
    assert!(matches!(error, Error::Rejected { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_can_be_waited_for() {
    let error = open("postgres://slipring@localhost/db?host=/nowhere/at/all").await.unwrap_err();
    assert!(error.is_temporary(), "{error:?}");
}
