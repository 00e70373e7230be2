//! Conditions on records: `level=ERROR`, `message~timed out`, `time>=2025-11-05T23:20`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::format::{Record, time_of};
use crate::level::Level;
use crate::time::Time;

/// What is compared how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Is,
    IsNot,
    AtLeast,
    AtMost,
    Above,
    Below,
    Contains,
    ContainsNot,
}

impl Operator {
    /// Longer ones first: `>=` is not `>`.
    const ALL: [(&'static str, Self); 8] = [
        ("!=", Self::IsNot),
        ("!~", Self::ContainsNot),
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        ("=", Self::Is),
        ("~", Self::Contains),
        (">", Self::Above),
        ("<", Self::Below),
    ];

    fn text(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, operator)| *operator == self).map_or("", |(text, _)| text)
    }

    fn compares<T: Ord>(self, one: &T, other: &T) -> bool {
        match self {
            Self::Is => one == other,
            Self::IsNot => one != other,
            Self::AtLeast => one >= other,
            Self::AtMost => one <= other,
            Self::Above => one > other,
            Self::Below => one < other,
            Self::Contains | Self::ContainsNot => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Level(Level),
    Time(Time),
    Message(String),
}

/// A condition on a record.
///
/// `level` and `time` know `= != >= <= > <`; `message` knows `= !=` and `~ !~` (contains, contains not), and is the first
/// line of a record of several. A record without a level or a time fulfils no condition on it but `!=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Condition {
    operator: Operator,
    test: Test,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Nothing is compared.
    #[error(
        "'{0}' compares nothing: write e.g. level=ERROR, level>=WARN, message~timeout or time>=2025-11-05T23:20"
    )]
    NoOperator(String),
    /// There is no such field.
    #[error("'{0}' is no field: level, message or time")]
    UnknownField(String),
    /// The field is not compared like that.
    #[error("{field} is not compared with '{operator}': it knows {known}")]
    NotCompared { field: &'static str, operator: &'static str, known: &'static str },
    /// There is no such level.
    #[error("'{0}' is no level: TRACE, DEBUG, INFO, NOTICE, WARN, ERROR or FATAL")]
    UnknownLevel(String),
    /// It is no time.
    #[error(
        "'{0}' is no time: write 2025-11-05, 2025-11-05T23:20 or 2025-11-05T23:20:11, with Z or +01:00 if it matters"
    )]
    NoTime(String),
    /// There is nothing to look for.
    #[error("there is no text to look for behind 'message{0}'")]
    NoText(&'static str),
}

impl Condition {
    pub(super) fn holds(&self, line: &[u8], record: &Record) -> bool {
        match &self.test {
            Test::Level(level) => {
                let missing = self.operator == Operator::IsNot;
                record.level.map_or(missing, |own| self.operator.compares(&own, level))
            }
            Test::Time(time) => {
                let missing = self.operator == Operator::IsNot;
                record.time.map_or(missing, |own| self.operator.compares(&own, time))
            }
            Test::Message(text) => {
                let message = line.get(record.message.clone()).unwrap_or_default();
                let found = || memchr::memmem::find(message, text.as_bytes()).is_some();
                match self.operator {
                    Operator::Contains => found(),
                    Operator::ContainsNot => !found(),
                    operator => operator.compares(&message, &text.as_bytes()),
                }
            }
        }
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let at = text.find(['=', '!', '~', '<', '>']);
        let found = at.and_then(|at| {
            let (text, operator) =
                Operator::ALL.into_iter().find(|(operator, _)| text[at..].starts_with(operator))?;
            Some((at, text.len(), operator))
        });
        let (at, length, operator) = found.ok_or_else(|| ConditionError::NoOperator(text.to_owned()))?;
        let (field, value) = (text[..at].trim(), text[at + length..].trim());
        let contains = matches!(operator, Operator::Contains | Operator::ContainsNot);
        let ordered = |field| {
            let known = "= != >= <= > <";
            if contains {
                Err(ConditionError::NotCompared { field, operator: operator.text(), known })
            } else {
                Ok(())
            }
        };
        let test = match field {
            "level" => {
                ordered("level")?;
                let level = Level::of_word(value.as_bytes());
                Test::Level(level.ok_or_else(|| ConditionError::UnknownLevel(value.to_owned()))?)
            }
            "time" => {
                ordered("time")?;
                Test::Time(time_of(value).ok_or_else(|| ConditionError::NoTime(value.to_owned()))?)
            }
            "message" if !contains && !matches!(operator, Operator::Is | Operator::IsNot) => {
                let known = "= != ~ !~";
                return Err(ConditionError::NotCompared {
                    field: "message",
                    operator: operator.text(),
                    known,
                });
            }
            "message" if contains && value.is_empty() => return Err(ConditionError::NoText(operator.text())),
            "message" => Test::Message(value.to_owned()),
            other => return Err(ConditionError::UnknownField(other.to_owned())),
        };
        Ok(Self { operator, test })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = self.operator.text();
        match &self.test {
            Test::Level(level) => write!(f, "level{operator}{level}"),
            Test::Time(time) => write!(f, "time{operator}{time}"),
            Test::Message(text) => write!(f, "message{operator}{text}"),
        }
    }
}

impl TryFrom<String> for Condition {
    type Error = ConditionError;

    fn try_from(text: String) -> Result<Self, ConditionError> {
        text.parse()
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> Self {
        condition.to_string()
    }
}
