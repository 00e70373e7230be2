//! The logs of a folder.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::source::{LogFile, SourceError};

/// What a log's name ends with.
const ENDINGS: [&[u8]; 3] = [b".log", b".log.gz", b".log.zst"];

/// What is in a folder.
#[derive(Debug)]
pub struct Folder {
    /// The logs, by name; numbers in names count as numbers, so `node10.log` comes after `node9.log`.
    pub logs: Vec<LogFile>,
    /// What has a log's name and cannot be read, or is no file: it is in no result, and has to be told of.
    pub refused: Vec<SourceError>,
}

/// Why there is nothing to analyse.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is no folder, or may not be read.
    #[error("cannot read the folder {}: name a folder of logs that you may read", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// No name in it is a log's.
    #[error("there are no logs in {}: files whose names end in .log, .log.gz or .log.zst", path.display())]
    Empty { path: PathBuf },
}

/// Whether a name is a log's.
pub(crate) fn is_log(name: &OsStr) -> bool {
    let ending = ENDINGS.iter().find(|ending| name.as_bytes().ends_with(ending));
    ending.is_some_and(|ending| name.len() > ending.len())
}

/// Looks at the logs directly in a folder. Links are followed.
///
/// # Errors
/// When it is no folder, cannot be read, or has no logs.
pub fn look_into(path: &Path) -> Result<Folder, FolderError> {
    let unreadable = |source| FolderError::Unreadable { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if is_log(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(FolderError::Empty { path: path.to_owned() });
    }
    names.sort_by(|one, other| by_number(one, other));
    let (mut logs, mut refused) = (Vec::new(), Vec::new());
    for name in names {
        match LogFile::look_at(&path.join(name)) {
            Ok(log) => logs.push(log),
            Err(error) => refused.push(error),
        }
    }
    Ok(Folder { logs, refused })
}

/// Compares names, runs of digits as the numbers that they are.
fn by_number(one: &OsStr, other: &OsStr) -> Ordering {
    let (mut a, mut b) = (one.as_bytes(), other.as_bytes());
    loop {
        let digits = |name: &[u8]| name.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (of_a, of_b) = (digits(a), digits(b));
        if of_a > 0 && of_b > 0 {
            let number = |name: &[u8], length: usize| {
                let zeros = name[..length].iter().take_while(|byte| **byte == b'0').count();
                (length - zeros, name[zeros..length].to_vec())
            };
            let order = number(a, of_a).cmp(&number(b, of_b));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (&a[of_a..], &b[of_b..]);
            continue;
        }
        match (a.split_first(), b.split_first()) {
            (Some((first, rest)), Some((other_first, other_rest))) if first == other_first => {
                (a, b) = (rest, other_rest);
            }
            // Names that differ in leading zeros alone: by their bytes.
            (None, None) => return one.cmp(other),
            (first, other_first) => {
                return first.map(|(byte, _)| byte).cmp(&other_first.map(|(byte, _)| byte));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::{FolderError, by_number, look_into};
    use crate::source::SourceError;

    #[test]
    fn logs_come_in_the_order_of_their_numbers_and_what_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["node10.log", "node9.log", "a.log.gz", "node1.log", "notes.txt", ".log", "x.log.bak"] {
            std::fs::write(path(name), "").unwrap();
        }
        std::fs::create_dir(path("folder.log")).unwrap();
        symlink("round.log", path("round.log")).unwrap();
        symlink("node1.log", path("z.log")).unwrap();
        let found = look_into(folder.path()).unwrap();
        let names: Vec<_> =
            found.logs.iter().map(|log| log.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.log.gz", "node1.log", "node9.log", "node10.log", "z.log"]);
        let [SourceError::NoFile { path: no_file }, SourceError::Open { path: round, .. }] =
            &found.refused[..]
        else {
            panic!("{:?}", found.refused)
        };
        assert_eq!((no_file, round), (&path("folder.log"), &path("round.log")));
    }

    #[test]
    fn no_folder_and_no_logs_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(look_into(folder.path()), Err(FolderError::Empty { .. })));
        let missing = folder.path().join("missing");
        assert!(matches!(look_into(&missing), Err(FolderError::Unreadable { .. })));
        std::fs::write(&missing, "").unwrap();
        assert!(matches!(look_into(&missing), Err(FolderError::Unreadable { .. })));
    }

    proptest! {
        #[test]
        fn the_order_of_names_is_one(names in prop::collection::vec("[a-b.]?0{0,2}[0-9]{0,3}[a-b]?0?", 3)) {
            let order = |a: usize, b: usize| by_number(OsStr::new(&names[a]), OsStr::new(&names[b]));
            prop_assert_eq!(order(0, 1), order(1, 0).reverse());
            prop_assert_eq!(order(0, 1).is_eq(), names[0] == names[1]);
            if order(0, 1).is_le() && order(1, 2).is_le() {
                prop_assert!(order(0, 2).is_le(), "{names:?}");
            }
        }
    }
}
