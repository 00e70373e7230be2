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

    fn has_place(&self) -> bool {
        let query = self.query;
        [query.lat_min, query.lat_max, query.lon_min, query.lon_max].iter().any(Option::is_some)
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
        match self.has_place() {
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
