//! Levels: what every format's own words for severity come down to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad a record is, mildest first.
///
/// Seven, because fewer would lose what somebody asks for: syslog and Apache tell NOTICE from INFO, and what ends a
/// process (critical, alert, emergency, panic) is another thing than an ERROR. Words: `FINEST`, `FINER` and verbose are
/// TRACE; `FINE` and `CONFIG` are DEBUG; `SEVERE` is ERROR; `FAILURE` (Blue Gene's worst) is FATAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Notice,
    Warn,
    Error,
    Fatal,
}

impl Level {
    /// All of them, mildest first.
    pub const ALL: [Self; 7] =
        [Self::Trace, Self::Debug, Self::Info, Self::Notice, Self::Warn, Self::Error, Self::Fatal];

    /// All of them, as results list them: by name.
    pub const BY_NAME: [Self; 7] =
        [Self::Debug, Self::Error, Self::Fatal, Self::Info, Self::Notice, Self::Trace, Self::Warn];

    /// Its name, in capitals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }

    /// Of a word that a log uses for it, in any case; `None` if it is no level's.
    #[must_use]
    pub fn of_word(word: &[u8]) -> Option<Self> {
        if word.len() > 13 {
            return None;
        }
        let mut upper = [0; 13];
        let upper = &mut upper[..word.len()];
        upper.copy_from_slice(word);
        upper.make_ascii_uppercase();
        Some(match &*upper {
            b"TRACE" | b"VERBOSE" | b"FINEST" | b"FINER" | b"SILLY" => Self::Trace,
            b"DEBUG" | b"FINE" | b"CONFIG" | b"DBG" | b"DEBU" => Self::Debug,
            b"INFO" | b"INFORMATION" | b"INFORMATIONAL" | b"INF" => Self::Info,
            b"NOTICE" | b"AUDIT" => Self::Notice,
            b"WARN" | b"WARNING" | b"WRN" => Self::Warn,
            b"ERROR" | b"ERR" | b"SEVERE" | b"EROR" => Self::Error,
            b"FATAL" | b"CRITICAL" | b"CRIT" | b"ALERT" | b"EMERG" | b"EMERGENCY" | b"PANIC" | b"DPANIC"
            | b"FAILURE" => Self::Fatal,
            _ => return None,
        })
    }

    /// Of a severity of syslog, 0 to 7 (RFC 5424, 6.2.1).
    pub(crate) fn of_severity(severity: u8) -> Option<Self> {
        Some(match severity {
            0..=2 => Self::Fatal,
            3 => Self::Error,
            4 => Self::Warn,
            5 => Self::Notice,
            6 => Self::Info,
            7 => Self::Debug,
            _ => return None,
        })
    }

    /// Of a letter: glog's and logcat's.
    pub(crate) fn of_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'V' => Self::Trace,
            b'D' => Self::Debug,
            b'I' => Self::Info,
            b'W' => Self::Warn,
            b'E' => Self::Error,
            b'F' => Self::Fatal,
            _ => return None,
        })
    }

    /// Of a number of pino's and bunyan's: 10 is trace, 60 is fatal, what is between belongs to the one below.
    pub(crate) fn of_number(number: u32) -> Option<Self> {
        Some(match number {
            10..20 => Self::Trace,
            20..30 => Self::Debug,
            30..40 => Self::Info,
            40..50 => Self::Warn,
            50..60 => Self::Error,
            60..100 => Self::Fatal,
            _ => return None,
        })
    }

    /// Its place in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Level;

    #[test]
    fn a_name_is_a_word_for_its_level() {
        for level in Level::ALL {
            assert_eq!(Level::of_word(level.name().as_bytes()), Some(level));
            assert_eq!(Level::of_word(level.name().to_lowercase().as_bytes()), Some(level));
            assert_eq!(Level::ALL[level.index()], level);
        }
        let mut by_name = Level::ALL;
        by_name.sort_by_key(|level| level.name());
        assert_eq!(by_name, Level::BY_NAME);
        for word in ["", "INFOS", "errors", "12", "informationally"] {
            assert_eq!(Level::of_word(word.as_bytes()), None, "{word}");
        }
    }
}
