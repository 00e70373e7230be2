//! One copy: written, and read with its hash.

use std::io;
use std::path::Path as FilePath;

use futures_util::StreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::WriteMultipart;
use object_store::path::Path;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use xxhash_rust::xxh3::Xxh3;

use super::label::Label;
use super::{Archive, ArchiveError};

/// Bytes that are read at once, and of one part of an upload: S3 takes none below 5 MiB but the last.
const BLOCK: usize = 1 << 20;
const PART: usize = 8 << 20;
/// Parts that are under way at once.
const PARTS: usize = 2;

/// What is wrong with a copy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Bad {
    #[error("is missing")]
    Missing,
    #[error("has {found} bytes of {expected}, and another hash")]
    Wrong { found: u64, expected: u64 },
    #[error("cannot be read ({0})")]
    Unreadable(object_store::Error),
    /// It may be good: what it was to be written to is not.
    #[error("cannot be written down ({0})")]
    Here(io::Error),
}

pub(super) fn path(label: &Label, copy: u8) -> Path {
    Path::from_iter([format!("copy-{copy}"), "logs".to_owned(), format!("{}-{}", label.hash, label.name)])
}

fn digest(hash: &Xxh3) -> String {
    format!("{:032x}", hash.digest128())
}

/// Of the first bytes of a file.
pub(super) async fn hash_of_file(path: &FilePath, length: u64) -> Result<String, ArchiveError> {
    let mut hash = Xxh3::new();
    let read = each_block(path, length, async |block| {
        hash.update(block);
        Ok(())
    });
    read.await?;
    Ok(digest(&hash))
}

/// Reads the first bytes of a file; one that has fewer was changed.
async fn each_block(
    path: &FilePath,
    length: u64,
    mut take: impl AsyncFnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let failed = |source| ArchiveError::File { path: path.to_owned(), source };
    let mut file = File::open(path).await.map_err(failed)?.take(length);
    let (mut block, mut seen) = (vec![0; BLOCK], 0);
    loop {
        let read = file.read(&mut block).await.map_err(failed)?;
        if read == 0 {
            break;
        }
        seen += read as u64;
        take(&block[..read]).await?;
    }
    if seen == length { Ok(()) } else { Err(ArchiveError::Changed { path: path.to_owned() }) }
}

impl Archive {
    /// Reads a copy; if `into` is given, it is there afterwards, if it is good.
    pub(super) async fn check(&self, label: &Label, copy: u8, into: Option<&FilePath>) -> Result<(), Bad> {
        let got = self.store.get(&path(label, copy)).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => Bad::Missing,
            error => Bad::Unreadable(error),
        })?;
        // Nobody takes half a log for one.
        let unfinished = into.map(|into| into.with_file_name(format!(".{}.part", label.hash)));
        let mut file = match &unfinished {
            Some(path) => Some(File::create(path).await.map_err(Bad::Here)?),
            None => None,
        };
        let (mut hash, mut found, mut stream) = (Xxh3::new(), 0, got.into_stream());
        let mut result = Ok(());
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => {
                    hash.update(&piece);
                    found += piece.len() as u64;
                    if let Some(file) = &mut file {
                        file.write_all(&piece).await.map_err(Bad::Here)?;
                    }
                }
                Err(error) => {
                    result = Err(Bad::Unreadable(error));
                    break;
                }
            }
        }
        if result.is_ok() && (found, digest(&hash)) != (label.length, label.hash.clone()) {
            result = Err(Bad::Wrong { found, expected: label.length });
        }
        if let (Some(mut file), Some(unfinished), Some(into)) = (file, unfinished, into) {
            match result {
                Ok(()) => {
                    file.flush().await.map_err(Bad::Here)?;
                    file.sync_all().await.map_err(Bad::Here)?;
                    tokio::fs::rename(&unfinished, into).await.map_err(Bad::Here)?;
                }
                Err(_) => tokio::fs::remove_file(&unfinished).await.map_err(Bad::Here)?,
            }
        }
        result
    }

    /// Writes a copy from a file, which must be what the label says.
    pub(super) async fn write(&self, label: &Label, copy: u8, from: &FilePath) -> Result<(), ArchiveError> {
        let unwritten = |source| ArchiveError::Unwritten { name: label.name.clone(), copy, source };
        let upload = self.store.put_multipart(&path(label, copy)).await.map_err(unwritten)?;
        let (mut upload, mut hash) = (WriteMultipart::new_with_chunk_size(upload, PART), Xxh3::new());
        let written = each_block(from, label.length, async |block| {
            hash.update(block);
            upload.wait_for_capacity(PARTS).await.map_err(unwritten)?;
            upload.write(block);
            Ok(())
        });
        let written = match written.await {
            Ok(()) if digest(&hash) != label.hash => Err(ArchiveError::Changed { path: from.to_owned() }),
            written => written,
        };
        match written {
            Ok(()) => {
                upload.finish().await.map_err(unwritten)?;
                self.settle(&path(label, copy)).await
            }
            Err(error) => {
                upload.abort().await.map_err(unwritten)?;
                Err(error)
            }
        }
    }
}
