//! The chunked coding (RFC 9112 section 7.1): where the data lies in a stream of bytes, and where it ends.
//!
//! A decoder never holds data. It is given what has arrived, says which part of it is data and how much of it is
//! used up, and keeps a few numbers between calls. Extensions are read over and not passed on.

use super::fields::MOST_FIELDS;

/// Digits of a chunk's size: 2^60 bytes are enough.
const MOST_DIGITS: u8 = 15;
/// Bytes of extensions in one body; they serve nobody here, and a flood of them costs.
const MOST_EXTENSION_BYTES: u16 = 4096;

/// Why a body is not chunked as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// The size is no hexadecimal number, or too large.
    #[error("a chunk's size is no number")]
    Size,
    /// Not allowed in an extension, or too many of them.
    #[error("a chunk's extension is not acceptable")]
    Extension,
    /// A line or a chunk does not end in CRLF.
    #[error("a chunk does not end where it should")]
    End,
    /// A trailer that is no field, or too many.
    #[error("the trailers are not acceptable")]
    Trailers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the digit with this number.
    Size(u8),
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    End,
}

/// A position in a chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    state: State,
    /// Of the size while it is read, then bytes of the chunk that are still to come.
    remaining: u64,
    extension_bytes: u16,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// After `skip` bytes that are not data come `len` that are. More is needed when `len` is 0.
    Data {
        /// Bytes to pass over.
        skip: usize,
        /// Bytes of data behind them.
        len: usize,
    },
    /// The last chunk has passed: trailers lie between `skip` and `end`, the next message begins at `end`.
    End {
        /// Bytes to pass over.
        skip: usize,
        /// Where the body ends.
        end: usize,
    },
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::Size(0), remaining: 0, extension_bytes: 0 }
    }
}

impl Decoder {
    /// Looks at `input`, the bytes behind those that were used up before. The caller then drops `skip` and the data
    /// (or up to `end`), and calls again with what is left and what has arrived since. Trailers are only found when
    /// they are there as a whole, and are fields; `room` is how many bytes of them the caller can hold.
    pub fn next(&mut self, input: &[u8], room: usize) -> Result<Piece, ChunkError> {
        let mut at = 0;
        while at < input.len() || matches!(self.state, State::End) {
            match self.state {
                State::Size(digits) => {
                    let byte = input[at];
                    at += 1;
                    let value = match byte {
                        b'0'..=b'9' => byte - b'0',
                        b'a'..=b'f' => byte - b'a' + 10,
                        b'A'..=b'F' => byte - b'A' + 10,
                        b';' if digits > 0 => {
                            self.state = State::Extension;
                            continue;
                        }
                        b'\r' if digits > 0 => {
                            self.state = State::SizeLf;
                            continue;
                        }
                        _ => return Err(ChunkError::Size),
                    };
                    if digits == MOST_DIGITS {
                        return Err(ChunkError::Size);
                    }
                    self.remaining = self.remaining << 4 | u64::from(value);
                    self.state = State::Size(digits + 1);
                }
                State::Extension => {
                    let byte = input[at];
                    at += 1;
                    match byte {
                        b'\r' => self.state = State::SizeLf,
                        b'\t' | b' '..=b'~' if self.extension_bytes < MOST_EXTENSION_BYTES => {
                            self.extension_bytes += 1;
                        }
                        _ => return Err(ChunkError::Extension),
                    }
                }
                State::SizeLf => {
                    Self::expect(input[at], b'\n')?;
                    at += 1;
                    self.state = if self.remaining == 0 { State::Trailers } else { State::Data };
                }
                State::Data => {
                    let here = input.len() - at;
                    let len = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(here);
                    self.remaining -= len as u64;
                    if self.remaining == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Piece::Data { skip: at, len });
                }
                State::DataCr => {
                    Self::expect(input[at], b'\r')?;
                    at += 1;
                    self.state = State::DataLf;
                }
                State::DataLf => {
                    Self::expect(input[at], b'\n')?;
                    at += 1;
                    self.state = State::Size(0);
                }
                State::Trailers => return self.trailers(input, at, room),
                State::End => return Ok(Piece::End { skip: at, end: at }),
            }
        }
        Ok(Piece::Data { skip: at, len: 0 })
    }

    fn trailers(&mut self, input: &[u8], at: usize, room: usize) -> Result<Piece, ChunkError> {
        let section = &input[at..];
        let end = match section {
            [b'\r', b'\n', ..] => Some(2),
            [b'\r'] | [] => None,
            _ => memchr::memmem::find(section, b"\r\n\r\n").map(|found| found + 4),
        };
        match end {
            Some(end) if end <= room => {
                // It is over only when its end was understood: else what is refused here were the next message.
                if end > 2 {
                    parse_trailers(&section[..end], &mut [httparse::EMPTY_HEADER; MOST_FIELDS])?;
                }
                self.state = State::End;
                Ok(Piece::End { skip: at, end: at + end })
            }
            None if section.len() < room => Ok(Piece::Data { skip: at, len: 0 }),
            _ => Err(ChunkError::Trailers),
        }
    }

    fn expect(byte: u8, wanted: u8) -> Result<(), ChunkError> {
        if byte == wanted { Ok(()) } else { Err(ChunkError::End) }
    }

    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        self.state == State::End
    }
}

/// The fields of a trailer section as [`Piece::End`] points at it. Those that would say how the message is framed or
/// where it goes are not for trailers (RFC 9110 section 6.5.1) and are left out.
pub fn parse_trailers<'a>(
    section: &'a [u8],
    storage: &mut [httparse::Header<'a>],
) -> Result<Vec<httparse::Header<'a>>, ChunkError> {
    if !super::lines_end_in_crlf(section) {
        return Err(ChunkError::Trailers);
    }
    match httparse::parse_headers(section, storage) {
        Ok(httparse::Status::Complete((_, fields))) => {
            Ok(fields.iter().filter(|field| super::fields::known(field.name).is_none()).copied().collect())
        }
        _ => Err(ChunkError::Trailers),
    }
}
