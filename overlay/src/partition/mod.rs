//! One day's measurements in memory: typed columns, batch by batch, each with what allows to pass it over.
//!
//! The engine is a seam: everything else of the overlay knows [`Partition`] by its date, its fingerprint and the
//! [`Selection`] that a question takes from it, so that a query engine can be put behind it later.

mod columns;
mod counts;
mod index;
mod line;
mod load;
mod select;
mod stats;
pub(crate) mod stored;

pub use columns::{Batch, BatchBuilder, Dictionaries, Full};
pub use line::{LineError, Row};
pub use load::{LoadError, Malformed, Source, load};
pub use select::{Conditions, Selection};

use crate::date::Date;
use counts::Counts;

/// See the module.
#[derive(Debug)]
pub struct Partition {
    /// Its day.
    pub date: Date,
    /// A digest of its files' names and bytes.
    pub fingerprint: u64,
    /// How many files it was read from.
    pub files: usize,
    /// Its rows, in the order of files and lines.
    pub batches: Vec<Batch>,
    /// What the codes in them stand for.
    pub dictionaries: Dictionaries,
    /// Lines that are no rows.
    pub malformed: u64,
    /// The first few of them of each file.
    pub told: Vec<Malformed>,
    /// How many of them each file has that has some.
    pub bad_files: Vec<(String, u64)>,
    counts: Counts,
}

/// Writes a small day of `root`, other rows for another seed.
#[cfg(test)]
pub(crate) fn a_day(root: &std::path::Path, day: u32, seed: u32) -> Date {
    let date = Date::from_number(20_200_800 + day).unwrap();
    let folder = root.join(date.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    for file in 0..2 {
        let lines: String = (0..300_u32)
            .map(|row| {
                let value = (row * 37 + seed + file) % 500;
                let (parameter, unit) = [("PM2.5", "UG/M3"), ("OZONE", "PPB")][row as usize % 2];
                let raw = if row % 10 == 0 { "-999".to_owned() } else { format!("{value}.5") };
                format!(
                    "\"41.7\",\"-{}.25\",\"2020-08-10T0{file}:00\",\"{parameter}\",\"{raw}\",\"{unit}\",\"{raw}\",\"40\",\"1\",\"Site {}, \"\"X\"\"\",\"A\",\"{}\",\"84{}\"\n",
                    row % 90, row % 7, row % 7, row % 7
                )
            })
            .collect();
        std::fs::write(folder.join(format!("{file}.csv")), lines).unwrap();
    }
    date
}

impl Partition {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(Batch::rows).sum()
    }

    /// Bytes in memory.
    pub fn size(&self) -> usize {
        self.dictionaries.size() + self.counts.size() + self.batches.iter().map(Batch::size).sum::<usize>()
    }
}
