//! Each line of a file is a row, or malformed, or empty: none is lost and none is counted twice, whatever it holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipring_overlay::date::Date;
use slipring_overlay::partition::{LoadError, Source};

/// A row with a place for something else.
const FIELDS: [&[u8]; 13] = [
    b"41.75613",
    b"-124.20347",
    b"2020-08-10T01:00",
    b"PM2.5",
    b"17.3",
    b"UG/M3",
    b"-999.0",
    b"-999",
    b"2",
    b"Sun \"\"City\"\", CA",
    b"North, Coast",
    b"840060150007",
    b"840060150007",
];

/// The first byte says which field of a good row the rest stands in; or it is all there is.
fn file(input: &[u8]) -> Vec<u8> {
    let Some((&first, rest)) = input.split_first() else { return Vec::new() };
    let place = usize::from(first) % 16;
    if place >= FIELDS.len() {
        return rest.to_vec();
    }
    let mut fields = FIELDS.to_vec();
    fields[place] = rest;
    [b"\"".as_slice(), &fields.join(b"\",\"".as_slice()), b"\""].concat()
}

fuzz_target!(|input: &[u8]| {
    let file = file(input);
    let text = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&file);
    let mut lines: Vec<_> = text.split(|&byte| byte == b'\n').collect();
    lines.pop_if(|last| last.is_empty());
    let full = lines.iter().filter(|line| !matches!(line, [] | [b'\r'])).count();
    let date = Date::from_number(20_200_810).expect("a day");
    match Source::of(date, vec![("a.csv".into(), file.clone())]).parse() {
        Ok(partition) => {
            assert_eq!(partition.rows() + partition.malformed as usize, full);
            assert!(partition.told.len() <= full);
        }
        Err(LoadError::NoRow { lines, .. }) => assert_eq!(lines, full),
        Err(LoadError::Binary { .. }) => assert!(file.contains(&0)),
        Err(error) => panic!("{error}"),
    }
});
