//! Lines of a log, one after the other, in bounded memory.
//!
//! Of a line only the head is kept, which is all that a format needs to see; what is behind it is read, hashed and
//! forgotten, be it five gigabytes. What is *owned* is hashed, in the order of the file.

use xxhash_rust::xxh3::Xxh3;

use crate::source::{Source, SourceError};

/// Bytes of a line that are looked at; where they end does not depend on how the file was cut.
pub(crate) const HEAD: usize = 1 << 16;
/// Bytes that are read at once: they stay in the second-level cache.
pub(crate) const BLOCK: usize = 1 << 18;

/// A cursor over the lines of a source.
pub(crate) struct Lines<'a> {
    source: Source<'a>,
    buffer: Vec<u8>,
    /// The line that is next begins here.
    at: usize,
    /// Bytes of the buffer that are filled.
    filled: usize,
    /// The owned bytes from here on are not hashed yet; beyond `at` if none are.
    unhashed: usize,
    hash: Xxh3,
    owned: u64,
    ended: bool,
}

/// A line that is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Where it begins in the log.
    pub(crate) offset: u64,
    begin: usize,
    length: usize,
    /// Where it ends in the buffer, its newline included, if that was read.
    next: Option<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(source: Source<'a>) -> Self {
        // One more than a small file has, or the end would not be seen.
        let size = source
            .left()
            .map_or(BLOCK, |left| usize::try_from(left + 1).map_or(BLOCK, |left| left.min(BLOCK)));
        let (hash, buffer) = (Xxh3::new(), vec![0; size]);
        Self { source, buffer, at: 0, filled: 0, unhashed: 0, hash, owned: 0, ended: false }
    }

    /// The line that is next, or `None` at the end. Its bytes are [`Self::bytes`].
    #[inline]
    pub(crate) fn peek(&mut self) -> Result<Option<Head>, SourceError> {
        let mut searched = 0;
        loop {
            let line = &self.buffer[self.at..self.filled];
            let newline = memchr::memchr(b'\n', &line[searched..]).map(|found| searched + found);
            if newline.is_none() && line.len() <= HEAD && !self.ended {
                searched = line.len();
                self.refill()?;
                continue;
            }
            if line.is_empty() {
                return Ok(None);
            }
            let offset = self.source.offset() - line.len() as u64;
            let length = newline.unwrap_or(line.len()).min(HEAD);
            let next = newline.map(|newline| self.at + newline + 1);
            let next = next.or((self.ended && line.len() <= HEAD).then_some(self.filled));
            return Ok(Some(Head { offset, begin: self.at, length, next }));
        }
    }

    /// The bytes of the line that was peeked at, without its end.
    #[inline]
    pub(crate) fn bytes(&self, head: Head) -> &[u8] {
        let bytes = &self.buffer[head.begin..head.begin + head.length];
        bytes.strip_suffix(b"\r").unwrap_or(bytes)
    }

    /// Goes on behind the line that was peeked at, and owns it if told so.
    #[inline]
    pub(crate) fn advance(&mut self, head: Head, own: bool) -> Result<(), SourceError> {
        if !own {
            self.settle();
        }
        match head.next {
            Some(next) => self.at = next,
            None => self.skip_the_rest(own)?,
        }
        if !own {
            self.unhashed = self.at;
        }
        Ok(())
    }

    /// The line is longer than what is kept of one.
    fn skip_the_rest(&mut self, own: bool) -> Result<(), SourceError> {
        loop {
            let newline = memchr::memchr(b'\n', &self.buffer[self.at..self.filled]);
            self.at = newline.map_or(self.filled, |found| self.at + found + 1);
            if newline.is_some() || self.ended {
                return Ok(());
            }
            if !own {
                self.unhashed = self.at;
            }
            self.refill()?;
        }
    }

    /// Passes over the line that is open at the beginning, as long as it ends before `end`; whether it does.
    pub(crate) fn skip_open_line(&mut self, end: u64) -> Result<bool, SourceError> {
        loop {
            let open = &self.buffer[self.at..self.filled];
            let newline = memchr::memchr(b'\n', open);
            self.at = newline.map_or(self.filled, |found| self.at + found + 1);
            self.unhashed = self.at;
            let reached = self.source.offset() - (self.filled - self.at) as u64;
            if newline.is_some() || self.ended || reached >= end {
                return Ok(newline.is_some() && reached < end);
            }
            self.refill()?;
        }
    }

    /// Hashes what is owned so far.
    fn settle(&mut self) {
        if self.unhashed < self.at {
            let bytes = &self.buffer[self.unhashed..self.at];
            self.hash.update(bytes);
            self.owned += bytes.len() as u64;
            self.unhashed = self.at;
        }
    }

    fn refill(&mut self) -> Result<(), SourceError> {
        self.settle();
        self.buffer.copy_within(self.at..self.filled, 0);
        self.filled -= self.at;
        (self.at, self.unhashed) = (0, 0);
        match self.source.read(&mut self.buffer[self.filled..])? {
            0 => self.ended = true,
            read => self.filled += read,
        }
        Ok(())
    }

    /// How many bytes were owned, and their hash.
    pub(crate) fn finish(mut self) -> (u64, u128) {
        self.settle();
        (self.owned, self.hash.digest128())
    }
}
