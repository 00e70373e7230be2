//! Copies of logs on an object store: as many of each as somebody asks for, so that a disk that forgets loses nothing.
//!
//! A copy is an object whose name holds the hash of what is in it: another version of a log never takes the place of the
//! one before until all of its own copies are there. Beside each copy lies a *label* (name, length, hash), which is what
//! lists an archive. Whoever reads a log reads all of its copies: one that is missing or that says something else than its
//! label is mended from a good one, and that is told. Rejected: to read one copy and to look at the others when it is bad.
//! What rots unread is found when the last good copy is gone.
//!
//! The hash is XXH3, 128 bits, as in the ledger: it finds what a disk or a wire does, not what somebody does on purpose.

mod copy;
mod label;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path as FilePath, PathBuf};

use futures_util::StreamExt as _;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use self::copy::{Bad, hash_of_file};
use self::label::Label;
use crate::source::LogFile;

/// Copies of a log at most.
pub const MOST_COPIES: u8 = 9;
/// Logs of an archive at most: their labels are kept in memory.
const MOST_LOGS: usize = 1_000_000;

/// Why a log could not be kept, or not be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive is not there, or may not be used.
    #[error("the archive {place} cannot be used: check that the folder exists, and that you may write there")]
    Place { place: String, source: object_store::Error },
    /// A folder of it could not be made.
    #[error("the folder {} cannot be made: check that you may write beside it", path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// A label could not be listed or written.
    #[error("the archive's {path} cannot be used: check the disk behind it, and try again")]
    Label { path: String, source: object_store::Error },
    /// More labels than anybody should have.
    #[error("the archive holds more than {MOST_LOGS} logs: keep some of them elsewhere")]
    TooMany,
    /// A name that is no text cannot be an object's.
    #[error("{} has a name that is no UTF-8, which an object's must be: rename it", path.display())]
    Name { path: PathBuf },
    /// The log itself could not be read or written.
    #[error("{} cannot be read or written", path.display())]
    File { path: PathBuf, source: io::Error },
    /// It was written to while it was copied.
    #[error("{} was changed while it was copied: keep it again when nobody cuts it", path.display())]
    Changed { path: PathBuf },
    /// A copy could not be written.
    #[error("copy {copy} of {name} cannot be written: make room in the archive, and try again")]
    Unwritten { name: String, copy: u8, source: object_store::Error },
    /// There is no good copy left.
    #[error("no copy of {name} is good: {}", words(copies))]
    Lost { name: String, copies: Vec<(u8, String)> },
    /// A file of that name is there, and says something else.
    #[error("{} is there already, and is not what the archive holds: move it away first", path.display())]
    Exists { path: PathBuf },
}

fn words(copies: &[(u8, String)]) -> String {
    let words: Vec<String> = copies.iter().map(|(copy, why)| format!("copy {copy} {why}")).collect();
    words.join("; ")
}

/// A copy that was bad, and is not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    pub name: String,
    pub copy: u8,
    /// What was wrong with it.
    pub why: String,
}

impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copy {} of {} {}: mended", self.copy, self.name, self.why)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Archive {
    store: LocalFileSystem,
}

impl Archive {
    /// One in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or used.
    pub fn in_folder(path: &FilePath) -> Result<Self, ArchiveError> {
        std::fs::create_dir_all(path)
            .map_err(|source| ArchiveError::Folder { path: path.to_owned(), source })?;
        let place = |source| ArchiveError::Place { place: path.display().to_string(), source };
        let store = LocalFileSystem::new_with_prefix(path).map_err(place)?;
        Ok(Self { store })
    }

    /// Sees to it that there are so many good copies of a log; what was mended.
    ///
    /// # Errors
    /// When the log cannot be read, changes meanwhile, or a copy cannot be written.
    pub async fn keep(&self, log: &LogFile, copies: u8) -> Result<Vec<Mended>, ArchiveError> {
        let no_name = || ArchiveError::Name { path: log.path.clone() };
        let name = log.path.file_name().and_then(|name| name.to_str()).ok_or_else(no_name)?;
        let hash = hash_of_file(&log.path, log.length).await?;
        let label = Label { name: name.to_owned(), length: log.length, hash };
        let before = self.labels_of(name).await?;
        let mut mended = Vec::new();
        for copy in 1..=copies.clamp(1, MOST_COPIES) {
            let is_labelled = before.iter().any(|(at, known)| *at == copy && *known == label);
            if let Err(bad) = self.check(&label, copy, None).await {
                self.write(&label, copy, &log.path).await?;
                // One that was never there is not bad.
                mended.extend(is_labelled.then(|| Mended {
                    name: name.to_owned(),
                    copy,
                    why: bad.to_string(),
                }));
            }
        }
        for copy in 1..=copies.clamp(1, MOST_COPIES) {
            self.put_label(&label, copy).await?;
        }
        for (copy, old) in before.into_iter().filter(|(_, old)| *old != label) {
            self.remove(&copy::path(&old, copy)).await?;
        }
        Ok(mended)
    }

    /// The logs that it holds, by name.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub async fn names(&self) -> Result<Vec<String>, ArchiveError> {
        Ok(self.labels(None).await?.into_keys().collect())
    }

    /// Reads a log into a folder, from its first good copy, and mends the others; what was mended. A file that is there
    /// already and says the same stays.
    ///
    /// # Errors
    /// When no copy is good (then each is named with its reason), when the file cannot be written or is there and says
    /// something else, or when a copy cannot be mended.
    pub async fn restore(&self, name: &str, folder: &FilePath) -> Result<Vec<Mended>, ArchiveError> {
        let labels = self.labels_of(name).await?;
        let path = folder.join(name);
        let most = labels.iter().map(|(copy, _)| *copy).max().unwrap_or(0);
        // Of two versions, which only somebody who was killed while keeping leaves, the one with more labels.
        let of = |label: &Label| labels.iter().filter(|(_, other)| other == label).count();
        let label = labels.iter().map(|(_, label)| label).max_by_key(|label| (of(label), &label.hash));
        let lost = |copies| ArchiveError::Lost { name: name.to_owned(), copies };
        let Some(label) = label else { return Err(lost(Vec::new())) };
        let there = tokio::fs::metadata(&path).await.ok();
        let mut is_there = match there {
            Some(found)
                if found.len() == label.length && hash_of_file(&path, label.length).await? == label.hash =>
            {
                true
            }
            Some(_) => return Err(ArchiveError::Exists { path }),
            None => false,
        };
        let mut bad: Vec<(u8, Bad)> = Vec::new();
        for copy in 1..=most {
            let into = (!is_there).then_some(&*path);
            match self.check(label, copy, into).await {
                Ok(()) => is_there = true,
                Err(Bad::Here(source)) => return Err(ArchiveError::File { path, source }),
                Err(why) => bad.push((copy, why)),
            }
        }
        if !is_there {
            return Err(lost(bad.into_iter().map(|(copy, why)| (copy, why.to_string())).collect()));
        }
        let mut mended = Vec::new();
        for (copy, why) in bad {
            self.write(label, copy, &path).await?;
            mended.push(Mended { name: name.to_owned(), copy, why: why.to_string() });
        }
        for copy in (1..=most).filter(|copy| !labels.iter().any(|(at, known)| at == copy && known == label)) {
            self.put_label(label, copy).await?;
        }
        Ok(mended)
    }

    async fn labels_of(&self, name: &str) -> Result<Vec<(u8, Label)>, ArchiveError> {
        Ok(self.labels(Some(name)).await?.remove(name).unwrap_or_default())
    }

    /// All labels that can be read, or those of one log; one that cannot is as if it were not there.
    async fn labels(&self, of: Option<&str>) -> Result<BTreeMap<String, Vec<(u8, Label)>>, ArchiveError> {
        let mut labels: BTreeMap<String, Vec<(u8, Label)>> = BTreeMap::new();
        for copy in 1..=MOST_COPIES {
            let paths: Vec<Path> = match of {
                Some(name) => vec![label::path(name, copy)],
                None => self.listed(copy).await?,
            };
            for path in paths {
                let read = async { self.store.get(&path).await?.bytes().await };
                match read.await {
                    Ok(bytes) => {
                        if let Some(label) =
                            Label::read(&bytes).filter(|label| label::path(&label.name, copy) == path)
                        {
                            labels.entry(label.name.clone()).or_default().push((copy, label));
                        }
                    }
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(source) => return Err(ArchiveError::Label { path: path.to_string(), source }),
                }
            }
        }
        Ok(labels)
    }

    async fn listed(&self, copy: u8) -> Result<Vec<Path>, ArchiveError> {
        let folder = label::folder(copy);
        let mut found = self.store.list(Some(&folder));
        let mut paths = Vec::new();
        while let Some(object) = found.next().await {
            let unlisted = |source| ArchiveError::Label { path: folder.to_string(), source };
            paths.push(object.map_err(unlisted)?.location);
            if paths.len() > MOST_LOGS {
                return Err(ArchiveError::TooMany);
            }
        }
        Ok(paths)
    }

    async fn put_label(&self, label: &Label, copy: u8) -> Result<(), ArchiveError> {
        let path = label::path(&label.name, copy);
        let unwritten = |source| ArchiveError::Label { path: path.to_string(), source };
        self.store.put(&path, label.written().into()).await.map_err(unwritten)?;
        self.settle(&path).await
    }

    /// What was written is on the disk, and not on its way: the store does not see to that.
    async fn settle(&self, path: &Path) -> Result<(), ArchiveError> {
        let unsettled = |source| ArchiveError::Label { path: path.to_string(), source };
        let file = self.store.path_to_filesystem(path).map_err(unsettled)?;
        let failed = |source| ArchiveError::File { path: file.clone(), source };
        for path in [Some(&*file), file.parent()].into_iter().flatten() {
            tokio::fs::File::open(path).await.map_err(failed)?.sync_all().await.map_err(failed)?;
        }
        Ok(())
    }

    async fn remove(&self, path: &Path) -> Result<(), ArchiveError> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(ArchiveError::Label { path: path.to_string(), source }),
        }
    }
}
