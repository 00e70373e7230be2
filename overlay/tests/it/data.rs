//! A small data set with the quirks of the real one, and what is in it as a test understands it.

use std::fmt::Write as _;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A row, as the test knows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) date: u32,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    pub(crate) parameter: &'static str,
    pub(crate) value: Option<f64>,
    pub(crate) site: String,
}

/// Days of both teams, with a gap as in the real data.
pub(crate) const DAYS: [u32; 9] = [
    20_200_810, 20_200_814, 20_200_815, 20_200_821, 20_200_822, 20_200_823, 20_200_824, 20_200_825,
    20_200_826,
];

/// Writes the set into a folder; its rows in the order of dates, files and lines.
pub(crate) fn write(root: &Path, seed: u64) -> Vec<Row> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut rows = Vec::new();
    for date in DAYS {
        let folder = root.join(date.to_string());
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        for hour in 0..3 {
            let mut text = String::new();
            let count = random.random_range(0..80);
            for line in 0..count {
                let row = row(&mut random, date);
                let known =
                    |value: Option<f64>| value.map_or("-999.0".to_owned(), |value| format!("{value:?}"));
                let day = format!("{:04}-{:02}-{:02}", date / 10_000, date / 100 % 100, date % 100);
                write!(
                    text,
                    "\"{:?}\",\"{:?}\",\"{day}T{hour:02}:00\",\"{}\",\"{}\",\"UG/M3\",\"{}\",\"-999\",\"2\",\"{}\",\"Agency, of \
                     Air\",\"0{}\",\"840{}\"",
                    row.latitude, row.longitude, row.parameter, known(row.value), known(row.value),
                    row.site.replace('"', "\"\""), line, line
                )
                .expect("a string takes it");
                // No newline at the end of a file.
                if line + 1 < count {
                    text.push_str(if hour == 1 { "\r\n" } else { "\n" });
                }
                rows.push(row);
            }
            std::fs::write(folder.join(format!("{date}-{hour:02}.csv")), text)
                .expect("a file can be written");
        }
    }
    rows
}

fn row(random: &mut StdRng, date: u32) -> Row {
    let tenth = |number: i32| f64::from(number) / 10.0;
    Row {
        date,
        latitude: tenth(random.random_range(250..490)),
        longitude: tenth(random.random_range(-1250..-700)),
        parameter: ["PM2.5", "OZONE", "SO2"][random.random_range(0..3)],
        value: random.random_bool(0.9).then(|| tenth(random.random_range(-30..600))),
        site: ["Plain", "With, a comma", "With \"quotes\"", "Zürich"][random.random_range(0..4)].to_owned(),
    }
}
