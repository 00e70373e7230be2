//! Rows on their way out: one Arrow schema, and the texts made of it.
//!
//! A selection becomes one record batch a day. Its dictionaries hold only what its rows use, so that a part costs what
//! it says and not what the day holds; and every part is encoded as complete IPC messages, so that whoever passes it on
//! does not have to understand it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, Float64Type, Int16Type, TimestampSecondType, UInt8Type, UInt16Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, Date32Array, DictionaryArray, Float64Array, Int16Array,
    PrimitiveArray, RecordBatch, StringArray, TimestampSecondArray, UInt8Array, UInt16Array,
};
use arrow_buffer::{ArrowNativeType as _, Buffer};
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamEncoder;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;

use crate::date::Date;
use crate::partition::{Batch, Partition, Selection};

/// The fields of a record, in the contract's order.
pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let few = || DataType::Dictionary(Box::new(DataType::UInt8), Box::new(DataType::Utf8));
    let many = || DataType::Dictionary(Box::new(DataType::UInt16), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("latitude", DataType::Float64, false),
        Field::new("longitude", DataType::Float64, false),
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Second, Some("UTC".into())), false),
        Field::new("parameter", few(), false),
        Field::new("value", DataType::Float64, true),
        Field::new("unit", few(), false),
        Field::new("raw_concentration", DataType::Float64, true),
        Field::new("aqi", DataType::Int16, true),
        Field::new("category", DataType::Int16, true),
        Field::new("site_name", many(), false),
        Field::new("agency_name", many(), false),
        Field::new("aqs_id", many(), false),
        Field::new("full_aqs_id", many(), false),
        Field::new("date", DataType::Date32, false),
    ]))
});

/// What a stream begins with: the message that describes the schema.
pub static PREFIX: LazyLock<Bytes> = LazyLock::new(|| {
    let empty = StreamEncoder::try_new(&SCHEMA).and_then(StreamEncoder::finish).expect("the schema is ours");
    let whole = joined(&empty);
    whole.slice(..whole.len() - END.len())
});

/// What a stream ends with.
pub const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

fn joined(buffers: &[Buffer]) -> Bytes {
    let mut bytes = Vec::with_capacity(buffers.iter().map(Buffer::len).sum());
    buffers.iter().for_each(|buffer| bytes.extend_from_slice(buffer));
    bytes.into()
}

/// The selected rows of a partition as a record batch.
pub fn batch_of(partition: &Partition, selection: &Selection) -> RecordBatch {
    let rows = selection.taken();
    let gather = Gather { partition, selection, rows };
    let dictionaries = &partition.dictionaries;
    let (sites, site_names) = gather.sites();
    let text = |codes: &UInt16Array, values: &Arc<StringArray>| -> ArrayRef {
        let used =
            StringArray::from_iter_values(site_names.iter().map(|&site| values.value(usize::from(site))));
        Arc::new(DictionaryArray::<UInt16Type>::new(codes.clone(), Arc::new(used)))
    };
    let few = |codes: UInt8Array, values: &Arc<StringArray>| -> ArrayRef {
        Arc::new(DictionaryArray::<UInt8Type>::new(codes, values.clone()))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from(gather.values(|batch| batch.latitude.values()))),
        Arc::new(Float64Array::from(gather.values(|batch| batch.longitude.values()))),
        Arc::new(
            TimestampSecondArray::from(gather.values(|batch| batch.timestamp.values())).with_timezone("UTC"),
        ),
        few(gather.values(|batch| batch.parameter.values()).into(), &dictionaries.parameters),
        Arc::new(gather.known::<Float64Array, _>(|batch, row| {
            batch.value.is_valid(row).then(|| batch.value.value(row))
        })),
        few(gather.values(|batch| batch.unit.values()).into(), &dictionaries.units),
        Arc::new(gather.known::<Float64Array, _>(|batch, row| {
            batch.raw_concentration.is_valid(row).then(|| batch.raw_concentration.value(row))
        })),
        Arc::new(
            gather.known::<Int16Array, _>(|batch, row| batch.aqi.is_valid(row).then(|| batch.aqi.value(row))),
        ),
        Arc::new(gather.known::<Int16Array, _>(|batch, row| {
            batch.category.is_valid(row).then(|| batch.category.value(row))
        })),
        text(&sites, &dictionaries.sites[0]),
        text(&sites, &dictionaries.sites[1]),
        text(&sites, &dictionaries.sites[2]),
        text(&sites, &dictionaries.sites[3]),
        Arc::new(Date32Array::from(vec![partition.date.days_since_1970(); rows])),
    ];
    RecordBatch::try_new(SCHEMA.clone(), columns).expect("the columns are those of the schema")
}

struct Gather<'a> {
    partition: &'a Partition,
    selection: &'a Selection,
    rows: usize,
}

impl<'a> Gather<'a> {
    fn values<T: Copy + 'a>(&self, column: impl Fn(&'a Batch) -> &'a [T]) -> Vec<T> {
        let mut values = Vec::with_capacity(self.rows);
        for (batch, rows) in &self.selection.rows {
            let column = column(&self.partition.batches[*batch]);
            values.extend(rows.iter().map(|&row| column[usize::from(row)]));
        }
        values
    }

    fn known<A: FromIterator<Option<T>>, T>(&self, value: impl Fn(&Batch, usize) -> Option<T>) -> A {
        let rows = self.selection.rows.iter().flat_map(|(batch, rows)| {
            let batch = &self.partition.batches[*batch];
            rows.iter().map(move |&row| (batch, usize::from(row)))
        });
        rows.map(|(batch, row)| value(batch, row)).collect()
    }

    /// The rows' sites, numbered anew in the order in which they come, and the old number of each.
    fn sites(&self) -> (UInt16Array, Vec<u16>) {
        let mut codes = self.values(|batch| batch.site.values());
        let mut renumbered = vec![None; self.partition.dictionaries.sites[0].len()];
        let mut used = Vec::new();
        for code in &mut codes {
            let number = renumbered[usize::from(*code)].get_or_insert_with(|| {
                used.push(*code);
                (used.len() - 1) as u16
            });
            *code = *number;
        }
        (codes.into(), used)
    }
}

/// A record batch as IPC messages, without the schema: any number of them between [`PREFIX`] and [`END`] is a stream.
pub fn encode(batch: &RecordBatch) -> Bytes {
    let encode = || -> Result<Bytes, ArrowError> {
        let mut encoder = StreamEncoder::try_new(&SCHEMA)?;
        Ok(joined(&encoder.encode(batch)?).slice(PREFIX.len()..))
    };
    encode().expect("the batch is of the schema")
}

/// What [`encode`] made a record batch of.
///
/// # Errors
/// When it is nothing of this kind.
pub fn decode(part: &Bytes) -> Result<RecordBatch, ArrowError> {
    let mut decoder = StreamDecoder::new();
    for bytes in [PREFIX.clone(), part.clone()] {
        let mut buffer = Buffer::from(bytes);
        while !buffer.is_empty() {
            if let Some(batch) = decoder.decode(&mut buffer)? {
                if *batch.schema() != **SCHEMA {
                    return Err(ArrowError::SchemaError("records of another kind".into()));
                }
                // The schema that is there, not one for each.
                return batch.with_schema(SCHEMA.clone());
            }
        }
    }
    Err(ArrowError::IpcError("no record batch in it".into()))
}

/// Writes records as text.
#[derive(Debug)]
pub struct Records<'a> {
    columns: Columns<'a>,
    /// The time and the day that were written last: rows come hour by hour, and a part is one day.
    time: Last<i64>,
    day: Last<i32>,
}

/// A value and its text.
type Last<T> = RefCell<(Option<T>, String)>;

/// Adds the text of a value, which `write` makes if it is not the last one.
fn remembered<T: Copy + PartialEq>(
    last: &Last<T>,
    value: T,
    out: &mut String,
    write: impl Fn(&mut String, T),
) {
    let (known, text) = &mut *last.borrow_mut();
    if *known != Some(value) {
        text.clear();
        write(text, value);
        *known = Some(value);
    }
    out.push_str(text);
}

#[derive(Debug)]
struct Columns<'a> {
    latitude: &'a Float64Array,
    longitude: &'a Float64Array,
    timestamp: &'a TimestampSecondArray,
    parameter: Texts<'a, UInt8Type>,
    value: &'a Float64Array,
    unit: Texts<'a, UInt8Type>,
    raw_concentration: &'a Float64Array,
    aqi: &'a Int16Array,
    category: &'a Int16Array,
    site: [Texts<'a, UInt16Type>; 4],
    date: &'a Date32Array,
}

/// A column of texts.
#[derive(Debug)]
struct Texts<'a, K: ArrowDictionaryKeyType> {
    codes: &'a PrimitiveArray<K>,
    texts: &'a StringArray,
    /// Whether they are the same in JSON's quotes, all of them.
    is_plain: bool,
}

impl<'a, K: ArrowDictionaryKeyType> Texts<'a, K> {
    fn of(column: &'a ArrayRef) -> Self {
        let dictionary = column.as_dictionary::<K>();
        let texts: &StringArray = dictionary.values().as_string();
        let offsets = texts.value_offsets();
        let of = |offset: Option<&i32>| offset.map_or(0, |offset| offset.as_usize());
        let used = &texts.value_data()[of(offsets.first())..of(offsets.last())];
        // All bytes and not the first that is special: so the compiler looks at many at a time.
        let is_plain = !used.iter().fold(false, |special, &byte| special | is_special(byte));
        Self { codes: dictionary.keys(), texts, is_plain }
    }

    fn longest_json(&self) -> usize {
        if self.is_plain {
            let lengths = self.texts.value_offsets().windows(2).map(|pair| (pair[1] - pair[0]).as_usize());
            return lengths.max().unwrap_or(0) + 2;
        }
        let mut text = String::new();
        let longest = self.texts.iter().flatten().map(|value| {
            text.clear();
            quoted(&mut text, value);
            text.len()
        });
        longest.max().unwrap_or(0)
    }

    fn text(&self, row: usize) -> &'a str {
        self.texts.value(self.codes.value(row).as_usize())
    }

    fn json(&self, row: usize, out: &mut String) {
        if self.is_plain {
            out.push('"');
            out.push_str(self.text(row));
            out.push('"');
        } else {
            quoted(out, self.text(row));
        }
    }
}

/// The names of the fields, quoted, each with what stands before it.
const NAMES: [&str; 14] = [
    "{\"latitude\":",
    ",\"longitude\":",
    ",\"timestamp\":\"",
    "\",\"parameter\":",
    ",\"value\":",
    ",\"unit\":",
    ",\"raw_concentration\":",
    ",\"aqi\":",
    ",\"category\":",
    ",\"site_name\":",
    ",\"agency_name\":",
    ",\"aqs_id\":",
    ",\"full_aqs_id\":",
    ",\"date\":\"",
];

/// Bytes that the four numbers with a point, the two without, the time, the date and the end of a record take at most.
const LONGEST_NUMBERS: usize = 4 * 32 + 2 * 6 + 16 + 8 + 2;

/// The first line of a CSV.
pub const CSV_HEADER: &str = "latitude,longitude,timestamp,parameter,value,unit,raw_concentration,aqi,category,\
     site_name,agency_name,aqs_id,full_aqs_id,date\n";

impl<'a> Records<'a> {
    /// Of a batch of [`SCHEMA`].
    pub fn of(batch: &'a RecordBatch) -> Self {
        let column = |index: usize| batch.column(index);
        let site = |index: usize| Texts::of(batch.column(9 + index));
        Self {
            columns: Columns {
                latitude: column(0).as_primitive::<Float64Type>(),
                longitude: column(1).as_primitive::<Float64Type>(),
                timestamp: column(2).as_primitive::<TimestampSecondType>(),
                parameter: Texts::of(column(3)),
                value: column(4).as_primitive::<Float64Type>(),
                unit: Texts::of(column(5)),
                raw_concentration: column(6).as_primitive::<Float64Type>(),
                aqi: column(7).as_primitive::<Int16Type>(),
                category: column(8).as_primitive::<Int16Type>(),
                site: [site(0), site(1), site(2), site(3)],
                date: column(13).as_primitive(),
            },
            time: Last::default(),
            day: Last::default(),
        }
    }

    /// Bytes that no record is longer than as JSON: the longest texts that any of them might have.
    pub fn longest_json(&self) -> usize {
        let c = &self.columns;
        let few = [&c.parameter, &c.unit].map(Texts::longest_json);
        let site = c.site.iter().map(Texts::longest_json);
        NAMES.iter().map(|name| name.len()).sum::<usize>()
            + LONGEST_NUMBERS
            + few.iter().copied().chain(site).sum::<usize>()
    }

    /// Adds a record as a JSON object.
    pub fn json(&self, row: usize, out: &mut String) {
        let c = &self.columns;
        out.push_str(NAMES[0]);
        number(out, c.latitude.value(row));
        out.push_str(NAMES[1]);
        number(out, c.longitude.value(row));
        out.push_str(NAMES[2]);
        remembered(&self.time, c.timestamp.value(row), out, time);
        out.push_str(NAMES[3]);
        c.parameter.json(row, out);
        out.push_str(NAMES[4]);
        known(out, c.value, row, "null", number);
        out.push_str(NAMES[5]);
        c.unit.json(row, out);
        out.push_str(NAMES[6]);
        known(out, c.raw_concentration, row, "null", number);
        out.push_str(NAMES[7]);
        known(out, c.aqi, row, "null", whole);
        out.push_str(NAMES[8]);
        known(out, c.category, row, "null", whole);
        for (name, site) in NAMES[9..13].iter().zip(&c.site) {
            out.push_str(name);
            site.json(row, out);
        }
        out.push_str(NAMES[13]);
        remembered(&self.day, c.date.value(row), out, day);
        out.push_str("\"}");
    }

    /// Adds a record as a line of CSV; what is not known is an empty field.
    pub fn csv(&self, row: usize, out: &mut String) {
        let c = &self.columns;
        number(out, c.latitude.value(row));
        out.push(',');
        number(out, c.longitude.value(row));
        out.push(',');
        remembered(&self.time, c.timestamp.value(row), out, time);
        out.push(',');
        field(out, c.parameter.text(row));
        out.push(',');
        known(out, c.value, row, "", number);
        out.push(',');
        field(out, c.unit.text(row));
        out.push(',');
        known(out, c.raw_concentration, row, "", number);
        out.push(',');
        known(out, c.aqi, row, "", whole);
        out.push(',');
        known(out, c.category, row, "", whole);
        for site in &c.site {
            out.push(',');
            field(out, site.text(row));
        }
        out.push(',');
        remembered(&self.day, c.date.value(row), out, day);
        out.push('\n');
    }
}

/// Whether a byte cannot stand in JSON's quotes as it is.
fn is_special(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// A text in JSON's quotes.
fn quoted(out: &mut String, text: &str) {
    if text.bytes().any(is_special) {
        write!(out, "{}", serde_json::Value::from(text)).expect("a string takes it");
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

fn number(out: &mut String, value: f64) {
    out.push_str(ryu::Buffer::new().format_finite(value));
}

fn whole(out: &mut String, value: i16) {
    out.push_str(itoa::Buffer::new().format(value));
}

fn known<T: ArrowPrimitiveType>(
    out: &mut String,
    column: &PrimitiveArray<T>,
    row: usize,
    unknown: &str,
    write: impl Fn(&mut String, T::Native),
) {
    match column.is_valid(row) {
        true => write(out, column.value(row)),
        false => out.push_str(unknown),
    }
}

/// `2020-08-10T01:00`.
fn time(out: &mut String, seconds: i64) {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let date = Date::of_days_since_1970(i32::try_from(days).unwrap_or_default()).number();
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    write!(out, "{year:04}-{month:02}-{day:02}T{:02}:{:02}", rest / 3600, rest / 60 % 60)
        .expect("a string takes it");
}

fn day(out: &mut String, days: i32) {
    write!(out, "{}", Date::of_days_since_1970(days)).expect("a string takes it");
}

fn field(out: &mut String, text: &str) {
    if text.contains([',', '"', '\n', '\r']) {
        write!(out, "\"{}\"", text.replace('"', "\"\"")).expect("a string takes it");
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A site's name and the time and the day of each row.
    fn batch(rows: &[(&str, i64, i32)]) -> RecordBatch {
        let floats = || -> ArrayRef { Arc::new(Float64Array::from(vec![1.5; rows.len()])) };
        let whole = || -> ArrayRef { Arc::new(Int16Array::from(vec![7; rows.len()])) };
        let few = |text: &str| -> ArrayRef {
            Arc::new(rows.iter().map(|_| Some(text)).collect::<DictionaryArray<UInt8Type>>())
        };
        let sites = || -> ArrayRef {
            Arc::new(rows.iter().map(|row| Some(row.0)).collect::<DictionaryArray<UInt16Type>>())
        };
        let times = TimestampSecondArray::from_iter_values(rows.iter().map(|row| row.1));
        let days = Date32Array::from_iter_values(rows.iter().map(|row| row.2));
        let columns = vec![
            floats(),
            floats(),
            Arc::new(times.with_timezone("UTC")),
            few("PM2.5"),
            floats(),
            few("UG/M3"),
            floats(),
            whole(),
            whole(),
            sites(),
            sites(),
            sites(),
            sites(),
            Arc::new(days),
        ];
        RecordBatch::try_new(SCHEMA.clone(), columns).unwrap()
    }

    #[test]
    fn texts_are_the_same_in_whatever_company() {
        let odd = ["plain", "a \"quoted\" one", "back\\slash", "line\nfeed", "Zürich", "", "\u{1}"];
        for texts in [&odd[..1], &odd[..], &["Zürich", ""]] {
            let rows: Vec<_> = texts.iter().map(|text| (*text, 0, 0)).collect();
            let batch = batch(&rows);
            let records = Records::of(&batch);
            for (row, text) in texts.iter().enumerate() {
                let mut json = String::new();
                records.json(row, &mut json);
                let record: serde_json::Value = serde_json::from_str(&json).unwrap();
                assert_eq!(record["site_name"], *text);
                assert!(json.contains(&serde_json::Value::from(*text).to_string()), "{json}");
                assert!(json.len() <= records.longest_json(), "{json}");
            }
        }
    }

    #[test]
    fn times_and_days_are_each_rows_own() {
        let hour = 3600;
        let rows = [("a", 0, 0), ("a", 0, 0), ("a", hour, 0), ("a", 25 * hour, 1), ("a", 0, 1), ("a", 0, 0)];
        let batch = batch(&rows);
        let records = Records::of(&batch);
        let texts = |row: usize| {
            let (mut json, mut csv) = (String::new(), String::new());
            records.json(row, &mut json);
            records.csv(row, &mut csv);
            let record: serde_json::Value = serde_json::from_str(&json).unwrap();
            let [time, day] = ["timestamp", "date"].map(|name| record[name].as_str().unwrap().to_owned());
            assert!(csv.contains(&format!(",{time},")) && csv.ends_with(&format!(",{day}\n")), "{csv}");
            format!("{time} {day}")
        };
        let all: Vec<_> = (0..rows.len()).map(texts).collect();
        assert_eq!(
            all,
            [
                "1970-01-01T00:00 19700101",
                "1970-01-01T00:00 19700101",
                "1970-01-01T01:00 19700101",
                "1970-01-02T01:00 19700102",
                "1970-01-01T00:00 19700102",
                "1970-01-01T00:00 19700101",
            ]
        );
    }

    #[test]
    fn what_is_understood_is_a_slice_of_what_came() {
        let encoded = encode(&batch(&[("a", 0, 0), ("b", 1, 0)]));
        // As from a connection's buffer: anywhere in it.
        let moved = Bytes::copy_from_slice(&encoded);
        let decoded = decode(&moved).unwrap();
        let inside = |at: *const u8| moved.as_ptr_range().contains(&at);
        assert!(inside(decoded.column(0).as_primitive::<Float64Type>().values().inner().as_ptr()));
        let sites = decoded.column(9).as_dictionary::<UInt16Type>();
        assert!(inside(sites.values().as_string::<i32>().values().as_ptr()));
        assert_eq!(decoded.schema(), *SCHEMA);
    }
}
