//! The name of a result: the question itself, and a digest of the data that answers it.
//!
//! It holds the whole question, so that a leader that never heard it can answer for its chunks: after the one that was
//! asked has died, or when the cached result had to make room. A random name would tie each cursor to one process; a
//! digest alone could be found again but not answered.

use sha2::{Digest, Sha256};

use super::Query;
use crate::topology::{Chunking, LARGEST_CHUNK};

/// Bytes of the digest.
const DIGEST: usize = 12;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Uid(String);

/// No name of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it names no result")]
pub struct UidError;

/// What a result depends on beside the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis<'a> {
    /// The data's fingerprint.
    pub data: u64,
    /// What was left out, if the question allows that.
    pub missing: &'a str,
    /// How it is cut into chunks.
    pub layout: Layout,
}

/// How a result is cut into chunks: it is part of the name, so that every leader cuts it alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// By which rule.
    pub chunking: Chunking,
    /// Records of a chunk, to begin with.
    pub chunk_size: usize,
}

impl Uid {
    /// Of a question and what its result depends on.
    pub fn new(query: &Query, basis: Basis<'_>) -> Self {
        let question = query.normal_form();
        let mut digest = Sha256::new();
        let layout = basis.layout.text();
        for part in
            [question.as_bytes(), &basis.data.to_be_bytes(), layout.as_bytes(), basis.missing.as_bytes()]
        {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let mut name = hex(&digest.finalize()[..DIGEST]);
        for part in [&layout, &hex(question.as_bytes())] {
            name.push('-');
            name.push_str(part);
        }
        Self(name)
    }

    /// Reads a client's text: the uid, how the result is cut, and the question that it holds.
    ///
    /// # Errors
    /// When it cannot be one of ours.
    pub fn parse(text: &str) -> Result<(Self, Layout, Query), UidError> {
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().ok_or(UidError);
        let (digest, layout, question) = (part()?, Layout::parse(part()?)?, part()?);
        let digest = unhex(digest).ok_or(UidError)?;
        let question = String::from_utf8(unhex(question).ok_or(UidError)?).map_err(|_| UidError)?;
        let query = Query::from_json(&question).map_err(|_| UidError)?;
        let sound = digest.len() == DIGEST && query.normal_form() == question;
        sound.then(|| (Self(text.to_owned()), layout, query)).ok_or(UidError)
    }

    /// As clients see it: letters, digits and hyphens.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Layout {
    fn text(self) -> String {
        let rule = match self.chunking {
            Chunking::Fixed => 'f',
            Chunking::Adaptive => 'a',
            Chunking::QueryBased => 'q',
        };
        format!("{rule}{}", self.chunk_size)
    }

    fn parse(text: &str) -> Result<Self, UidError> {
        let chunking = match text.chars().next() {
            Some('f') => Chunking::Fixed,
            Some('a') => Chunking::Adaptive,
            Some('q') => Chunking::QueryBased,
            _ => return Err(UidError),
        };
        let chunk_size =
            text[1..].parse().ok().filter(|size| (1..=LARGEST_CHUNK).contains(size)).ok_or(UidError)?;
        let layout = Self { chunking, chunk_size };
        (layout.text() == text).then_some(layout).ok_or(UidError)
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None, // one name for one result: no capitals
    };
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(nibble(pair[0])? << 4 | nibble(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_for_the_same_and_another_for_anything_else() {
        let query = |text: &str| Query::from_json(text).unwrap();
        let layout = Layout { chunking: Chunking::Fixed, chunk_size: 200 };
        let basis = Basis { data: 1, missing: "", layout };
        let uid = Uid::new(&query(r#"{"parameter":"pm2.5"}"#), basis);
        assert_eq!(uid, Uid::new(&query(r#"{"parameter":"PM2.5"}"#), basis));
        let others = [
            Uid::new(&query(r#"{"parameter":"PM10"}"#), basis),
            Uid::new(&query(r#"{"parameter":"PM2.5"}"#), Basis { data: 2, ..basis }),
            Uid::new(&query(r#"{"parameter":"PM2.5"}"#), Basis { missing: "20200810", ..basis }),
            Uid::new(
                &query(r#"{"parameter":"PM2.5"}"#),
                Basis { layout: Layout { chunk_size: 201, ..layout }, ..basis },
            ),
        ];
        assert!(!others.contains(&uid));
        assert_eq!(Uid::parse(uid.as_str()), Ok((uid, layout, query(r#"{"parameter":"PM2.5"}"#))));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_one_or_none(text in "[0-9a-fq-]{0,80}") {
            if let Ok((uid, ..)) = Uid::parse(&text) {
                proptest::prop_assert_eq!(uid.as_str(), text);
            }
        }
    }
}
