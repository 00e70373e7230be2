//! The third way to HTTP/2: a request of HTTP/1.1 that asks for it (`Upgrade: h2c`, RFC 7540 section 3.2).
//!
//! The framing underneath knows no such beginning, so it is shown another: the client's preface, its settings with
//! those of `HTTP2-Settings` before them, and then the request itself, written as the HEADERS of stream 1. Only a
//! request without a body is upgraded; nobody need take the offer. It is never passed on: what a replica would
//! speak after its 101, nobody here could read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::PREFACE;
use crate::proxy::stream::{Rewound, Stream};
use crate::proxy::wire::Framing;
use crate::proxy::wire::Version;
use crate::proxy::wire::fields::{Known, known, named_by_connection};
use crate::proxy::wire::request::Request;

/// What the client is told before it speaks HTTP/2.
pub const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
/// The largest frame that both sides take from the beginning.
const LARGEST_FRAME: usize = 16_384;
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

/// A request that becomes the first stream of a connection of HTTP/2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The client's settings, as it sent them ahead.
    settings: Vec<u8>,
    /// The HEADERS of stream 1, and what continues them.
    head: Vec<u8>,
}

impl Upgrade {
    /// The upgrade that `request` asks for, if it asks for one as it should and can have it.
    pub fn of(request: &Request<'_>) -> Option<Self> {
        let mut settings =
            request.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("http2-settings"));
        let (Some(encoded), None) = (settings.next(), settings.next()) else { return None };
        let asked = request.version == Version::Http11
            && request.framing == Framing::None
            && request.said.offers_h2c
            && named_by_connection(request.fields, "http2-settings");
        let settings = decode(encoded.value).filter(|settings| settings.len() % 6 == 0)?;
        asked.then(|| Self { settings, head: head(request) })
    }
}

/// Base64 for URLs, without padding (RFC 4648 section 5).
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for &digit in text.trim_ascii_end() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0 && held < 6).then_some(bytes)
}

fn head(request: &Request<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    field(&mut block, b":method", request.method.as_bytes());
    field(&mut block, b":scheme", b"http");
    field(&mut block, b":path", request.target.path_and_query.as_bytes());
    field(&mut block, b":authority", request.host());
    for said in request.fields {
        let of_this_hop = matches!(
            known(said.name),
            Some(
                Known::Connection
                    | Known::ContentLength
                    | Known::Expect
                    | Known::Host
                    | Known::Hop
                    | Known::Te
                    | Known::TransferEncoding
                    | Known::Upgrade
            )
        );
        if !of_this_hop && !named_by_connection(request.fields, said.name) {
            field(&mut block, said.name.to_ascii_lowercase().as_bytes(), said.value);
        }
    }
    let mut frames = Vec::with_capacity(block.len() + FRAME_HEAD);
    let mut pieces = block.chunks(LARGEST_FRAME).peekable();
    let (mut kind, mut flags) = (HEADERS, 1); // END_STREAM
    while let Some(piece) = pieces.next() {
        flags |= if pieces.peek().is_none() { 4 } else { 0 }; // END_HEADERS
        put_frame(&mut frames, kind, flags, 1, piece);
        (kind, flags) = (CONTINUATION, 0);
    }
    frames
}

/// Neither indexed nor compressed (RFC 7541 section 6.2.2).
fn field(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        let mut length = text.len();
        if length < 127 {
            block.push(length as u8);
        } else {
            block.push(127);
            length -= 127;
            while length >= 128 {
                block.push((length % 128) as u8 | 128);
                length /= 128;
            }
            block.push(length as u8);
        }
        block.extend_from_slice(text);
    }
}

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The connection, as the framing underneath sees it.
#[derive(Debug)]
pub struct Upgraded<S = Stream> {
    rest: Rewound<S>,
    upgrade: Option<Upgrade>,
    /// What came before the client's settings were all there.
    beginning: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Upgraded<S> {
    /// `rest`: what comes after the request.
    pub fn new(rest: Rewound<S>, upgrade: Upgrade) -> Self {
        Self { rest, upgrade: Some(upgrade), beginning: Vec::new() }
    }

    /// Reads until the client's first frame is there.
    fn poll_beginning(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(upgrade) = &self.upgrade {
            let begun = &self.beginning;
            let compared = begun.len().min(PREFACE.len());
            let length = begun.get(PREFACE.len()..PREFACE.len() + FRAME_HEAD).map(|head| {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                (head[3..] == [SETTINGS, 0, 0, 0, 0, 0] && length <= LARGEST_FRAME).then_some(length)
            });
            if begun[..compared] != PREFACE[..compared] || length == Some(None) {
                self.begin(None); // the framing underneath will say what it thinks of that
                continue;
            }
            let whole = PREFACE.len() + FRAME_HEAD + length.flatten().unwrap_or(0);
            if length.is_some() && begun.len() == whole {
                let mut shown = PREFACE.to_vec();
                let settings = [&upgrade.settings, &begun[PREFACE.len() + FRAME_HEAD..]].concat();
                put_frame(&mut shown, SETTINGS, 0, 0, &settings);
                shown.extend_from_slice(&upgrade.head);
                self.begin(Some(shown));
                continue;
            }
            let mut room = [0; 512];
            let wanted = (whole - begun.len()).min(room.len());
            let mut buffer = ReadBuf::new(&mut room[..wanted]);
            ready!(Pin::new(&mut self.rest).poll_read(cx, &mut buffer))?;
            self.beginning.extend_from_slice(buffer.filled());
            if buffer.filled().is_empty() {
                self.begin(None);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// From here on what is read is `shown`, or what came, and then the rest.
    fn begin(&mut self, shown: Option<Vec<u8>>) {
        let came = std::mem::take(&mut self.beginning);
        self.rest.unread(shown.unwrap_or(came));
        self.upgrade = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Upgraded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_beginning(cx))?;
        Pin::new(&mut this.rest).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Upgraded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().rest).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().rest).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().rest).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_base64_for_urls() {
        assert_eq!(decode(b"AAMAAABkAARAAAAAAAIAAAAA").expect("right").len(), 18);
        assert_eq!(decode(b"AAMAAABk").expect("right"), [0, 3, 0, 0, 0, 100]);
        assert_eq!(decode(b""), Some(Vec::new()));
        for wrong in ["AAM=", "AA+A", "A", "AB", "AAMAAABk\n,"] {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_settings_panic(text in proptest::collection::vec(0_u8..=255, 0..64)) {
            let _ = decode(&text);
        }
    }
}
