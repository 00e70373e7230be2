//! Android's logcat, `-v threadtime` and `-v brief`. The message stands behind the tag.

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::level::Level;

pub(super) const THREADTIME: Family = Family {
    name: "logcat",
    about: "Android's logcat -v threadtime: 11-05 23:20:11.594  1702  2395 D Tag: message",
    several_lines: false,
    parse: threadtime,
    looks_like: None,
};

pub(super) const BRIEF: Family = Family {
    name: "logcat-brief",
    about: "Android's logcat -v brief: D/Tag( 1702): message",
    several_lines: false,
    parse: brief,
    looks_like: None,
};

fn threadtime(line: &[u8], written: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    let date = cursor.month_and_day(b"-", written)?;
    cursor.expect(b" ")?;
    let time = cursor.time_of_day(date)?;
    for _process_thread in 0..2 {
        cursor.spaces()?;
        cursor.number()?;
    }
    cursor.expect(b" ")?;
    let level = level(&mut cursor)?;
    cursor.expect(b" ")?;
    cursor.until(b':')?;
    let _none = cursor.spaces();
    Some(Record::with_rest(Some(time), Some(level), cursor))
}

fn brief(line: &[u8], _: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    let level = level(&mut cursor)?;
    cursor.expect(b"/")?;
    cursor.until(b'(')?;
    let _none = cursor.spaces();
    cursor.number()?;
    cursor.expect(b"):")?;
    let _none = cursor.spaces();
    Some(Record::with_rest(None, Some(level), cursor))
}

fn level(cursor: &mut Cursor<'_>) -> Option<Level> {
    let letter = cursor.peek()?;
    cursor.expect(&[letter])?;
    Level::of_letter(letter)
}
