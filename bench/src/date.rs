//! The date and time of a run, in UTC, for the names of files.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    unix_seconds: u64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix_seconds: since.as_secs() }
    }

    /// `2031-02-28T23:59:59Z` (RFC 3339).
    pub(crate) fn rfc3339(self) -> String {
        let time = self.time();
        format!("{}T{}:{}:{}Z", self.date(), &time[..2], &time[2..4], &time[4..])
    }

    /// `2031-02-28`.
    pub(crate) fn date(self) -> String {
        let (year, month, day) = civil(self.unix_seconds / 86_400);
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// `235959`.
    pub(crate) fn time(self) -> String {
        let second = self.unix_seconds % 86_400;
        format!("{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60)
    }
}

/// Year, month and day of a day since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March, so that the leap day is a year's last; eras of 400 years are all alike.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        let day = |unix_seconds| Moment { unix_seconds }.date();
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(951_782_400), "2000-02-29");
        assert_eq!(day(1_709_251_199), "2024-02-29");
        assert_eq!(day(4_107_542_400), "2100-03-01");
        assert_eq!(Moment { unix_seconds: 86_399 }.time(), "235959");
        assert_eq!(Moment { unix_seconds: 951_868_799 }.rfc3339(), "2000-02-29T23:59:59Z");
    }
}
