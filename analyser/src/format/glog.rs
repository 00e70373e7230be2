//! glog and klog: `I1105 23:20:11.594011    1234 file.go:56] message`.

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::level::Level;

pub(super) const GLOG: Family = Family {
    name: "glog",
    about: "glog and klog: I1105 23:20:11.594011 thread file:line] message",
    several_lines: true,
    parse,
    looks_like: None,
};

fn parse(line: &[u8], written: Written) -> Option<Record> {
    let level = line
        .first()
        .filter(|letter| b"IWEF".contains(letter))
        .and_then(|letter| Level::of_letter(*letter))?;
    let mut cursor = Cursor::new(line);
    cursor.expect(&line[..1])?;
    // With `--log_year_in_prefix` there are four digits more.
    let mut with_year = cursor;
    let year = with_year.digits(4).filter(|_| with_year.digits(4).is_some());
    if year.is_some() {
        cursor.digits(4)?;
    }
    let mut date = cursor.month_and_day(b"", written)?;
    date.year = year.map_or(date.year, |year| year as i32);
    cursor.expect(b" ")?;
    let time = cursor.time_of_day(date)?;
    cursor.spaces()?;
    cursor.number()?;
    cursor.expect(b" ")?;
    let place = cursor.until(b']')?;
    let line_number = memchr::memrchr(b':', place).map(|colon| &place[colon + 1..])?;
    if line_number.is_empty() || !line_number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let _none = cursor.spaces();
    Some(Record::with_rest(Some(time), Some(level), cursor))
}
