//! Points in time, to the microsecond, and the buckets that they fall into.
//!
//! A log rarely says in which zone it counts: a time without an offset is taken as it is written, one with an offset is
//! brought to UTC. Years outside 1970 to 2199 are no times: a broken digit should not stretch a chart over millennia.
//! The arithmetic is Howard Hinnant's ("chrono-compatible low-level date algorithms"): it takes a few nanoseconds, which
//! a general library cannot promise, and every record has a time.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Microseconds since the first instant of 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub i64);

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// A date and a time of day, as a log writes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i32,
    /// 1 to 12.
    pub(crate) month: u32,
    /// 1 to 31.
    pub(crate) day: u32,
    pub(crate) hour: u32,
    pub(crate) minute: u32,
    /// 60 is a leap second, and counts as the last microsecond before it.
    pub(crate) second: u32,
    pub(crate) micros: u32,
}

impl Time {
    /// Of a date and time of day; `None` if there is no such one.
    pub(crate) fn of(civil: Civil) -> Option<Self> {
        let Civil { year, month, day, hour, minute, second, micros } = civil;
        let fits = (1970..2200).contains(&year) && (1..=12).contains(&month) && hour < 24 && minute < 60;
        if !fits || day < 1 || day > days_of(year, month) || second > 60 || micros >= 1_000_000 {
            return None;
        }
        let (second, micros) = if second == 60 { (59, 999_999) } else { (second, micros) };
        let of_day = i64::from(hour * 3600 + minute * 60 + second);
        Some(Self((days_from_civil(year, month, day) * 86_400 + of_day) * SECOND + i64::from(micros)))
    }

    /// Seconds since the first instant of 1970, and microseconds.
    pub(crate) fn of_seconds(seconds: i64, micros: u32) -> Option<Self> {
        (0..days_from_civil(2200, 1, 1) * 86_400)
            .contains(&seconds)
            .then(|| Self(seconds * SECOND + i64::from(micros.min(999_999))))
    }

    /// The same instant, when the clock that wrote it was so many minutes ahead of UTC.
    pub(crate) fn ahead_of_utc(self, minutes: i64) -> Self {
        Self((self.0 - minutes * 60 * SECOND).max(0))
    }

    pub(crate) fn civil(self) -> Civil {
        let (year, month, day) = civil_from_days(self.0.div_euclid(DAY));
        let of_day = self.0.rem_euclid(DAY);
        let part = |unit: i64, of: i64| (of_day / unit % of) as u32;
        Civil {
            year,
            month,
            day,
            hour: part(3600 * SECOND, 24),
            minute: part(60 * SECOND, 60),
            second: part(SECOND, 60),
            micros: part(1, SECOND),
        }
    }
}

/// A time before 1970 is the first instant of it.
impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// `2025-11-05T23:20:11.594011`; a whole second has no fraction.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second, micros } = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if micros == 0 { Ok(()) } else { write!(f, ".{micros:06}") }
    }
}

/// Days since the first of 1970 of a date of the Gregorian calendar.
fn days_from_civil(year: i32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month = i64::from(month);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i32, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = (if shifted < 10 { shifted + 3 } else { shifted - 9 }) as u32;
    ((year + era * 400) as i32 + i32::from(month <= 2), month, day)
}

fn days_of(year: i32, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// How long a bucket of the counts over time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

/// No unit of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no length of a bucket: second, minute, hour or day")]
pub struct UnknownUnit(String);

impl Unit {
    /// All of them, the shortest first.
    pub const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// How many seconds it has.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }

    /// The number of the bucket that a time falls into.
    pub(crate) fn bucket(self, time: Time) -> u64 {
        time.0.max(0).unsigned_abs() / (u64::from(self.seconds()) * SECOND.unsigned_abs())
    }

    /// When a bucket begins.
    #[must_use]
    pub fn begin(self, bucket: u64) -> Time {
        let length = u64::from(self.seconds()) * SECOND.unsigned_abs();
        Time(i64::try_from(bucket.saturating_mul(length)).unwrap_or(i64::MAX))
    }

    /// The next longer one.
    pub(crate) const fn longer(self) -> Option<Self> {
        match self {
            Self::Second => Some(Self::Minute),
            Self::Minute => Some(Self::Hour),
            Self::Hour => Some(Self::Day),
            Self::Day => None,
        }
    }
}

impl FromStr for Unit {
    type Err = UnknownUnit;

    fn from_str(text: &str) -> Result<Self, UnknownUnit> {
        Self::ALL.into_iter().find(|unit| unit.name() == text).ok_or_else(|| UnknownUnit(text.to_owned()))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{Civil, DAY, Time, Unit, civil_from_days, days_from_civil};

    #[test]
    fn every_day_is_the_calendars() {
        let mut date = jiff::civil::date(1970, 1, 1);
        for day in 0..84_006 {
            let (year, month, of_month) = (i32::from(date.year()), date.month() as u32, date.day() as u32);
            assert_eq!(days_from_civil(year, month, of_month), day);
            assert_eq!(civil_from_days(day), (year, month, of_month));
            date = date.tomorrow().unwrap();
        }
    }

    #[test]
    fn a_time_is_written_as_it_was() {
        let civil =
            Civil { year: 2025, month: 11, day: 5, hour: 23, minute: 20, second: 11, micros: 594_011 };
        let time = Time::of(civil).unwrap();
        assert_eq!(time.to_string(), "2025-11-05T23:20:11.594011");
        assert_eq!(time.civil(), civil);
        assert_eq!(Unit::Minute.begin(Unit::Minute.bucket(time)).to_string(), "2025-11-05T23:20:00");
        assert_eq!(time.ahead_of_utc(60).to_string(), "2025-11-05T22:20:11.594011");
        assert_eq!(Time(DAY).to_string(), "1970-01-02T00:00:00");
    }

    #[test]
    fn what_no_calendar_has_is_no_time() {
        let day = Civil { year: 2024, month: 2, day: 29, ..Civil::default() };
        assert!(Time::of(day).is_some());
        for wrong in [
            Civil { year: 2023, ..day },
            Civil { month: 13, ..day },
            Civil { month: 0, ..day },
            Civil { day: 0, ..day },
            Civil { hour: 24, ..day },
            Civil { minute: 60, ..day },
            Civil { second: 61, ..day },
            Civil { year: 9999, ..day },
            Civil { year: -1, ..day },
        ] {
            assert_eq!(Time::of(wrong), None, "{wrong:?}");
        }
    }
}
