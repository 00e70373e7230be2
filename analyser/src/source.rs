//! Files as they are read: plain ones from any offset, packed ones from their beginning.
//!
//! How a file is packed is told by its first bytes, not by its name. A file is read up to the length that it had when it
//! was looked at, so what is appended meanwhile belongs to the next analysis; a file that has become shorter is an error.
//! Plain files are read in blocks with `pread`. Rejected: mapping them into memory, which needs `unsafe` and ends the
//! process when a file shrinks.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Serialize};

use crate::format::{SAMPLE_BYTES, Score, Written, detect};
use crate::scan::Watch;
use crate::time::Time;

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// A log as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    pub path: PathBuf,
    /// Bytes of the file, packed or not; it is read no further.
    pub length: u64,
    pub packing: Packing,
    /// When it was written to last: times without a year are of about then.
    pub written: Written,
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It could not be opened.
    #[error("cannot open {}: check that it exists and that you may read it", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// It is a folder, a pipe or the like.
    #[error("{} is no file: name a log, or a folder of logs", path.display())]
    NoFile { path: PathBuf },
    /// It could be opened, but not read.
    #[error("cannot read {} at byte {offset}", path.display())]
    Read { path: PathBuf, offset: u64, source: io::Error },
    /// It is shorter than it was.
    #[error(
        "{} ended at byte {found} of {expected}: it was cut while it was read; analyse it again",
        path.display()
    )]
    Shrunk { path: PathBuf, expected: u64, found: u64 },
    /// Whoever asked for it wants it no more.
    #[error("reading {} was stopped", path.display())]
    Stopped { path: PathBuf },
    /// What it is packed with says that it is not whole.
    #[error(
        "{} is broken or cut off: {packing} stops after {unpacked} bytes of its contents; unpack it by hand to see how much is left",
        path.display()
    )]
    Broken { path: PathBuf, packing: Packing, unpacked: u64, source: io::Error },
}

impl SourceError {
    /// Of which file.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Open { path, .. }
            | Self::NoFile { path }
            | Self::Read { path, .. }
            | Self::Shrunk { path, .. }
            | Self::Stopped { path }
            | Self::Broken { path, .. } => path,
        }
    }
}

impl LogFile {
    /// Looks at a file: how long it is, and how it is packed.
    ///
    /// # Errors
    /// When it cannot be opened or read, or is no file.
    pub fn look_at(path: &Path) -> Result<Self, SourceError> {
        let cannot_open = |source| SourceError::Open { path: path.to_owned(), source };
        // Opening a pipe would wait for somebody to write into it.
        if !std::fs::metadata(path).map_err(cannot_open)?.is_file() {
            return Err(SourceError::NoFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(cannot_open)?;
        let metadata = file.metadata().map_err(cannot_open)?;
        let written = Time::from(metadata.modified().map_err(cannot_open)?).into();
        let mut first = [0; 4];
        let read = read_full(&file, &mut first, 0);
        let read = read.map_err(|source| SourceError::Read { path: path.to_owned(), offset: 0, source })?;
        let packing = match &first[..read] {
            [0x1f, 0x8b, 8, _] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
            _ => Packing::Plain,
        };
        Ok(Self { path: path.to_owned(), length: metadata.len(), packing, written })
    }

    /// Opens it at an offset, which must be 0 for a packed one.
    pub(crate) fn open_at(&self, offset: u64) -> Result<Source<'_>, SourceError> {
        let cannot_open = |source| SourceError::Open { path: self.path.clone(), source };
        let file = File::open(&self.path).map_err(cannot_open)?;
        let stream = match self.packing {
            Packing::Plain => Stream::Plain(file),
            Packing::Gzip => Stream::Packed(Box::new(MultiGzDecoder::new(self.whole(file)))),
            Packing::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(self.whole(file));
                Stream::Packed(Box::new(decoder.map_err(cannot_open)?))
            }
        };
        Ok(Source { file: self, stream, offset, watch: None })
    }

    fn whole(&self, file: File) -> BufReader<io::Take<File>> {
        BufReader::with_capacity(1 << 16, file.take(self.length))
    }

    /// How well each format fits it, the best first (see [`detect`]).
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn scores(&self) -> Result<Vec<Score>, SourceError> {
        Ok(detect(&self.beginning(SAMPLE_BYTES)?, self.written))
    }

    /// Its first bytes, unpacked: at most so many.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn beginning(&self, bytes: usize) -> Result<Vec<u8>, SourceError> {
        let mut source = self.open_at(0)?;
        let mut beginning = vec![0; bytes];
        let mut filled = 0;
        while filled < bytes {
            match source.read(&mut beginning[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        beginning.truncate(filled);
        Ok(beginning)
    }
}

enum Stream {
    Plain(File),
    Packed(Box<dyn Read + Send>),
}

/// An open log.
pub(crate) struct Source<'a> {
    file: &'a LogFile,
    stream: Stream,
    /// Of the next byte, unpacked.
    offset: u64,
    watch: Option<Watch<'a>>,
}

impl<'a> Source<'a> {
    /// Tells somebody how it goes, who may stop it.
    pub(crate) fn watched(self, watch: Watch<'a>) -> Self {
        Self { watch: Some(watch), ..self }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes follow, where that can be told: not in a packed file.
    pub(crate) fn left(&self) -> Option<u64> {
        match self.stream {
            Stream::Plain(_) => Some(self.file.length.saturating_sub(self.offset)),
            Stream::Packed(_) => None,
        }
    }

    /// Reads what follows; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let path = || self.file.path.clone();
        let read = match &mut self.stream {
            Stream::Plain(file) => {
                let left = self.file.length.saturating_sub(self.offset);
                let most = usize::try_from(left).map_or(buffer.len(), |left| buffer.len().min(left));
                let read = read_full(file, &mut buffer[..most], self.offset);
                let read =
                    read.map_err(|source| SourceError::Read { path: path(), offset: self.offset, source })?;
                if read < most {
                    let found = self.offset + read as u64;
                    return Err(SourceError::Shrunk { path: path(), expected: self.file.length, found });
                }
                read
            }
            Stream::Packed(reader) => loop {
                match reader.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(read) => break read,
                    Err(source) => {
                        let (packing, unpacked) = (self.file.packing, self.offset);
                        return Err(SourceError::Broken { path: path(), packing, unpacked, source });
                    }
                }
            },
        };
        self.offset += read as u64;
        if let Some(watch) = &mut self.watch
            && watch(read as u64).is_break()
        {
            return Err(SourceError::Stopped { path: path() });
        }
        Ok(read)
    }
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
