//! logfmt: `time=2025-11-05T23:20:11Z level=info msg="Configuration loaded" took=3ms`.
//!
//! Every word of a line is a pair, and one of the pairs is a level or a time: else each message with an `=` would be one.

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::level::Level;

pub(super) const LOGFMT: Family = Family {
    name: "logfmt",
    about: "logfmt: time=… level=info msg=\"…\" and other pairs",
    several_lines: false,
    parse,
    looks_like: None,
};

fn parse(line: &[u8], _: Written) -> Option<Record> {
    let (mut time, mut level, mut message, mut pairs) = (None, None, None, 0);
    let mut cursor = Cursor::new(line);
    let _none = cursor.spaces();
    while cursor.peek().is_some() {
        let rest = cursor.rest();
        let length =
            rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"_.-/@".contains(byte)).count();
        let name = &rest[..length];
        cursor.expect(name)?;
        cursor.expect(b"=")?;
        if name.is_empty() {
            return None;
        }
        let (value, begin) = match cursor.peek() {
            Some(b'"') => {
                let begin = cursor.at() + 1;
                (cursor.quoted()?, begin)
            }
            Some(b' ') | None => (&b""[..], cursor.at()),
            Some(_) => {
                let begin = cursor.at();
                (cursor.word()?, begin)
            }
        };
        match name {
            b"level" | b"lvl" | b"severity" | b"log.level" => level = level.or_else(|| Level::of_word(value)),
            b"time" | b"ts" | b"t" | b"timestamp" => {
                time = time.or_else(|| Cursor::new(value).date_time(b"-"));
            }
            b"msg" | b"message" => message = message.or(Some(begin..begin + value.len())),
            _ => {}
        }
        pairs += 1;
        if cursor.peek().is_some() {
            cursor.spaces()?;
        }
    }
    let known = level.is_some() || time.is_some();
    (pairs >= 2 && known).then(|| Record { time, level, message: message.unwrap_or(0..line.len()) })
}
