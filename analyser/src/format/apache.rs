//! Apache's error log, of 2.2 (`[Sun Dec 04 04:47:44 2005] [error] message`) and of 2.4, which adds microseconds, the
//! module before the level, and who it was.

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::level::Level;
use crate::time::Civil;

pub(super) const ERROR: Family = Family {
    name: "apache-error",
    about: "Apache's error log: [Sun Dec 04 04:47:44 2005] [module:error] [pid 1:tid 2] [client a] message",
    several_lines: true,
    parse,
    looks_like: None,
};

fn parse(line: &[u8], _: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    cursor.expect(b"[")?;
    cursor.weekday()?;
    cursor.expect(b" ")?;
    let month = cursor.month()?;
    cursor.spaces()?;
    let day = u32::try_from(cursor.number()?).ok()?;
    cursor.expect(b" ")?;
    // The year comes after the time of day: one look ahead for it.
    let mut behind = cursor;
    behind.word_and_spaces()?;
    let year = behind.digits(4)? as i32;
    behind.expect(b"] [")?;
    let time = cursor.time_of_day(Civil { year, month, day, ..Civil::default() })?;
    cursor = behind;
    let field = cursor.until(b']')?;
    let word = memchr::memchr(b':', field).map_or(field, |colon| &field[colon + 1..]);
    // "trace1" to "trace8".
    let level = if word.starts_with(b"trace") { Level::Trace } else { Level::of_word(word)? };
    while cursor.expect(b" [pid ").is_some() || cursor.expect(b" [client ").is_some() {
        cursor.until(b']')?;
    }
    let _none = cursor.spaces();
    Some(Record::with_rest(Some(time), Some(level), cursor))
}
