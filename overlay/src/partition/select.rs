//! Which rows of a partition a question takes.

use std::borrow::Cow;

use super::Partition;
use super::columns::Batch;
use super::stats::meets;
use crate::query::Query;

/// A question, as one partition understands it.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    query: &'a Query,
    /// The code of the parameter; `None`: no condition.
    parameter: Option<u8>,
}

/// What a question takes of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Rows that meet the conditions.
    pub matched: u64,
    /// Rows of the batches that could not be passed over.
    pub scanned: u64,
    /// The first ones, as many as were asked for: batch and rows in it, ascending.
    pub rows: Vec<(usize, Vec<u16>)>,
}

impl Selection {
    /// How many rows it holds.
    pub fn taken(&self) -> usize {
        self.rows.iter().map(|(_, rows)| rows.len()).sum()
    }
}

impl Partition {
    /// The rows that meet the conditions: all are counted, and the first `most` of them taken.
    pub fn select(&self, query: &Query, most: usize) -> Selection {
        let mut selection = Selection::default();
        let parameter = match &query.parameter {
            None => None,
            Some(name) => match self.dictionaries.parameter(name) {
                Some(code) => Some(code),
                None => return selection,
            },
        };
        let conditions = Conditions { query, parameter };
        if most == 0 && !query.has_place() {
            let met = self.batches.iter().filter(|batch| !conditions.exclude(batch));
            selection.scanned = met.map(|batch| batch.rows() as u64).sum();
            selection.matched = self.counts.count(parameter, query.min_value, query.max_value);
            return selection;
        }
        let mut left = most;
        for (number, batch) in self.batches.iter().enumerate() {
            if conditions.exclude(batch) {
                continue;
            }
            selection.scanned += batch.rows() as u64;
            if left == 0 {
                selection.matched += conditions.count(batch) as u64;
                continue;
            }
            let mut rows = conditions.rows(batch).into_owned();
            selection.matched += rows.len() as u64;
            rows.sort_unstable();
            rows.truncate(left);
            left -= rows.len();
            if !rows.is_empty() {
                selection.rows.push((number, rows));
            }
        }
        selection
    }
}

impl Conditions<'_> {
    /// Whether nothing in a batch can meet them.
    fn exclude(&self, batch: &Batch) -> bool {
        let query = self.query;
        let stats = &batch.stats;
        !(meets(stats.value, query.min_value, query.max_value)
            && meets(stats.latitude, query.lat_min, query.lat_max)
            && meets(stats.longitude, query.lon_min, query.lon_max))
    }

    fn count(&self, batch: &Batch) -> usize {
        self.rows(batch).len()
    }

    /// The rows of a batch that meet them, in any order.
    fn rows<'b>(&self, batch: &'b Batch) -> Cow<'b, [u16]> {
        let query = self.query;
        let rows = match self.parameter {
            Some(code) => {
                Cow::Borrowed(batch.index.rows(code, query.min_value, query.max_value, &batch.value))
            }
            None => {
                (0..batch.rows()).map(|row| row as u16).filter(|&row| self.has_value(batch, row)).collect()
            }
        };
        match query.has_place() {
            false => rows,
            true => rows.iter().copied().filter(|&row| self.is_there(batch, row)).collect(),
        }
    }

    fn has_value(&self, batch: &Batch, row: u16) -> bool {
        use arrow_array::Array as _;
        let (min, max) = (self.query.min_value, self.query.max_value);
        if min.is_none() && max.is_none() {
            return true;
        }
        let row = usize::from(row);
        batch.value.is_valid(row) && within(batch.value.values()[row], min, max)
    }

    fn is_there(&self, batch: &Batch, row: u16) -> bool {
        let (query, row) = (self.query, usize::from(row));
        within(batch.latitude.values()[row], query.lat_min, query.lat_max)
            && within(batch.longitude.values()[row], query.lon_min, query.lon_max)
    }
}

fn within(value: f64, min: Option<f64>, max: Option<f64>) -> bool {
    min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::partition::{a_day, load};

    fn a_partition() -> Partition {
        let folder = tempfile::tempdir().unwrap();
        let date = a_day(folder.path(), 1, 7);
        load(date, &folder.path().join(date.to_string())).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_counted_is_what_is_taken(
            parameter in proptest::option::of(prop_oneof![Just("PM2.5"), Just("OZONE"), Just("CO")]),
            min in proptest::option::of((-4_i32..1010).prop_map(|half| f64::from(half) / 2.0)),
            reach in proptest::option::of((0_i32..1010).prop_map(|half| f64::from(half) / 2.0)),
            lat_min in prop_oneof![4 => Just(None), 1 => Just(Some(40.0))],
        ) {
            let (partition, parameter) = (a_partition(), parameter.map(str::to_owned));
            let max_value = reach.map(|reach| min.unwrap_or(0.0) + reach);
            let query = Query { parameter, min_value: min, max_value, lat_min, ..Query::default() };
            let (counted, taken) = (partition.select(&query, 0), partition.select(&query, usize::MAX));
            prop_assert_eq!((counted.matched, counted.scanned), (taken.matched, taken.scanned));
            prop_assert_eq!((counted.taken(), taken.taken() as u64), (0, taken.matched));
        }
    }
}
