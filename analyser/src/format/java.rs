//! log4j, logback, Spring Boot, and whoever else writes a time, a level, perhaps a thread and a class, and a message.
//!
//! The level is the first or second field behind the time; a thread in brackets may stand on either side of it.

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::level::Level;
use crate::time::Time;

pub(super) const LOG4J: Family = Family {
    name: "log4j",
    about: "log4j, logback, Spring: 2025-11-05 23:20:11,594 [thread] INFO class - message, in this order or alike",
    several_lines: true,
    parse,
    looks_like: None,
};

fn parse(line: &[u8], _: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    let time = time(&mut cursor)?;
    cursor.spaces()?;
    if cursor.peek() == Some(b'[') {
        let field = bracketed(&mut cursor)?;
        // `[INFO ]` is a level, anything else a thread.
        if let Some(level) = Level::of_word(field.trim_ascii()) {
            return Some(behind_level(cursor, time, level));
        }
        cursor.spaces()?;
    }
    let level = level(cursor.word()?)?;
    Some(behind_level(cursor, time, level))
}

/// A date and time; a time of day; or milliseconds since the program began, of which a thread follows.
fn time(cursor: &mut Cursor<'_>) -> Option<Option<Time>> {
    let mut date = *cursor;
    if let Some(time) = date.date_time(b"-") {
        *cursor = date;
        return Some(Some(time));
    }
    let mut of_day = *cursor;
    if of_day.time_of_day(crate::time::Civil { year: 1970, month: 1, day: 1, ..Default::default() }).is_some()
    {
        *cursor = of_day;
        return Some(None);
    }
    cursor.number()?;
    let mut thread = *cursor;
    thread.spaces()?;
    (thread.peek() == Some(b'[')).then_some(None)
}

/// All capitals or none: "Failure of a disk" is a message.
fn level(word: &[u8]) -> Option<Level> {
    let word = word.strip_suffix(b":").unwrap_or(word);
    let one_case = word.iter().all(u8::is_ascii_uppercase) || word.iter().all(u8::is_ascii_lowercase);
    Level::of_word(word).filter(|_| one_case)
}

/// What is in brackets, which may have brackets inside.
fn bracketed<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let mut depth = 0_usize;
    let rest = cursor.rest();
    for (at, byte) in rest.iter().enumerate().take(512) {
        match byte {
            b'[' => depth += 1,
            b']' if depth == 1 => {
                cursor.expect(&rest[..=at])?;
                return Some(&rest[1..at]);
            }
            b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// Passes over `1234 ---`, `[thread]` and `class -`, `class:` or `class :`, as far as they are there.
fn behind_level(mut cursor: Cursor<'_>, time: Option<Time>, level: Level) -> Record {
    let _none = cursor.spaces();
    let mut process = cursor;
    if process.number().is_some() && process.expect(b" --- ").is_some() {
        cursor = process;
    }
    let mut thread = cursor;
    while thread.peek() == Some(b'[') && bracketed(&mut thread).is_some() {
        let _none = thread.spaces();
        cursor = thread;
    }
    let mut class = cursor;
    if let Some(name) = class.word() {
        let spaced = class.spaces().is_some();
        let dash = spaced && (class.expect(b"- ").is_some() || class.expect(b": ").is_some());
        if dash || (spaced && name.len() > 1 && name.ends_with(b":")) {
            cursor = class;
        } else if cursor.expect(b"- ").is_some() || cursor.expect(b": ").is_some() {
            // No class at all.
        }
    }
    Record::with_rest(time, Some(level), cursor)
}
