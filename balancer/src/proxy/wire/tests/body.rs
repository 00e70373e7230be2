//! A body as its reader is used: bytes come, are dropped, are taken a few at a time.

use proptest::prelude::*;

use super::super::Framing;
use super::super::body::{BodyReader, Next};
use super::super::chunked::ChunkError;
use super::{config, cut, hostile};

/// What a reader made of its input.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) data: Vec<u8>,
    /// The trailer section, once the body has ended.
    pub(super) trailers: Option<Vec<u8>>,
    pub(super) error: Option<ChunkError>,
    /// What was left behind the end, or was not looked at after an error.
    pub(super) rest: Vec<u8>,
}

/// Reads `pieces` as a connection does: what has arrived is held until it is dropped or taken, at most `bite`
/// bytes at a time.
pub(super) fn read(framing: Framing, pieces: &[&[u8]], bite: usize, room: usize) -> Read {
    let mut reader = BodyReader::new(framing);
    let mut read = Read::default();
    for piece in pieces {
        read.rest.extend_from_slice(piece);
        while read.trailers.is_none() && read.error.is_none() {
            let held = read.rest.len();
            match reader.next(&read.rest, room) {
                Ok(Next::Data { skip, len }) => {
                    assert!(len > 0 && skip + len <= held, "{skip} + {len} of {held}");
                    let taken = len.min(bite);
                    read.data.extend_from_slice(&read.rest[skip..skip + taken]);
                    read.rest.drain(..skip + taken);
                    reader.took(taken);
                }
                Ok(Next::More { skip }) => {
                    assert!(skip <= held, "{skip} of {held}");
                    assert!(!reader.is_over() || framing == Framing::None);
                    read.rest.drain(..skip);
                    break;
                }
                Ok(Next::End { skip, trailers }) => {
                    assert!(skip + trailers <= held, "{skip} + {trailers} of {held}");
                    assert!(reader.is_over());
                    read.trailers = Some(read.rest[skip..skip + trailers].to_vec());
                    read.rest.drain(..skip + trailers);
                }
                Err(error) => read.error = Some(error),
            }
        }
    }
    // Asked again, it says the same: nobody is told twice where a body ends.
    if read.trailers.is_some() {
        assert_eq!(reader.next(&read.rest, room), Ok(Next::End { skip: 0, trailers: 0 }));
    }
    read
}

#[test]
fn no_body_is_over_before_it_begins() {
    for framing in [Framing::None, Framing::Length(0)] {
        assert!(BodyReader::new(framing).is_over());
        let read = read(framing, &[b"", b"GET / HTTP/1.1"], 1, 0);
        assert_eq!(
            (read.trailers.as_deref(), read.rest.as_slice()),
            (Some(&b""[..]), &b"GET / HTTP/1.1"[..])
        );
    }
}

#[test]
fn only_what_has_no_length_ends_with_the_connection() {
    for framing in [Framing::None, Framing::Length(7), Framing::Chunked] {
        assert!(!BodyReader::new(framing).ends_with_the_connection());
    }
    assert!(BodyReader::new(Framing::UntilClose).ends_with_the_connection());
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_length_is_kept_to(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        length in 0_u64..80,
        cuts in proptest::collection::vec(any::<usize>(), 0..8),
        bite in 1_usize..16,
    ) {
        let read = read(Framing::Length(length), &cut(&bytes, &cuts), bite, 0);
        let end = bytes.len().min(usize::try_from(length).unwrap());
        prop_assert_eq!(&read.data, &bytes[..end]);
        prop_assert_eq!(&read.rest, &bytes[end..]);
        prop_assert_eq!(read.trailers.is_some(), bytes.len() as u64 >= length);
    }

    #[test]
    fn until_the_end_everything_is_data(
        bytes in hostile(),
        cuts in proptest::collection::vec(any::<usize>(), 0..8),
        bite in 1_usize..16,
    ) {
        let read = read(Framing::UntilClose, &cut(&bytes, &cuts), bite, 0);
        prop_assert_eq!(read, Read { data: bytes, ..Read::default() });
    }
}
