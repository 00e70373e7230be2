//! A small data set with the quirks of the real one, and its records as the contract writes them: made here, so that
//! what the processes answer is compared with something that they had no part in.

use std::fmt::Write as _;
use std::path::Path;

/// Days of both teams, with gaps as in the real data. By `placement: dates` C holds the first three, D the next three
/// and F the rest.
pub const DAYS: [u32; 9] = [
    20_200_810, 20_200_814, 20_200_815, 20_200_821, 20_200_822, 20_200_823, 20_200_824, 20_200_825,
    20_200_826,
];

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its day, YYYYMMDD.
    pub date: u32,
    /// What was measured.
    pub parameter: &'static str,
    /// The concentration, if it is known.
    pub value: Option<f64>,
    /// The record, as a chunk has it.
    pub record: String,
}

/// All rows, in the order of days, files and lines.
#[derive(Clone, Debug)]
pub struct Rows(pub Vec<Row>);

impl Rows {
    /// Writes three files a day of so many rows each into `root`.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write(root: &Path, per_file: u64) -> Self {
        let mut rows = Vec::new();
        for date in DAYS {
            let folder = root.join(date.to_string());
            std::fs::create_dir_all(&folder).expect("a folder can be made");
            for hour in 0..3 {
                let mut text = String::new();
                for _ in 0..per_file {
                    // The last line has no end, and one file has those of another system.
                    if !text.is_empty() {
                        text.push_str(if hour == 1 { "\r\n" } else { "\n" });
                    }
                    rows.push(row(rows.len() as u64, date, hour, &mut text));
                }
                std::fs::write(folder.join(format!("{date}-{hour:02}.csv")), text)
                    .expect("a file can be written");
            }
        }
        Self(rows)
    }

    /// The records of the rows that meet a condition.
    pub fn records(&self, meets: impl Fn(&Row) -> bool) -> Vec<&str> {
        self.0.iter().filter(|row| meets(row)).map(|row| row.record.as_str()).collect()
    }
}

/// The row of this number: its line is added to `text`.
fn row(number: u64, date: u32, hour: u32, text: &mut String) -> Row {
    // Knuth's multiplicative hashing: rows without a pattern, the same ones each time.
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let pick = |shift: u32, most: u64| mixed.rotate_left(shift) % most;
    let tenths = |number: u64| number as f64 / 10.0;
    let (latitude, longitude) = (25.0 + tenths(pick(5, 240)), -70.0 - tenths(pick(11, 550)));
    let parameter = ["PM2.5", "OZONE", "SO2"][pick(17, 3) as usize];
    let value =
        (pick(23, 10) > 0).then(|| tenths(pick(29, 630)) - 3.0).map(|value| (value * 10.0).round() / 10.0);
    let site = ["Plain", "With, a comma", "With \"quotes\"", "Zürich"][pick(37, 4) as usize];
    let time = format!("{}-{:02}-{:02}T{hour:02}:00", date / 10_000, date / 100 % 100, date % 100);
    let id = format!("0{}", pick(41, 1000));
    let csv = value.map_or("-999.0".to_owned(), |value| format!("{value:?}"));
    write!(
        text,
        "\"{latitude:?}\",\"{longitude:?}\",\"{time}\",\"{parameter}\",\"{csv}\",\"UG/M3\",\"{csv}\",\"-999\",\"2\",\"{}\",\
         \"Agency, of Air\",\"{id}\",\"84{id}\"",
        site.replace('"', "\"\"")
    )
    .expect("a string takes it");
    let known = value.map_or("null".to_owned(), |value| format!("{value:?}"));
    let record = format!(
        "{{\"latitude\":{latitude:?},\"longitude\":{longitude:?},\"timestamp\":\"{time}\",\"parameter\":\"{parameter}\",\
         \"value\":{known},\"unit\":\"UG/M3\",\"raw_concentration\":{known},\"aqi\":null,\"category\":2,\
         \"site_name\":\"{}\",\"agency_name\":\"Agency, of Air\",\"aqs_id\":\"{id}\",\"full_aqs_id\":\"84{id}\",\
         \"date\":\"{date}\"}}",
        site.replace('"', "\\\"")
    );
    Row { date, parameter, value, record }
}
