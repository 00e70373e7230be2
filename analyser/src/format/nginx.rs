//! nginx's error log: `2025/11/05 23:20:11 [error] 123#45: *6 open() failed`.

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::level::Level;

pub(super) const ERROR: Family = Family {
    name: "nginx-error",
    about: "nginx's error log: 2025/11/05 23:20:11 [error] pid#tid: *connection message",
    several_lines: true,
    parse,
    looks_like: None,
};

fn parse(line: &[u8], _: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    let time = cursor.date_time(b"/")?;
    cursor.expect(b" [")?;
    let level = Level::of_word(cursor.until(b']')?)?;
    cursor.expect(b" ")?;
    cursor.number()?;
    cursor.expect(b"#")?;
    cursor.number()?;
    cursor.expect(b": ")?;
    if cursor.expect(b"*").is_some() {
        cursor.number()?;
        cursor.expect(b" ")?;
    }
    Some(Record::with_rest(Some(time), Some(level), cursor))
}
