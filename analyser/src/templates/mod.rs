//! Message templates: what kinds of messages there are, and how many of each.
//!
//! A message is masked (what varies in it becomes a placeholder, see [`mask`]) and counted by what is left; what is left
//! depends on the message alone. At the end, templates that differ in one word which takes many values become one
//! (`near`), from the counts of all of them. Rejected: a tree that learns while it reads (Drain, Spell): what it learns
//! depends on the order of the lines, and so on the number of workers.
//!
//! Memory is bounded by a rule that is blind to order: of too many templates those with the smallest hashes are kept.
//! A template that is among them in the end was so all along, so its count is exact; all others are summed as `other`.

mod mask;
mod near;
#[cfg(test)]
mod tests;

use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

pub use self::mask::mask;
pub use self::near::Template;

/// Bytes of an example that are kept.
const EXAMPLE: usize = 256;
/// Bytes of a template that are kept: what is counted under it is told apart by all of them.
const TEXT: usize = 1024;
/// Templates that are kept unless told otherwise.
pub const DEFAULT_MOST: u32 = 20_000;

/// Counts by template. Merging is commutative and associative.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Templates {
    most: usize,
    kept: HashMap<u128, Kept, BuildHasherDefault<AsItIs>>,
    /// The hashes of those that are kept, the largest on top.
    hashes: BinaryHeap<u128>,
    /// The smallest hash that is not kept, once there were too many: nothing from there on ever is.
    bound: Option<u128>,
    /// Messages whose template was not kept.
    other: u64,
    masked: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    count: u64,
    text: Box<str>,
    /// The smallest one by bytes, which does not depend on which came first.
    example: Box<[u8]>,
}

impl Templates {
    /// None yet; at most so many will be kept, one at least.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self {
            most: (most as usize).max(1),
            kept: HashMap::default(),
            hashes: BinaryHeap::new(),
            bound: None,
            other: 0,
            masked: Vec::new(),
        }
    }

    /// Counts a message.
    pub fn add(&mut self, message: &[u8]) {
        let mut masked = std::mem::take(&mut self.masked);
        mask(message, &mut masked);
        let hash = xxh3_128(&masked);
        let example = &message[..message.len().min(EXAMPLE)];
        if let Some(kept) = self.kept.get_mut(&hash) {
            kept.count += 1;
            if *example < *kept.example {
                kept.example = example.into();
            }
        } else if self.may_be_kept(hash) {
            let text = String::from_utf8_lossy(&masked[..masked.len().min(TEXT)]).into();
            self.keep(hash, Kept { count: 1, text, example: example.into() });
        } else {
            self.other += 1;
        }
        self.masked = masked;
    }

    fn may_be_kept(&self, hash: u128) -> bool {
        self.bound.is_none_or(|bound| hash < bound)
    }

    /// Keeps a new one, and gives up the one with the largest hash if that is one too many.
    fn keep(&mut self, hash: u128, new: Kept) {
        self.kept.insert(hash, new);
        self.hashes.push(hash);
        self.keep_within();
    }

    fn keep_within(&mut self) {
        while self.hashes.len() > self.most || self.hashes.peek().is_some_and(|top| !self.may_be_kept(*top)) {
            let Some(largest) = self.hashes.pop() else { return };
            self.other += self.kept.remove(&largest).map_or(0, |gone| gone.count);
            self.bound = Some(self.bound.map_or(largest, |bound| bound.min(largest)));
        }
    }

    /// Adds what was found elsewhere.
    pub fn merge(&mut self, other: Self) {
        self.most = self.most.min(other.most);
        self.bound = match (self.bound, other.bound) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        self.other += other.other;
        self.keep_within();
        for (hash, new) in other.kept {
            if let Some(kept) = self.kept.get_mut(&hash) {
                kept.count += new.count;
                if new.example < kept.example {
                    kept.example = new.example;
                }
            } else if self.may_be_kept(hash) {
                self.keep(hash, new);
            } else {
                self.other += new.count;
            }
        }
    }

    /// The templates, near ones as one, the most frequent first.
    #[must_use]
    pub fn ranked(&self) -> Vec<Template> {
        near::merged(self.kept.values().map(|kept| Template {
            text: kept.text.to_string(),
            count: kept.count,
            example: String::from_utf8_lossy(&kept.example).into_owned(),
        }))
    }

    /// Messages whose template was not kept because there were too many.
    #[must_use]
    pub fn other(&self) -> u64 {
        self.other
    }
}

impl PartialEq for Templates {
    fn eq(&self, other: &Self) -> bool {
        (self.most, self.bound, self.other, &self.kept) == (other.most, other.bound, other.other, &other.kept)
    }
}

/// As checkpoints and results have it: in the order of the hashes, so equal ones have equal bytes.
#[derive(Clone, Serialize, Deserialize)]
struct Written {
    most: u32,
    bound: Option<String>,
    other: u64,
    /// Hash, count, text, example.
    kept: Vec<(String, u64, Box<str>, Example)>,
}

/// An example's bytes: as text if they are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Example {
    Text(String),
    Bytes(Box<[u8]>),
}

impl From<Templates> for Written {
    fn from(templates: Templates) -> Self {
        let hex = |hash: u128| format!("{hash:032x}");
        let mut kept: Vec<_> = templates
            .kept
            .into_iter()
            .map(|(hash, kept)| {
                let example = match String::from_utf8(kept.example.into_vec()) {
                    Ok(text) => Example::Text(text),
                    Err(error) => Example::Bytes(error.into_bytes().into()),
                };
                (hex(hash), kept.count, kept.text, example)
            })
            .collect();
        kept.sort_by(|one, other| one.0.cmp(&other.0));
        let most = u32::try_from(templates.most).unwrap_or(u32::MAX);
        Self { most, bound: templates.bound.map(hex), other: templates.other, kept }
    }
}

/// A hash in a checkpoint or result is none.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no hash of a template: 32 hexadecimal digits")]
struct NoHash(String);

impl TryFrom<Written> for Templates {
    type Error = NoHash;

    fn try_from(written: Written) -> Result<Self, NoHash> {
        let hash = |text: String| u128::from_str_radix(&text, 16).map_err(|_| NoHash(text));
        let mut templates = Self::new(written.most);
        templates.bound = written.bound.map(hash).transpose()?;
        for (text_of_hash, count, text, example) in written.kept {
            let example = match example {
                Example::Text(text) => text.into_bytes().into(),
                Example::Bytes(bytes) => bytes,
            };
            templates.keep(hash(text_of_hash)?, Kept { count, text, example });
        }
        templates.other += written.other;
        Ok(templates)
    }
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}
