//! The ledger: a line for each range that was counted, so that anybody can add it up again without this program's word.
//!
//! JSON lines, each with a `kind`: one `run` (what was asked), one `file` for each log, one `part` for each range (which
//! bytes, their hash, who counted them under which claim, what was in them), one `total`. Verifying asks: do the parts'
//! bytes make up each file, every byte once; do the parts add up to the total; have the files still those hashes?

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Analysis;
use super::plan::in_words;
use super::proof::hash_of;
use super::state::Entry;
use crate::fold::{Levels, Query};
use crate::source::{LogFile, Packing};

/// Bytes of a line at most: nothing that is written is near it.
const LONGEST_LINE: u64 = 1 << 20;
/// Mistakes that are listed; there may be one for each line.
const MOST_MISTAKES: usize = 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Run {
        ledger: u32,
        folder: PathBuf,
        query: Query,
    },
    File {
        file: usize,
        log: LogFile,
        unread: Option<String>,
        /// What was counted is not under this path any more: the log was cut, or taken away, while it was followed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        gone: bool,
    },
    Part(Entry),
    Total(Total),
}

/// What all parts add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    pub files: usize,
    pub parts: usize,
    pub bytes: u64,
    pub lines: u64,
    pub records: u64,
    pub continued: u64,
    pub unrecognised: u64,
    pub levels: Levels,
}

impl Total {
    fn add(&mut self, entry: &Entry) {
        let counted = &entry.counted;
        self.parts += 1;
        self.bytes += counted.end.saturating_sub(counted.begin);
        self.lines += counted.lines;
        self.records += counted.records;
        self.continued += counted.continued;
        self.unrecognised += counted.unrecognised;
        self.levels.merge(&counted.levels);
    }
}

/// Writes an analysis's ledger, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, folder: &Path, analysis: &Analysis) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let written = write_to(&part, folder, analysis).and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // It is not there, or is no use to anybody.
        drop(std::fs::remove_file(&part));
    }
    written
}

fn write_to(path: &Path, folder: &Path, analysis: &Analysis) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut line = |line: &Line| -> io::Result<()> {
        serde_json::to_writer(&mut out, line)?;
        out.write_all(b"\n")
    };
    let unread: BTreeMap<&str, &str> =
        analysis.run.unread.iter().map(|unread| (unread.path.as_str(), unread.why.as_str())).collect();
    line(&Line::Run { ledger: 1, folder: folder.to_owned(), query: analysis.query.clone() })?;
    for (file, log) in analysis.files.iter().enumerate() {
        let unread = unread.get(super::plan::name(&log.path).as_str()).map(|why| (*why).to_owned());
        line(&Line::File { file, log: log.clone(), unread, gone: analysis.gone.contains(&file) })?;
    }
    for entry in &analysis.entries {
        line(&Line::Part(entry.clone()))?;
    }
    let fold = &analysis.fold;
    line(&Line::Total(Total {
        files: analysis.files.len(),
        parts: analysis.entries.len(),
        bytes: fold.bytes,
        lines: fold.lines,
        records: fold.records,
        continued: fold.continued,
        unrecognised: fold.unrecognised,
        levels: fold.levels,
    }))?;
    out.into_inner()?.sync_all()
}

/// What verifying found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub total: Total,
    /// Files whose bytes still have the hashes of the ledger.
    pub same: usize,
    /// Files that are not there any more: only the ledger speaks for them.
    pub missing: Vec<PathBuf>,
    /// What is wrong, in words; nothing, if every byte of every file was counted once.
    pub mistakes: Vec<String>,
    /// Beside those that are listed.
    pub more_mistakes: usize,
}

/// Why a ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("cannot read the ledger {}: check that it exists and that you may read it", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("line {line} of {} is no line of a ledger: it is damaged, or another file", path.display())]
    Line { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("line {line} of {} is longer than any line of a ledger: it is damaged, or another file", path.display())]
    Long { path: PathBuf, line: usize },
}

/// Adds a ledger up again, and looks at the files if they are there.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn verify(path: &Path) -> Result<Verified, LedgerError> {
    let unreadable = |source| LedgerError::Unreadable { path: path.to_owned(), source };
    let mut input = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut read = Read::default();
    let (mut line, mut text) = (0, Vec::new());
    loop {
        text.clear();
        line += 1;
        let length = (&mut input).take(LONGEST_LINE).read_until(b'\n', &mut text).map_err(unreadable)?;
        if length == 0 {
            break;
        }
        if length as u64 == LONGEST_LINE {
            return Err(LedgerError::Long { path: path.to_owned(), line });
        }
        let wrong = |source| LedgerError::Line { path: path.to_owned(), line, source };
        read.line(line, serde_json::from_slice(&text).map_err(wrong)?);
    }
    Ok(read.finish())
}

/// A file as the ledger names it.
struct Named {
    log: LogFile,
    unread: Option<String>,
    gone: bool,
}

#[derive(Default)]
struct Read {
    runs: usize,
    files: BTreeMap<usize, Named>,
    parts: BTreeMap<usize, Vec<Entry>>,
    sum: Total,
    total: Option<Total>,
    found: Verified,
}

impl Read {
    fn wrong(&mut self, mistake: String) {
        if self.found.mistakes.len() < MOST_MISTAKES {
            self.found.mistakes.push(mistake);
        } else {
            self.found.more_mistakes += 1;
        }
    }

    fn line(&mut self, number: usize, line: Line) {
        if self.total.is_some() {
            self.wrong(format!("line {number} comes after the total"));
        }
        match line {
            Line::Run { ledger: 1, .. } if self.runs == 0 && number == 1 => self.runs = 1,
            Line::Run { ledger, .. } => {
                self.wrong(format!(
                    "line {number} begins a ledger of form {ledger}; form 1 begins on line 1, once"
                ));
            }
            Line::File { file, log, unread, gone } => {
                if self.files.insert(file, Named { log, unread, gone }).is_some() {
                    self.wrong(format!("line {number} names file {file} a second time"));
                }
            }
            Line::Part(entry) => {
                self.sum.add(&entry);
                self.parts.entry(entry.counted.range.file).or_default().push(entry);
            }
            Line::Total(total) => self.total = Some(total),
        }
    }

    fn finish(mut self) -> Verified {
        self.sum.files = self.files.len();
        if self.runs == 0 {
            self.wrong(
                "the line that says what was asked is missing: the ledger's beginning was cut off".to_owned(),
            );
        }
        match self.total.take() {
            None => self.wrong("there is no total: the ledger's end was cut off".to_owned()),
            Some(total) if total != self.sum => {
                self.wrong(format!("the parts add up to {:?}, and the total says {total:?}", self.sum));
            }
            Some(_) => {}
        }
        let parts = std::mem::take(&mut self.parts);
        if let Some(file) = parts.keys().find(|file| !self.files.contains_key(file)) {
            self.wrong(format!("parts of file {file}, which the ledger does not name"));
        }
        let files = std::mem::take(&mut self.files);
        for (file, Named { log, unread, gone }) in files {
            let entries = parts.get(&file).map_or(&[][..], Vec::as_slice);
            if let Some(why) = unread {
                self.wrong(format!("{} is not counted, or not wholly: {why}", log.path.display()));
                continue;
            }
            self.tiles(&log, entries);
            if gone || !log.path.exists() {
                self.found.missing.push(log.path);
            } else {
                self.compare(&log, entries);
            }
        }
        self.found.total = self.sum;
        self.found
    }

    /// Whether parts are a file, without a gap and without an overlap.
    fn tiles(&mut self, log: &LogFile, entries: &[Entry]) {
        let path = log.path.display().to_string();
        let mut given: Vec<(u64, u64)> =
            entries.iter().map(|entry| (entry.counted.range.start, entry.counted.range.end)).collect();
        let mut owned: Vec<(u64, u64)> = entries
            .iter()
            .map(|entry| (entry.counted.begin, entry.counted.end))
            .filter(|(begin, end)| begin != end)
            .collect();
        given.sort_unstable();
        owned.sort_unstable();
        let whole = match log.packing {
            Packing::Plain => log.length,
            // Counted unpacked: as long as it was then.
            _ => owned.last().map_or(0, |last| last.1),
        };
        for (what, ranges, length) in [("given to workers", given, log.length), ("counted", owned, whole)] {
            let mut at = 0;
            for (begin, end) in ranges {
                if begin > at {
                    self.wrong(format!("bytes {at} to {begin} of {path} were not {what}"));
                } else if begin < at {
                    self.wrong(format!("bytes {begin} to {} of {path} were {what} twice", at.min(end)));
                }
                at = at.max(end);
            }
            match at {
                at if at < length => {
                    self.wrong(format!("bytes {at} to {length} of {path} were not {what}"));
                }
                at if at > length => {
                    self.wrong(format!("bytes {length} to {at} of {path} are none, but were {what}"));
                }
                _ => {}
            }
        }
    }

    /// Whether the file still is what was counted.
    fn compare(&mut self, log: &LogFile, entries: &[Entry]) {
        let mistakes = (self.found.mistakes.len(), self.found.more_mistakes);
        for Entry { counted, .. } in entries {
            let (begin, end) = (counted.begin, counted.end);
            match hash_of(log, begin, end) {
                Ok(hash) if hash == counted.hash => {}
                Ok(_) => self.wrong(format!(
                    "bytes {begin} to {end} of {} are not those that were counted: the file was changed",
                    log.path.display()
                )),
                Err(error) => self.wrong(in_words(&error)),
            }
        }
        self.found.same += usize::from(mistakes == (self.found.mistakes.len(), self.found.more_mistakes));
    }
}
