//! One range, read and folded.
//!
//! There are two ways through the bytes. Levels of the seed's format need no lines: they are counted in whole blocks.
//! Everything else goes record by record.

use std::borrow::Cow;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::count::{Counter, Tally, level_of};
use crate::fold::{Fold, Query};
use crate::format::{Format, MARK, Record, plain};
use crate::level::Level;
use crate::lines::{BLOCK, Lines};
use crate::ranges::Range;
use crate::source::{LogFile, Packing, SourceError};

/// What was found in a range, and in which bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The range that was given.
    pub range: Range,
    /// The bytes that it owns: from where its first line (or record) starts to behind its last one. The owned bytes of
    /// all ranges of a file are the file, without a gap and without an overlap. Of a packed file they are counted
    /// unpacked. Empty, and at the range's start, if nothing starts in it.
    pub begin: u64,
    pub end: u64,
    /// XXH3, 128 bits, of the owned bytes, in hexadecimal.
    pub hash: String,
    /// What they say.
    pub fold: Fold,
}

/// Told, at each block, how many bytes were read for it; `Break` stops the work.
pub type Watch<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// Reads a range and folds what it owns.
///
/// # Errors
/// When the file cannot be read, has become shorter, or is packed and not whole; and when `watch` stops it.
pub fn scan(
    log: &LogFile,
    range: Range,
    format: Format,
    query: &Query,
    watch: Watch<'_>,
) -> Result<Part, SourceError> {
    if format.is_seed() && query.is_plain() {
        return levels(log, range, query, watch);
    }
    records(log, range, format, query, None, watch)
}

/// Reads a range that begins where a former one of the same log ended: what comes before its first record is its own, and
/// belongs to a record if one had begun.
pub(crate) fn scan_on(
    log: &LogFile,
    range: Range,
    format: Format,
    query: &Query,
    in_record: bool,
    watch: Watch<'_>,
) -> Result<Part, SourceError> {
    if format.is_seed() && query.is_plain() {
        return levels(log, range, query, watch);
    }
    records(log, range, format, query, Some(in_record), watch)
}

/// Where a range ends: a packed file's contents are longer than the file.
fn end_of(log: &LogFile, range: Range) -> u64 {
    if log.packing == Packing::Plain { range.end } else { u64::MAX }
}

fn levels(log: &LogFile, range: Range, query: &Query, watch: Watch<'_>) -> Result<Part, SourceError> {
    let end = end_of(log, range);
    let mut at = range.start.saturating_sub(1);
    let mut source = log.open_at(at)?.watched(watch);
    let size =
        source.left().and_then(|left| usize::try_from(left).ok()).map_or(BLOCK, |left| left.min(BLOCK));
    let (mut counter, mut hash, mut block) = (Counter::default(), Xxh3::new(), vec![0; size]);
    // Known once the line that was open has ended.
    let mut begin = (range.start == 0).then_some(0);
    let mut owned = 0;
    while begin.is_some() || at < end {
        let read = source.read(&mut block)?;
        if read == 0 {
            break;
        }
        let mut bytes = &block[..read];
        if begin.is_none() {
            let Some(newline) = memchr::memchr(b'\n', bytes) else {
                at += read as u64;
                continue;
            };
            at += newline as u64 + 1;
            if at >= end {
                break;
            }
            begin = Some(at);
            bytes = &bytes[newline + 1..];
        }
        // The last line may have begun just before the end: it ends with the first newline from there on.
        let last = usize::try_from((end - 1).saturating_sub(at)).unwrap_or(usize::MAX);
        let newline = bytes.get(last..).and_then(|bytes| memchr::memchr(b'\n', bytes));
        let own = newline.map_or(bytes, |newline| &bytes[..=last + newline]);
        counter.feed(own);
        hash.update(own);
        owned += own.len() as u64;
        at += own.len() as u64;
        if newline.is_some() {
            break;
        }
    }
    let begin = begin.unwrap_or(range.start);
    let mut fold = Fold::new(query);
    let Tally { lines, info, warn, error, debug } = counter.finish();
    for (level, count) in
        [(Level::Info, info), (Level::Warn, warn), (Level::Error, error), (Level::Debug, debug)]
    {
        fold.levels[Some(level)] += count;
        fold.records += count;
    }
    (fold.bytes, fold.lines, fold.unrecognised) = (owned, lines, lines - fold.records);
    Ok(Part { range, begin, end: begin + owned, hash: format!("{:032x}", hash.digest128()), fold })
}

fn records(
    log: &LogFile,
    range: Range,
    format: Format,
    query: &Query,
    goes_on: Option<bool>,
    watch: Watch<'_>,
) -> Result<Part, SourceError> {
    let end = end_of(log, range);
    let mut lines = Lines::new(log.open_at(range.start.saturating_sub(1))?.watched(watch));
    let mut fold = Fold::new(query);
    // What comes before a file's first record is nobody else's.
    let mut begin = (range.start == 0 || goes_on.is_some()).then_some(range.start);
    let mut in_record = goes_on.unwrap_or(false);
    let open = range.start == 0 || lines.skip_open_line(end)?;
    while open && let Some(head) = lines.peek()? {
        let line = lines.bytes(head);
        let line = if head.offset == 0 { line.strip_prefix(MARK).unwrap_or(line) } else { line };
        let raw = line;
        let line = plain(line);
        let mut record = format.parse(&line, log.written);
        if format.is_seed() && matches!(line, Cow::Owned(_)) {
            // The contract's rule is about the bytes that are there: levels do not depend on what else is asked.
            let whole = Record { time: None, level: None, message: 0..line.len() };
            record = level_of(raw).map(|level| Record { level: Some(level), ..record.unwrap_or(whole) });
        }
        // In a format of several lines a record ends where the next one starts, wherever that is.
        let starts = record.is_some() || !format.has_several_lines();
        if head.offset >= end && (starts || begin.is_none()) {
            break;
        }
        match record {
            Some(record) => {
                fold.record(query, &line, &record);
                in_record = true;
            }
            None if !starts && begin.is_none() => {
                lines.advance(head, false)?;
                continue;
            }
            None => {
                fold.lines += 1;
                *(if !starts && in_record { &mut fold.continued } else { &mut fold.unrecognised }) += 1;
            }
        }
        begin.get_or_insert(head.offset);
        lines.advance(head, true)?;
    }
    let (bytes, hash) = lines.finish();
    fold.bytes = bytes;
    let begin = begin.unwrap_or(range.start);
    Ok(Part { range, begin, end: begin + bytes, hash: format!("{hash:032x}"), fold })
}
