//! A data set of the shape of the real one, for those who do not have it: the same days, files, columns and quirks.
//!
//! Quirks: commas and quotes within fields, -999 for what is missing, negative values that are none of that, a day
//! without its neighbors, no newline at the end of a file. The same seed gives the same bytes.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::date::{Date, Span};

/// Stations, each of which measures a few things every two hours.
const STATIONS: usize = 1320;
/// Names of agencies.
const AGENCIES: [&str; 5] = [
    "Oregon DEQ",
    "South Coast AQMD",
    "Bay Area AQMD",
    "Ministry of Environment, Province of British Columbia",
    "Texas Commission on Environmental Quality, Region \"12\"",
];
/// What is measured: name, unit, how many of ten stations do, the usual and the smoky value.
const PARAMETERS: [(&str, &str, u32, f64, f64); 6] = [
    ("OZONE", "PPB", 7, 30.0, 60.0),
    ("PM2.5", "UG/M3", 5, 8.0, 180.0),
    ("PM10", "UG/M3", 2, 20.0, 260.0),
    ("NO2", "PPB", 2, 7.0, 20.0),
    ("SO2", "PPB", 1, 0.6, 4.0),
    ("CO", "PPM", 1, 0.3, 1.8),
];

struct Station {
    latitude: f64,
    longitude: f64,
    name: String,
    agency: &'static str,
    number: u64,
    measures: Vec<usize>,
}

fn stations(random: &mut StdRng) -> Vec<Station> {
    let mut station = |index: usize| {
        let name = match index % 35 {
            0 => format!("Site {index}, North"),
            1 => format!("\"{index}\" Main Street"),
            _ => format!("Site {index}"),
        };
        let measures =
            (0..PARAMETERS.len()).filter(|&p| random.random_range(0..10) < PARAMETERS[p].2).collect();
        Station {
            latitude: degrees(random.random_range(250_000..490_000)),
            longitude: -degrees(random.random_range(700_000..1_250_000)),
            name,
            agency: AGENCIES[random.random_range(0..AGENCIES.len())],
            number: 60_000_000 + index as u64 * 37,
            measures,
        }
    };
    (0..STATIONS).map(&mut station).collect()
}

/// Of ten-thousandths.
fn degrees(number: i32) -> f64 {
    f64::from(number) / 10_000.0
}

/// The days of the real set.
pub fn dates() -> Vec<Date> {
    let number = |number| Date::from_number(number).expect("a day of 2020");
    let span = Span::new(number(20_200_814), number(20_200_924)).expect("in order");
    let summer = (8..=9).flat_map(|month| (1..=31).map(move |day| 20_200_000 + month * 100 + day));
    let later = summer.filter_map(Date::from_number).filter(|&date| span.contains(date));
    std::iter::once(number(20_200_810)).chain(later).collect()
}

/// Writes the set into a folder, a day at a time; `done` hears of each.
///
/// # Errors
/// When a file cannot be written.
pub fn generate(root: &Path, seed: u64, mut done: impl FnMut(Date)) -> io::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let stations = stations(&mut random);
    for (index, date) in dates().into_iter().enumerate() {
        let folder = root.join(date.to_string());
        std::fs::create_dir_all(&folder)?;
        // Smoke comes and goes.
        let smoke = (index as f64 / 6.0).sin().max(0.0);
        for hour in (0..24).step_by(2).map(|hour| hour + 1) {
            let text = file(&mut random, &stations, date, hour, smoke);
            std::fs::write(folder.join(format!("{date}-{hour:02}.csv")), text)?;
        }
        done(date);
    }
    Ok(())
}

fn file(random: &mut StdRng, stations: &[Station], date: Date, hour: u32, smoke: f64) -> String {
    let number = date.number();
    let time = format!("{:04}-{:02}-{:02}T{hour:02}:00", number / 10_000, number / 100 % 100, number % 100);
    let mut text = String::with_capacity(380_000);
    for station in stations {
        for &parameter in &station.measures {
            let (name, unit, _, usual, smoky) = PARAMETERS[parameter];
            let level = usual + (smoky - usual) * smoke * random.random_range(0.0..1.0_f64).powi(3);
            let value = ((level + random.random_range(-1.0..1.0) * usual) * 10.0).round() / 10.0;
            let value = if random.random_bool(0.008) { -999.0 } else { value.max(-3.4) + 0.0 };
            let raw = if random.random_bool(0.01) { -999.0 } else { value };
            let has_index = random.random_bool(0.94) && value != -999.0;
            let (aqi, category) = if has_index { index_of(value / usual.max(1.0)) } else { (-999, -999) };
            let comes_first = if text.is_empty() { "" } else { "\n" };
            let quoted = |text: &str| text.replace('"', "\"\"");
            write!(
                text,
                "{comes_first}\"{}\",\"{}\",\"{time}\",\"{name}\",\"{value:?}\",\"{unit}\",\"{raw:?}\",\"{aqi}\",\"{category}\",\
                 \"{}\",\"{}\",\"{:09}\",\"840{:09}\"",
                station.latitude,
                station.longitude,
                quoted(&station.name),
                quoted(station.agency),
                station.number,
                station.number,
            )
            .expect("a string takes it");
        }
    }
    text
}

/// An index that grows with the value, and its category; not the agency's own formula.
fn index_of(times_usual: f64) -> (i16, i16) {
    let index = (times_usual.max(0.0) * 25.0).min(480.0) as i16;
    let category = match index {
        ..=50 => 1,
        51..=100 => 2,
        101..=150 => 3,
        151..=200 => 4,
        201..=300 => 5,
        _ => 6,
    };
    (index, category)
}
