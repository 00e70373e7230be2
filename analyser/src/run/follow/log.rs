//! One log that is followed: a file under whatever name, read through a handle that outlives its name.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::format::Format;
use crate::source::LogFile;

/// Bytes in which a newline is looked for at once.
const BLOCK: u64 = 1 << 16;

/// What a file is, under whatever name: nothing else is, as long as it is there or open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// A log, and how much of it is counted. Its place in the list of all is its number in the ledger.
#[derive(Debug)]
pub(super) struct Log {
    /// Where it was seen last, and how many bytes of it are counted: the length that the ledger speaks of.
    pub(super) file: LogFile,
    pub(super) identity: Identity,
    /// `None`: nothing is expected of it any more.
    pub(super) handle: Option<File>,
    /// Nothing will be read of it, whatever becomes of the file.
    pub(super) is_over: bool,
    /// Its bytes are not to be found under its path any more.
    pub(super) is_gone: bool,
    pub(super) format: Option<Format>,
    /// Whether a record has begun: lines that begin none belong to it.
    pub(super) in_record: bool,
    /// From what is counted to here there is no newline.
    searched: u64,
    /// Looks since it last grew, under a name that is no log's.
    pub(super) quiet: u32,
}

impl Log {
    pub(super) fn new(file: LogFile, identity: Identity, handle: Option<File>) -> Self {
        let file = LogFile { length: 0, ..file };
        Self {
            file,
            identity,
            handle,
            is_over: false,
            is_gone: false,
            format: None,
            in_record: false,
            searched: 0,
            quiet: 0,
        }
    }

    /// How many bytes are counted.
    pub(super) fn counted(&self) -> u64 {
        self.file.length
    }

    /// How long the file is, as long as it is read.
    pub(super) fn length(&self) -> io::Result<Option<u64>> {
        self.handle.as_ref().map(|handle| Ok(handle.metadata()?.len())).transpose()
    }

    /// The file up to `length`, to be read through the handle: its name may be another's by now.
    pub(super) fn opened(&self, length: u64) -> Option<LogFile> {
        let handle = self.handle.as_ref()?.as_raw_fd();
        let path = PathBuf::from(format!("/proc/self/fd/{handle}"));
        Some(LogFile { path, length, ..self.file.clone() })
    }

    /// Behind the last newline up to `length`, if there is one that is not counted.
    pub(super) fn last_newline(&mut self, length: u64) -> io::Result<Option<u64>> {
        let Some(handle) = &self.handle else { return Ok(None) };
        let from = self.counted().max(self.searched);
        let (mut end, mut block) = (length, vec![0; BLOCK as usize]);
        while end > from {
            let start = end.saturating_sub(BLOCK).max(from);
            let bytes = &mut block[..(end - start) as usize];
            match handle.read_exact_at(bytes, start) {
                Ok(()) => {}
                // It was cut just now: the next look sees that.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
            if let Some(newline) = memchr::memrchr(b'\n', bytes) {
                return Ok(Some(start + newline as u64 + 1));
            }
            end = start;
        }
        self.searched = length;
        Ok(None)
    }
}
