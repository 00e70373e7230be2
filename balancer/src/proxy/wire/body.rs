//! Bodies as they are framed on one side: where the data of what has arrived lies, and where it ends.

use super::Framing;
use super::chunked::{ChunkError, Decoder, Piece};

/// A position in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyReader {
    /// So many bytes are still to come.
    Length(u64),
    /// Chunks; so many bytes of the present piece are known to be data.
    Chunked(Decoder, usize),
    /// Until the connection ends.
    UntilClose,
}

/// What the bytes at hand are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// After `skip` bytes to drop, `len` bytes of data (not 0).
    Data {
        /// Bytes to drop.
        skip: usize,
        /// Bytes of data.
        len: usize,
    },
    /// After `skip` bytes to drop, more has to arrive.
    More {
        /// Bytes to drop.
        skip: usize,
    },
    /// After `skip` bytes to drop, a trailer section of `trailers` bytes (perhaps 0), then the body is over.
    End {
        /// Bytes to drop.
        skip: usize,
        /// Bytes of trailers, to be dropped when they were read.
        trailers: usize,
    },
}

impl BodyReader {
    /// At the beginning of a body.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Decoder::default(), 0),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Looks at `input`, all that arrived and was neither dropped nor taken; `room` is how large a trailer section
    /// may be.
    pub fn next(&mut self, input: &[u8], room: usize) -> Result<Next, ChunkError> {
        let next = match self {
            Self::Length(0) => Next::End { skip: 0, trailers: 0 },
            Self::Length(remaining) => Next::Data {
                skip: 0,
                len: usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len()),
            },
            Self::UntilClose => Next::Data { skip: 0, len: input.len() },
            Self::Chunked(_, known) if *known > 0 => Next::Data { skip: 0, len: *known },
            Self::Chunked(decoder, known) => match decoder.next(input, room)? {
                Piece::Data { skip, len } => {
                    *known = len;
                    Next::Data { skip, len }
                }
                Piece::End { skip, end } => Next::End { skip, trailers: end - skip },
            },
        };
        Ok(match next {
            Next::Data { skip, len: 0 } => Next::More { skip },
            next => next,
        })
    }

    /// The first `count` bytes of the data were taken.
    pub fn took(&mut self, count: usize) {
        match self {
            Self::Length(remaining) => *remaining -= count as u64,
            Self::Chunked(_, known) => *known -= count,
            Self::UntilClose => {}
        }
    }

    /// Whether an end of the connection here is the end of the body.
    pub fn ends_with_the_connection(&self) -> bool {
        matches!(self, Self::UntilClose)
    }

    /// Whether nothing more belongs to it.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Length(remaining) => *remaining == 0,
            Self::Chunked(decoder, _) => decoder.is_done(),
            Self::UntilClose => false,
        }
    }
}
