//! What fits: every name, size and number is checked before a database hears of it.

use std::collections::HashSet;

use crate::change::{Change, Expect};
use crate::error::Invalid;
use crate::range::{ABOVE, Range};
use crate::task::{Claim, NewTask};

/// Bytes of the name of a queue, a worker or an office.
pub const LONGEST_NAME: usize = 128;
/// Bytes of the key of a task or a record.
pub const LONGEST_KEY: usize = 512;
/// Bytes of a payload, a result or a value: 16 MiB.
pub const LONGEST_VALUE: usize = 16 << 20;
/// Bytes of a reason; what is longer is cut.
pub const LONGEST_REASON: usize = 4096;
/// Bytes of all payloads, results and values of a transaction: 64 MiB.
pub const LONGEST_BATCH: usize = 64 << 20;
/// Changes and added tasks of a transaction.
pub const MOST_CHANGES: usize = 10_000;
/// Claims at a time.
pub const MOST_CLAIMS: usize = 1000;
/// Rows that a reading call gives at a time.
pub const MOST_ROWS: usize = 10_000;

fn text(what: &'static str, text: &str, most: usize) -> Result<(), Invalid> {
    let bad = |character: char| character.is_control() || character == ABOVE;
    if text.is_empty() || text.len() > most || text.contains(bad) {
        return Err(Invalid::Name { what, name: text.chars().take(40).collect(), most });
    }
    Ok(())
}

pub(crate) fn queue(name: &str) -> Result<(), Invalid> {
    text("queue", name, LONGEST_NAME)
}

pub(crate) fn worker(name: &str) -> Result<(), Invalid> {
    text("worker", name, LONGEST_NAME)
}

pub(crate) fn office(name: &str) -> Result<(), Invalid> {
    text("office", name, LONGEST_NAME)
}

pub(crate) fn task(key: &str) -> Result<(), Invalid> {
    text("task", key, LONGEST_KEY)
}

pub(crate) fn record(key: &str) -> Result<(), Invalid> {
    text("record", key, LONGEST_KEY)
}

fn number(what: &'static str, number: usize, most: usize) -> Result<(), Invalid> {
    if number == 0 || number > most {
        return Err(Invalid::TooMany { what, number, most });
    }
    Ok(())
}

pub(crate) fn claims(most: usize) -> Result<(), Invalid> {
    number("claims", most, MOST_CLAIMS)
}

pub(crate) fn renewals(claims: &[Claim]) -> Result<(), Invalid> {
    if claims.len() > MOST_CLAIMS {
        return Err(Invalid::TooMany { what: "claims", number: claims.len(), most: MOST_CLAIMS });
    }
    claims.iter().try_for_each(|claim| queue(&claim.queue).and_then(|()| task(&claim.key)))
}

pub(crate) fn rows(limit: usize) -> Result<(), Invalid> {
    number("rows", limit, MOST_ROWS)
}

/// The bounds of a range need not be keys, but a database must take them for text.
pub(crate) fn range(range: &Range) -> Result<(), Invalid> {
    rows(range.limit)?;
    for end in [&range.from, &range.to] {
        if end.contains('\0') || end.len() > LONGEST_KEY + ABOVE.len_utf8() {
            let name = end.chars().take(40).collect();
            return Err(Invalid::Name { what: "end of a range", name, most: LONGEST_KEY });
        }
    }
    Ok(())
}

/// What a transaction holds so far.
#[derive(Default)]
struct Sum<'a> {
    bytes: usize,
    items: usize,
    records: HashSet<&'a str>,
    tasks: HashSet<(&'a str, &'a str)>,
}

impl<'a> Sum<'a> {
    fn bytes(&mut self, what: &'static str, bytes: &[u8]) -> Result<(), Invalid> {
        if bytes.len() > LONGEST_VALUE {
            return Err(Invalid::TooLong { what, bytes: bytes.len(), most: LONGEST_VALUE });
        }
        self.bytes += bytes.len();
        if self.bytes > LONGEST_BATCH {
            return Err(Invalid::TooLong { what: "transaction", bytes: self.bytes, most: LONGEST_BATCH });
        }
        Ok(())
    }

    fn record(&mut self, key: &'a str) -> Result<(), Invalid> {
        record(key)?;
        if self.records.insert(key) {
            return Ok(());
        }
        Err(Invalid::Twice { what: "record", name: key.to_owned() })
    }

    fn task(&mut self, queue_name: &'a str, key: &'a str) -> Result<(), Invalid> {
        queue(queue_name)?;
        task(key)?;
        if self.tasks.insert((queue_name, key)) {
            return Ok(());
        }
        Err(Invalid::Twice { what: "task", name: format!("{queue_name}/{key}") })
    }

    fn claim(&mut self, claim: &'a Claim) -> Result<(), Invalid> {
        self.task(&claim.queue, &claim.key)
    }

    fn new_tasks(&mut self, queue: &'a str, tasks: &'a [NewTask]) -> Result<(), Invalid> {
        for task in tasks {
            self.task(queue, &task.key)?;
            self.bytes("payload", &task.payload)?;
            if task.attempts == 0 {
                return Err(Invalid::NoAttempts { key: task.key.clone() });
            }
        }
        self.items += tasks.len();
        Ok(())
    }

    fn change(&mut self, change: &'a Change) -> Result<(), Invalid> {
        self.items += 1;
        match change {
            Change::Put { key, value, .. } => {
                self.record(key)?;
                self.bytes("value", value)
            }
            Change::Delete { key, expect: Expect::Absent } => Err(Invalid::DeleteAbsent { key: key.clone() }),
            Change::Delete { key, .. } => self.record(key),
            Change::Add { queue: name, tasks } => {
                queue(name)?;
                self.new_tasks(name, tasks)
            }
            Change::Complete { claim, result } => {
                self.claim(claim)?;
                self.bytes("result", result)
            }
            Change::Fail { claim, .. } | Change::Release { claim } => self.claim(claim),
            Change::Forget { queue, key } => self.task(queue, key),
            Change::Holds { office: name, .. } => office(name),
            Change::Wake { queue: name } => queue(name),
        }
    }
}

/// A transaction as a whole.
pub(crate) fn changes(changes: &[Change]) -> Result<(), Invalid> {
    let mut sum = Sum::default();
    for change in changes {
        sum.change(change)?;
        if sum.items > MOST_CHANGES {
            return Err(Invalid::TooMany { what: "changes", number: sum.items, most: MOST_CHANGES });
        }
    }
    Ok(())
}

/// A reason that is not too long, and that every database takes for text.
pub(crate) fn reason(reason: &str) -> String {
    const CUT: &str = " …";
    let clean = reason.replace('\0', "\u{FFFD}");
    if clean.len() <= LONGEST_REASON {
        return clean;
    }
    let end = clean.floor_char_boundary(LONGEST_REASON - CUT.len());
    format!("{}{CUT}", &clean[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters_and_holds_no_zero() {
        let long = reason(&"ä".repeat(LONGEST_REASON));
        assert!(long.len() <= LONGEST_REASON && long.ends_with("ä …"), "{}", long.len());
        assert_eq!(reason("a\0b"), "a\u{FFFD}b");
    }

    #[test]
    fn what_sorts_or_prints_badly_is_no_name() {
        for bad in ["", "a\0", "a\nb", "\u{10FFFF}", &"x".repeat(LONGEST_KEY + 1)] {
            assert!(record(bad).is_err(), "{bad:?}");
        }
        assert_eq!(record(&"x".repeat(LONGEST_KEY)), Ok(()));
        assert_eq!(record("übung/ς/1"), Ok(()));
    }

    #[test]
    fn a_transaction_names_nothing_twice_and_is_bounded() {
        let put = |key: &str| Change::Put { key: key.into(), value: vec![], expect: Expect::Any };
        assert_eq!(changes(&[put("a"), put("b")]), Ok(()));
        assert!(matches!(changes(&[put("a"), put("a")]), Err(Invalid::Twice { what: "record", .. })));
        let claim = Claim { queue: "q".into(), key: "t".into(), epoch: 1 };
        let twice = [Change::Release { claim }, Change::Forget { queue: "q".into(), key: "t".into() }];
        assert!(matches!(changes(&twice), Err(Invalid::Twice { what: "task", .. })));
        let tasks = (0..=MOST_CHANGES).map(|n| NewTask::new(n.to_string(), [])).collect();
        let many = [Change::Add { queue: "q".into(), tasks }];
        assert!(matches!(changes(&many), Err(Invalid::TooMany { .. })));
        let long = Change::Put { key: "a".into(), value: vec![0; LONGEST_VALUE + 1], expect: Expect::Any };
        assert!(matches!(changes(&[long]), Err(Invalid::TooLong { what: "value", .. })));
    }
}
