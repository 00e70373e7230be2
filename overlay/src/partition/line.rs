//! One line of the data: thirteen quoted fields, no header. Source: the overlay's contract, "The data".
//!
//! A line is read by itself: a quote that is never closed spoils its own line and none of those below. A reader of whole
//! CSV files, for which a line's end within quotes is text, cannot promise that, and would swallow rows without a word.

use std::borrow::Cow;

use memchr::memchr;

/// Fields of a row.
const FIELDS: usize = 13;
/// The site's name is the tenth, and what follows belongs to the site as well.
const SITE: usize = 10;
/// Bytes of a line.
pub(super) const LONGEST_LINE: usize = 8 << 10;
/// What the data writes where it knows nothing.
const MISSING: f64 = -999.0;

/// A row, its texts borrowed from the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    /// Degrees.
    pub latitude: f64,
    /// Degrees.
    pub longitude: f64,
    /// Seconds since 1970, UTC.
    pub timestamp: i64,
    /// What was measured, in capitals.
    pub parameter: &'a str,
    /// The concentration.
    pub value: Option<f64>,
    /// The concentration's unit.
    pub unit: &'a str,
    /// As the instrument gave it.
    pub raw_concentration: Option<f64>,
    /// The air quality index.
    pub aqi: Option<i16>,
    /// 1 (good) to 6 (hazardous).
    pub category: Option<i16>,
    /// Where: name, agency, AQS id, full AQS id; quotes in them are doubled.
    pub site: [&'a str; 4],
    /// The same four as they are written.
    pub site_key: &'a str,
}

/// Why a line is no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// Another number of fields.
    #[error("{0} fields instead of {FIELDS}")]
    Fields(usize),
    /// A field that is not what its column holds.
    #[error("{0} is not what it should be")]
    Field(&'static str),
    /// A quote that is not closed, or not at a field's end.
    #[error("a quote is missing")]
    Quote,
    /// Text that is none.
    #[error("it is not UTF-8")]
    Encoding,
    /// A line of which nobody knows where it ends.
    #[error("it is longer than {LONGEST_LINE} bytes")]
    TooLong,
}

/// The last timestamp that was read: the next one is most likely the same.
#[derive(Debug, Default)]
pub(super) struct LastTime(Option<([u8; 16], i64)>);

/// Reads one line, without its end.
///
/// # Errors
/// When it is not a row; nothing in it is guessed.
pub(super) fn parse_line<'a>(line: &'a str, last: &mut LastTime) -> Result<Row<'a>, LineError> {
    if line.len() > LONGEST_LINE {
        return Err(LineError::TooLong);
    }
    let mut fields = [""; FIELDS];
    let site_key = split(line, &mut fields)?;
    Ok(Row {
        latitude: degrees(fields[0], 90.0).ok_or(LineError::Field("the latitude"))?,
        longitude: degrees(fields[1], 180.0).ok_or(LineError::Field("the longitude"))?,
        timestamp: last.of(fields[2]).ok_or(LineError::Field("the time"))?,
        parameter: name(fields[3]).ok_or(LineError::Field("the parameter"))?,
        value: measured(fields[4]).ok_or(LineError::Field("the concentration"))?,
        unit: fields[5],
        raw_concentration: measured(fields[6]).ok_or(LineError::Field("the raw concentration"))?,
        aqi: whole(fields[7], i16::MIN..=i16::MAX).ok_or(LineError::Field("the AQI"))?,
        category: whole(fields[8], 0..=6).ok_or(LineError::Field("the category"))?,
        site: [fields[9], fields[10], fields[11], fields[12]],
        site_key,
    })
}

/// Takes the doubled quotes of a field for the single ones that they stand for.
pub(super) fn unescaped(field: &str) -> Cow<'_, str> {
    match field.contains('"') {
        true => field.replace("\"\"", "\"").into(),
        false => field.into(),
    }
}

/// Splits a line into its fields, doubled quotes left doubled; what it returns is the line from the site's name on.
fn split<'a>(line: &'a str, fields: &mut [&'a str; FIELDS]) -> Result<&'a str, LineError> {
    let mut rest = line;
    let mut site = "";
    for count in 1.. {
        if count == SITE {
            site = rest;
        }
        let (field, end) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let len = closing_quote(quoted.as_bytes()).ok_or(LineError::Quote)?;
                (&quoted[..len], 1 + len + 1)
            }
            None => {
                let len = memchr(b',', rest.as_bytes()).unwrap_or(rest.len());
                (&rest[..len], len)
            }
        };
        *fields.get_mut(count - 1).ok_or(LineError::Fields(count))? = field;
        rest = &rest[end..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if !rest.is_empty() => return Err(LineError::Quote),
            None if count < FIELDS => return Err(LineError::Fields(count)),
            // A quoted line that was cut off just before its last field.
            None if end == 0 && line.starts_with('"') => return Err(LineError::Quote),
            None => break,
        }
    }
    Ok(site)
}

/// Where the field that begins here ends: at a quote that is not doubled.
fn closing_quote(field: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let quote = from + memchr(b'"', &field[from..])?;
        if field.get(quote + 1) != Some(&b'"') {
            return Some(quote);
        }
        from = quote + 2;
    }
}

impl LastTime {
    fn of(&mut self, text: &str) -> Option<i64> {
        if let Some((bytes, seconds)) = &self.0
            && bytes == text.as_bytes()
        {
            return Some(*seconds);
        }
        let seconds = timestamp(text.as_bytes())?;
        self.0 = text.as_bytes().try_into().ok().map(|bytes| (bytes, seconds));
        Some(seconds)
    }
}

fn degrees(text: &str, most: f64) -> Option<f64> {
    fast_float2::parse(text).ok().filter(|degrees: &f64| degrees.abs() <= most)
}

fn name(text: &str) -> Option<&str> {
    (!text.is_empty() && !text.bytes().any(|byte| byte.is_ascii_lowercase())).then_some(text)
}

/// `Some(None)`: it says that nothing was measured.
#[expect(clippy::option_option, reason = "missing is not the same as wrong")]
fn measured(text: &str) -> Option<Option<f64>> {
    let value: f64 = fast_float2::parse(text).ok().filter(|value: &f64| value.is_finite())?;
    Some((value != MISSING).then_some(value))
}

#[expect(clippy::option_option, reason = "missing is not the same as wrong")]
fn whole(text: &str, range: std::ops::RangeInclusive<i16>) -> Option<Option<i16>> {
    let value: i16 = text.parse().ok()?;
    if f64::from(value) == MISSING {
        return Some(None);
    }
    range.contains(&value).then_some(Some(value))
}

/// `2020-08-10T01:00`, as seconds since 1970.
fn timestamp(text: &[u8]) -> Option<i64> {
    if text.len() != 16 || [text[4], text[7], text[10], text[13]] != *b"--T:" {
        return None;
    }
    let digits = |range: std::ops::Range<usize>| {
        text[range]
            .iter()
            .try_fold(0_i16, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i16::from(digit - b'0')))
    };
    let part = |range| i8::try_from(digits(range)?).ok();
    let date = jiff::civil::Date::new(digits(0..4)?, part(5..7)?, part(8..10)?).ok()?;
    let time = jiff::civil::Time::new(part(11..13)?, part(14..16)?, 0, 0).ok()?;
    Some(date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#""41.75613","-124.20347","2020-08-10T01:00","PM2.5","17.3","UG/M3","-999.0","-999","2","Sun ""City"", CA","North, Coast","840060150007","840060150007""#;

    fn read(line: &str) -> Result<Row<'_>, LineError> {
        parse_line(line, &mut LastTime::default())
    }

    #[test]
    fn a_row() {
        let row = read(GOOD).unwrap();
        assert_eq!((row.latitude, row.longitude, row.timestamp), (41.75613, -124.20347, 1_597_021_200));
        assert_eq!((row.parameter, row.value, row.unit), ("PM2.5", Some(17.3), "UG/M3"));
        assert_eq!((row.raw_concentration, row.aqi, row.category), (None, None, Some(2)));
        assert_eq!(
            row.site.map(unescaped),
            ["Sun \"City\", CA", "North, Coast", "840060150007", "840060150007"]
        );
        assert!(row.site_key.starts_with("\"Sun") && GOOD.ends_with(row.site_key));
    }

    #[test]
    fn what_is_no_row_is_told_why() {
        let with = |index: usize, field: &str| {
            let mut fields: Vec<String> = vec![
                "41.7".into(),
                "-124.2".into(),
                "2020-08-10T01:00".into(),
                "PM2.5".into(),
                "1".into(),
                "UG/M3".into(),
                "1.5".into(),
                "62".into(),
                "2".into(),
                "Site".into(),
                "Agency".into(),
                "1".into(),
                "2".into(),
            ];
            fields[index] = field.into();
            fields.iter().map(|field| format!("\"{field}\"")).collect::<Vec<_>>().join(",")
        };
        assert!(read(&with(0, "1")).is_ok());
        for (index, field, words) in [
            (0, "latitude", "the latitude is not what it should be"),
            (0, "91", "the latitude is not what it should be"),
            (0, "nan", "the latitude is not what it should be"),
            (1, "", "the longitude is not what it should be"),
            (2, "2020-08-32T01:00", "the time is not what it should be"),
            (2, "2020-08-10 01:00", "the time is not what it should be"),
            (3, "", "the parameter is not what it should be"),
            (4, "inf", "the concentration is not what it should be"),
            (4, "1,5", "the concentration is not what it should be"),
            (6, " 1", "the raw concentration is not what it should be"),
            (7, "62.0", "the AQI is not what it should be"),
            (8, "7", "the category is not what it should be"),
        ] {
            assert_eq!(read(&with(index, field)).unwrap_err().to_string(), words, "{field}");
        }
        assert_eq!(read(""), Err(LineError::Fields(1)));
        assert_eq!(read("a,b,c"), Err(LineError::Fields(3)));
        assert_eq!(read(&format!("{GOOD},\"more\"")), Err(LineError::Fields(14)));
        assert_eq!(read(&GOOD[..GOOD.len() - 1]), Err(LineError::Quote), "cut off");
        assert_eq!(read(&GOOD.replacen("17.3\"", "17.3\"x", 1)), Err(LineError::Quote));
        assert_eq!(read(&" ".repeat(9000)), Err(LineError::TooLong));
    }

    #[test]
    fn quotes_are_only_where_they_are_needed() {
        let bare = "1,2,2020-08-10T01:00,SO2,-3.4,PPB,-3.4,0,1,Site,Agency,1,2";
        assert_eq!(read(bare).unwrap().value, Some(-3.4), "a negative value is one");
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_a_row_or_none(line in "[\",0-9A-Z.T:\\- ]{0,120}") {
            let _: Result<_, _> = read(&line);
        }
    }
}
