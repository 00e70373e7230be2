//! A report as files: JSON for programs, CSV for spreadsheets, pictures for people; and back from JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::distribution::Distribution;
use super::failure::FailureRun;
use crate::chart::{ChartError, Picture};

/// Why a report could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The folder cannot be made.
    #[error("cannot create the folder {}: choose another with --out", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: check its permissions and the space on the disk", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}: run `tester distribute` or `tester failure` into that folder first", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold a report.
    #[error("{} does not hold a report of this version: measure again", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The report cannot be put into JSON.
    #[error("cannot encode the report")]
    Encode(#[source] serde_json::Error),
    /// A picture cannot be drawn or written.
    #[error(transparent)]
    Chart(#[from] ChartError),
}

/// Something that was measured and can be put into files.
pub trait Report: Serialize + DeserializeOwned {
    /// Whether its JSON is laid out for reading; thousands of rows are not.
    const READABLE: bool;
    /// The name of its JSON file, without the ending.
    fn name(&self) -> &'static str;
    /// Its tables: the name of the file and the text of it.
    fn tables(&self) -> Vec<(String, String)>;
    /// Its pictures: the name of the file, without the ending, and the drawing.
    fn pictures(&self) -> Result<Vec<(String, Picture)>, ChartError>;
}

/// Writes JSON, CSV, SVG and PNG into `folder`, which is made if it is missing; returns what was written.
pub fn save<R: Report>(report: &R, folder: &Path) -> Result<Vec<PathBuf>, FilesError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| FilesError::Folder { path: folder.to_owned(), source })?;
    let json = if R::READABLE { serde_json::to_string_pretty(report) } else { serde_json::to_string(report) }
        .map_err(FilesError::Encode)?;
    let mut written = vec![put(folder.join(format!("{}.json", report.name())), &json)?];
    for (name, table) in report.tables() {
        written.push(put(folder.join(name), &table)?);
    }
    for (name, picture) in report.pictures()? {
        written.extend(picture.write(folder, &name)?);
    }
    Ok(written)
}

/// Reads a report back from the JSON of this name in `folder`.
pub fn load<R: Report>(folder: &Path, name: &str) -> Result<R, FilesError> {
    let path = folder.join(format!("{name}.json"));
    let text =
        std::fs::read_to_string(&path).map_err(|source| FilesError::Read { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|source| FilesError::Parse { path, source })
}

fn put(path: PathBuf, text: &str) -> Result<PathBuf, FilesError> {
    match std::fs::write(&path, text) {
        Ok(()) => Ok(path),
        Err(source) => Err(FilesError::Write { path, source }),
    }
}

impl Report for Distribution {
    const READABLE: bool = true;

    fn name(&self) -> &'static str {
        Distribution::NAME
    }

    fn tables(&self) -> Vec<(String, String)> {
        let mut counts = Table::new("placement,n,replica,requests,share,expected,uniform");
        let mut balance = Table::new(
            "placement,n,answered,failed,mean,stddev,stddev_expected,stddev_uniform,\
             chi2_placement,p_placement,chi2_uniform,p_uniform",
        );
        for run in &self.runs {
            let answered = run.answered();
            for tally in &run.replicas {
                let expected = tally.share.map(|share| share * answered as f64);
                let uniform = answered as f64 / f64::from(run.n.max(1));
                counts.row(&[
                    &run.placement,
                    &run.n,
                    &tally.name,
                    &tally.requests,
                    &number(tally.share, 6),
                    &number(expected, 1),
                    &number(Some(uniform), 1),
                ]);
            }
            let b = &run.balance;
            let placement = b.chi_squared_placement;
            balance.row(&[
                &run.placement,
                &run.n,
                &answered,
                &run.failed(),
                &number(Some(b.mean), 1),
                &number(Some(b.stddev), 2),
                &number(b.stddev_expected, 2),
                &number(Some(b.stddev_uniform), 2),
                &number(placement.and_then(|test| test.statistic), 3),
                &number(placement.map(|test| test.p_value), 6),
                &number(b.chi_squared_uniform.statistic, 3),
                &number(Some(b.chi_squared_uniform.p_value), 6),
            ]);
        }
        vec![("distribution.csv".to_owned(), counts.0), ("balance.csv".to_owned(), balance.0)]
    }

    fn pictures(&self) -> Result<Vec<(String, Picture)>, ChartError> {
        super::pictures::distribution(self)
    }
}

impl Report for FailureRun {
    const READABLE: bool = false;

    fn name(&self) -> &'static str {
        self.manner.name()
    }

    fn tables(&self) -> Vec<(String, String)> {
        let mut requests = Table::new("due_ms,lateness_ms,latency_ms,replica,failure");
        for request in &self.requests {
            let (replica, failure) = match &request.outcome {
                Ok(replica) => (replica.as_str(), ""),
                Err(reason) => ("", reason.as_str()),
            };
            let [due, lateness, latency] =
                [request.due, request.lateness, request.latency].map(|ms| number(Some(ms), 3));
            requests.row(&[&due, &lateness, &latency, &replica, &failure]);
        }
        vec![(format!("{}.csv", self.name()), requests.0)]
    }

    fn pictures(&self) -> Result<Vec<(String, Picture)>, ChartError> {
        super::timeline::failure(self)
    }
}

/// A number of so many decimals; nothing when there is none.
fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.decimals$}"))
}

/// A CSV table under construction (RFC 4180).
struct Table(String);

impl Table {
    fn new(header: &str) -> Table {
        Table(format!("{header}\n"))
    }

    fn row(&mut self, cells: &[&dyn std::fmt::Display]) {
        for (i, cell) in cells.iter().enumerate() {
            let mut text = String::new();
            write!(text, "{cell}").expect("writing to a string does not fail");
            if text.contains([',', '"', '\n', '\r']) {
                text = format!("\"{}\"", text.replace('"', "\"\""));
            }
            self.0.push_str(if i == 0 { "" } else { "," });
            self.0.push_str(&text);
        }
        self.0.push('\n');
    }
}
