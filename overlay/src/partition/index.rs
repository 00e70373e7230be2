//! The rows of a batch by parameter, and of each by concentration: nearly every question names one and bounds the
//! other, and is then two binary searches a batch.
//!
//! Two bytes a row. A copy of the values in that order would save the searches a step of indirection and cost eight.

use arrow_array::{Array, Float64Array, UInt8Array};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Row numbers, parameter by parameter; of each those with a concentration, ascending, then those without.
    rows: Box<[u16]>,
    /// Of each parameter that is there: its code, where its rows begin, where those without a concentration begin, and
    /// where it ends.
    groups: Box<[(u8, u16, u16, u16)]>,
}

impl Index {
    pub(super) fn of(parameter: &UInt8Array, value: &Float64Array) -> Self {
        let codes = parameter.values();
        // One number a row, which sorts as parameter, whether there is a concentration, concentration, and row do.
        let mut keys: Vec<u128> = (0..codes.len())
            .map(|row| {
                let known = value.is_valid(row).then(|| ascending(value.value(row)));
                let group = u128::from(codes[row]) << 1 | u128::from(known.is_none());
                group << 80 | u128::from(known.unwrap_or_default()) << 16 | row as u128
            })
            .collect();
        keys.sort_unstable();
        Self::ordered(keys.into_iter().map(|key| key as u16).collect(), parameter, value)
    }

    /// Of rows that are in that order already.
    pub(super) fn ordered(rows: Box<[u16]>, parameter: &UInt8Array, value: &Float64Array) -> Self {
        let codes = parameter.values();
        let key = |row: u16| (codes[usize::from(row)], value.is_null(usize::from(row)));
        let mut groups = Vec::new();
        let mut begin = 0;
        for group in rows.chunk_by(|&a, &b| key(a).0 == key(b).0) {
            let known = group.partition_point(|&row| !key(row).1);
            let end = begin + group.len();
            groups.push((key(group[0]).0, begin as u16, (begin + known) as u16, end as u16));
            begin = end;
        }
        Self { rows, groups: groups.into() }
    }

    /// Its rows.
    pub(super) fn order(&self) -> &[u16] {
        &self.rows
    }

    /// Of each parameter that is there: its code, its rows with a concentration, ascending, and how many it has in all.
    pub(super) fn groups(&self) -> impl Iterator<Item = (u8, &[u16], usize)> {
        self.groups.iter().map(|&(code, begin, known, end)| {
            (code, &self.rows[usize::from(begin)..usize::from(known)], usize::from(end - begin))
        })
    }

    /// The rows of a parameter whose concentrations lie within the bounds; those without one only if there is no bound.
    pub(super) fn rows(
        &self,
        parameter: u8,
        min: Option<f64>,
        max: Option<f64>,
        value: &Float64Array,
    ) -> &[u16] {
        let Some(&(_, begin, known, end)) = self.groups.iter().find(|group| group.0 == parameter) else {
            return &[];
        };
        let (begin, known, end) = (usize::from(begin), usize::from(known), usize::from(end));
        if min.is_none() && max.is_none() {
            return &self.rows[begin..end];
        }
        let all = &self.rows[begin..known];
        let at = |row: u16| value.values()[usize::from(row)];
        let from = min.map_or(0, |min| all.partition_point(|&row| at(row) < min));
        let to = max.map_or(all.len(), |max| all.partition_point(|&row| at(row) <= max));
        all.get(from..to).unwrap_or_default()
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.rows) + size_of_val(&*self.groups)
    }
}

/// A number's bits, so that they sort as the numbers do. Source: IEEE 754, totalOrder.
fn ascending(value: f64) -> u64 {
    let bits = value.to_bits();
    bits ^ (((bits.cast_signed() >> 63).cast_unsigned()) | 1 << 63)
}
