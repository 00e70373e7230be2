//! The three hash pairs of the contract: `H(i)` places a request, `Φ(i, j)` a virtual server.
//!
//! They exist to be compatible and to be compared; none is the default. All arithmetic is exact: a
//! polynomial may be reduced before it is evaluated, because reduction commutes with `+` and `·`, but
//! SHA-256 is taken of the *unreduced* value, which outgrows 64 bits for the largest ids.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use thiserror::Error;

/// A request hash and the server hash that belongs to it.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum HashPair {
    /// `H(i) = i² + 2i + 17`, `Φ(i, j) = i² + j² + 2j + 25`.
    Given,
    /// `H(i) = 1427i² + 2503i + 2003`, `Φ(i, j) = 1249i² + 2287j² + 1663j + 2287`.
    Modified,
    /// SHA-256 of the minimal big-endian bytes of what `Given` says, read as one big-endian integer.
    Sha256,
}

/// A text or number that names no hash pair.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[error("unknown hash pair `{0}`: one of `given` (0), `modified` (1), `sha256` (2)")]
pub struct UnknownPair(String);

impl HashPair {
    /// All three, in the order of the contract's `HASH_NUM`.
    pub const ALL: [Self; 3] = [Self::Given, Self::Modified, Self::Sha256];

    /// The pair that the contract's `HASH_NUM` selects.
    pub fn from_number(hash_num: u32) -> Result<Self, UnknownPair> {
        let pair = usize::try_from(hash_num).ok().and_then(|index| Self::ALL.get(index));
        pair.copied().ok_or_else(|| UnknownPair(hash_num.to_string()))
    }

    /// The name that configuration and `Display` use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Modified => "modified",
            Self::Sha256 => "sha256",
        }
    }

    /// `H(id)` modulo `slots`.
    ///
    /// # Panics
    /// If `slots` is 0; a [`Table`](crate::Table) never has none.
    #[must_use]
    #[inline]
    pub fn request(self, id: u32, slots: u32) -> u32 {
        let m = u64::from(slots);
        let r = u64::from(id) % m;
        match self {
            Self::Given => reduce((r * r) % m + 2 * r + 17, m),
            Self::Modified => reduce(1427 * ((r * r) % m) + 2503 * r + 2003, m),
            Self::Sha256 => {
                let i = u128::from(id);
                sha256_modulo(i * i + 2 * i + 17, m)
            }
        }
    }

    /// `Φ(i, j)` modulo `slots`, for the replica with [number](crate::ReplicaId::number) `i` and its
    /// virtual server `j`, both counted from 1.
    ///
    /// # Panics
    /// If `slots` is 0.
    #[must_use]
    pub fn server(self, i: u32, j: u32, slots: u32) -> u32 {
        let (m, i, j) = (u128::from(slots), u128::from(i), u128::from(j));
        let given = i * i + j * j + 2 * j + 25;
        match self {
            Self::Given => (given % m) as u32,
            Self::Modified => ((1249 * i * i + 2287 * j * j + 1663 * j + 2287) % m) as u32,
            Self::Sha256 => sha256_modulo(given, u64::from(slots)),
        }
    }

    /// How much of the request ids falls on each slot, in units of `1/slots`.
    ///
    /// A polynomial reaches few of the residues, and those often: this is exact for it (up to the
    /// 2³² mod `slots` ids of the last, incomplete period). SHA-256 counts as uniform.
    pub(crate) fn mass(self, slots: u32) -> Vec<u32> {
        match self {
            Self::Sha256 => vec![1; slots as usize],
            Self::Given | Self::Modified => {
                let mut mass = vec![0; slots as usize];
                for residue in 0..slots {
                    mass[self.request(residue, slots) as usize] += 1;
                }
                mass
            }
        }
    }
}

#[inline]
fn reduce(value: u64, modulus: u64) -> u32 {
    // Below the modulus, which came from a u32.
    (value % modulus) as u32
}

/// SHA-256 of the shortest big-endian spelling of `value`: the digest as one big-endian integer, reduced.
fn sha256_modulo(value: u128, modulus: u64) -> u32 {
    let bytes = value.to_be_bytes();
    let minimal = &bytes[value.leading_zeros() as usize / 8..];
    let digest = Sha256::digest(minimal);
    let remainder = digest.iter().fold(0, |rest, &byte| ((rest << 8) | u64::from(byte)) % modulus);
    reduce(remainder, modulus)
}

impl fmt::Display for HashPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for HashPair {
    type Err = UnknownPair;

    fn from_str(name: &str) -> Result<Self, UnknownPair> {
        Self::ALL.into_iter().find(|pair| pair.name() == name).ok_or_else(|| UnknownPair(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_round_trip() {
        for (number, pair) in (0..).zip(HashPair::ALL) {
            assert_eq!(HashPair::from_number(number), Ok(pair));
            assert_eq!(pair.to_string().parse(), Ok(pair));
        }
        assert!(HashPair::from_number(3).is_err());
        assert!("SHA256".parse::<HashPair>().is_err());
    }

    #[test]
    fn the_contracts_examples_of_the_given_request_hash() {
        for (id, slot) in [(1012, 137), (234_280, 161), (234, 457), (12, 185)] {
            assert_eq!(HashPair::Given.request(id, 512), slot, "H({id})");
        }
    }

    #[test]
    fn reducing_first_changes_nothing() {
        for id in [0, 1, 511, 512, 100_000, 999_999, u32::MAX - 1, u32::MAX] {
            for slots in [1, 7, 512, 1000, 65_536, u32::MAX] {
                let (i, m) = (u128::from(id), u128::from(slots));
                assert_eq!(u128::from(HashPair::Given.request(id, slots)), (i * i + 2 * i + 17) % m);
                let modified = (1427 * i * i + 2503 * i + 2003) % m;
                assert_eq!(u128::from(HashPair::Modified.request(id, slots)), modified);
            }
        }
    }

    #[test]
    fn the_mass_of_all_slots_is_one() {
        for pair in HashPair::ALL {
            assert_eq!(pair.mass(512).iter().sum::<u32>(), 512);
        }
        assert!(HashPair::Given.mass(512).contains(&0), "squares miss residues");
    }
}
