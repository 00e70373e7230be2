//! The fast way against the rule as the original had it.

use proptest::prelude::*;

use super::{Counter, Tally, level_of};
use crate::level::Level;

/// The original's chain of questions.
fn naive_level(line: &[u8]) -> Option<Level> {
    let contains = |tag: &[u8]| line.windows(tag.len()).any(|window| window == tag);
    if contains(b"[INFO]") {
        Some(Level::Info)
    } else if contains(b"[WARN]") || contains(b"[WARNING]") {
        Some(Level::Warn)
    } else if contains(b"[ERROR]") {
        Some(Level::Error)
    } else if contains(b"[DEBUG]") {
        Some(Level::Debug)
    } else {
        None
    }
}

fn naive(bytes: &[u8]) -> Tally {
    let mut tally = Tally::default();
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return tally;
    }
    for line in lines.split(|byte| *byte == b'\n') {
        tally.lines += 1;
        match naive_level(line) {
            Some(Level::Info) => tally.info += 1,
            Some(Level::Warn) => tally.warn += 1,
            Some(Level::Error) => tally.error += 1,
            Some(_) => tally.debug += 1,
            None => {}
        }
    }
    tally
}

fn fed(pieces: &[&[u8]]) -> Tally {
    let mut counter = Counter::default();
    for piece in pieces {
        counter.feed(piece);
    }
    counter.finish()
}

/// Pieces of tags, whole tags, ends of lines and noise: whatever may confuse.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => prop::sample::select(vec![
            "[INFO]", "[WARN]", "[WARNING]", "[ERROR]", "[DEBUG]", "[info]", "[INFO", "INFO]", "[WARN", "ING]",
            "[WARNIN", "[", "]", "[[", "[ERROR[ERROR]", "[WARNING[WARN]", "\n", "\n", "\r\n", "\n\n", " ", "[2025-11-05T23:20:11.594011] ",
            "Memory allocation error", "[DEBU", "G]", "\u{feff}", "[INFO ]", "[E", "[W", "[I", "[D",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (0_usize..150).prop_map(|length| vec![b'x'; length]),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn counts_what_the_original_counts(bytes in hostile()) {
        prop_assert_eq!(fed(&[&bytes]), naive(&bytes));
    }

    #[test]
    fn it_does_not_matter_where_the_bytes_are_cut(bytes in hostile(), size in 1_usize..80) {
        let whole = naive(&bytes);
        for cut in 0..=bytes.len() {
            let (one, two) = bytes.split_at(cut);
            prop_assert_eq!(fed(&[one, two]), whole);
        }
        let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
        prop_assert_eq!(fed(&pieces), whole);
    }

    #[test]
    fn one_line_has_the_level_it_is_counted_for(bytes in hostile()) {
        for line in bytes.split(|byte| *byte == b'\n') {
            prop_assert_eq!(level_of(line), naive_level(line));
        }
    }
}

#[test]
fn a_message_about_an_error_is_no_error() {
    let text =
        b"[2025-03-27 12:02:03] [INFO] Memory allocation error\n[x] ERROR no tag\n[WARNING] both words\n";
    assert_eq!(fed(&[text]), Tally { lines: 3, info: 1, warn: 1, ..Tally::default() });
}

#[test]
fn of_several_tags_the_first_in_the_rules_order_counts() {
    let text = b"[DEBUG] told of [ERROR]\n[ERROR] [WARN]\n[WARNING] [INFO]";
    assert_eq!(fed(&[text]), Tally { lines: 3, info: 1, warn: 1, error: 1, ..Tally::default() });
}
