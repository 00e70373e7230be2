//! A partition as bytes, for the disk: Arrow IPC streams one after the other (sites, parameters, units, rows, the order of
//! their index), and a checksum.
//!
//! The index is kept because sorting is what loading spends most on after reading; not as a column of the rows, whose
//! memory it would share and keep.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int16Type, TimestampSecondType, UInt8Type, UInt16Type};
use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt16Array};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use xxhash_rust::xxh3::xxh3_64;

use super::columns::{Batch, Dictionaries};
use super::counts::Counts;
use super::index::Index;
use super::stats::Stats;
use super::{Malformed, Partition};
use crate::date::Date;

/// Of these bytes, and of what the reader of CSV makes of a file: raise it when either changes.
pub(crate) const FORMAT: u32 = 2;

/// Bytes that are no partition, or not the expected one.
#[derive(Debug, thiserror::Error)]
#[error("it holds no partition of this kind")]
pub(crate) struct NotStored(#[source] Option<ArrowError>);

impl From<ArrowError> for NotStored {
    fn from(error: ArrowError) -> Self {
        Self(Some(error))
    }
}

static ROWS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = DataType::Timestamp(TimeUnit::Second, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("latitude", DataType::Float64, false),
        Field::new("longitude", DataType::Float64, false),
        Field::new("timestamp", time, false),
        Field::new("parameter", DataType::UInt8, false),
        Field::new("value", DataType::Float64, true),
        Field::new("unit", DataType::UInt8, false),
        Field::new("raw_concentration", DataType::Float64, true),
        Field::new("aqi", DataType::Int16, true),
        Field::new("category", DataType::Int16, true),
        Field::new("site", DataType::UInt16, false),
    ]))
});

static ORDER: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("order", DataType::UInt16, false)])));

fn texts(names: &[&str]) -> Schema {
    Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect::<Vec<_>>())
}

const SITES: [&str; 4] = ["site_name", "agency_name", "aqs_id", "full_aqs_id"];

/// As bytes.
pub(crate) fn encode(partition: &Partition) -> Result<Vec<u8>, ArrowError> {
    let mut bytes = Vec::new();
    let Dictionaries { parameters, units, sites } = &partition.dictionaries;
    let about = [
        ("date", partition.date.to_string()),
        ("fingerprint", partition.fingerprint.to_string()),
        ("files", partition.files.to_string()),
        ("malformed", partition.malformed.to_string()),
        ("told", serde_json::json!(partition.told).to_string()),
        ("bad_files", serde_json::json!(partition.bad_files).to_string()),
    ];
    let about: HashMap<_, _> = about.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let column = |texts: &Arc<StringArray>| -> ArrayRef { texts.clone() };
    for (schema, columns) in [
        (texts(&SITES).with_metadata(about), sites.iter().map(column).collect()),
        (texts(&["parameter"]), vec![column(parameters)]),
        (texts(&["unit"]), vec![column(units)]),
    ] {
        let schema = Arc::new(schema);
        let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
        writer.write(&RecordBatch::try_new(schema, columns)?)?;
        writer.finish()?;
    }
    let mut writer = StreamWriter::try_new(&mut bytes, &ROWS)?;
    for batch in &partition.batches {
        let columns = batch.columns().map(|column| arrow_array::make_array(column.to_data()));
        writer.write(&RecordBatch::try_new(ROWS.clone(), columns.into())?)?;
    }
    writer.finish()?;
    drop(writer);
    let mut writer = StreamWriter::try_new(&mut bytes, &ORDER)?;
    for batch in &partition.batches {
        let order: ArrayRef = Arc::new(UInt16Array::from(batch.index.order().to_vec()));
        writer.write(&RecordBatch::try_new(ORDER.clone(), vec![order])?)?;
    }
    writer.finish()?;
    drop(writer);
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// What [`encode`] made bytes of, if they are still the same.
pub(crate) fn decode(bytes: &[u8]) -> Result<Partition, NotStored> {
    let (content, checksum) = bytes.split_last_chunk::<8>().ok_or(NotStored(None))?;
    if xxh3_64(content) != u64::from_le_bytes(*checksum) {
        return Err(NotStored(None));
    }
    let mut rest = content;
    let (schema, sites) = one_batch(&mut rest, &SITES)?;
    let about = |name: &str| schema.metadata().get(name).ok_or(NotStored(None));
    let number = |name: &str| about(name)?.parse::<u64>().map_err(|_| NotStored(None));
    let date: Date = about("date")?.parse().map_err(|_| NotStored(None))?;
    let (fingerprint, files, malformed) = (number("fingerprint")?, number("files")?, number("malformed")?);
    let told: Vec<Malformed> = serde_json::from_str(about("told")?).map_err(|_| NotStored(None))?;
    let bad_files = serde_json::from_str(about("bad_files")?).map_err(|_| NotStored(None))?;
    let text = |batch: &RecordBatch, index: usize| Arc::new(batch.column(index).as_string().clone());
    let sites = [0, 1, 2, 3].map(|index| text(&sites, index));
    let parameters = text(&one_batch(&mut rest, &["parameter"])?.1, 0);
    let units = text(&one_batch(&mut rest, &["unit"])?.1, 0);
    let (rows, orders) = (all_batches(&mut rest, &ROWS)?, all_batches(&mut rest, &ORDER)?);
    if rows.len() != orders.len() {
        return Err(NotStored(None));
    }
    let batches: Vec<_> = rows.iter().zip(&orders).map(|(rows, order)| batch_of(rows, order)).collect();
    let counts = Counts::of(&batches);
    let dictionaries = Dictionaries { parameters, units, sites };
    let files = usize::try_from(files).map_err(|_| NotStored(None))?;
    Ok(Partition { date, fingerprint, files, batches, dictionaries, malformed, told, bad_files, counts })
}

fn one_batch(rest: &mut &[u8], names: &[&str]) -> Result<(SchemaRef, RecordBatch), NotStored> {
    let mut reader = StreamReader::try_new(rest, None)?;
    let schema = reader.schema();
    if schema.fields() != texts(names).fields() {
        return Err(NotStored(None));
    }
    let batch = reader.next().ok_or(NotStored(None))??;
    match reader.next() {
        None => Ok((schema, batch)),
        Some(_) => Err(NotStored(None)),
    }
}

fn all_batches(rest: &mut &[u8], schema: &SchemaRef) -> Result<Vec<RecordBatch>, NotStored> {
    let reader = StreamReader::try_new(rest, None)?;
    if reader.schema() != *schema {
        return Err(NotStored(None));
    }
    Ok(reader.collect::<Result<_, _>>()?)
}

fn batch_of(batch: &RecordBatch, order: &RecordBatch) -> Batch {
    let float = |index: usize| batch.column(index).as_primitive::<Float64Type>().clone();
    let small = |index: usize| batch.column(index).as_primitive::<Int16Type>().clone();
    let (latitude, longitude, value) = (float(0), float(1), float(4));
    let parameter = batch.column(3).as_primitive::<UInt8Type>().clone();
    let order = order.column(0).as_primitive::<UInt16Type>();
    Batch {
        timestamp: batch.column(2).as_primitive::<TimestampSecondType>().clone(),
        unit: batch.column(5).as_primitive::<UInt8Type>().clone(),
        raw_concentration: float(6),
        aqi: small(7),
        category: small(8),
        site: batch.column(9).as_primitive::<UInt16Type>().clone(),
        stats: Stats::of(&latitude, &longitude, &value),
        index: Index::ordered(order.values().as_ref().into(), &parameter, &value),
        latitude,
        longitude,
        parameter,
        value,
    }
}

/// The name of the file that holds it.
pub(crate) fn file_name(date: Date, fingerprint: u64) -> PathBuf {
    format!("{date}-{fingerprint:016x}-{FORMAT}.partition").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::{a_day, load};
    use crate::query::Query;

    fn a_partition() -> Partition {
        let folder = tempfile::tempdir().unwrap();
        let date = a_day(folder.path(), 1, 7);
        let path = folder.path().join(date.to_string()).join("0.csv");
        let text = std::fs::read_to_string(&path).unwrap() + "\"1\",\"2\"\n";
        std::fs::write(&path, text).unwrap();
        load(date, path.parent().unwrap()).unwrap()
    }

    #[test]
    fn what_comes_back_is_what_was_stored() {
        let partition = a_partition();
        assert_eq!(partition.malformed, 1);
        let again = decode(&encode(&partition).unwrap()).unwrap();
        assert_eq!(format!("{again:?}"), format!("{partition:?}"));
        let (size, before) = (again.size(), partition.size());
        assert!(size.abs_diff(before) * 10 < before, "{size} bytes instead of {before}");
        let query = Query::from_json(r#"{"parameter":"PM2.5","min_value":5,"max_value":35}"#).unwrap();
        let selected = partition.select(&query, usize::MAX);
        assert!(selected.matched > 0);
        assert_eq!(again.select(&query, usize::MAX), selected);
    }

    #[test]
    fn a_flipped_bit_or_a_lost_end_is_noticed() {
        let bytes = encode(&a_partition()).unwrap();
        for place in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut spoiled = bytes.clone();
            spoiled[place] ^= 1;
            decode(&spoiled).unwrap_err();
        }
        for len in [0, 7, 8, bytes.len() / 2, bytes.len() - 1] {
            decode(&bytes[..len]).unwrap_err();
        }
    }
}
