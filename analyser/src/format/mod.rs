//! Formats: what a line of a log says of its time, its level and its message.
//!
//! A format is strict: it recognises what its program writes and nothing else, so that the share of recognised lines
//! tells formats apart ([`detect`]). The level is the *field* of the record, wherever the word may stand in the message
//! (with one exception, the seed's format, whose rule is the contract's). Lines that no record begins on belong to the
//! record before them where a format's records have several lines (stack traces), else they are *unrecognised*, and
//! counted as that.

mod access;
mod android;
mod apache;
mod brackets;
mod collections;
mod cursor;
mod detect;
mod glog;
mod java;
mod json;
mod logfmt;
mod nginx;
mod python;
mod syslog;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::level::Level;
use crate::time::Time;

pub use self::cursor::Written;
pub(crate) use self::cursor::time_of;
pub use self::detect::{SAMPLE_BYTES, SAMPLE_LINES, Score, best, detect};

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When; `None` if it does not say, or what it says is no time.
    pub time: Option<Time>,
    /// How bad; `None` if it does not say.
    pub level: Option<Level>,
    /// Where in the line the message is.
    pub message: Range<usize>,
}

impl Record {
    /// A record whose message is the rest of the line.
    fn with_rest(time: Option<Time>, level: Option<Level>, cursor: cursor::Cursor<'_>) -> Self {
        Self { time, level, message: cursor.at()..cursor.at() + cursor.rest().len() }
    }
}

/// How a kind of log is written.
struct Family {
    name: &'static str,
    about: &'static str,
    /// Whether records may have more lines than one.
    several_lines: bool,
    parse: fn(&[u8], Written) -> Option<Record>,
    /// Whether a line is one of this format, when that is asked more strictly than to read it.
    looks_like: Option<fn(&[u8], Written) -> bool>,
}

/// A format, one of [`Format::all`].
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Format(&'static Family);

/// No format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is no format: {}", names())]
pub struct UnknownFormat {
    name: String,
}

fn names() -> String {
    Format::all().map(Format::name).collect::<Vec<_>>().join(", ")
}

/// All formats. Where two recognise the same lines the first one is meant.
static FAMILIES: [Family; 20] = [
    brackets::BRACKETS,
    json::JSON,
    syslog::RFC5424,
    syslog::RFC3164,
    access::COMBINED,
    access::COMMON,
    nginx::ERROR,
    apache::ERROR,
    glog::GLOG,
    android::THREADTIME,
    android::BRIEF,
    collections::BGL,
    collections::HDFS,
    collections::OPENSTACK,
    collections::SPARK,
    collections::ZOOKEEPER,
    collections::HADOOP,
    python::PYTHON,
    logfmt::LOGFMT,
    java::LOG4J,
];

impl Format {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        FAMILIES.iter().map(Self)
    }

    /// The seed's: the contract's rule says which level a line has.
    #[must_use]
    pub fn seed() -> Self {
        Self(&FAMILIES[0])
    }

    /// Whether it is the seed's.
    #[must_use]
    pub fn is_seed(self) -> bool {
        self == Self::seed()
    }

    /// Its name, for `--format`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whose logs it is, and where a level is not a word of the log what it is taken from.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.0.about
    }

    /// Whether its records may have more lines than one.
    #[must_use]
    pub fn has_several_lines(self) -> bool {
        self.0.several_lines
    }

    /// Reads a line, given without its end, colours or byte order mark (see [`plain`]); `None` if no record begins on it.
    #[must_use]
    pub fn parse(self, line: &[u8], written: Written) -> Option<Record> {
        (self.0.parse)(line, written)
    }

    fn looks_like(self, line: &[u8], written: Written) -> bool {
        match self.0.looks_like {
            Some(looks_like) => looks_like(line, written),
            None => self.parse(line, written).is_some(),
        }
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Format {}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::all()
            .find(|format| format.name() == name)
            .ok_or_else(|| UnknownFormat { name: name.to_owned() })
    }
}

impl TryFrom<String> for Format {
    type Error = UnknownFormat;

    fn try_from(name: String) -> Result<Self, UnknownFormat> {
        name.parse()
    }
}

impl From<Format> for String {
    fn from(format: Format) -> Self {
        format.name().to_owned()
    }
}

/// The byte order mark that a file may begin with.
pub(crate) const MARK: &[u8] = b"\xef\xbb\xbf";

/// A line without colours: ANSI's control sequences (`ESC [ … letter`) are taken out.
#[must_use]
pub fn plain(line: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(0x1b, line).is_none() {
        return Cow::Borrowed(line);
    }
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(escape) = memchr::memchr(0x1b, rest) {
        plain.extend_from_slice(&rest[..escape]);
        rest = &rest[escape + 1..];
        if let Some(sequence) = rest.strip_prefix(b"[") {
            // ECMA-48, 5.4: parameters and intermediates, then one final byte.
            let end = sequence.iter().position(|byte| !(0x20..0x40).contains(byte));
            rest = end.map_or(&[][..], |end| &sequence[end + 1..]);
        }
    }
    plain.extend_from_slice(rest);
    Cow::Owned(plain)
}
