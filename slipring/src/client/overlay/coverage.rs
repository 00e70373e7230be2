//! How complete an answer is, as it says itself and as a person reads it.

use serde::Deserialize;

use crate::text::{counted, grouped, table};

/// Names that are told of what is missing for one reason; JSON has them all.
const MOST_NAMED: usize = 8;

/// An answer without its records.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Said {
    pub(super) uid: String,
    pub(super) status: String,
    pub(super) chunks: u64,
    pub(super) matched: u64,
    pub(super) returned: u64,
    pub(super) coverage: Coverage,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Coverage {
    pub(super) partitions: u64,
    pub(super) answered: u64,
    pub(super) missing: Vec<Missing>,
    pub(super) rows_scanned: u64,
    pub(super) visited: Vec<Visit>,
    /// Of one that does not say it yet: none.
    #[serde(default)]
    pub(super) rows_malformed: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Missing {
    pub(super) name: String,
    pub(super) process: String,
    pub(super) why: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Visit {
    pub(super) process: String,
    pub(super) elapsed_us: u64,
    pub(super) partitions: u64,
    pub(super) rows_scanned: u64,
}

/// `2,000 of 225,521 records: the limit left out 223,521`.
pub(super) fn counts(returned: u64, matched: u64) -> String {
    match matched.checked_sub(returned) {
        None | Some(0) => counted(returned, "record"),
        Some(left) => {
            format!(
                "{} of {}: the limit left out {}",
                grouped(returned),
                counted(matched, "record"),
                grouped(left)
            )
        }
    }
}

impl Coverage {
    /// Lines: how much there is, and what is missing.
    pub(super) fn words(&self) -> String {
        let mut text = format!(
            "{} of {} answered, {} scanned\n",
            grouped(self.answered),
            counted(self.partitions, "partition"),
            counted(self.rows_scanned, "row")
        );
        if self.rows_malformed > 0 {
            text.push_str(&format!("{} left out that are no rows\n", counted(self.rows_malformed, "line")));
        }
        if !self.missing.is_empty() {
            text.push_str(&self.missing_words());
        }
        text
    }

    /// What is missing, by who was to answer and why.
    pub(super) fn missing_words(&self) -> String {
        let mut reasons: Vec<((&str, &str), Vec<&str>)> = Vec::new();
        for Missing { name, process, why } in &self.missing {
            let reason = (process.as_str(), why.as_str());
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, names)) => names.push(name),
                None => reasons.push((reason, vec![name])),
            }
        }
        let line = |((process, why), names): &((&str, &str), Vec<&str>)| {
            let more = match names.len().saturating_sub(MOST_NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!(
                "missing from {process}: {}{more} ({why})\n",
                names[..names.len().min(MOST_NAMED)].join(", ")
            )
        };
        reasons.iter().map(line).collect()
    }

    /// The time each process took.
    pub(super) fn explained(&self) -> String {
        let row = |visit: &Visit| {
            vec![
                visit.process.clone(),
                grouped(visit.partitions),
                grouped(visit.rows_scanned),
                format!("{:.3}", visit.elapsed_us as f64 / 1000.0),
            ]
        };
        let rows: Vec<_> = self.visited.iter().map(row).collect();
        table(&["process", ">partitions", ">rows scanned", ">ms"], &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_by_reason_and_what_was_left_out_by_number() {
        let missing = |name: u32, process: &str, why: &str| Missing {
            name: name.to_string(),
            process: process.into(),
            why: why.into(),
        };
        let mut coverage =
            Coverage { partitions: 12, answered: 1, rows_scanned: 1000, ..Coverage::default() };
        coverage.missing =
            (0..10).map(|day| missing(20_200_821 + day, "D", "it cannot be reached")).collect();
        coverage.missing.push(missing(20_200_910, "F", "no answer in time"));
        assert_eq!(
            coverage.words(),
            "1 of 12 partitions answered, 1,000 rows scanned\n\
             missing from D: 20200821, 20200822, 20200823, 20200824, 20200825, 20200826, 20200827, 20200828 and 2 more \
             (it cannot be reached)\n\
             missing from F: 20200910 (no answer in time)\n"
        );
        assert_eq!(counts(2000, 225_521), "2,000 of 225,521 records: the limit left out 223,521");
        assert_eq!((counts(1, 1).as_str(), counts(0, 0).as_str()), ("1 record", "0 records"));
    }
}
