//! How many rows of a day have which concentrations, parameter by parameter: whoever only counts needs two binary
//! searches a day, and no row.
//!
//! The batches' indices could say the same, with two searches a batch that jump from row to row. A day's different
//! concentrations are few (some 1,600 among 27,000 rows), so that these are a megabyte where the rows are sixty.

use std::collections::BTreeMap;

use super::columns::Batch;

/// See the module.
#[derive(Debug)]
pub(super) struct Counts(Box<[Group]>);

/// The rows of one parameter.
#[derive(Debug)]
struct Group {
    parameter: u8,
    /// All of them, those without a concentration too.
    rows: u64,
    /// The different concentrations, ascending.
    values: Box<[f64]>,
    /// Of each, how many rows have it or a smaller one.
    up_to: Box<[u64]>,
}

impl Counts {
    pub(super) fn of(batches: &[Batch]) -> Self {
        let mut groups: BTreeMap<u8, (u64, Vec<f64>)> = BTreeMap::new();
        for batch in batches {
            let values = batch.value.values();
            for (parameter, known, rows) in batch.index.groups() {
                let group = groups.entry(parameter).or_default();
                group.0 += rows as u64;
                group.1.extend(known.iter().map(|&row| values[usize::from(row)]));
            }
        }
        let group = |(parameter, (rows, mut all)): (u8, (u64, Vec<f64>))| {
            // Each batch's are in order already, which this kind of sorting makes use of.
            all.sort_by(f64::total_cmp);
            let (mut values, mut up_to, mut count) = (Vec::new(), Vec::new(), 0);
            for equal in all.chunk_by(|a, b| a == b) {
                count += equal.len() as u64;
                values.push(equal[0]);
                up_to.push(count);
            }
            Group { parameter, rows, values: values.into(), up_to: up_to.into() }
        };
        Self(groups.into_iter().map(group).collect())
    }

    /// The rows of a parameter (`None`: of all) whose concentrations lie within the bounds; those without one only if
    /// there is no bound.
    pub(super) fn count(&self, parameter: Option<u8>, min: Option<f64>, max: Option<f64>) -> u64 {
        let groups = self.0.iter().filter(|group| parameter.is_none_or(|code| code == group.parameter));
        groups.map(|group| group.count(min, max)).sum()
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        let of = |group: &Group| size_of_val(&*group.values) + size_of_val(&*group.up_to);
        size_of_val(&*self.0) + self.0.iter().map(of).sum::<usize>()
    }
}

impl Group {
    fn count(&self, min: Option<f64>, max: Option<f64>) -> u64 {
        if min.is_none() && max.is_none() {
            return self.rows;
        }
        let first = |number: usize| number.checked_sub(1).map_or(0, |last| self.up_to[last]);
        let below = min.map_or(0, |min| self.values.partition_point(|&value| value < min));
        let within = max.map_or(self.values.len(), |max| self.values.partition_point(|&value| value <= max));
        first(within).saturating_sub(first(below))
    }
}
