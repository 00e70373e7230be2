//! JSON lines: an object a line, with the names that loggers have given to level, time and message.
//!
//! The level may be a word, pino's and bunyan's number, or syslog's (GELF). Elastic's `log.level` may be one name or an
//! object within an object. The scanner takes a line apart without building anything; it checks the structure, not every
//! number, and it does not recurse, so a line of brackets costs nothing but its length. A message is given as it stands
//! in the line, escapes and all.

use std::ops::Range;

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::level::Level;
use crate::time::Time;

pub(super) const JSON: Family = Family {
    name: "json",
    about: "JSON lines: level, severity, lvl or log.level (words, pino's, bunyan's and syslog's numbers), time, msg",
    several_lines: false,
    parse,
    looks_like: None,
};

fn parse(line: &[u8], _: Written) -> Option<Record> {
    let mut found = Record { time: None, level: None, message: 0..line.len() };
    let begin = spaces(line, 0);
    let end = object(line, begin, |name, value| take(line, name, value, &mut found))?;
    (spaces(line, end) == line.len()).then_some(found)
}

fn take(line: &[u8], name: &[u8], value: Range<usize>, found: &mut Record) {
    let bytes = &line[value.clone()];
    match name {
        b"level" | b"severity" | b"lvl" | b"log.level" | b"loglevel" | b"levelname" | b"@l" => {
            found.level = found.level.or_else(|| level(bytes));
        }
        b"log" if bytes.first() == Some(&b'{') => {
            // Its own level, and nothing deeper.
            let mut nested = None;
            let _broken = object(line, value.start, |name, value| {
                if name == b"level" {
                    nested = nested.or_else(|| level(&line[value]));
                }
            });
            found.level = found.level.or(nested);
        }
        b"time" | b"timestamp" | b"@timestamp" | b"ts" | b"@t" | b"datetime" | b"asctime" | b"date" => {
            found.time = found.time.or_else(|| time(bytes));
        }
        b"msg" | b"message" | b"@m" | b"@mt" | b"short_message" | b"event"
            if found.message.len() == line.len() =>
        {
            let quoted = bytes.len() >= 2 && bytes[0] == b'"';
            found.message = if quoted { value.start + 1..value.end - 1 } else { value };
        }
        _ => {}
    }
}

fn text(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

fn level(value: &[u8]) -> Option<Level> {
    if let Some(word) = text(value) {
        return Level::of_word(word).or_else(|| level_of_number(word));
    }
    level_of_number(value)
}

fn level_of_number(digits: &[u8]) -> Option<Level> {
    let mut cursor = Cursor::new(digits);
    let number = u32::try_from(cursor.number()?).ok().filter(|_| cursor.rest().is_empty())?;
    Level::of_number(number).or_else(|| Level::of_severity(u8::try_from(number).ok()?))
}

/// A date and time, or what has passed since 1970 in seconds (with a fraction, perhaps), milli-, micro- or nanoseconds.
fn time(value: &[u8]) -> Option<Time> {
    let mut cursor = Cursor::new(text(value).unwrap_or(value));
    if text(value).is_some()
        && let Some(time) = cursor.date_time(b"-")
    {
        return cursor.rest().is_empty().then_some(time);
    }
    let mut cursor = Cursor::new(text(value).unwrap_or(value));
    let whole = match cursor.number() {
        Some(number) => i64::try_from(number).ok()?,
        // Nanoseconds have nineteen digits.
        None => {
            let digits = cursor.rest().get(..18)?;
            return (cursor.rest().len() == 19)
                .then(|| i64::try_from(Cursor::new(digits).number()?).ok())
                .flatten()
                .and_then(|tenths| {
                    Time::of_seconds(tenths / 100_000_000, (tenths % 100_000_000 / 100) as u32)
                });
        }
    };
    let micros = cursor.fraction()?;
    if !cursor.rest().is_empty() {
        return None;
    }
    if whole < 100_000_000_000 {
        return Time::of_seconds(whole, micros);
    }
    let per_second = match whole {
        0..100_000_000_000_000 => 1000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000_000,
        _ => 1_000_000_000,
    };
    Time::of_seconds(whole / per_second, (whole % per_second * (1_000_000_000 / per_second) / 1000) as u32)
}

fn spaces(line: &[u8], at: usize) -> usize {
    at + line[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Goes through an object's own names and values; where it ends, or `None` if it is none.
fn object(line: &[u8], at: usize, mut each: impl FnMut(&[u8], Range<usize>)) -> Option<usize> {
    if *line.get(at)? != b'{' {
        return None;
    }
    let mut at = spaces(line, at + 1);
    if *line.get(at)? == b'}' {
        return Some(at + 1);
    }
    loop {
        let name = at + 1..string(line, at)? - 1;
        at = spaces(line, name.end + 1);
        if *line.get(at)? != b':' {
            return None;
        }
        at = spaces(line, at + 1);
        let end = value(line, at)?;
        each(&line[name], at..end);
        at = spaces(line, end);
        match line.get(at)? {
            b',' => at = spaces(line, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// Where the value that begins here ends.
fn value(line: &[u8], at: usize) -> Option<usize> {
    match line.get(at)? {
        b'"' => string(line, at),
        b'{' | b'[' => nested(line, at),
        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
            let inside = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
            Some(at + line[at..].iter().take_while(inside).count())
        }
        _ => None,
    }
}

fn string(line: &[u8], at: usize) -> Option<usize> {
    let mut cursor = Cursor::new(line.get(at..)?);
    cursor.quoted()?;
    Some(at + cursor.at())
}

/// Where the object or list that begins here ends: as many closed as were opened.
fn nested(line: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match line.get(at)? {
            b'"' => at = string(line, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth -= 1;
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => at += 1,
        }
    }
}
