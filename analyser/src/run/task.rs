//! What a worker is given, and what it gives back, as bytes in a store.

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fold::{Fold, Levels, Query};
use crate::format::Format;
use crate::ranges::Range;
use crate::scan::Part;
use crate::source::LogFile;

/// One range to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) log: LogFile,
    pub(crate) range: Range,
    /// `None`: whoever reads it finds out. Only where the range is the whole file, so that all of a file has one format.
    pub(crate) format: Option<Format>,
}

/// A range that was read: what was counted in it. One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The range that was given: of the plan's files, in bytes of the file.
    pub range: Range,
    /// The bytes that it owns, from and to behind; of a packed file counted unpacked.
    pub begin: u64,
    pub end: u64,
    /// XXH3, 128 bits, of the owned bytes, in hexadecimal.
    pub hash: String,
    /// How the file was read.
    pub format: Format,
    pub lines: u64,
    pub records: u64,
    pub continued: u64,
    pub unrecognised: u64,
    pub levels: Levels,
}

impl Counted {
    pub(crate) fn of(part: &Part, format: Format) -> Self {
        let fold = &part.fold;
        Self {
            range: part.range,
            begin: part.begin,
            end: part.end,
            hash: part.hash.clone(),
            format,
            lines: fold.lines,
            records: fold.records,
            continued: fold.continued,
            unrecognised: fold.unrecognised,
            levels: fold.levels,
        }
    }
}

/// A range that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unreadable {
    pub(crate) range: Range,
    pub(crate) why: String,
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) fold: Fold,
    pub(crate) counted: Vec<Counted>,
    pub(crate) unreadable: Vec<Unreadable>,
    /// From the claim to here.
    pub(crate) micros: u64,
}

impl Outcome {
    pub(crate) fn new(query: &Query) -> Self {
        Self { fold: Fold::new(query), counted: Vec::new(), unreadable: Vec::new(), micros: 0 }
    }
}

/// Values from here on are compressed.
const LONG: usize = 1 << 14;
const PLAIN: u8 = b'j';
const PACKED: u8 = b'z';
/// Nothing that is stored unpacks to more: a store takes no value above 16 MiB.
const LONGEST: usize = 1 << 30;

/// A value in a store: JSON, compressed if it is long.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![PLAIN];
    serde_json::to_writer(&mut bytes, value).expect("maps have text for keys, and a Vec takes everything");
    if bytes.len() < LONG {
        return bytes;
    }
    let mut packed = vec![PACKED];
    let all = zstd::bulk::compress(&bytes[1..], 1).expect("compression needs nothing but memory");
    packed.extend_from_slice(&all);
    packed
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    match bytes.split_first() {
        Some((&PLAIN, json)) => Ok(serde_json::from_slice(json)?),
        Some((&PACKED, packed)) => {
            let reader = io::Read::take(zstd::stream::read::Decoder::new(packed)?, LONGEST as u64);
            Ok(serde_json::from_reader(io::BufReader::new(reader))?)
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is neither JSON nor compressed")),
    }
}

#[cfg(test)]
mod tests {
    use super::{LONG, decode, encode};

    #[test]
    fn values_of_any_length_come_back_and_what_is_none_is_an_error() {
        for length in [0, 1, LONG, 3 * LONG] {
            let text = "a".repeat(length);
            let bytes = encode(&text);
            assert!(bytes.len() < LONG + 3, "{length}");
            assert_eq!(decode::<String>(&bytes).unwrap(), text);
            assert!(decode::<String>(&bytes[..bytes.len() - 1]).is_err());
        }
        for bad in [&b""[..], b"x", b"j", b"z", b"zzzz"] {
            assert!(decode::<String>(bad).is_err());
        }
    }
}
