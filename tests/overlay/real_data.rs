//! The contract's counts on the contract's data, in every profile and every format: the same bytes.
//!
//! The archive is looked for beside the checkout and unpacked once, below the target folder. Partitions are kept from one
//! start to the next within a run, never longer: the first start of each run reads all CSV files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hyper::Method;
use serde_json::{Value, json};
use slipring_overlay::record::Records;
use slipring_tests::overlay::{Overlay, six};
use slipring_tests::{measured, skipped};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
/// What the archive holds.
const DAYS: usize = 43;
/// Strategies of all processes: the three profiles, and what none of them has.
const STRATEGIES: [&[&str]; 4] = [
    &["--profile", "baseline"],
    &["--profile", "parallel"],
    &["--profile", "balanced"],
    &["--forwarding", "capacity", "--chunking", "adaptive", "--fairness", "hybrid"],
];

/// The folder that holds the days, if the archive is there: one process unpacks it, the others wait.
fn real_data() -> Option<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a package of the workspace");
    let archive = checkout.parent()?.join("shared/data/2020-fire.tar.xz");
    if !archive.is_file() {
        return None;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("2020-fire");
    let lock = File::create(folder.with_extension("lock")).expect("the target folder is ours");
    lock.lock().expect("files can be locked");
    if !folder.exists() {
        let half = folder.with_extension("half");
        if half.exists() {
            std::fs::remove_dir_all(&half).expect("it is ours"); // of one who was killed
        }
        std::fs::create_dir(&half).expect("the target folder is ours");
        let unpacked =
            std::process::Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(&half).status();
        assert!(unpacked.is_ok_and(|status| status.success()), "tar does not unpack {}", archive.display());
        std::fs::rename(half, &folder).expect("both are ours");
    }
    let days = folder.join("data");
    let found = std::fs::read_dir(&days).map(Iterator::count).unwrap_or_default();
    assert_eq!(found, DAYS, "days in {}: remove {} to unpack it again", days.display(), folder.display());
    Some(days)
}

/// All records of an answer, in one format.
async fn records(overlay: &Overlay, params: &Value, format: &str) -> Vec<u8> {
    let headers = [("accept", format), ("content-type", "application/json")];
    let leader = overlay.http("A");
    let answer = leader.with_headers(Method::POST, "/overlay/query", &headers, params.to_string()).await;
    assert_eq!(answer.status, 200, "{params}: {:?}", answer.body);
    answer.body.to_vec()
}

const ARROW: &str = "application/vnd.apache.arrow.stream";

/// How many records a stream of Arrow has, each handed on as JSON.
fn of_arrow(stream: &[u8], mut each: impl FnMut(&str)) -> usize {
    let (mut text, mut count) = (String::new(), 0);
    for batch in arrow_ipc::reader::StreamReader::try_new(stream, None).expect("a stream of Arrow") {
        let batch = batch.expect("a whole one");
        let records = Records::of(&batch);
        for row in 0..batch.num_rows() {
            text.clear();
            records.json(row, &mut text);
            each(&text);
        }
        count += batch.num_rows();
    }
    count
}

/// All records of an answer in every format.
#[derive(PartialEq)]
struct Formats {
    chunks: String,
    ndjson: String,
    csv: String,
    arrow: Vec<u8>,
}

impl Formats {
    async fn read(overlay: &Overlay, params: &Value) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("it is text");
        let answer = overlay.grpc("A").ask(params).await.expect("an answer");
        assert_eq!(answer.total_records, answer.matched, "{answer:?}");
        Self {
            chunks: overlay.grpc("A").records(&answer).await.expect("each chunk"),
            ndjson: text(records(overlay, params, "application/x-ndjson").await),
            csv: text(records(overlay, params, "text/csv").await),
            arrow: records(overlay, params, ARROW).await,
        }
    }

    /// They hold the same records, so many.
    fn agree(&self, count: usize) {
        assert!(self.ndjson.trim_end().replace('\n', ",") == self.chunks, "chunks and NDJSON differ");
        let mut lines = self.csv.lines();
        let names = "latitude,longitude,timestamp,parameter,value,unit,raw_concentration,aqi,category,site_name,\
                     agency_name,aqs_id,full_aqs_id,date";
        assert_eq!(lines.next(), Some(names));
        for record in self.ndjson.lines() {
            let values: Value = serde_json::from_str(record).expect("each line is JSON");
            let fields: Vec<_> = names.split(',').map(|name| csv_field(&values[name])).collect();
            assert_eq!(lines.next(), Some(fields.join(",").as_str()), "{record}");
        }
        assert_eq!(lines.next(), None, "no line more");
        let mut lines = self.ndjson.lines();
        assert_eq!(of_arrow(&self.arrow, |record| assert_eq!(lines.next(), Some(record))), count);
        assert_eq!(lines.next(), None, "no record more");
    }
}

fn csv_field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.contains([',', '"']) => format!("\"{}\"", text.replace('"', "\"\"")),
        Value::String(text) => text.clone(),
        number => number.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contracts_counts_in_every_profile_and_format_with_the_same_bytes() {
    let Some(data) = real_data() else {
        return skipped("data", "there is no ../shared/data/2020-fire.tar.xz beside this checkout");
    };
    let began = Instant::now();
    let bounds = |min: u32, max: u32| json!({ "parameter": "PM2.5", "min_value": min, "max_value": max });
    let (wide, narrow) = (bounds(5, 35), bounds(10, 50));
    let mut overlay = Overlay::new(SLIPRING, six(), &data).cached();
    let mut seen: Option<(Formats, Vec<u8>)> = None;
    for strategies in STRATEGIES {
        overlay.start_as(strategies).await;
        let started = began.elapsed();
        let count = async |id: &str, params: &Value| {
            let mut params = params.clone();
            params["limit"] = 0.into();
            let answer = overlay.grpc(id).ask(&params).await.expect("an answer");
            assert_eq!((answer.status.as_str(), answer.total_records), ("ready", 0), "{answer:?}");
            answer.matched
        };
        assert_eq!(count("A", &wide).await, 225_521);
        assert_eq!(count("A", &narrow).await, 116_218);
        let mut parts = Vec::new();
        for worker in ["C", "D", "F"] {
            parts.push(count(worker, &wide).await);
        }
        assert_eq!(parts, [44_921, 99_871, 80_729]);

        let formats = Formats::read(&overlay, &narrow).await;
        let arrow = records(&overlay, &wide, ARROW).await;
        match &seen {
            Some(seen) => assert!(*seen == (formats, arrow), "{strategies:?}: other bytes than the first"),
            None => {
                formats.agree(116_218);
                assert_eq!(of_arrow(&arrow, |_| {}), 225_521);
                seen = Some((formats, arrow));
            }
        }
        measured(&format!("{strategies:?}: started after {started:.1?}, done after {:.1?}", began.elapsed()));
    }
}
