//! What a request is routed by, and how it becomes a number.
//!
//! Part of the format, stable for ever (golden vectors in `tests/data/keys.csv`):
//! - [`Key::Bytes`] is hashed by XXH3-64 with [`Key::SEED`];
//! - [`Key::Id`], the contract's request id, is taken as it is by the slot ring and hashed as its four
//!   little-endian bytes elsewhere;
//! - a table of `M` slots takes the hash `h` to the slot `⌊h·M / 2⁶⁴⌋`: for 65,536 slots that is the top
//!   16 bits, and no division is needed for a prime `M`;
//! - the slot ring takes bytes as the request id that the hash's upper 32 bits spell.
//!
//! The seed keeps these hashes apart from those of anybody who shards by plain XXH3 behind us. It is not
//! a secret: a client that may choose its keys can choose its replica, with every consistent hash.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a request is routed by.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Key<'a> {
    /// The contract's request id.
    Id(u32),
    /// A path, a header, a cookie, an address, …
    Bytes(&'a [u8]),
}

impl Key<'_> {
    /// The seed of XXH3: the text `slipring` as a big-endian integer.
    pub const SEED: u64 = u64::from_be_bytes(*b"slipring");

    /// The 64-bit hash that the table placements use.
    #[must_use]
    #[inline]
    pub fn hash64(self) -> u64 {
        match self {
            Self::Id(id) => xxh3_64_with_seed(&id.to_le_bytes(), Self::SEED),
            Self::Bytes(bytes) => xxh3_64_with_seed(bytes, Self::SEED),
        }
    }

    /// The request id that the slot ring uses: the id itself, or the upper half of the hash.
    #[must_use]
    #[inline]
    pub fn request_id(self) -> u32 {
        match self {
            Self::Id(id) => id,
            Self::Bytes(_) => (self.hash64() >> 32) as u32,
        }
    }

    /// The CRC-32 that nginx computes of its key.
    #[must_use]
    #[inline]
    pub(crate) fn crc32(self) -> u32 {
        match self {
            Self::Id(id) => crc32fast::hash(&id.to_le_bytes()),
            Self::Bytes(bytes) => crc32fast::hash(bytes),
        }
    }
}

impl From<u32> for Key<'_> {
    fn from(id: u32) -> Self {
        Self::Id(id)
    }
}

impl<'a> From<&'a [u8]> for Key<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

/// `⌊hash·slots / 2⁶⁴⌋`: spreads a 64-bit hash over any number of slots without a division.
#[inline]
pub(crate) fn scale(hash: u64, slots: u32) -> u32 {
    ((u128::from(hash) * u128::from(slots)) >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_of_two_takes_the_top_bits() {
        let hash = Key::Bytes(b"anything").hash64();
        assert_eq!(scale(hash, 65_536), (hash >> 48) as u32);
        assert_eq!(scale(u64::MAX, 65_537), 65_536);
        assert_eq!(scale(0, 65_537), 0);
    }

    #[test]
    fn an_id_is_its_four_little_endian_bytes() {
        assert_eq!(Key::Id(0x0403_0201).hash64(), Key::Bytes(&[1, 2, 3, 4]).hash64());
        assert_eq!(Key::Id(77).request_id(), 77);
    }
}
