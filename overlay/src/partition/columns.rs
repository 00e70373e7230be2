//! Columns of a partition: numbers as numbers, texts as codes.
//!
//! The four texts of a site go together, so one code stands for all of them: a row spends two bytes on what would be
//! some eighty.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use arrow_array::{
    Array, Float64Array, Int16Array, StringArray, TimestampSecondArray, UInt8Array, UInt16Array,
};
use arrow_array::{builder, types};
use xxhash_rust::xxh3::Xxh3;

use super::index::Index;
use super::line::{Row, unescaped};
use super::stats::Stats;

/// Rows of a batch, at most: their numbers have two bytes.
pub(super) const MOST_ROWS: usize = 1 << 15;

/// More different texts than codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {most} different {what} on one day")]
pub struct Full {
    what: &'static str,
    most: usize,
}

/// What the codes of a partition stand for.
#[derive(Clone, Debug)]
pub struct Dictionaries {
    /// Of `parameter`.
    pub parameters: Arc<StringArray>,
    /// Of `unit`.
    pub units: Arc<StringArray>,
    /// Of `site`: names, agencies, AQS ids, full AQS ids.
    pub sites: [Arc<StringArray>; 4],
}

impl Dictionaries {
    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        let all = [&self.parameters, &self.units].into_iter().chain(&self.sites);
        all.map(|column| column.to_data().get_slice_memory_size().unwrap_or_default()).sum()
    }

    /// The code of a parameter, if any row has it.
    pub(super) fn parameter(&self, name: &str) -> Option<u8> {
        self.parameters.iter().position(|known| known == Some(name)).and_then(|code| u8::try_from(code).ok())
    }
}

/// Rows that follow each other, column by column.
#[derive(Debug)]
pub struct Batch {
    pub latitude: Float64Array,
    pub longitude: Float64Array,
    pub timestamp: TimestampSecondArray,
    pub parameter: UInt8Array,
    pub value: Float64Array,
    pub unit: UInt8Array,
    pub raw_concentration: Float64Array,
    pub aqi: Int16Array,
    pub category: Int16Array,
    pub site: UInt16Array,
    pub(super) stats: Stats,
    pub(super) index: Index,
}

impl Batch {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.latitude.len()
    }

    /// Its columns, in the order in which they are written.
    pub(super) fn columns(&self) -> [&dyn Array; 10] {
        [
            &self.latitude,
            &self.longitude,
            &self.timestamp,
            &self.parameter,
            &self.value,
            &self.unit,
            &self.raw_concentration,
            &self.aqi,
            &self.category,
            &self.site,
        ]
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        // Of several that share an allocation, each only its own part.
        let of = |column: &&dyn Array| column.to_data().get_slice_memory_size().unwrap_or_default();
        self.columns().iter().map(of).sum::<usize>() + self.index.size()
    }
}

type Codes<K> = HashMap<Box<str>, K, BuildHasherDefault<Xxh3>>;

/// Makes batches of rows.
#[derive(Default)]
pub struct BatchBuilder {
    finished: Vec<Batch>,
    parameters: Vec<Box<str>>,
    units: Vec<Box<str>>,
    sites: [Vec<Box<str>>; 4],
    site_codes: Codes<u16>,
    open: Open,
}

#[derive(Default)]
struct Open {
    latitude: Vec<f64>,
    longitude: Vec<f64>,
    timestamp: Vec<i64>,
    parameter: Vec<u8>,
    value: builder::PrimitiveBuilder<types::Float64Type>,
    unit: Vec<u8>,
    raw_concentration: builder::PrimitiveBuilder<types::Float64Type>,
    aqi: builder::PrimitiveBuilder<types::Int16Type>,
    category: builder::PrimitiveBuilder<types::Int16Type>,
    site: Vec<u16>,
}

impl BatchBuilder {
    /// Adds a row.
    ///
    /// # Errors
    /// When there is no code left for a text of it.
    pub fn push(&mut self, row: &Row<'_>) -> Result<(), Full> {
        let parameter = code(&mut self.parameters, row.parameter, "parameters")?;
        let unit = code(&mut self.units, row.unit, "units")?;
        let site = self.site(row)?;
        let open = &mut self.open;
        open.latitude.push(row.latitude);
        open.longitude.push(row.longitude);
        open.timestamp.push(row.timestamp);
        open.parameter.push(parameter);
        open.value.append_option(row.value);
        open.unit.push(unit);
        open.raw_concentration.append_option(row.raw_concentration);
        open.aqi.append_option(row.aqi);
        open.category.append_option(row.category);
        open.site.push(site);
        if open.site.len() == MOST_ROWS {
            self.cut();
        }
        Ok(())
    }

    fn site(&mut self, row: &Row<'_>) -> Result<u16, Full> {
        if let Some(&code) = self.site_codes.get(row.site_key) {
            return Ok(code);
        }
        let most = usize::from(u16::MAX) + 1;
        let code = u16::try_from(self.site_codes.len()).map_err(|_| Full { what: "sites", most })?;
        for (column, text) in self.sites.iter_mut().zip(row.site) {
            column.push(unescaped(text).into());
        }
        self.site_codes.insert(row.site_key.into(), code);
        Ok(code)
    }

    /// Ends a batch: the next row begins another one. A file's rows are their own, so that a batch's bounds are an
    /// hour's.
    pub fn cut(&mut self) {
        if self.open.site.is_empty() {
            return;
        }
        let mut open = std::mem::take(&mut self.open);
        let parameter: UInt8Array = open.parameter.into();
        let value = open.value.finish();
        let (latitude, longitude): (Float64Array, Float64Array) =
            (open.latitude.into(), open.longitude.into());
        let stats = Stats::of(&latitude, &longitude, &value);
        let index = Index::of(&parameter, &value);
        self.finished.push(Batch {
            timestamp: TimestampSecondArray::from(open.timestamp).with_timezone("UTC"),
            unit: open.unit.into(),
            raw_concentration: open.raw_concentration.finish(),
            aqi: open.aqi.finish(),
            category: open.category.finish(),
            site: open.site.into(),
            latitude,
            longitude,
            parameter,
            value,
            stats,
            index,
        });
    }

    /// All batches, and what their codes stand for.
    pub fn finish(mut self) -> (Vec<Batch>, Dictionaries) {
        self.cut();
        let array = |texts: Vec<Box<str>>| Arc::new(StringArray::from_iter_values(texts));
        let dictionaries = Dictionaries {
            parameters: array(self.parameters),
            units: array(self.units),
            sites: self.sites.map(array),
        };
        (self.finished, dictionaries)
    }
}

/// The code of a text of which there are few.
fn code(known: &mut Vec<Box<str>>, text: &str, what: &'static str) -> Result<u8, Full> {
    if let Some(code) = known.iter().position(|known| **known == *text) {
        return Ok(u8::try_from(code).expect("no more were let in"));
    }
    let most = usize::from(u8::MAX) + 1;
    let code = u8::try_from(known.len()).map_err(|_| Full { what, most })?;
    known.push(text.into());
    Ok(code)
}
