//! Samples in `tests/formats`, written by hand in the shapes that programs write: `NAME.log` is detected as NAME, and
//! `NAME.expected` has a line for each of its lines: time, level and message (`-` for what a record does not say), `|` for
//! a line that belongs to the record above, `?` for one that is not recognised.

use std::path::PathBuf;

use proptest::prelude::*;

use super::{Format, Written, detect, plain};

const WRITTEN: Written = Written { year: 2025, month: 11 };

fn sample(name: &str, ending: &str) -> String {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(format!("{name}.{ending}"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a format makes of a text, as `NAME.expected` says it.
fn read(format: Format, text: &str) -> String {
    let mut said = String::new();
    let mut in_record = false;
    for line in text.lines() {
        said += &match format.parse(line.as_bytes(), WRITTEN) {
            Some(record) => {
                in_record = true;
                let time = record.time.map_or("-".to_owned(), |time| time.to_string());
                let level = record.level.map_or("-", |level| level.name());
                format!("{time} {level} {}\n", &line[record.message])
            }
            None if in_record && format.has_several_lines() => "|\n".to_owned(),
            None => "?\n".to_owned(),
        };
    }
    said
}

#[test]
fn every_format_reads_its_sample_as_expected() {
    for format in Format::all() {
        let name = format.name();
        assert_eq!(read(format, &sample(name, "log")), sample(name, "expected"), "{name}");
    }
}

#[test]
fn every_sample_is_detected_for_what_it_is() {
    for format in Format::all() {
        let scores = detect(sample(format.name(), "log").as_bytes(), WRITTEN);
        assert_eq!(scores[0].format, format, "{scores:?}");
        let carriage_returns = sample(format.name(), "log").replace('\n', "\r\n");
        let marked = format!("\u{feff}{carriage_returns}");
        assert_eq!(detect(marked.as_bytes(), WRITTEN), scores);
    }
}

#[test]
fn names_are_unique_and_found_again() {
    for format in Format::all() {
        assert_eq!(format.name().parse(), Ok(format));
        assert!(Format::all().filter(|other| *other == format).count() == 1);
    }
    let unknown = "log5j".parse::<Format>().unwrap_err().to_string();
    assert!(unknown.starts_with("'log5j' is no format: brackets, json"), "{unknown}");
}

#[test]
fn nothing_fits_what_is_no_log() {
    for text in
        ["", "\n\n", "Dear all,\nthis is no log: [INFO] is what it would say.\n", "a,b\n1,2\n", "\0\0\0"]
    {
        assert_eq!(detect(text.as_bytes(), WRITTEN), [], "{text:?}");
    }
}

#[test]
fn colours_are_taken_out() {
    assert_eq!(&*plain(b"\x1b[32mINFO\x1b[0m a\x1b[1;31m b\x1b[m"), b"INFO a b");
    assert_eq!(&*plain(b"cut \x1b[3"), b"cut ");
    assert_eq!(&*plain(b"alone \x1b!"), b"alone !");
    assert_eq!(&*plain(b"none"), b"none");
}

/// Lines of all samples, cut and mixed, so that they are almost right.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<Vec<u8>> = Format::all()
        .flat_map(|format| {
            sample(format.name(), "log").lines().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>()
        })
        .collect();
    let line = || prop::sample::select(lines.clone());
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (line(), index()).prop_map(|(line, cut)| line[..cut.index(line.len() + 1)].to_vec()),
        (line(), index(), any::<u8>()).prop_map(|(mut line, at, byte)| {
            let at = at.index(line.len());
            line[at] = byte;
            line
        }),
        (line(), index(), line(), index()).prop_map(|(one, from, two, to)| {
            [&one[..from.index(one.len())], &two[to.index(two.len())..]].concat()
        }),
        (line(), index(), 0_usize..40).prop_map(|(mut line, at, times)| {
            let at = at.index(line.len());
            let byte = line[at];
            line.splice(at..at, std::iter::repeat_n(byte, times));
            line
        }),
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(prop::sample::select(b"{}[]\"\\:,=<>0123456789 -/.TZ+".to_vec()), 0..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_line_makes_any_format_panic_or_reach_outside(line in hostile()) {
        for format in Format::all() {
            if let Some(record) = format.parse(&line, WRITTEN) {
                prop_assert!(record.message.start <= record.message.end && record.message.end <= line.len(), "{format} {record:?}");
            }
        }
        let shown = plain(&line);
        prop_assert!(shown.len() <= line.len() && !shown.contains(&0x1b));
    }
}
