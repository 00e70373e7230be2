//! Levels by the contract's rule: which tag does a line contain?
//!
//! The rule is the original's chain of questions: does the line contain `[INFO]`; else `[WARN]` or `[WARNING]`; else
//! `[ERROR]`; else `[DEBUG]`? A line that contains several counts once, for the first *in that order*, wherever they
//! stand. So [`Counter`] notes the set of tags of each line and counts lines by set: sixteen counters, no decision per
//! line, and nothing of a line needs to be kept, however long it is.
//!
//! A block of 64 bytes becomes two masks, and only the bytes that they name are looked at. Rejected:
//! searching for each tag by itself (four passes), a search of the line's level at a fixed offset (the rest of the line
//! has to be searched all the same).

mod masks;
#[cfg(test)]
mod tests;

use std::ops::Add;

use serde::{Deserialize, Serialize};

use self::masks::{BLOCK, Masks, masks};
use crate::level::Level;

/// The tags, each with its bit, the first that is asked for in the lowest.
const TAGS: [(&[u8], u8); 5] =
    [(b"[INFO]", 1), (b"[WARN]", 2), (b"[WARNING]", 2), (b"[ERROR]", 4), (b"[DEBUG]", 8)];
/// What the bits mean, the lowest first.
const LEVELS: [Level; 4] = [Level::Info, Level::Warn, Level::Error, Level::Debug];
/// Bytes of the longest tag.
const LONGEST: usize = 9;

/// How many lines there were, and how many of them had which level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// All lines; the last one needs no newline.
    pub lines: u64,
    /// Lines with `[INFO]`.
    pub info: u64,
    /// Lines with `[WARN]` or `[WARNING]`, and none of the above.
    pub warn: u64,
    /// Lines with `[ERROR]`, and none of the above.
    pub error: u64,
    /// Lines with `[DEBUG]`, and none of the above.
    pub debug: u64,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            lines: self.lines + other.lines,
            info: self.info + other.info,
            warn: self.warn + other.warn,
            error: self.error + other.error,
            debug: self.debug + other.debug,
        }
    }
}

/// Counts lines by level. Bytes come in pieces of any size; the result does not depend on where they are cut.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    /// Lines by set of tags.
    sets: [u64; 16],
    /// The tags of the line that is open.
    seen: u8,
    /// Whether the last byte left a line open.
    open: bool,
    /// The beginning of a tag at the end of what was fed.
    partial: Partial,
}

impl Counter {
    /// Takes the bytes that follow.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.seen |= self.partial.resume(bytes);
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for (number, block) in blocks.iter().enumerate() {
            self.block(bytes, number * BLOCK, masks(block));
        }
        if !rest.is_empty() {
            let mut block = [0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            self.block(bytes, blocks.len() * BLOCK, masks(&block));
        }
        self.open = *last != b'\n';
        self.partial.note(bytes);
    }

    #[inline(always)]
    fn block(&mut self, bytes: &[u8], base: usize, found: Masks) {
        let mut events = found.newlines | found.candidates;
        while events != 0 {
            let at = events.trailing_zeros() as usize;
            if found.newlines >> at & 1 == 1 {
                self.sets[usize::from(self.seen & 15)] += 1;
                self.seen = 0;
            } else {
                self.seen |= tag_at(bytes, base + at);
            }
            events &= events - 1;
        }
    }

    /// What was counted.
    #[must_use]
    pub fn finish(mut self) -> Tally {
        if self.open {
            self.sets[usize::from(self.seen & 15)] += 1;
        }
        let mut tally = Tally::default();
        for (set, lines) in self.sets.into_iter().enumerate() {
            tally.lines += lines;
            match first_of(set as u8) {
                Some(Level::Info) => tally.info += lines,
                Some(Level::Warn) => tally.warn += lines,
                Some(Level::Error) => tally.error += lines,
                Some(_) => tally.debug += lines,
                None => {}
            }
        }
        tally
    }
}

/// The level of one line by the contract's rule.
#[must_use]
pub fn level_of(line: &[u8]) -> Option<Level> {
    tags_of(line).map(|(level, _)| level)
}

/// The level of one line by the contract's rule, and where the first tag of that level ends.
pub(crate) fn tags_of(line: &[u8]) -> Option<(Level, usize)> {
    let mut ends = [None; 4];
    for at in memchr::memchr_iter(b'[', line) {
        let tag = tag_at(line, at);
        if tag != 0 {
            let end = &mut ends[tag.trailing_zeros() as usize];
            *end = end.or(memchr::memchr(b']', &line[at..]).map(|length| at + length + 1));
        }
    }
    LEVELS.into_iter().zip(ends).find_map(|(level, end)| Some((level, end?)))
}

fn first_of(set: u8) -> Option<Level> {
    LEVELS.get(set.trailing_zeros() as usize).copied()
}

/// The bit of the tag that begins at the `[` at `at`, or 0; 0 too if the bytes end before the tag does.
#[inline(always)]
fn tag_at(bytes: &[u8], at: usize) -> u8 {
    /// By the low bits of the letter after the bracket: which bytes must be what, and the tag's bit.
    const BY_LETTER: [(u64, u64, u8); 8] = {
        let none = (0, 1, 0);
        let mut table = [none; 8];
        let mut tag = 0;
        while tag < TAGS.len() {
            let (name, bit) = TAGS[tag];
            if name.len() <= 8 {
                let (mut mask, mut word, mut byte) = (0, 0, 0);
                while byte < name.len() {
                    mask |= 0xff << (byte * 8);
                    word |= (name[byte] as u64) << (byte * 8);
                    byte += 1;
                }
                table[(name[1] & 7) as usize] = (mask, word, bit);
            }
            tag += 1;
        }
        table
    };
    const WARNING: u64 = u64::from_le_bytes(*b"[WARNING");

    let Some(word) = bytes[at..].first_chunk::<8>() else {
        return TAGS.iter().find(|(tag, _)| bytes[at..].starts_with(tag)).map_or(0, |(_, bit)| *bit);
    };
    let word = u64::from_le_bytes(*word);
    let (mask, tag, bit) = BY_LETTER[(word >> 8 & 7) as usize];
    // No branch: which level comes next cannot be foretold.
    let short = u8::from(word & mask == tag) * bit;
    if word == WARNING && bytes.get(at + 8) == Some(&b']') { 2 } else { short }
}

/// Bytes at the end of a piece that may become a tag in the next one.
#[derive(Clone, Copy, Debug, Default)]
struct Partial {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Partial {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn begins_a_tag(bytes: &[u8]) -> bool {
        TAGS.iter().any(|(tag, _)| tag.len() > bytes.len() && tag.starts_with(bytes))
    }

    /// Goes on with the next piece; the bit of the tag if that completes one.
    fn resume(&mut self, next: &[u8]) -> u8 {
        if self.length == 0 {
            return 0;
        }
        for &byte in next {
            self.bytes[self.length] = byte;
            self.length += 1;
            if let Some((_, bit)) = TAGS.iter().find(|(tag, _)| *tag == self.bytes()) {
                self.length = 0;
                return *bit;
            }
            if !Self::begins_a_tag(self.bytes()) {
                self.length = 0;
                return 0;
            }
        }
        0
    }

    /// Notes the beginning of a tag at the end of a piece. One that is still open from before goes on: no tag has a
    /// bracket inside.
    fn note(&mut self, piece: &[u8]) {
        let end = &piece[piece.len().saturating_sub(LONGEST - 1)..];
        if let Some(at) = memchr::memrchr(b'[', end)
            && Self::begins_a_tag(&end[at..])
        {
            self.length = end.len() - at;
            self.bytes[..self.length].copy_from_slice(&end[at..]);
        }
    }
}
