//! syslog, as RFC 3164 (and what daemons write to files in its wake) and RFC 5424 have it.
//!
//! The level is the severity in `<PRI>`; a file without it does not say how bad a line is, and words in the message are
//! not asked.

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::level::Level;

pub(super) const RFC3164: Family = Family {
    name: "syslog",
    about: "syslog, RFC 3164: [<PRI>]Nov  5 23:20:11 host tag[pid]: message; the level is PRI's, none without it",
    several_lines: false,
    parse: rfc3164,
    looks_like: None,
};

pub(super) const RFC5424: Family = Family {
    name: "syslog5424",
    about: "syslog, RFC 5424: <PRI>1 time host app pid id data message; the level is PRI's",
    several_lines: false,
    parse: rfc5424,
    looks_like: None,
};

fn priority(cursor: &mut Cursor<'_>) -> Option<Level> {
    cursor.expect(b"<")?;
    let priority = u8::try_from(cursor.number()?).ok().filter(|priority| *priority <= 191)?;
    cursor.expect(b">")?;
    Level::of_severity(priority & 7)
}

fn rfc3164(line: &[u8], written: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    let level = if cursor.peek() == Some(b'<') { Some(priority(&mut cursor)?) } else { None };
    let time = if cursor.peek()?.is_ascii_digit() {
        cursor.date_time(b"-")?
    } else {
        cursor.month_and_time(written)?
    };
    cursor.spaces()?;
    let host = cursor.word_and_spaces()?;
    // A level's word in the place of the host: some other program's log.
    if Level::of_word(host).is_some() || host.starts_with(b"[") || host == b"-" {
        return None;
    }
    // The tag ends with a colon and has no blank but before a parenthesis or a version; "last message repeated 2 times"
    // has none. A time with a year is not enough to tell syslog by: there it takes a tag.
    let mut message = cursor;
    let is_tag = |tag: &[u8]| {
        let name = tag.split(|byte| *byte == b' ').next().unwrap_or_default();
        let rest = tag.get(name.len() + 1..).unwrap_or(b"(");
        let version = rest.first().is_some_and(|first| *first == b'(' || first.is_ascii_digit());
        !name.is_empty() && tag.len() <= 128 && !name.starts_with(b"[") && version
    };
    if message.until(b':').is_some_and(is_tag) {
        let _none = message.spaces();
        cursor = message;
    } else if line.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    Some(Record::with_rest(Some(time), level, cursor))
}

fn rfc5424(line: &[u8], _: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    let level = priority(&mut cursor)?;
    cursor.expect(b"1 ")?;
    let time = if cursor.expect(b"- ").is_some() {
        None
    } else {
        let time = cursor.date_time(b"-")?;
        cursor.expect(b" ")?;
        Some(time)
    };
    for _host_app_pid_id in 0..4 {
        cursor.word()?;
        cursor.expect(b" ")?;
    }
    data(&mut cursor)?;
    if cursor.peek().is_some() {
        cursor.expect(b" ")?;
        let _mark = cursor.expect(super::MARK);
    }
    Some(Record::with_rest(time, Some(level), cursor))
}

/// `-`, or `[id name="value" …]` any number of times.
fn data(cursor: &mut Cursor<'_>) -> Option<()> {
    if cursor.expect(b"-").is_some() {
        return Some(());
    }
    if cursor.peek()? != b'[' {
        return None;
    }
    while cursor.expect(b"[").is_some() {
        let (mut quoted, mut length, mut escaped) = (false, None, false);
        for (at, byte) in cursor.rest().iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b']' if !quoted => {
                    length = Some(at + 1);
                    break;
                }
                _ => {}
            }
        }
        let rest = cursor.rest().get(..length?)?;
        cursor.expect(rest)?;
    }
    Some(())
}
