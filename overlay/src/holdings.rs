//! A worker's own partitions: loaded in parallel at the start, immutable afterwards. Only one that could not be read is
//! tried again.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::catalog::Day;
use crate::date::Date;
use crate::disk_cache::DiskCache;
use crate::partition::{Malformed, Partition, Source};

/// When a day that could not be read is tried again, twice as long after each time, and at most so long.
const RETRY: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(60);

/// A partition, or why there is none.
pub(crate) type Held = Result<Arc<Partition>, String>;

/// See the module. Clones see the same.
#[derive(Clone, Debug)]
pub(crate) struct Holdings {
    loaded: watch::Receiver<Option<Arc<BTreeMap<Date, Held>>>>,
    /// All dates of the data set.
    pub(crate) seen: Arc<[Date]>,
}

/// Why the folder of all days is none.
#[derive(Debug, thiserror::Error)]
#[error("the data set {} cannot be read; it is the folder that holds YYYYMMDD/*.csv (--dataset-root)", path.display())]
pub struct DatasetError {
    path: PathBuf,
    source: std::io::Error,
}

/// The dates of a data set, ascending: whatever is named like one, so that what is not readable is missing and not
/// absent.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn dates_in(root: &Path) -> Result<Vec<Date>, DatasetError> {
    let failed = |source| DatasetError { path: root.to_owned(), source };
    let mut dates = Vec::new();
    for entry in std::fs::read_dir(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some(date) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            dates.push(date);
        }
    }
    dates.sort_unstable();
    Ok(dates)
}

impl Holdings {
    /// None.
    pub(crate) fn none() -> Self {
        Self { loaded: watch::channel(Some(Arc::default())).1, seen: Arc::default() }
    }

    /// Loads these of the dates that are `seen` on threads of their own, and those that cannot be read again and again;
    /// returns at once. It needs a runtime.
    pub(crate) fn load(
        root: PathBuf,
        seen: Vec<Date>,
        dates: Vec<Date>,
        threads: NonZeroUsize,
        cache: Option<DiskCache>,
    ) -> Self {
        let (done, loaded) = watch::channel(None);
        tokio::spawn(async move {
            let loader = Arc::new(Loader { root, threads, cache });
            let (mut held, mut pause) = (BTreeMap::new(), RETRY);
            let mut left = dates;
            loop {
                let loading = loader.clone();
                let loaded = tokio::task::spawn_blocking(move || loading.load(&left)).await;
                let Ok((loaded, fresh)) = loaded else { return }; // the process ends
                held.extend(loaded);
                left = held.iter().filter_map(|(date, held)| held.is_err().then_some(*date)).collect();
                done.send_replace(Some(Arc::new(held.clone())));
                // Now that questions are answered.
                let keeping = loader.clone();
                drop(tokio::task::spawn_blocking(move || keeping.keep(&fresh)).await);
                if left.is_empty() {
                    return;
                }
                // What cannot be read now may be readable soon: a disk that is busy, a mount that comes late.
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = done.closed() => return,
                }
                pause = (pause * 2).min(SELDOM);
            }
        });
        Self { loaded, seen: seen.into() }
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
            malformed: partition.malformed,
        },
        Err(why) => Day { unreadable: why.clone(), ..Day::default() },
    }
}

/// What reads days.
#[derive(Debug)]
struct Loader {
    root: PathBuf,
    threads: NonZeroUsize,
    cache: Option<DiskCache>,
}

impl Loader {
    fn load(&self, dates: &[Date]) -> (BTreeMap<Date, Held>, Vec<Arc<Partition>>) {
        load_all(&self.root, dates, self.threads, self.cache.as_ref())
    }

    fn keep(&self, fresh: &[Arc<Partition>]) {
        self.cache.iter().for_each(|cache| fresh.iter().for_each(|partition| cache.put(partition)));
    }
}

/// All partitions, and those of them that were not in the cache.
fn load_all(
    root: &Path,
    dates: &[Date],
    threads: NonZeroUsize,
    cache: Option<&DiskCache>,
) -> (BTreeMap<Date, Held>, Vec<Arc<Partition>>) {
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    let work = || {
        let mut mine = Vec::new();
        while let Some(&date) = dates.get(next.fetch_add(1, Ordering::Relaxed)) {
            mine.push((date, load_one(root, date, cache)));
        }
        mine
    };
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.get()).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("loading does not panic")).collect()
    });
    let (mut rows, mut malformed, mut unreadable) = (0, 0, 0);
    let (mut held, mut fresh) = (BTreeMap::new(), Vec::new());
    for (date, loaded) in all {
        match loaded {
            Ok((partition, cached)) => {
                rows += partition.rows();
                malformed += partition.malformed;
                let partition = Arc::new(partition);
                if !cached {
                    fresh.push(partition.clone());
                }
                held.insert(date, Ok(partition));
            }
            Err(why) => {
                unreadable += 1;
                held.insert(date, Err(why));
            }
        }
    }
    let (days, cached) = (held.len(), held.len() - unreadable - fresh.len());
    tracing::info!(days, cached, rows, malformed, unreadable, took = ?began.elapsed(), "the partitions are loaded");
    (held, fresh)
}

/// A day, and whether it was in the cache.
fn load_one(root: &Path, date: Date, cache: Option<&DiskCache>) -> Result<(Partition, bool), String> {
    let folder = root.join(date.to_string());
    let loaded = Source::read(date, &folder).and_then(|source| {
        let cached = cache.and_then(|cache| cache.get(date, source.fingerprint));
        cached.map_or_else(|| Ok((source.parse()?, false)), |cached| Ok((cached, true)))
    });
    match loaded {
        Ok((partition, cached)) => {
            for Malformed { file, line, why } in &partition.told {
                let file = folder.join(file);
                tracing::warn!(file = %file.display(), line, "a line is no row: {why}");
            }
            Ok((partition, cached))
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::a_day;

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_read_is_read_when_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let dates = vec![a_day(root, 1, 7), a_day(root, 2, 7)];
        // A folder where a file is to be: no right to read would be none for root.
        let in_the_way = root.join(dates[1].to_string()).join("9.csv");
        std::fs::create_dir(&in_the_way).unwrap();
        let holdings = Holdings::load(root.to_owned(), dates.clone(), dates.clone(), NonZeroUsize::MIN, None);
        let first = holdings.all().await;
        assert!(first[&dates[0]].is_ok() && first[&dates[1]].is_err());
        std::fs::remove_dir(&in_the_way).unwrap();
        let mut loaded = holdings.loaded.clone();
        let all_read = |held: &Option<Arc<BTreeMap<Date, Held>>>| {
            held.as_ref().is_some_and(|held| held.values().all(Result::is_ok))
        };
        let again = tokio::time::timeout(Duration::from_secs(5), loaded.wait_for(all_read)).await;
        let again = again.expect("in time").expect("it goes on").clone().unwrap();
        let same = |date: &Date| Arc::ptr_eq(first[date].as_ref().unwrap(), again[date].as_ref().unwrap());
        assert!(same(&dates[0]), "what was read stays");
        assert_eq!(again[&dates[1]].as_ref().unwrap().rows(), 600);
    }
}
