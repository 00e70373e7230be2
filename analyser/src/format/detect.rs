//! Which format a log is written in: the one that recognises most of its first lines.

use std::borrow::Cow;

use serde::Serialize;

use super::{Format, MARK, Written, plain};

/// Lines that are looked at.
pub const SAMPLE_LINES: usize = 200;
/// Bytes that are looked at.
pub const SAMPLE_BYTES: usize = 1 << 16;

/// How well a format fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Score {
    pub format: Format,
    /// Lines that it recognises.
    pub recognised: usize,
    /// Lines that were looked at; empty ones are not.
    pub lines: usize,
}

/// How well each format fits the beginning of a log, the best first. A format that recognises nothing is not among them;
/// where two recognise as much, the one that stands first among [`Format::all`] is the better one.
#[must_use]
pub fn detect(beginning: &[u8], written: Written) -> Vec<Score> {
    let lines = sample(beginning);
    let score = |format| score(format, &lines, written);
    let mut scores: Vec<Score> = Format::all().map(score).filter(|score| score.recognised > 0).collect();
    scores.sort_by_key(|score| std::cmp::Reverse(score.recognised));
    scores
}

/// The first of [`detect`], without looking further once a format recognises every line.
#[must_use]
pub fn best(beginning: &[u8], written: Written) -> Option<Format> {
    let lines = sample(beginning);
    let mut best: Option<Score> = None;
    for format in Format::all() {
        let score = score(format, &lines, written);
        if score.recognised > best.map_or(0, |best| best.recognised) {
            best = Some(score);
        }
        if score.recognised == lines.len() {
            break;
        }
    }
    best.map(|best| best.format)
}

fn score(format: Format, lines: &[Cow<'_, [u8]>], written: Written) -> Score {
    let recognised = lines.iter().filter(|line| format.looks_like(line, written)).count();
    Score { format, recognised, lines: lines.len() }
}

fn sample(beginning: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let beginning = beginning.strip_prefix(MARK).unwrap_or(beginning);
    let beginning = &beginning[..beginning.len().min(SAMPLE_BYTES)];
    // The last line may have been cut off, unless it is the only one.
    let whole = match memchr::memrchr(b'\n', beginning) {
        Some(end) if beginning.len() == SAMPLE_BYTES => &beginning[..end],
        _ => beginning,
    };
    let lines = whole.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.is_empty()).take(SAMPLE_LINES).map(plain).collect()
}
