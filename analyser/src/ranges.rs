//! Ranges of files: what a worker takes on at once.
//!
//! Cuts fall on any byte; who owns a line is a rule, not a search: a range owns the lines (in a format of several lines
//! a record: the records) that *start* in it. Its worker passes over what was open before, and reads beyond its end to
//! finish what it began. So every byte has one owner wherever the cuts are, and cutting needs no look into the files.
//! Rejected: moving cuts to line boundaries when cutting, which reads from each file once more before work begins, and
//! cannot know where records begin.

use std::cmp::Reverse;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::source::{LogFile, Packing};

/// A range of a file, in bytes: of a packed file always all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Range {
    /// The file's place in the list that was cut.
    pub file: usize,
    /// The first byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
}

impl Range {
    /// Bytes, nominally.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.end - self.start
    }
}

/// Cuts files into ranges of at most `size` bytes, the largest first. A packed file is one range: it can only be read from
/// its beginning. An empty file has none.
#[must_use]
pub fn cut(files: &[LogFile], size: NonZeroU64) -> Vec<Range> {
    let mut ranges = Vec::new();
    for (file, log) in files.iter().enumerate() {
        let parts = match log.packing {
            Packing::Plain => log.length.div_ceil(size.get()),
            _ => log.length.min(1),
        };
        // Parts that differ by a byte at most: a small last one would be a poor use of a turn.
        let at = |part: u64| (u128::from(log.length) * u128::from(part) / u128::from(parts)) as u64;
        ranges.extend((0..parts).map(|part| Range { file, start: at(part), end: at(part + 1) }));
    }
    ranges.sort_by_key(|range| (Reverse(range.length()), range.file, range.start));
    ranges
}

/// Puts ranges together until they have `size` bytes or there are `most` of them, in the order of [`cut`]: of ten thousand
/// small files each would cost more to hand out than to read.
#[must_use]
pub fn bundle(ranges: Vec<Range>, size: NonZeroU64, most: usize) -> Vec<Vec<Range>> {
    let mut bundles: Vec<Vec<Range>> = Vec::new();
    let mut bytes = 0_u64;
    for range in ranges {
        let length = range.length();
        match bundles.last_mut() {
            Some(last) if bytes + length <= size.get() && last.len() < most => {
                last.push(range);
                bytes += length;
            }
            _ => {
                bundles.push(vec![range]);
                bytes = length;
            }
        }
    }
    bundles
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::{Range, bundle, cut};
    use crate::format::Written;
    use crate::source::{LogFile, Packing};

    fn logs() -> impl Strategy<Value = Vec<LogFile>> {
        let packing =
            prop_oneof![3 => Just(Packing::Plain), 1 => Just(Packing::Gzip), 1 => Just(Packing::Zstd)];
        let log = (0_u64..5000, packing).prop_map(|(length, packing)| LogFile {
            path: PathBuf::from("x.log"),
            length,
            packing,
            written: Written { year: 2025, month: 11 },
        });
        prop::collection::vec(log, 0..8)
    }

    proptest! {
        #[test]
        fn ranges_are_the_files_and_the_largest_come_first(logs in logs(), size in 1_u64..3000, most in 1_usize..9) {
            let size = NonZeroU64::new(size).unwrap();
            let ranges = cut(&logs, size);
            prop_assert!(ranges.windows(2).all(|two| two[0].length() >= two[1].length()));
            for (file, log) in logs.iter().enumerate() {
                let mut own: Vec<Range> = ranges.iter().copied().filter(|range| range.file == file).collect();
                own.sort_by_key(|range| range.start);
                let mut at = 0;
                for range in &own {
                    prop_assert_eq!(range.start, at);
                    prop_assert!(range.end > at);
                    prop_assert!(range.length() <= size.get() || log.packing != Packing::Plain);
                    at = range.end;
                }
                prop_assert_eq!(at, log.length);
                prop_assert!(log.packing == Packing::Plain || own.len() <= 1);
            }
            let bundles = bundle(ranges.clone(), size, most);
            for bundle in &bundles {
                let bytes: u64 = bundle.iter().map(Range::length).sum();
                prop_assert!(bundle.len() == 1 || bytes <= size.get());
                prop_assert!((1..=most).contains(&bundle.len()));
            }
            prop_assert_eq!(bundles.concat(), ranges);
        }
    }
}
