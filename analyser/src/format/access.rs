//! Access logs of web servers, "common" and "combined".
//!
//! They have no level. The status class stands for one: 5xx is ERROR, 4xx is WARN, everything else is INFO. The message
//! is the request and what was answered: everything behind the time.

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::level::Level;
use crate::time::{Civil, Time};

pub(super) const COMMON: Family = Family {
    name: "common",
    about: "access log: host ident user [time] \"request\" status bytes; 5xx is ERROR, 4xx is WARN, the rest INFO",
    several_lines: false,
    parse: common,
    looks_like: None,
};

pub(super) const COMBINED: Family = Family {
    name: "combined",
    about: "access log with \"referer\" \"agent\" and what else follows; 5xx is ERROR, 4xx is WARN, the rest INFO",
    several_lines: false,
    parse: combined,
    looks_like: None,
};

fn common(line: &[u8], _: Written) -> Option<Record> {
    let (record, rest) = entry(line)?;
    rest.rest().is_empty().then_some(record)
}

fn combined(line: &[u8], _: Written) -> Option<Record> {
    let (record, mut rest) = entry(line)?;
    rest.expect(b" ")?;
    rest.quoted()?;
    rest.expect(b" ")?;
    rest.quoted()?;
    matches!(rest.peek(), None | Some(b' ')).then_some(record)
}

fn entry(line: &[u8]) -> Option<(Record, Cursor<'_>)> {
    let mut cursor = Cursor::new(line);
    cursor.word()?;
    cursor.expect(b" ")?;
    cursor.word()?;
    cursor.expect(b" ")?;
    // A user's name may have blanks.
    cursor.until_text(b" [")?;
    let time = time(&mut cursor)?;
    cursor.expect(b"] ")?;
    let message = cursor.at()..line.len();
    cursor.quoted()?;
    cursor.expect(b" ")?;
    let status = cursor.digits(3)?;
    cursor.expect(b" ")?;
    if cursor.expect(b"-").is_none() {
        cursor.number()?;
    }
    let level = match status {
        100..400 => Level::Info,
        400..500 => Level::Warn,
        500..600 => Level::Error,
        _ => return None,
    };
    Some((Record { time: Some(time), level: Some(level), message }, cursor))
}

/// `05/Nov/2025:23:20:11 +0100`.
fn time(cursor: &mut Cursor<'_>) -> Option<Time> {
    let day = cursor.digits(2)?;
    cursor.expect(b"/")?;
    let month = cursor.month()?;
    cursor.expect(b"/")?;
    let year = cursor.digits(4)? as i32;
    cursor.expect(b":")?;
    let time = cursor.time_of_day(Civil { year, month, day, ..Civil::default() })?;
    cursor.expect(b" ")?;
    cursor.offset(time)
}
