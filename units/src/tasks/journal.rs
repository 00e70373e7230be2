//! A unit's ledger in a file: a line for each change, written before the change is told to anybody.
//!
//! It survives the death of any process. It is not flushed to the disk, so it does not survive that of the machine: what would
//! be a wait for a disk at each task is not worth it for tasks that only take time. A line that was cut off in the middle is as
//! if it had never been begun, because nobody was told; anything else that cannot be read stops the unit, with the line.
//!
//! The file is locked while it is open: a second process of the same unit cannot have the same tasks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::ledger::{Entry, Inconsistent, Ledger};

/// Lines after which the file is written anew, with the ledger alone; twice as many as tasks are held, if those are more.
const COMPACT: usize = 20_000;
/// The same in bytes; twice as many as the ledger took, if those are more.
const COMPACT_BYTES: u64 = 8 << 20;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file system says no.
    #[error("{} cannot be {what}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody else has it.
    #[error("{} is in use: another process is this unit", .0.display())]
    InUse(PathBuf),
    /// A line cannot be what we wrote.
    #[error("{}, line {line}: {reason}; move the file away to begin without its tasks", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// An entry of our own does not fit: nothing was written.
    #[error(transparent)]
    Inconsistent(#[from] Inconsistent),
}

/// See the module. Without a file, in memory only.
#[derive(Debug)]
pub(crate) struct Journal {
    ledger: Ledger,
    file: Option<Open>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    bytes: u64,
    lines: usize,
    /// Bytes of the ledger when it was written anew, or could not be.
    anew: u64,
}

impl Journal {
    /// One that ends with the process.
    pub(crate) fn in_memory(journal: u64) -> Self {
        Self { ledger: Ledger::new(journal), file: None }
    }

    /// Reads a file, or begins one whose ledger is called `journal`.
    ///
    /// # Errors
    /// When it cannot be read or written, is in use, or is damaged.
    pub(crate) fn open(path: &Path, journal: u64) -> Result<Self, JournalError> {
        let failed = |what| move |source| JournalError::File { path: path.to_owned(), what, source };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed("opened"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed("locked")(source)),
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed("read"))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let ledger = replay(&text[..whole], journal).map_err(|(line, reason)| JournalError::Damaged {
            path: path.to_owned(),
            line,
            reason,
        })?;
        // A line that was cut off goes, so that the next one is whole: that takes no room on a full disk.
        let bytes = whole as u64;
        file.set_len(bytes).and_then(|()| file.seek(SeekFrom::Start(bytes))).map_err(failed("cut"))?;
        let lines = text[..whole].iter().filter(|byte| **byte == b'\n').count();
        let mut journal =
            Self { ledger, file: Some(Open { path: path.to_owned(), file, bytes, lines, anew: 0 }) };
        if lines == 0 || lines > COMPACT || bytes > COMPACT_BYTES {
            journal.compact()?;
        }
        Ok(journal)
    }

    /// What it says.
    pub(crate) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Writes an entry, and applies it.
    ///
    /// # Errors
    /// When it does not fit, or cannot be written: then nothing has happened.
    pub(crate) fn write(&mut self, entry: Entry) -> Result<(), JournalError> {
        let Some(open) = &mut self.file else {
            return Ok(self.ledger.apply(entry)?);
        };
        let mut line = serde_json::to_vec(&entry).expect("only maps with keys of text");
        line.push(b'\n');
        let before = open.bytes;
        if let Err(source) = open.file.write_all(&line) {
            let path = open.path.clone();
            // Half a line would spoil the next one.
            open.file
                .set_len(before)
                .and_then(|()| open.file.seek(SeekFrom::Start(before)))
                .map_err(|source| JournalError::File { path: path.clone(), what: "cut", source })?;
            return Err(JournalError::File { path, what: "written", source });
        }
        if let Err(error) = self.ledger.apply(entry) {
            let path = open.path.clone();
            open.file
                .set_len(before)
                .and_then(|()| open.file.seek(SeekFrom::Start(before)))
                .map_err(|source| JournalError::File { path, what: "cut", source })?;
            return Err(error.into());
        }
        open.bytes += line.len() as u64;
        open.lines += 1;
        let is_long = open.lines > COMPACT.max(2 * self.ledger.held.len())
            || open.bytes > COMPACT_BYTES.max(2 * open.anew);
        if is_long && let Err(error) = self.compact() {
            // The entry is written: a long file is no failure of it.
            tracing::warn!(%error, "the journal cannot be made shorter");
            if let Some(open) = &mut self.file {
                (open.lines, open.anew) = (0, open.bytes);
            }
        }
        Ok(())
    }

    /// Writes the file anew beside the old one, and puts it in its place.
    fn compact(&mut self) -> Result<(), JournalError> {
        let Some(open) = &mut self.file else { return Ok(()) };
        let failed = |what| {
            let path = open.path.clone();
            move |source| JournalError::File { path, what, source }
        };
        let beside = open.path.with_extension("new");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&beside)
            .map_err(failed("written anew"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(beside)),
            Err(TryLockError::Error(source)) => return Err(failed("locked")(source)),
        }
        let mut line = serde_json::to_vec(&Entry::Ledger(Box::new(self.ledger.clone())))
            .expect("only maps with keys of text");
        line.push(b'\n');
        file.write_all(&line).map_err(failed("written anew"))?;
        std::fs::rename(&beside, &open.path).map_err(failed("replaced"))?;
        (open.file, open.bytes, open.lines, open.anew) = (file, line.len() as u64, 1, line.len() as u64);
        Ok(())
    }
}

/// The ledger after all whole lines; or the line that is wrong, and why.
fn replay(text: &[u8], journal: u64) -> Result<Ledger, (usize, String)> {
    let mut ledger = Ledger::new(journal);
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let damaged = |reason: String| (number + 1, reason);
        let entry = serde_json::from_slice(line).map_err(|error| damaged(error.to_string()))?;
        ledger.apply(entry).map_err(|error| damaged(error.to_string()))?;
    }
    Ok(ledger)
}
