//! Records, and which of them to read.

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the order of bytes.
    pub key: String,
    /// Anything.
    pub value: Vec<u8>,
    /// Every put makes another; a later one is larger.
    pub version: u64,
}

/// Records whose keys lie between two bounds, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The smallest.
    pub(crate) from: String,
    /// Above the largest.
    pub(crate) to: String,
    pub(crate) limit: usize,
    pub(crate) reverse: bool,
}

/// Above every character of a key.
pub(crate) const ABOVE: char = '\u{10FFFF}';
/// Below every character of a key: this behind a key is the next thing above it.
const BELOW: char = '\u{1}';

impl Range {
    /// At most [`crate::MOST_ROWS`] keys from one (among them) to another (not among them).
    pub fn new(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { from: from.into(), to: to.into(), limit: crate::MOST_ROWS, reverse: false }
    }

    /// The keys that begin like this; all, if it is empty.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        Self::new(prefix.clone(), format!("{prefix}{ABOVE}"))
    }

    /// Without those up to `key`, in the order of reading: the next page. It comes after [`Self::reverse`].
    #[must_use]
    pub fn after(mut self, key: &str) -> Self {
        if self.reverse {
            if key < self.to.as_str() {
                self.to = key.to_owned();
            }
        } else {
            let next = format!("{key}{BELOW}");
            self.from = self.from.max(next);
        }
        self
    }

    /// At most so many.
    #[must_use]
    pub fn limit(mut self, most: usize) -> Self {
        self.limit = most;
        self
    }

    /// The largest first.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }
}
