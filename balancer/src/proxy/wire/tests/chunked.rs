//! The chunked coding: however it is cut, and whatever it is.

use httparse::EMPTY_HEADER;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::Framing;
use super::super::chunked::{ChunkError, parse_trailers};
use super::super::emit;
use super::body::{Read, read};
use super::{config, cut, hostile};

const ROOM: usize = 8192;

/// A valid body, as somebody might write it, and what it means.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
}

pub(super) fn written() -> impl Strategy<Value = Written> {
    let extension = prop_oneof![
        4 => Just(String::new()),
        1 => "(;[a-z]{1,8}(=[a-z0-9]{1,8}|=\"[ -!#-\\[\\]-~]{0,9}\")?){1,3}",
    ];
    let chunk = (vec(any::<u8>(), 1..40), any::<bool>(), 0_usize..4, extension.clone());
    let trailer = ("x-[a-z]{1,8}", "[!-~]{0,12}");
    (vec(chunk, 0..6), extension, vec(trailer, 0..4)).prop_map(|(chunks, last, trailers)| {
        let (mut bytes, mut data) = (Vec::new(), Vec::new());
        for (chunk, upper, zeros, extension) in chunks {
            let size = if upper { format!("{:X}", chunk.len()) } else { format!("{:x}", chunk.len()) };
            bytes.extend_from_slice(format!("{}{size}{extension}\r\n", "0".repeat(zeros)).as_bytes());
            bytes.extend_from_slice(&chunk);
            bytes.extend_from_slice(b"\r\n");
            data.extend_from_slice(&chunk);
        }
        bytes.extend_from_slice(format!("0{last}\r\n").as_bytes());
        for (name, value) in &trailers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        Written { bytes, data, trailers }
    })
}

fn fields(section: &[u8]) -> Result<Vec<(String, String)>, ChunkError> {
    let mut storage = [EMPTY_HEADER; 16];
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = parse_trailers(section, &mut storage)?;
    Ok(fields.iter().map(|field| (field.name.to_owned(), text(field.value))).collect())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_valid_body_means_the_same_however_it_is_cut(
        written in written(),
        behind in hostile(),
        cuts in vec(any::<usize>(), 0..12),
        bite in 1_usize..50,
    ) {
        let stream = [written.bytes.as_slice(), &behind].concat();
        let read = read(Framing::Chunked, &cut(&stream, &cuts), bite, ROOM);
        prop_assert_eq!(read.error, None);
        prop_assert_eq!(&read.data, &written.data);
        prop_assert_eq!(&read.rest, &behind, "nothing behind the end was touched");
        prop_assert_eq!(fields(&read.trailers.unwrap()).unwrap(), written.trailers);
    }

    #[test]
    fn a_body_that_is_cut_off_has_no_end(written in written(), keep in any::<usize>()) {
        let keep = keep % written.bytes.len();
        let read = read(Framing::Chunked, &[&written.bytes[..keep]], usize::MAX, ROOM);
        prop_assert_eq!((read.error, read.trailers), (None, None));
        prop_assert!(written.data.starts_with(&read.data));
    }

    #[test]
    fn hostile_bytes_mean_the_same_however_they_are_cut(
        bytes in hostile(),
        cuts in vec(any::<usize>(), 0..12),
        bite in 1_usize..50,
    ) {
        let whole = read(Framing::Chunked, &[&bytes], usize::MAX, 64);
        let cut = read(Framing::Chunked, &cut(&bytes, &cuts), bite, 64);
        let meaning = |read: &Read| (read.data.clone(), read.trailers.clone(), read.error);
        prop_assert_eq!(meaning(&whole), meaning(&cut));
        if let Some(section) = whole.trailers {
            prop_assert!(section.is_empty() || section.ends_with(b"\r\n"));
            prop_assert!(section.len() <= 2 || fields(&section).is_ok(), "no end without an understood one");
        }
    }

    #[test]
    fn what_is_written_is_read(pieces in vec(vec(any::<u8>(), 1..40), 0..6), trailers in vec(("x-[a-z]{1,8}", "[!-~]{1,12}"), 0..4)) {
        let mut bytes = Vec::new();
        for piece in &pieces {
            emit::chunk_size(&mut bytes, piece.len());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        let headers: Vec<_> = trailers
            .iter()
            .map(|(name, value)| httparse::Header { name, value: value.as_bytes() })
            .collect();
        emit::last_chunk(&mut bytes, &headers);
        let read = read(Framing::Chunked, &[&bytes], usize::MAX, ROOM);
        prop_assert_eq!(read.data, pieces.concat());
        prop_assert_eq!(fields(&read.trailers.unwrap()).unwrap(), trailers);
        prop_assert!(read.rest.is_empty());
    }
}

#[test]
fn what_is_no_chunk() {
    use ChunkError::{End, Extension, Size, Trailers};
    for (bytes, expected) in [
        ("\r\n", Size),
        ("x\r\n", Size),
        ("0x5\r\nhello\r\n", Size),
        ("-5\r\nhello\r\n", Size),
        ("+5\r\nhello\r\n", Size),
        (" 5\r\nhello\r\n", Size),
        ("5 \r\nhello\r\n", Size),
        ("5\t\r\nhello\r\n", Size),
        ("5_0\r\n", Size),
        (";a=b\r\n", Size),
        ("5\nhello\r\n", Size),
        ("5\r\r\nhello\r\n", End),
        ("5\rhello\r\n", End),
        ("1000000000000000\r\n", Size),
        ("FFFFFFFFFFFFFFFFF\r\n", Size),
        ("5;a\nhello\r\n", Extension),
        ("5;a\0\r\nhello\r\n", Extension),
        ("5;\u{7f}\r\nhello\r\n", Extension),
        ("5;a\rb\r\nhello\r\n", End),
        ("5\r\nhello0\r\n\r\n", End),
        ("5\r\nhello\n0\r\n\r\n", End),
        ("5\r\nhello\r0\r\n\r\n", End),
        ("5\r\nhello\r\n\r\n", Size),
        ("5\r\nhello world\r\n", End),
        ("0\r\na : b\r\n\r\n", Trailers),
        ("0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Trailers),
    ] {
        let read = read(Framing::Chunked, &[bytes.as_bytes()], usize::MAX, ROOM);
        assert_eq!((read.error, read.trailers), (Some(expected), None), "{bytes:?}");
    }
    let flood = format!("1;{}\r\nx\r\n", "a".repeat(4097));
    assert_eq!(read(Framing::Chunked, &[flood.as_bytes()], 9, ROOM).error, Some(Extension));
    let drip = "1;aaaaaaaaaaaaaaaa\r\nx\r\n".repeat(300);
    assert_eq!(read(Framing::Chunked, &[drip.as_bytes()], 9, ROOM).error, Some(Extension));
    let long = format!("0\r\nx: {}\r\n\r\n", "a".repeat(ROOM));
    assert_eq!(read(Framing::Chunked, &[long.as_bytes()], 9, ROOM).error, Some(Trailers));
}

#[test]
fn trailers_say_nothing_of_framing_and_routing() {
    let section =
        b"Host: b\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nX-Sum: 1\r\n\
        X-Forwarded-For: 1.2.3.4\r\nUpgrade: h2c\r\nTE: trailers\r\n\r\n";
    assert_eq!(fields(section).unwrap(), [("X-Sum".to_owned(), "1".to_owned())]);
    for bad in
        ["a: b\n\r\n", "a : b\r\n\r\n", "a\r\n\r\n", ": b\r\n\r\n", "a: b\r\n c\r\n\r\n", "a: \0\r\n\r\n"]
    {
        assert_eq!(fields(bad.as_bytes()), Err(ChunkError::Trailers), "{bad:?}");
    }
}
