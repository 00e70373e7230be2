//! What all formats are read with: a place in a line that moves on when what is expected stands there.

use crate::time::{Civil, Time};

/// A place in a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    line: &'a [u8],
    at: usize,
}

/// What a format has to be told about times: the year and month that a log was written to last, for those which write no
/// year. Of a month later than that one, the year before is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Written {
    pub year: i32,
    /// 1 to 12.
    pub month: u32,
}

impl From<Time> for Written {
    fn from(time: Time) -> Self {
        let Civil { year, month, .. } = time.civil();
        Self { year, month }
    }
}

impl Written {
    fn year_of(self, month: u32) -> i32 {
        if month > self.month { self.year - 1 } else { self.year }
    }
}

impl<'a> Cursor<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0 }
    }

    /// Where it stands.
    pub(super) fn at(self) -> usize {
        self.at
    }

    pub(super) fn rest(self) -> &'a [u8] {
        &self.line[self.at..]
    }

    pub(super) fn peek(self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    /// Exactly this.
    pub(super) fn expect(&mut self, text: &[u8]) -> Option<()> {
        self.rest().starts_with(text).then(|| self.at += text.len())
    }

    /// Any number of spaces, one at least.
    pub(super) fn spaces(&mut self) -> Option<()> {
        let spaces = self.rest().iter().take_while(|byte| **byte == b' ').count();
        self.at += spaces;
        (spaces > 0).then_some(())
    }

    /// Everything up to the next space, which is something.
    pub(super) fn word(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest();
        let word = &rest[..memchr::memchr(b' ', rest).unwrap_or(rest.len())];
        self.at += word.len();
        (!word.is_empty()).then_some(word)
    }

    /// A word and the spaces behind it.
    pub(super) fn word_and_spaces(&mut self) -> Option<&'a [u8]> {
        let word = self.word()?;
        self.spaces()?;
        Some(word)
    }

    /// Everything up to the byte, which is passed over.
    pub(super) fn until(&mut self, end: u8) -> Option<&'a [u8]> {
        let rest = self.rest();
        let found = memchr::memchr(end, rest)?;
        self.at += found + 1;
        Some(&rest[..found])
    }

    /// Everything up to the text, which is passed over.
    pub(super) fn until_text(&mut self, end: &[u8]) -> Option<&'a [u8]> {
        let rest = self.rest();
        let found = memchr::memmem::find(rest, end)?;
        self.at += found + end.len();
        Some(&rest[..found])
    }

    /// What is in quotes, in which a backslash takes the next byte's meaning away.
    pub(super) fn quoted(&mut self) -> Option<&'a [u8]> {
        self.expect(b"\"")?;
        let rest = self.rest();
        let mut at = 0;
        while let Some(found) = memchr::memchr2(b'"', b'\\', rest.get(at..)?) {
            at += found;
            if rest[at] == b'"' {
                self.at += at + 1;
                return Some(&rest[..at]);
            }
            at += 2;
        }
        None
    }

    /// A number of so many digits.
    #[inline]
    pub(super) fn digits(&mut self, count: usize) -> Option<u32> {
        let digits = self.rest().get(..count)?;
        let mut number = 0_u32;
        for digit in digits {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            number = number.wrapping_mul(10).wrapping_add(u32::from(digit));
        }
        self.at += count;
        Some(number)
    }

    /// A number of one digit at least, and 18 at most.
    pub(super) fn number(&mut self) -> Option<u64> {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=18).contains(&digits) {
            return None;
        }
        let number = self.rest()[..digits].iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        self.at += digits;
        Some(number)
    }

    /// A fraction of a second behind a point or a comma, in microseconds; 0 if there is none.
    pub(super) fn fraction(&mut self) -> Option<u32> {
        if !matches!(self.peek(), Some(b'.' | b',')) {
            return Some(0);
        }
        let digits = self.rest()[1..].iter().take_while(|byte| byte.is_ascii_digit()).take(9);
        let (mut micros, mut count) = (0, 0);
        for digit in digits {
            count += 1;
            if count <= 6 {
                micros = micros * 10 + u32::from(digit - b'0');
            }
        }
        if count == 0 {
            return None;
        }
        self.at += 1 + count;
        Some(micros * 10_u32.pow(6_usize.saturating_sub(count) as u32))
    }

    /// `23:20:11` with or without a fraction, put into a date.
    #[inline]
    pub(super) fn time_of_day(&mut self, date: Civil) -> Option<Time> {
        let hour = self.digits(2)?;
        self.expect(b":")?;
        let minute = self.digits(2)?;
        self.expect(b":")?;
        let second = self.digits(2)?;
        let micros = self.fraction()?;
        Time::of(Civil { hour, minute, second, micros, ..date })
    }

    /// `2025-11-05T23:20:11.594011+01:00`: the separator may be a space, the fraction and the offset may be missing. With
    /// another `dash` the date's separator is that.
    #[inline]
    pub(super) fn date_time(&mut self, dash: &[u8]) -> Option<Time> {
        let year = self.digits(4)? as i32;
        self.expect(dash)?;
        let month = self.digits(2)?;
        self.expect(dash)?;
        let day = self.digits(2)?;
        if !matches!(self.peek()?, b'T' | b' ' | b't') {
            return None;
        }
        self.at += 1;
        let time = self.time_of_day(Civil { year, month, day, ..Civil::default() })?;
        self.offset(time)
    }

    /// `Z`, `+0100` or `+01:00`, if there is one.
    pub(super) fn offset(&mut self, time: Time) -> Option<Time> {
        let sign = match self.peek() {
            Some(b'Z' | b'z') => {
                self.at += 1;
                return Some(time);
            }
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Some(time),
        };
        let mut ahead = *self;
        ahead.at += 1;
        let (Some(hours), ()) = (ahead.digits(2), ahead.expect(b":").unwrap_or(())) else {
            return Some(time);
        };
        let Some(minutes) = ahead.digits(2) else { return Some(time) };
        *self = ahead;
        Some(time.ahead_of_utc(sign * i64::from(hours * 60 + minutes)))
    }

    /// `Nov`.
    pub(super) fn month(&mut self) -> Option<u32> {
        const MONTHS: [&[u8; 3]; 12] =
            [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
        let name = self.rest().first_chunk::<3>()?;
        let month = MONTHS.iter().position(|month| *month == name)?;
        self.at += 3;
        Some(month as u32 + 1)
    }

    /// `Mon`, of a week.
    pub(super) fn weekday(&mut self) -> Option<()> {
        const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
        let name = self.rest().first_chunk::<3>()?;
        DAYS.contains(&name).then(|| self.at += 3)
    }

    /// `Nov  5 23:20:11`, of a year that the log does not say.
    pub(super) fn month_and_time(&mut self, written: Written) -> Option<Time> {
        let month = self.month()?;
        self.spaces()?;
        let day = self.number()?;
        self.spaces()?;
        let date =
            Civil { year: written.year_of(month), month, day: u32::try_from(day).ok()?, ..Civil::default() };
        self.time_of_day(date)
    }

    /// Two digits of a month and two of a day, with something between them, of a year that the log does not say.
    pub(super) fn month_and_day(&mut self, between: &[u8], written: Written) -> Option<Civil> {
        let month = self.digits(2)?;
        self.expect(between)?;
        let day = self.digits(2)?;
        Some(Civil { year: written.year_of(month), month, day, ..Civil::default() })
    }
}

/// A time as people write one: a date, with or without a time of day, to the minute or finer.
pub(crate) fn time_of(text: &str) -> Option<Time> {
    let full = match text.len() {
        10 => format!("{text}T00:00:00"),
        16 => format!("{text}:00"),
        _ => text.to_owned(),
    };
    let mut cursor = Cursor::new(full.as_bytes());
    let time = cursor.date_time(b"-")?;
    cursor.rest().is_empty().then_some(time)
}
