//! Python's `logging`: its default (`INFO:root:message`), the usual `time - name - LEVEL - message`, Flask's and gunicorn's.

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::level::Level;
use crate::time::Time;

pub(super) const PYTHON: Family = Family {
    name: "python",
    about: "Python's logging: INFO:name:message, time - name - INFO - message, [time] INFO in module: message",
    several_lines: true,
    parse,
    looks_like: None,
};

fn parse(line: &[u8], _: Written) -> Option<Record> {
    match line.first()? {
        b'[' => in_brackets(Cursor::new(line)),
        b'0'..=b'9' => with_dashes(Cursor::new(line)),
        _ => with_colons(Cursor::new(line)),
    }
}

fn level(word: &[u8]) -> Option<Level> {
    Level::of_word(word).filter(|_| word.iter().all(u8::is_ascii_uppercase))
}

/// `INFO:name:message`.
fn with_colons(mut cursor: Cursor<'_>) -> Option<Record> {
    let level = level(cursor.until(b':')?)?;
    let name = cursor.until(b':')?;
    (!name.is_empty() && !name.contains(&b' ')).then(|| Record::with_rest(None, Some(level), cursor))
}

/// `time - name - LEVEL - message`, with up to three fields before the level.
fn with_dashes(mut cursor: Cursor<'_>) -> Option<Record> {
    let time = cursor.date_time(b"-")?;
    cursor.expect(b" - ")?;
    for _field in 0..4 {
        let field = cursor.until_text(b" - ")?;
        if let Some(level) = level(field.trim_ascii()) {
            return Some(Record::with_rest(Some(time), Some(level), cursor));
        }
    }
    None
}

/// `[time] LEVEL in module: message`, `[time: LEVEL/process] message`, `[time] [pid] [LEVEL] message`.
fn in_brackets(mut cursor: Cursor<'_>) -> Option<Record> {
    cursor.expect(b"[")?;
    let time = cursor.date_time(b"-")?;
    if cursor.expect(b": ").is_some() {
        return celery(cursor, time);
    }
    let _zone = cursor.spaces().and_then(|()| cursor.offset(time));
    let time = _zone.unwrap_or(time);
    cursor.expect(b"] ")?;
    if cursor.expect(b"[").is_some() {
        cursor.number()?;
        cursor.expect(b"] [")?;
        let level = level(cursor.until(b']')?)?;
        let _none = cursor.spaces();
        return Some(Record::with_rest(Some(time), Some(level), cursor));
    }
    let level = level(cursor.word()?)?;
    cursor.expect(b" in ")?;
    let module = cursor.until_text(b": ")?;
    (!module.is_empty()).then(|| Record::with_rest(Some(time), Some(level), cursor))
}

fn celery(mut cursor: Cursor<'_>, time: Time) -> Option<Record> {
    let level = level(cursor.until(b'/')?)?;
    cursor.until_text(b"] ")?;
    Some(Record::with_rest(Some(time), Some(level), cursor))
}
