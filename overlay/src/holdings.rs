//! A worker's own partitions: loaded in parallel at the start, immutable afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::watch;

use crate::catalog::Day;
use crate::date::Date;
use crate::partition::{self, Partition};

/// A partition, or why there is none.
pub(crate) type Held = Result<Arc<Partition>, String>;

/// See the module. Clones see the same.
#[derive(Clone, Debug)]
pub(crate) struct Holdings {
    loaded: watch::Receiver<Option<Arc<BTreeMap<Date, Held>>>>,
}

/// Why the folder of all days is none.
#[derive(Debug, thiserror::Error)]
#[error("the data set {} cannot be read; it is the folder that holds YYYYMMDD/*.csv (--dataset-root)", path.display())]
pub struct DatasetError {
    path: PathBuf,
    source: std::io::Error,
}

/// The dates of a data set, ascending.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn dates_in(root: &Path) -> Result<Vec<Date>, DatasetError> {
    let failed = |source| DatasetError { path: root.to_owned(), source };
    let mut dates = Vec::new();
    for entry in std::fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some(date) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && entry.path().is_dir()
        {
            dates.push(date);
        }
    }
    dates.sort_unstable();
    Ok(dates)
}

impl Holdings {
    /// None.
    pub(crate) fn none() -> Self {
        Self { loaded: watch::channel(Some(Arc::default())).1 }
    }

    /// Loads these dates on threads of their own; returns at once.
    pub(crate) fn load(root: PathBuf, dates: Vec<Date>, threads: usize) -> Self {
        let (done, loaded) = watch::channel(None);
        std::thread::spawn(move || done.send_replace(Some(Arc::new(load_all(&root, &dates, threads)))));
        Self { loaded }
    }

    /// What there is, when all of it is there.
    pub(crate) async fn all(&self) -> Arc<BTreeMap<Date, Held>> {
        let mut loaded = self.loaded.clone();
        let all = loaded.wait_for(Option::is_some).await.expect("loading does not panic");
        all.clone().expect("it was waited for")
    }

    /// What there is, if all of it is there already.
    pub(crate) fn now(&self) -> Option<Arc<BTreeMap<Date, Held>>> {
        self.loaded.borrow().clone()
    }
}

/// What the catalog says of a partition.
pub(crate) fn described(held: &Held) -> Day {
    match held {
        Ok(partition) => Day {
            rows: partition.rows() as u64,
            fingerprint: partition.fingerprint,
            unreadable: String::new(),
        },
        Err(why) => Day { rows: 0, fingerprint: 0, unreadable: why.clone() },
    }
}

fn load_all(root: &Path, dates: &[Date], threads: usize) -> BTreeMap<Date, Held> {
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    let work = || {
        let mut mine = Vec::new();
        while let Some(&date) = dates.get(next.fetch_add(1, Ordering::Relaxed)) {
            mine.push((date, load_one(root, date)));
        }
        mine
    };
    let all: BTreeMap<_, _> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("loading does not panic")).collect()
    });
    let (mut rows, mut malformed, mut unreadable) = (0, 0, 0);
    for held in all.values() {
        match held {
            Ok(partition) => {
                rows += partition.rows();
                malformed += partition.malformed;
            }
            Err(_) => unreadable += 1,
        }
    }
    tracing::info!(days = all.len(), rows, malformed, unreadable, took = ?began.elapsed(), "the partitions are loaded");
    all
}

fn load_one(root: &Path, date: Date) -> Held {
    let report = |bad: partition::Malformed| {
        tracing::warn!(file = %bad.file.display(), line = bad.line, "a line is no row: {}", bad.error);
    };
    match partition::load(date, &root.join(date.to_string()), report) {
        Ok(partition) => Ok(Arc::new(partition)),
        Err(error) => {
            let why = words(&error);
            tracing::error!(%date, "a partition is missing: {why}");
            Err(why)
        }
    }
}

/// An error with its causes.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words.push_str(": ");
        words.push_str(&inner.to_string());
        cause = inner.source();
    }
    words
}
