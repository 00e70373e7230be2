//! Copies that rot, that go, and that are all bad.

use std::path::{Path, PathBuf};

use super::{Archive, ArchiveError};
use crate::source::LogFile;

const TEXT: &[u8] = b"[2025-11-05T23:20:11] [INFO] one\n[2025-11-05T23:20:12] [ERROR] two\n";

struct Site {
    place: tempfile::TempDir,
    archive: Archive,
    log: LogFile,
}

impl Site {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("node 1%.log");
        std::fs::write(&path, TEXT).unwrap();
        let archive = Archive::in_folder(&place.path().join("archive")).unwrap();
        Self { archive, log: LogFile::look_at(&path).unwrap(), place }
    }

    fn restored(&self) -> PathBuf {
        self.place.path().join("restored")
    }

    /// The files of a copy: its log, or its label.
    fn files(&self, copy: u8, what: &str) -> Vec<PathBuf> {
        let folder = self.place.path().join(format!("archive/copy-{copy}/{what}"));
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn log_of(&self, copy: u8) -> PathBuf {
        let [log] = &self.files(copy, "logs")[..] else { panic!("copy {copy} is not one") };
        log.clone()
    }

    async fn restore(&self) -> Result<Vec<String>, ArchiveError> {
        let folder = self.restored();
        std::fs::create_dir_all(&folder).unwrap();
        let mended = self.archive.restore("node 1%.log", &folder).await?;
        assert_eq!(std::fs::read(folder.join("node 1%.log")).unwrap(), TEXT);
        let parts = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(parts, 1, "nothing unfinished is left");
        Ok(mended.iter().map(ToString::to_string).collect())
    }
}

/// Changes one byte.
fn rot(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_copy_that_rots_or_goes_is_mended_from_a_good_one_and_that_is_said() {
    let site = Site::new();
    assert_eq!(site.archive.keep(&site.log, 3).await.unwrap(), []);
    assert_eq!(site.archive.names().await.unwrap(), ["node 1%.log"]);
    assert_eq!(site.restore().await.unwrap(), [""; 0]);

    for lost in [1, 2, 3] {
        rot(&site.log_of(lost));
        let other = lost % 3 + 1;
        std::fs::remove_file(site.log_of(other)).unwrap();
        std::fs::remove_dir_all(site.restored()).unwrap();
        let length = TEXT.len();
        let rotten =
            format!("copy {lost} of node 1%.log has {length} bytes of {length}, and another hash: mended");
        let gone = format!("copy {other} of node 1%.log is missing: mended");
        let mut expected = [rotten, gone];
        expected.sort();
        assert_eq!(site.restore().await.unwrap(), expected);
        for copy in [1, 2, 3] {
            assert_eq!(std::fs::read(site.log_of(copy)).unwrap(), TEXT);
        }
        assert_eq!(site.restore().await.unwrap(), [""; 0], "it is mended once");
    }
    // Who keeps mends as well, and what is short is wrong.
    std::fs::write(site.log_of(2), &TEXT[..7]).unwrap();
    let mended = site.archive.keep(&site.log, 3).await.unwrap();
    let mended: Vec<_> = mended.iter().map(ToString::to_string).collect();
    assert_eq!(
        mended,
        [format!("copy 2 of node 1%.log has 7 bytes of {}, and another hash: mended", TEXT.len())]
    );
}

#[tokio::test]
async fn when_all_are_bad_each_is_named_and_nothing_is_written() {
    let site = Site::new();
    site.archive.keep(&site.log, 2).await.unwrap();
    rot(&site.log_of(1));
    std::fs::remove_file(site.log_of(2)).unwrap();
    let error = site.restore().await.unwrap_err();
    let length = TEXT.len();
    let expected = format!(
        "no copy of node 1%.log is good: copy 1 has {length} bytes of {length}, and another hash; copy 2 is missing"
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(std::fs::read_dir(site.restored()).unwrap().count(), 0);
    let unknown = site.archive.restore("other.log", &site.restored()).await;
    assert!(matches!(unknown, Err(ArchiveError::Lost { copies, .. }) if copies.is_empty()));
}

#[tokio::test]
async fn a_label_that_rots_is_written_anew_and_one_that_lies_is_none() {
    let site = Site::new();
    site.archive.keep(&site.log, 2).await.unwrap();
    let [label] = &site.files(1, "labels")[..] else { panic!("one label") };
    let good = std::fs::read(label).unwrap();
    for bad in [&b""[..], b"{}", b"\xff\n\n", &good[..good.len() - 1], b"{\"name\":\"../x\"}\nsum\n"] {
        std::fs::write(label, bad).unwrap();
        assert_eq!(site.archive.names().await.unwrap(), ["node 1%.log"]);
        site.restore().await.unwrap();
        assert_eq!(std::fs::read(label).unwrap(), good);
    }
}

#[tokio::test]
async fn a_log_that_grew_has_new_copies_and_the_old_ones_go() {
    let mut site = Site::new();
    site.archive.keep(&site.log, 2).await.unwrap();
    let more = [TEXT, TEXT].concat();
    std::fs::write(&site.log.path, &more).unwrap();
    site.log = LogFile::look_at(&site.log.path).unwrap();
    assert_eq!(site.archive.keep(&site.log, 2).await.unwrap(), []);
    assert_eq!(std::fs::read(site.log_of(2)).unwrap(), more);
    // What is already there and differs is nobody's to overwrite.
    std::fs::create_dir(site.restored()).unwrap();
    std::fs::write(site.restored().join("node 1%.log"), TEXT).unwrap();
    let refused = site.archive.restore("node 1%.log", &site.restored()).await;
    assert!(matches!(refused, Err(ArchiveError::Exists { .. })));
}

#[tokio::test]
async fn a_log_that_is_cut_while_it_is_copied_is_an_error() {
    let site = Site::new();
    std::fs::write(&site.log.path, &TEXT[..9]).unwrap();
    assert!(matches!(site.archive.keep(&site.log, 2).await, Err(ArchiveError::Changed { .. })));
    assert_eq!(site.archive.names().await.unwrap(), [""; 0]);
}
