//! What is to be read: the files as they were when they were looked at, and the tasks that they become.
//!
//! Tasks are a function of the plan, so that whoever takes over in the middle of adding them adds the same ones again.

use std::cmp::Reverse;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::task::{Item, encode};
use crate::fold::Query;
use crate::folder::{FolderError, look_into};
use crate::format::{Format, best};
use crate::output::Unread;
use crate::ranges::{Range, bundle, cut};
use crate::source::{LogFile, Packing};
use slipring_store::NewTask;

/// Bytes of a range, unless there are very many of them.
const SIZES: std::ops::RangeInclusive<u64> = 1 << 20..=8 << 20;
/// Ranges at most, about.
const MOST_RANGES: u64 = 8192;
/// Small files in one task at most.
const MOST_FILES: usize = 256;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) folder: PathBuf,
    pub(crate) query: Query,
    /// By name; a range's `file` is a place in this list.
    pub(crate) logs: Vec<LogFile>,
    /// One for each log; `None`: its only reader finds out.
    pub(crate) formats: Vec<Option<Format>>,
    /// What has a log's name and is not read.
    pub(crate) refused: Vec<Unread>,
    /// Bytes of a range at most.
    pub(crate) size: NonZeroU64,
    /// Bytes of the small files of a task at most.
    pub(crate) bundle: NonZeroU64,
    /// What a checkpoint has counted already: no task.
    pub(crate) counted: Vec<Range>,
}

/// The causes too, in one line.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text} ({error})");
        cause = error.source();
    }
    text
}

impl Plan {
    /// Looks at a folder. `size`: bytes of a range, if somebody wants to say.
    pub(crate) fn make(
        folder: &Path,
        query: Query,
        format: Option<Format>,
        size: Option<NonZeroU64>,
        workers: usize,
    ) -> Result<Self, FolderError> {
        let found = look_into(folder)?;
        let mut refused: Vec<Unread> = Vec::new();
        for error in found.refused {
            refused.push(Unread { path: name(error.path()), why: in_words(&error) });
        }
        let bytes: u64 = found.logs.iter().map(|log| log.length).sum();
        let usual = (bytes / 64).clamp(*SIZES.start(), *SIZES.end()).max(bytes / MOST_RANGES);
        let size = size.or(NonZeroU64::new(usual)).expect("it is a mebibyte at least");
        let share = (bytes / (workers.max(1) as u64 * 16)).max(1 << 16).min(size.get());
        let bundle = NonZeroU64::new(share).unwrap_or(size);
        let mut formats = Vec::with_capacity(found.logs.len());
        for log in &found.logs {
            let cut_up = log.packing == Packing::Plain && log.length > size.get();
            formats.push(match format {
                Some(format) => Some(format),
                // A file that cannot be read is one that its reader will tell of.
                None if cut_up => Some(best_of(log).unwrap_or_else(|_| Format::seed())),
                None => None,
            });
        }
        let folder = folder.to_owned();
        Ok(Self { folder, query, logs: found.logs, formats, refused, size, bundle, counted: Vec::new() })
    }

    /// What a log is called.
    pub(crate) fn name(&self, file: usize) -> String {
        self.logs.get(file).map_or_else(|| format!("file {file}"), |log| name(&log.path))
    }

    /// Bytes of all files, as they are in the folder.
    pub(crate) fn bytes(&self) -> u64 {
        self.logs.iter().map(|log| log.length).sum()
    }

    /// The ranges of each task, the largest first.
    pub(crate) fn tasks(&self) -> Vec<Vec<Range>> {
        let mut ranges = cut(&self.logs, self.size);
        if !self.counted.is_empty() {
            ranges = self.left_of(&ranges);
        }
        let most = MOST_FILES.max(self.logs.len() / MOST_RANGES as usize);
        bundle(ranges, self.bundle, most)
    }

    /// Without what was counted.
    fn left_of(&self, ranges: &[Range]) -> Vec<Range> {
        let mut counted = self.counted.clone();
        counted.sort_by_key(|range| (range.file, range.start));
        let mut left = Vec::new();
        for range in ranges {
            let from = counted.partition_point(|done| (done.file, done.end) <= (range.file, range.start));
            let mut start = range.start;
            for done in
                counted[from..].iter().take_while(|done| done.file == range.file && done.start < range.end)
            {
                if done.start > start {
                    left.push(Range { end: done.start, start, ..*range });
                }
                start = start.max(done.end);
            }
            if start < range.end {
                left.push(Range { start, ..*range });
            }
        }
        left.sort_by_key(|range| (Reverse(range.length()), range.file, range.start));
        left
    }

    /// A task for a store.
    pub(crate) fn task(&self, number: usize, ranges: &[Range]) -> NewTask {
        let items: Vec<Item> = ranges
            .iter()
            .map(|range| Item {
                log: self.logs[range.file].clone(),
                range: *range,
                format: self.formats[range.file],
            })
            .collect();
        let bytes: u64 = ranges.iter().map(Range::length).sum();
        let weight = i64::try_from(bytes).unwrap_or(i64::MAX);
        NewTask { weight, ..NewTask::new(key(number), encode(&items)) }
    }
}

/// Of a task.
pub(crate) fn key(number: usize) -> String {
    format!("{number:08}")
}

/// What a path ends with.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The format that fits a log best; the seed's if none does.
pub(crate) fn best_of(log: &LogFile) -> Result<Format, crate::source::SourceError> {
    let beginning = log.beginning(crate::format::SAMPLE_BYTES)?;
    Ok(best(&beginning, log.written).unwrap_or_else(Format::seed))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::Plan;
    use crate::fold::Query;
    use crate::format::Written;
    use crate::ranges::Range;
    use crate::source::{LogFile, Packing};

    proptest! {
        #[test]
        fn what_is_counted_and_what_is_left_are_the_files(
            lengths in prop::collection::vec(0_u64..2000, 1..6),
            cuts in prop::collection::vec((0_usize..6, 0_u64..2000, 0_u64..400), 0..8),
            size in 1_u64..700,
        ) {
            let logs: Vec<_> = lengths.iter().map(|length| LogFile {
                path: "x.log".into(),
                length: *length,
                packing: Packing::Plain,
                written: Written { year: 2025, month: 11 },
            }).collect();
            let mut counted: Vec<Range> = Vec::new();
            for (file, start, length) in cuts {
                let Some(log) = logs.get(file) else { continue };
                let range = Range { file, start, end: (start + length).min(log.length) };
                let apart = |other: &Range| other.file != file || other.end <= range.start || range.end <= other.start;
                if range.start < range.end && counted.iter().all(apart) {
                    counted.push(range);
                }
            }
            let size = NonZeroU64::new(size).unwrap();
            let formats = vec![None; logs.len()];
            let plan = Plan {
                folder: ".".into(), query: Query::default(), logs, formats, refused: vec![], size, bundle: size,
                counted: counted.clone(),
            };
            let mut all: Vec<Range> = plan.tasks().concat();
            prop_assert!(all.iter().all(|range| range.length() <= size.get()));
            all.extend(counted);
            all.sort_by_key(|range| (range.file, range.start));
            for (file, length) in lengths.iter().enumerate() {
                let mut at = 0;
                for range in all.iter().filter(|range| range.file == file) {
                    prop_assert_eq!(range.start, at);
                    at = range.end;
                }
                prop_assert_eq!(at, *length);
            }
        }
    }
}
