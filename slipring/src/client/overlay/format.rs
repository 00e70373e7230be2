//! How records are written: each chunk as it comes, nothing is collected.

use std::io::{self, Write};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// See the variants; the last two are what the overlay itself streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Aligned columns.
    Table,
    /// One object: how complete the answer is, and its records.
    Json,
    /// An object a line.
    Ndjson,
    /// A header, and a line of each record.
    Csv,
}

/// The columns of the table, and how wide they are: the widest cell is not known before the last record.
const COLUMNS: [(&str, usize, Align); 10] = [
    ("time", 16, Align::Left),
    ("parameter", 9, Align::Left),
    ("value", 8, Align::Right),
    ("unit", 5, Align::Left),
    ("aqi", 4, Align::Right),
    ("category", 8, Align::Right),
    ("latitude", 9, Align::Right),
    ("longitude", 10, Align::Right),
    ("site", 30, Align::Left),
    ("agency", 0, Align::Left),
];

#[derive(Clone, Copy)]
enum Align {
    Left,
    Right,
}

#[derive(Deserialize)]
struct Record<'a> {
    timestamp: &'a str,
    parameter: String,
    value: Option<f64>,
    unit: String,
    aqi: Option<i64>,
    category: Option<i64>,
    latitude: f64,
    longitude: f64,
    site_name: String,
    agency_name: String,
}

fn line(out: &mut impl Write, cells: [&str; 10]) -> io::Result<()> {
    let mut line = String::new();
    for ((_, width, align), cell) in COLUMNS.iter().zip(cells) {
        let long = *width > 0 && cell.chars().count() > *width;
        let cut: String = cell.chars().take(width.saturating_sub(1)).chain(['…']).collect();
        let cell = if long { &cut } else { cell };
        match align {
            Align::Left => line.push_str(&format!("{cell:<width$}  ")),
            Align::Right => line.push_str(&format!("{cell:>width$}  ")),
        }
    }
    // A name is whatever the data says, not what the terminal obeys.
    let line: String = line.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
    writeln!(out, "{}", line.trim_end())
}

pub(super) fn heads(out: &mut impl Write) -> io::Result<()> {
    line(out, COLUMNS.map(|(head, ..)| head))
}

/// Writes a chunk (a JSON array) as rows of the table; how many records it has.
pub(super) fn rows(out: &mut impl Write, chunk: &str) -> io::Result<u64> {
    let records: Vec<Record<'_>> = serde_json::from_str(chunk)?;
    let known = |number: Option<String>| number.unwrap_or_else(|| "-".into());
    for record in &records {
        let value = known(record.value.map(|value| value.to_string()));
        let aqi = known(record.aqi.map(|aqi| aqi.to_string()));
        let category = known(record.category.map(|category| category.to_string()));
        let place = [record.latitude, record.longitude].map(|degrees| format!("{degrees:.4}"));
        let cells: [&str; 10] = [
            record.timestamp,
            &record.parameter,
            &value,
            &record.unit,
            &aqi,
            &category,
            &place[0],
            &place[1],
            &record.site_name,
            &record.agency_name,
        ];
        line(out, cells)?;
    }
    Ok(records.len() as u64)
}

/// One JSON object, whose last field grows with each chunk.
#[derive(Debug, Default)]
pub(super) struct Document {
    has_records: bool,
}

impl Document {
    /// All that the answer says but its records and where they are read.
    pub(super) fn begin(&self, out: &mut impl Write, said: &str) -> io::Result<()> {
        let mut head: Value = serde_json::from_str(said)?;
        if let Some(fields) = head.as_object_mut() {
            fields.retain(|name, _| !matches!(name.as_str(), "chunks" | "next"));
        }
        let head = head.to_string();
        write!(out, "{},\"records\":[", head.strip_suffix('}').unwrap_or(&head))
    }

    /// Adds a chunk (a JSON array) as it is; how many records it has.
    pub(super) fn add(&mut self, out: &mut impl Write, chunk: &str) -> io::Result<u64> {
        let records: Vec<IgnoredAny> = serde_json::from_str(chunk)?;
        if !records.is_empty() {
            let separator = if std::mem::replace(&mut self.has_records, true) { ",\n" } else { "\n" };
            let inside = chunk.trim().strip_prefix('[').and_then(|inside| inside.strip_suffix(']'));
            write!(out, "{separator}{}", inside.unwrap_or_default())?;
        }
        Ok(records.len() as u64)
    }

    pub(super) fn end(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\n]}}")
    }
}
