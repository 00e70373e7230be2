//! Bytes that were counted, read once more for their hash alone.

use xxhash_rust::xxh3::Xxh3;

use crate::source::{LogFile, Packing, SourceError};

/// Bytes that are read at once.
const BLOCK: usize = 1 << 18;

/// XXH3 (128 bits, hexadecimal) of the bytes from one to behind another; of a packed file of its contents. A file that has
/// fewer bytes gives the hash of those that it has.
pub(crate) fn hash_of(log: &LogFile, begin: u64, end: u64) -> Result<String, SourceError> {
    let from = if log.packing == Packing::Plain { begin } else { 0 };
    let mut source = log.open_at(from)?;
    let (mut hash, mut at, mut block) = (Xxh3::new(), from, vec![0; BLOCK]);
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(BLOCK);
        let read = source.read(&mut block[..most])?;
        if read == 0 {
            break;
        }
        let skip = usize::try_from(begin.saturating_sub(at)).unwrap_or(usize::MAX).min(read);
        hash.update(&block[skip..read]);
        at += read as u64;
    }
    Ok(format!("{:032x}", hash.digest128()))
}
