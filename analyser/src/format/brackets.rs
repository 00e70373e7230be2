//! The seed's brackets: `[2025-11-05T23:20:11.594011] [INFO] Configuration loaded`.
//!
//! The level is the contract's: a tag anywhere in the line. To be *taken* for this format a line has to have its tag at
//! the beginning, behind a time at most, else every log that quotes another one would be.

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::count::{level_of, tags_of};
use crate::time::Time;

pub(super) const BRACKETS: Family = Family {
    name: "brackets",
    about: "the seed's: [time] [LEVEL] message; a tag counts wherever it stands in the line",
    several_lines: false,
    parse,
    looks_like: Some(looks_like),
};

fn parse(line: &[u8], _: Written) -> Option<Record> {
    let (level, end) = tags_of(line)?;
    let spaces = line[end..].iter().take_while(|byte| **byte == b' ').count();
    let time = time(&mut Cursor::new(line));
    Some(Record { time, level: Some(level), message: end + spaces..line.len() })
}

/// A time in brackets or without.
fn time(cursor: &mut Cursor<'_>) -> Option<Time> {
    let bracket = cursor.expect(b"[").is_some();
    let time = cursor.date_time(b"-")?;
    if bracket { cursor.expect(b"]").map(|()| time) } else { Some(time) }
}

fn looks_like(line: &[u8], _: Written) -> bool {
    let mut cursor = Cursor::new(line);
    if time(&mut cursor).is_none() {
        cursor = Cursor::new(line);
    } else if cursor.spaces().is_none() {
        return false;
    }
    cursor.peek() == Some(b'[') && cursor.until(b']').is_some() && level_of(&line[..cursor.at()]).is_some()
}
