//! The head of a replica's answer.

use httparse::{Header, Status};

use super::fields::{Room, Said, said};
use super::{Framing, Version, lines_end_in_crlf};

/// The answer of a replica that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica's answer is not well-formed HTTP/1")]
pub struct ResponseError;

/// An answer as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// What it was received as.
    pub version: Version,
    /// The words beside the code.
    pub reason: &'a str,
    /// Every field, in order, as it was written.
    pub fields: &'a [Header<'a>],
    /// What they say.
    pub said: Said<'a>,
    /// How its body ends.
    pub framing: Framing,
}

impl<'a> Response<'a> {
    /// Parses the head at the beginning of `input`: the answer and the head's length, or `None` while it is
    /// incomplete. `to_head`: the request was a HEAD, so no body comes whatever the fields say.
    pub fn parse(
        input: &'a [u8],
        room: &'a mut Room<'a>,
        to_head: bool,
    ) -> Result<Option<(Self, usize)>, ResponseError> {
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let length = match config.parse_response_with_uninit_headers(&mut parsed, input, room) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err(ResponseError),
        };
        let (Some(status), Some(minor)) = (parsed.code, parsed.version) else { return Err(ResponseError) };
        if !lines_end_in_crlf(&input[..length]) || !(100..=999).contains(&status) {
            return Err(ResponseError);
        }
        let fields: &'a [Header<'a>] = parsed.headers;
        let said = said(fields).map_err(|_| ResponseError)?;
        let framing = match status {
            100..=199 | 204 | 304 => Framing::None,
            _ if to_head => Framing::None,
            _ if said.chunked => Framing::Chunked,
            _ => match said.length {
                Some(0) => Framing::None,
                Some(length) => Framing::Length(length),
                None => Framing::UntilClose,
            },
        };
        let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
        let reason = parsed.reason.unwrap_or_default();
        Ok(Some((Self { status, version, reason, fields, said, framing }, length)))
    }

    /// Whether the connection may carry another request afterwards.
    pub fn keeps_alive(&self) -> bool {
        !self.said.close
            && self.framing != Framing::UntilClose
            && !self.is_doubtful()
            && (self.version == Version::Http11 || self.said.keep_alive)
    }

    /// Whether a body may follow that the status rules out, or one in chunks from a version that has none (RFC 9112
    /// section 6.1): what came next could be taken for the next answer.
    fn is_doubtful(&self) -> bool {
        match self.version {
            Version::Http10 if self.said.chunked => true,
            _ => {
                self.status == 204 && (self.said.chunked || self.said.length.is_some_and(|length| length > 0))
            }
        }
    }
}
