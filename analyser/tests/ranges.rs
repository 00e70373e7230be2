//! Ranges of real files: wherever the cuts are, every byte is owned once and the sum is the same.

#![allow(clippy::unwrap_used, reason = "clippy.toml's exception does not reach the helpers of a test")]

use std::io::Write;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::Path;

use proptest::prelude::*;
use slipring_analyser::count::Counter;
use slipring_analyser::fold::{Fold, Query};
use slipring_analyser::format::Format;
use slipring_analyser::ranges::{Range, cut};
use slipring_analyser::scan::{Part, scan};
use slipring_analyser::source::{LogFile, Packing, SourceError};
use slipring_analyser::{Unit, generate};
use xxhash_rust::xxh3::xxh3_128;

fn put(folder: &Path, bytes: &[u8]) -> LogFile {
    let path = folder.join("x.log");
    std::fs::write(&path, bytes).unwrap();
    LogFile::look_at(&path).unwrap()
}

fn scanned(log: &LogFile, range: Range, format: Format, query: &Query) -> Result<Part, SourceError> {
    scan(log, range, format, query, &mut |_| ControlFlow::Continue(()))
}

/// Everything asked at once.
fn everything() -> Query {
    Query { per: Some(Unit::Minute), conditions: Vec::new(), templates: Some(50) }
}

/// Cuts the file, checks that owned bytes are the file, and sums up.
fn summed(log: &LogFile, bytes: &[u8], size: u64, format: Format, query: &Query) -> Fold {
    let ranges = cut(std::slice::from_ref(log), NonZeroU64::new(size).unwrap());
    let mut parts: Vec<Part> =
        ranges.into_iter().map(|range| scanned(log, range, format, query).unwrap()).collect();
    parts.sort_by_key(|part| part.range.start);
    let (mut at, mut sum) = (0, Fold::new(query));
    for part in parts {
        if part.begin < part.end {
            assert_eq!(part.begin, at, "a gap or an overlap in ranges of {size}: {part:?}");
            at = part.end;
        }
        let owned = &bytes[part.begin as usize..part.end as usize];
        assert_eq!(part.hash, format!("{:032x}", xxh3_128(owned)));
        assert_eq!(part.fold.bytes, owned.len() as u64);
        assert_eq!(part.fold.lines, part.fold.records + part.fold.continued + part.fold.unrecognised);
        sum.merge(part.fold);
    }
    assert_eq!(at, bytes.len() as u64, "bytes at the end that nobody owns, in ranges of {size}");
    sum
}

fn format(name: &str) -> Format {
    name.parse().unwrap()
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "[2025-11-05T23:20:11.594011] [INFO] Configuration loaded\n",
        "[2025-11-05T23:21:11] [ERROR] Disk 7 failed\r\n",
        "2025-11-05 23:20:11,594 WARN [main] a.B: took 7 ms\n",
        "\tat com.acme.Foo.bar(Foo.java:12)\n",
        "[WARNING]",
        "\n",
        "\n\n",
        "\u{feff}",
        "\u{1b}[31m",
        "[\u{1b}[32mINFO\u{1b}[0m] green\n",
        "\u{1b}[ERROR] no colour\n",
        "noise [DEBU",
        "G] noise",
    ]);
    let noise = prop::collection::vec(any::<u8>(), 0..30);
    let part = prop_oneof![8 => part.prop_map(|text| text.as_bytes().to_vec()), 1 => noise];
    prop::collection::vec(part, 0..25).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn wherever_the_cuts_are_the_sum_is_the_same(bytes in content()) {
        let folder = tempfile::tempdir().unwrap();
        let log = put(folder.path(), &bytes);
        let mut counter = Counter::default();
        counter.feed(&bytes);
        let tally = counter.finish();
        for (name, query) in [("brackets", Query::default()), ("brackets", everything()), ("hadoop", everything())] {
            let format = format(name);
            let whole = summed(&log, &bytes, u64::MAX, format, &query);
            prop_assert_eq!(whole.lines, tally.lines);
            if format.is_seed() {
                let levels = [tally.debug, tally.error, tally.info, tally.warn];
                let levels: Vec<u64> = levels.into_iter().filter(|count| *count > 0).collect();
                prop_assert_eq!(whole.levels.seen().map(|(_, count)| count).collect::<Vec<_>>(), levels);
            }
            for size in [1, 2, 3, 7, 50, 51, 64, 200] {
                prop_assert_eq!(&summed(&log, &bytes, size, format, &query), &whole, "ranges of {}", size);
            }
        }
    }
}

#[test]
fn blocks_and_lines_of_any_length_come_out_alike() {
    const BLOCK: usize = 1 << 18;
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    generate::write_log(&mut bytes, 1, 1, generate::Amount::Bytes(BLOCK as u64 + 500)).unwrap();
    for length in [1 << 16, (1 << 16) + 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
        bytes.extend_from_slice(b"2025-11-05 23:20:11,594 WARN [main] a.B: long ");
        bytes.resize(bytes.len() + length, b'x');
        bytes.extend_from_slice(b" [ERROR] at the end\n\tmore\n");
    }
    bytes.extend_from_slice(b"[INFO] no newline");
    let log = put(folder.path(), &bytes);
    for (name, query) in [("brackets", Query::default()), ("hadoop", everything())] {
        let whole = summed(&log, &bytes, u64::MAX, format(name), &query);
        for size in [BLOCK as u64 / 3, BLOCK as u64, BLOCK as u64 + 17, 1_000_000] {
            assert_eq!(summed(&log, &bytes, size, format(name), &query), whole, "{name}, ranges of {size}");
        }
    }
    let whole = summed(&log, &bytes, u64::MAX, format("hadoop"), &everything());
    assert_eq!((whole.records, whole.continued), (6, 7));
}

#[test]
fn packed_files_say_what_plain_ones_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    generate::write_log(&mut bytes, 1, 1, generate::Amount::default()).unwrap();
    let plain = summed(&put(folder.path(), &bytes), &bytes, u64::MAX, Format::seed(), &everything());
    let (one, two) = bytes.split_at(bytes.len() / 2);
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    // Two members, two frames: what `cat` makes of two packed files.
    for (packing, packed) in
        [(Packing::Gzip, [gzip(one), gzip(two)].concat()), (Packing::Zstd, [zstd(one), zstd(two)].concat())]
    {
        let log = put(folder.path(), &packed);
        assert_eq!(log.packing, packing);
        assert_eq!(log.beginning(100).unwrap(), bytes[..100]);
        let ranges = cut(std::slice::from_ref(&log), NonZeroU64::new(1000).unwrap());
        assert_eq!(ranges.len(), 1);
        for query in [Query::default(), everything()] {
            let part = scanned(&log, ranges[0], Format::seed(), &query).unwrap();
            assert_eq!((part.begin, part.end), (0, bytes.len() as u64));
            assert_eq!(part.hash, format!("{:032x}", xxh3_128(&bytes)));
            assert_eq!(part.fold.levels, plain.levels);
        }
        for length in [packed.len() - 1, packed.len() - 9, packed.len() * 3 / 4, packed.len() / 4, 12] {
            let log = put(folder.path(), &packed[..length]);
            let range = Range { file: 0, start: 0, end: log.length };
            let error = scanned(&log, range, Format::seed(), &Query::default()).unwrap_err();
            assert!(matches!(error, SourceError::Broken { .. }), "{packing} cut to {length}: {error:?}");
            assert!(error.to_string().contains("x.log is broken or cut off"), "{error}");
        }
    }
}

#[test]
fn what_is_appended_is_left_and_what_is_cut_off_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let log = put(folder.path(), b"[INFO] a\n[INFO] b");
    let range = Range { file: 0, start: 0, end: log.length };
    put(folder.path(), b"[INFO] a\n[INFO] b\n[ERROR] c\n");
    for query in [Query::default(), everything()] {
        let part = scanned(&log, range, Format::seed(), &query).unwrap();
        assert_eq!((part.fold.lines, part.end), (2, log.length));
    }
    put(folder.path(), b"[INFO] a\n");
    for query in [Query::default(), everything()] {
        let error = scanned(&log, range, Format::seed(), &query).unwrap_err();
        assert!(matches!(error, SourceError::Shrunk { expected: 17, found: 9, .. }), "{error:?}");
    }
}

#[test]
fn whoever_watches_may_stop_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = put(folder.path(), &vec![b'x'; 1 << 20]);
    let range = Range { file: 0, start: 0, end: log.length };
    for query in [Query::default(), everything()] {
        let mut read = 0;
        let stop_at_once = &mut |bytes| {
            read += bytes;
            ControlFlow::Break(())
        };
        let error = scan(&log, range, Format::seed(), &query, stop_at_once).unwrap_err();
        assert!(matches!(error, SourceError::Stopped { .. }), "{error:?}");
        assert!(read < 1 << 20, "{read}");
    }
}

#[test]
fn what_is_no_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = LogFile::look_at(folder.path()).unwrap_err();
    assert!(matches!(error, SourceError::NoFile { .. }), "{error:?}");
    let error = LogFile::look_at(&folder.path().join("missing.log")).unwrap_err();
    assert!(error.to_string().contains("missing.log"), "{error}");
}
