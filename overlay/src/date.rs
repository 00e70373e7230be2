//! Days, as folders and configuration write them: YYYYMMDD.

use std::fmt;
use std::str::FromStr;

/// A day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(u32);

/// No day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no date: eight digits, YYYYMMDD, of a day that there is")]
pub struct NoDate(String);

impl Date {
    /// Of the number YYYYMMDD.
    pub fn from_number(number: u32) -> Option<Self> {
        let part = |divisor, modulus| i8::try_from(number / divisor % modulus).ok();
        let year = i16::try_from(number / 10_000).ok().filter(|year| *year >= 1)?;
        jiff::civil::Date::new(year, part(100, 100)?, part(1, 100)?).ok().map(|_| Self(number))
    }

    /// Days since the first one of 1970.
    pub fn days_since_1970(self) -> i32 {
        let epoch = jiff::civil::date(1970, 1, 1);
        self.civil().since(epoch).map_or(0, |span| span.get_days())
    }

    /// The other way round; a day that no calendar of ours has is the first one of 1970.
    pub fn of_days_since_1970(days: i32) -> Self {
        let epoch = jiff::civil::date(1970, 1, 1);
        let date = epoch.checked_add(jiff::Span::new().days(days)).unwrap_or(epoch);
        let part = |part: i8| u32::from(part.unsigned_abs());
        Self(u32::from(date.year().unsigned_abs()) * 10_000 + part(date.month()) * 100 + part(date.day()))
    }

    fn civil(self) -> jiff::civil::Date {
        let part = |divisor, modulus| (self.0 / divisor % modulus) as i8;
        jiff::civil::date((self.0 / 10_000) as i16, part(100, 100), part(1, 100))
    }

    /// The number YYYYMMDD.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for Date {
    type Err = NoDate;

    fn from_str(text: &str) -> Result<Self, NoDate> {
        let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.and_then(Self::from_number).ok_or_else(|| NoDate(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}", self.0)
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Days from the first to the last one, both included.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Span {
    first: Date,
    last: Date,
}

impl Span {
    /// `None` if it ends before it begins.
    pub fn new(first: Date, last: Date) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// Whether the day is one of them.
    pub fn contains(&self, date: Date) -> bool {
        (self.first..=self.last).contains(&date)
    }

    /// Whether it has a day from `first` to `last`; `None` is no bound.
    pub fn reaches(&self, first: Option<Date>, last: Option<Date>) -> bool {
        first.is_none_or(|first| first <= self.last) && last.is_none_or(|last| last >= self.first)
    }

    /// Whether both have a day.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}–{}", self.first, self.last)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_days_that_there_are() {
        for good in ["20200229", "20200810", "00010101", "99991231"] {
            assert_eq!(good.parse::<Date>().unwrap().to_string(), good);
        }
        for bad in [
            "20200230",
            "20210229",
            "2020081",
            "202008100",
            "2020-8-1",
            "00000101",
            "20201301",
            "+2020081",
            "",
        ] {
            assert!(bad.parse::<Date>().is_err(), "{bad}");
        }
    }
}
