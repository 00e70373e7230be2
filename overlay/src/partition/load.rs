//! From a day's folder of CSV files to a partition.
//!
//! What cannot be read makes the partition missing, never smaller. A line that is no row is left out, counted, and
//! reported with its file and number.

use std::fs;
use std::hash::Hasher as _;
use std::io;
use std::path::{Path, PathBuf};

use memchr::{memchr, memchr_iter};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::Partition;
use super::columns::{BatchBuilder, Full};
use super::counts::Counts;
use super::line::{LastTime, LineError, parse_line};
use crate::date::Date;

/// Bytes of one file.
const LARGEST_FILE: u64 = 1 << 30;
/// Lines of a file that are told one by one; the rest is counted.
const MOST_TOLD: usize = 20;
/// Lines of a day that are.
const MOST_OF_A_DAY: usize = 1000;

/// Why a day cannot be answered for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The folder or a file in it.
    #[error("{} cannot be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file that is too large.
    #[error("{} has {size} bytes, more than {LARGEST_FILE}", path.display())]
    TooLarge { path: PathBuf, size: u64 },
    /// Something else than a file: a pipe would never end.
    #[error("{} is no regular file", path.display())]
    NoFile { path: PathBuf },
    /// A file that holds other lines.
    #[error("{} has {lines} lines, and none of them is a row; the first one: {why}", path.display())]
    NoRow { path: PathBuf, lines: usize, why: LineError },
    /// A file that holds something else.
    #[error("{} is no text", path.display())]
    Binary { path: PathBuf },
    /// More different texts than there are codes.
    #[error("{} holds too much for one day", path.display())]
    Full { path: PathBuf, source: Full },
}

/// A line that is no row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Malformed {
    /// The name of its file.
    pub file: String,
    /// Its number, from 1.
    pub line: usize,
    /// Why.
    pub why: String,
}

/// A day's files, read and not yet understood.
#[derive(Debug)]
pub struct Source {
    date: Date,
    files: Vec<(PathBuf, Vec<u8>)>,
    /// A digest of their names and bytes.
    pub fingerprint: u64,
}

impl Source {
    /// Reads the files `*.csv` of a folder, in the order of their names.
    ///
    /// # Errors
    /// When one of them cannot be read; the message names it.
    pub fn read(date: Date, folder: &Path) -> Result<Self, LoadError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| LoadError::Read { path, source }
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
                paths.push(path);
            }
        }
        paths.sort();
        let mut files = Vec::new();
        for path in paths {
            let about = fs::metadata(&path).map_err(failed(&path))?;
            if !about.is_file() {
                return Err(LoadError::NoFile { path });
            }
            if about.len() > LARGEST_FILE {
                return Err(LoadError::TooLarge { path, size: about.len() });
            }
            let bytes = fs::read(&path).map_err(failed(&path))?;
            files.push((path, bytes));
        }
        Ok(Self::of(date, files))
    }

    /// Of what was read already: each file's path and bytes, in the order of their names.
    pub fn of(date: Date, files: Vec<(PathBuf, Vec<u8>)>) -> Self {
        let mut digest = Xxh3::new();
        for (path, bytes) in &files {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            for part in [name, bytes] {
                digest.write_u64(part.len() as u64);
                digest.write(part);
            }
        }
        digest.write_u32(date.number());
        Self { date, files, fingerprint: digest.finish() }
    }

    /// Understands them.
    ///
    /// # Errors
    /// When a file is none of this kind.
    pub fn parse(&self) -> Result<Partition, LoadError> {
        let mut builder = BatchBuilder::default();
        let (mut malformed, mut told, mut bad_files) = (0, Vec::new(), Vec::new());
        for (path, bytes) in &self.files {
            if memchr(0, bytes).is_some() {
                return Err(LoadError::Binary { path: path.clone() });
            }
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let (mut bad, mut first) = (0_usize, None);
            let mut wrong = |line, error: LineError| {
                malformed += 1;
                bad += 1;
                first.get_or_insert(error);
                if bad <= MOST_TOLD && told.len() < MOST_OF_A_DAY {
                    told.push(Malformed { file: file.clone().into_owned(), line, why: error.to_string() });
                }
            };
            let rows = rows_of(bytes, &mut builder, &mut wrong)
                .map_err(|source| LoadError::Full { path: path.clone(), source })?;
            // A header alone is an hour without measurements; anything else is none of ours.
            if let (0, Some(why)) = (rows, first)
                && !(bad == 1 && matches!(why, LineError::Field(_)))
            {
                return Err(LoadError::NoRow { path: path.clone(), lines: bad, why });
            }
            if bad > 0 {
                bad_files.push((file.clone().into_owned(), bad as u64));
            }
            builder.cut();
        }
        let (batches, dictionaries) = builder.finish();
        let (date, fingerprint, files) = (self.date, self.fingerprint, self.files.len());
        let counts = Counts::of(&batches);
        Ok(Partition { date, fingerprint, files, batches, dictionaries, malformed, told, bad_files, counts })
    }
}

fn rows_of(
    bytes: &[u8],
    builder: &mut BatchBuilder,
    wrong: &mut impl FnMut(usize, LineError),
) -> Result<usize, Full> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // All at once is much faster than line by line.
    let whole = std::str::from_utf8(bytes).ok();
    let mut last = LastTime::default();
    let (mut begin, mut rows) = (0, 0);
    let ends = memchr_iter(b'\n', bytes).chain((bytes.last() != Some(&b'\n')).then_some(bytes.len()));
    for (index, end) in ends.enumerate() {
        let next = end + 1;
        let end = if end > begin && bytes[end - 1] == b'\r' { end - 1 } else { end };
        let line = match whole {
            Some(text) => Ok(&text[begin..end]),
            None => std::str::from_utf8(&bytes[begin..end]).map_err(|_| LineError::Encoding),
        };
        begin = next;
        match line
            .and_then(|line| if line.is_empty() { Ok(None) } else { parse_line(line, &mut last).map(Some) })
        {
            Ok(Some(row)) => {
                builder.push(&row)?;
                rows += 1;
            }
            Ok(None) => {} // nothing on it: nothing is lost
            Err(error) => wrong(index + 1, error),
        }
    }
    Ok(rows)
}

/// Reads and understands a day; see [`Source`].
///
/// # Errors
/// As both.
pub fn load(date: Date, folder: &Path) -> Result<Partition, LoadError> {
    Source::read(date, folder)?.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#""1.5","2.5","2020-08-10T01:00","PM2.5","7.0","UG/M3","7.0","30","1","Site, ""A""","Agency","1","2""#;
    const HEADER: &str =
        "latitude,longitude,UTC,parameter,concentration,unit,raw,AQI,category,site,agency,aqs,full";

    fn load_text(text: &[u8]) -> Result<(usize, Vec<Malformed>), String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.csv"), text).unwrap();
        fs::write(folder.path().join("b.csv"), format!("{ROW}\n")).unwrap();
        let loaded = load("20200810".parse().unwrap(), folder.path());
        let partition = loaded.map_err(|error| error.to_string())?;
        assert_eq!(partition.malformed as usize, partition.told.len());
        Ok((partition.rows() - 1, partition.told))
    }

    #[test]
    fn what_is_a_row_is_read_and_what_is_none_is_counted_with_its_line() {
        let cut = &ROW[..ROW.len() - 3];
        for (text, rows, malformed) in [
            (String::new(), 0, None),
            ("\n\r\n\n".into(), 0, None),
            (ROW.into(), 1, None),
            (format!("{ROW}\r\n{ROW}\r\n"), 2, None),
            (format!("\u{feff}{ROW}\n"), 1, None),
            (format!("{HEADER}\n{ROW}\n"), 1, Some((1, "the latitude is not what it should be"))),
            (format!("{HEADER}\n"), 0, Some((1, "the latitude is not what it should be"))),
            (format!("{ROW}\n{cut}"), 1, Some((2, "a quote is missing"))),
            (format!("{ROW}\n\"{ROW}\n{ROW}\n"), 2, Some((2, "a quote is missing"))),
            (format!("{ROW}\n{ROW},\"more\"\n"), 1, Some((2, "14 fields instead of 13"))),
        ] {
            let (read, told) = load_text(text.as_bytes()).unwrap();
            let told: Vec<_> = told.iter().map(|bad| (bad.line, bad.why.as_str())).collect();
            assert_eq!((read, told), (rows, malformed.into_iter().collect()), "{text:?}");
        }
        let mut latin = format!("{ROW}\n").into_bytes();
        latin.extend(
            ROW.replace("Agency", "Z#rich").bytes().map(|byte| if byte == b'#' { 0xfc } else { byte }),
        );
        let (rows, told) = load_text(&latin).unwrap();
        assert_eq!((rows, told[0].line, told[0].why.as_str()), (1, 2, "it is not UTF-8"));
    }

    #[test]
    fn a_file_of_many_bad_lines_hides_none_of_another() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.csv"), format!("{ROW}\n{}", "no row\n".repeat(500))).unwrap();
        fs::write(folder.path().join("b.csv"), format!("{ROW}\nno row\n")).unwrap();
        let partition = load("20200810".parse().unwrap(), folder.path()).unwrap();
        assert_eq!((partition.rows(), partition.malformed), (2, 501));
        assert_eq!(partition.bad_files, [("a.csv".to_owned(), 500), ("b.csv".to_owned(), 1)]);
        let told: Vec<_> = partition.told.iter().map(|bad| (bad.file.as_str(), bad.line)).collect();
        assert_eq!((told.len(), told[0], told[20]), (MOST_TOLD + 1, ("a.csv", 2), ("b.csv", 2)));
    }

    #[test]
    fn what_is_none_of_ours_is_missing_and_not_empty() {
        for (text, words) in [
            (b"\x00\x01".as_slice(), "is no text"),
            (b"a,b,c\nd,e,f\n", "has 2 lines, and none of them is a row"),
            (ROW.replace("2.5\"", "2.5\"\r").repeat(200).as_bytes(), "none of them is a row"),
        ] {
            let error = load_text(text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a.csv")).unwrap();
        let date = "20200810".parse().unwrap();
        let error = load(date, folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("a.csv is no regular file"), "{error}");
        let error = load(date, &folder.path().join("not there")).unwrap_err().to_string();
        assert!(error.ends_with("not there cannot be read"), "{error}");
    }
}
