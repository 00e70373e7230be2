//! Partitions on disk, so that a process that is started again reads what another one understood.
//!
//! A file is named after the bytes that it was made of: it cannot be out of date. Whatever goes wrong with it costs the
//! time to read the CSV files again, and a line in the log.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::date::Date;
use crate::partition::{Partition, stored};

/// Files of one day that are kept: those of other data sets, and of data that has changed.
const MOST_OF_A_DAY: usize = 3;
/// Nobody takes so long to write one.
const HALF: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Clone, Debug)]
pub struct DiskCache {
    folder: PathBuf,
}

impl DiskCache {
    /// In this folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn get(&self, date: Date, fingerprint: u64) -> Option<Partition> {
        let path = self.folder.join(stored::file_name(date, fingerprint));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a cached partition cannot be read");
                return None;
            }
        };
        match stored::decode(&bytes) {
            Ok(partition) if partition.date == date && partition.fingerprint == fingerprint => {
                Some(partition)
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), error = crate::holdings::words(&error), "a cached partition is spoiled");
                None
            }
        }
    }

    /// Keeps a partition; another process may do the same at the same time.
    pub(crate) fn put(&self, partition: &Partition) {
        if let Err(error) = self.write(partition) {
            tracing::warn!(folder = %self.folder.display(), %error, "a partition cannot be cached: it will be read from its CSV files again");
        }
    }

    fn write(&self, partition: &Partition) -> io::Result<()> {
        let bytes = stored::encode(partition).map_err(io::Error::other)?;
        fs::create_dir_all(&self.folder)?;
        let name = stored::file_name(partition.date, partition.fingerprint);
        let half = self.folder.join(name.with_extension(format!("{}.half", std::process::id())));
        let written = File::create(&half)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&half, self.folder.join(name)));
        if written.is_err() {
            drop(fs::remove_file(&half));
        }
        written?;
        self.make_room(partition.date)
    }

    /// Removes the oldest files of a day.
    fn make_room(&self, date: Date) -> io::Result<()> {
        let of_the_day = format!("{date}-");
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let (name, path) = (entry.file_name(), entry.path());
            let (name, at) = (name.to_string_lossy(), modified(&path));
            let is_half = name.ends_with(".half");
            // What is half written is somebody's, until it is old.
            let is_dead = is_half && at.elapsed().is_ok_and(|age| age > HALF);
            if name.starts_with(&of_the_day) && (!is_half || is_dead) {
                files.push((if is_dead { SystemTime::UNIX_EPOCH } else { at }, path));
            }
        }
        files.sort();
        for (_, path) in files.iter().take(files.len().saturating_sub(MOST_OF_A_DAY)) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn modified(path: &Path) -> SystemTime {
    path.metadata().and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::{a_day, load};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_kept_is_found_by_the_bytes_it_was_made_of_and_no_day_fills_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (data, cache) = (folder.path().join("data"), DiskCache::new(folder.path().join("cache")));
        for seed in 0..5 {
            for day in [1, 2] {
                let date = a_day(&data, day, seed);
                let partition = load(date, &data.join(date.to_string())).unwrap();
                assert!(cache.get(date, partition.fingerprint).is_none());
                cache.put(&partition);
                let again = cache.get(date, partition.fingerprint).unwrap();
                assert_eq!(format!("{again:?}"), format!("{partition:?}"));
                assert!(cache.get(date, partition.fingerprint ^ 1).is_none());
            }
        }
        let names = names(&cache.folder);
        assert_eq!(names.len(), 2 * MOST_OF_A_DAY, "{names:?}");
    }

    #[test]
    fn what_is_spoiled_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (data, cache) = (folder.path().join("data"), DiskCache::new(folder.path().join("cache")));
        let date = a_day(&data, 1, 1);
        let partition = load(date, &data.join(date.to_string())).unwrap();
        cache.put(&partition);
        let file = cache.folder.join(stored::file_name(date, partition.fingerprint));
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        assert!(cache.get(date, partition.fingerprint).is_none());
        fs::write(&file, b"").unwrap();
        assert!(cache.get(date, partition.fingerprint).is_none());
    }
}
