//! The overlay beside DuckDB and polars, on the same data in one run: `make bench-overlay`.
//!
//! The overlay is six processes on loopback, asked over gRPC through the leader and the team leaders; DuckDB is asked in
//! its own process, on a table in memory. Every question has another bound (with the same rows), so that no cache
//! answers, neither ours nor theirs. They take turns, so that a slow moment of the machine is everybody's.
//!
//! Environment: `SLIPRING` (the executable), `DATASET` (the folder that holds `YYYYMMDD/`), `PYTHON` (with duckdb, polars
//! and pyarrow; default python3), `ROUNDS` (default 200), `OUT` (a file for the raw data).

#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use serde_json::{Map, Value, json};
use slipring_overlay::topology::Profile;
use slipring_overlay::wire::overlay_node_client::OverlayNodeClient;
use slipring_overlay::wire::{ChunkRequest, QueryRequest};
use tonic::transport::Channel;

type Error = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Error>;

/// Rows of the data set that the questions match. Source: the overlay's contract.
const MATCHED: u64 = 116_218;
/// Requests of the original's published benchmark, at once and in all, and records of each.
const ORIGINAL: (usize, usize, u64) = (20, 400, 2000);
/// What the original published: requests/s, and milliseconds on the average.
const PUBLISHED: (f64, f64) = (52.7, 171.0);
/// Loads of each kind.
const LOADS: usize = 5;

/// A child that does not outlive this program.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Only what was started here, by its handle.
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("a process cannot be ended: {error}");
        }
    }
}

/// DuckDB and polars.
struct Peers {
    _python: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peers {
    fn start(dataset: &str) -> Result<Self> {
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/peers.py");
        let mut child = Command::new(&python)
            .args([script, dataset])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{python}: {error}"))?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { _python: Running(child), input, output })
    }

    fn ask(&mut self, words: &str) -> Result<Value> {
        writeln!(self.input, "{words}")?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(format!("python ended; it needs duckdb, polars and pyarrow (asked: {words})").into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    fn seconds(&mut self, words: &str, rows: Option<u64>) -> Result<f64> {
        let said = self.ask(words)?;
        if rows.is_some_and(|rows| said["rows"] != rows) {
            return Err(format!("{words}: {said}, not {rows:?} rows").into());
        }
        said["seconds"].as_f64().ok_or_else(|| format!("{words}: {said}").into())
    }
}

/// The overlay.
struct Overlay {
    _up: Running,
    url: String,
    _folder: tempfile::TempDir,
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn slipring() -> Result<PathBuf> {
    let path = std::env::var("SLIPRING").map_err(|_| "SLIPRING says where the executable is")?;
    Ok(std::fs::canonicalize(path)?)
}

impl Overlay {
    async fn start(dataset: &str, profile: Profile) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut file: Value = serde_json::from_str(include_str!("../../topologies/baseline.json"))?;
        for process in file["processes"].as_object_mut().ok_or("no processes")?.values_mut() {
            process["port"] = free_port()?.into();
        }
        let url = format!("http://127.0.0.1:{}", file["processes"]["A"]["port"]);
        let path = folder.path().join("overlay.json");
        std::fs::write(&path, file.to_string())?;
        let up = Command::new(slipring()?)
            .args(["overlay", "up"])
            .arg(&path)
            .args(["--dataset-root", dataset, "--cache", "none", "--profile", profile.name()])
            .stdout(Stdio::null())
            .spawn()?;
        let overlay = Self { _up: Running(up), url, _folder: folder };
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let mut client = match OverlayNodeClient::connect(overlay.url.clone()).await {
                Ok(client) => client,
                Err(_) if Instant::now() < until => continue,
                Err(error) => return Err(error.into()),
            };
            let said = client.query(question(0, Some(0))).await?.into_inner();
            if said.status == "ready" && said.matched as u64 == MATCHED {
                return Ok(overlay);
            }
            if Instant::now() >= until {
                return Err(format!("it is not as it should be: {said:?}").into());
            }
        }
    }

    async fn client(&self) -> Result<OverlayNodeClient<Channel>> {
        let client = OverlayNodeClient::connect(self.url.clone()).await?;
        Ok(client.max_decoding_message_size(64 << 20))
    }
}

fn question(number: usize, limit: Option<u64>) -> QueryRequest {
    let mut params = json!({"parameter": "PM2.5", "min_value": 10.0 - number as f64 * 1e-9, "max_value": 50});
    if let Some(limit) = limit {
        params["limit"] = limit.into();
    }
    QueryRequest { query_type: "filter".into(), query_params: params.to_string(), ..Default::default() }
}

/// The chunks of a question, all of them; records, by counting what begins one.
async fn records(client: &mut OverlayNodeClient<Channel>, number: usize, limit: u64) -> Result<usize> {
    let said = client.query(question(number, Some(limit))).await?.into_inner();
    if said.status != "ready" {
        return Err(said.status.into());
    }
    let mut count = 0;
    for chunk_index in 0..said.total_chunks {
        let chunk = client.get_chunk(ChunkRequest { uid: said.uid.clone(), chunk_index }).await?.into_inner();
        count += chunk.data.matches("{\"latitude\":").count();
    }
    Ok(count)
}

async fn arrow(client: &mut OverlayNodeClient<Channel>, number: usize) -> Result<usize> {
    let mut stream = client.query_stream(question(number, None)).await?.into_inner();
    let mut decoder = StreamDecoder::new();
    let mut rows = 0;
    while let Some(piece) = stream.message().await? {
        let mut buffer = Buffer::from(piece.arrow);
        while !buffer.is_empty() {
            if let Some(batch) = decoder.decode(&mut buffer)? {
                rows += batch.num_rows();
            }
        }
        if let Some(summary) = piece.summary
            && summary.status != "ready"
        {
            return Err(summary.status.into());
        }
    }
    Ok(rows)
}

/// The value below which so many of a hundred lie.
fn percentile(values: &[f64], of_hundred: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * of_hundred).div_ceil(100).clamp(1, sorted.len()) - 1]
}

struct Table {
    raw: Map<String, Value>,
}

impl Table {
    /// One line: ours, theirs, and the ratio of the medians.
    fn line(&mut self, what: &str, ours: &[f64], theirs: &[(&str, &[f64])], aim: &str) {
        let ms = |values: &[f64], of_hundred| percentile(values, of_hundred) * 1e3;
        let mut text =
            format!("{what:<22} slipring p50 {:8.2} ms  p99 {:8.2} ms", ms(ours, 50), ms(ours, 99));
        let mut raw = json!({"slipring": ours});
        for (name, values) in theirs {
            let ratio = percentile(ours, 50) / percentile(values, 50);
            text += &format!("   {name} {:8.2} / {:8.2}   ratio {ratio:.2}", ms(values, 50), ms(values, 99));
            raw[*name] = json!(values);
        }
        println!("{text}   ({aim})");
        self.raw.insert(what.to_owned(), raw);
    }
}

/// CSV to queryable: one worker with all days and two threads, from the log of the load; nothing is cached.
fn load_ours(dataset: &str) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let process = |id: &str, role: &str, neighbors: &[&str]| -> Result<Value> {
        Ok(
            json!({"id": id, "role": role, "team": "green", "host": "127.0.0.1", "port": free_port()?, "neighbors": neighbors}),
        )
    };
    let mut file = json!({"processes": {
        "A": process("A", "leader", &["B"])?,
        "B": process("B", "team_leader", &["A", "C"])?,
        "C": process("C", "worker", &["B"])?,
    }});
    file["processes"]["C"]["date_bounds"] = json!(["20200810", "20200924"]);
    let path = folder.path().join("one.json");
    std::fs::write(&path, file.to_string())?;
    let mut child = Command::new(slipring()?)
        .args(["overlay", "node"])
        .arg(&path)
        .args(["C", "--dataset-root", dataset, "--cache", "none", "--threads", "2"])
        .env("RUST_LOG", "info")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(child.stderr.take().ok_or("no log")?);
    let _running = Running(child);
    for line in lines.lines() {
        let line = line?;
        if let Some((_, took)) = line.split_once("took=") {
            let took = took.trim();
            let (number, unit) = match took.strip_suffix("ms") {
                Some(number) => (number, 1e-3),
                None => (took.trim_end_matches('s'), 1.0),
            };
            return Ok(number.parse::<f64>().map_err(|error| format!("{line}: {error}"))? * unit);
        }
    }
    Err("it did not say that it has loaded".into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let dataset = std::env::var("DATASET").map_err(|_| "DATASET says where the data is")?;
    let dataset = std::fs::canonicalize(dataset)?.display().to_string();
    let rounds: usize = std::env::var("ROUNDS").map_or(Ok(200), |text| text.parse())?;
    let mut peers = Peers::start(&dataset)?;
    let mut table = Table { raw: Map::new() };
    let versions = peers.ask("versions")?;
    println!("{versions}");
    table.raw.insert("versions".into(), versions);

    let (mut ours, mut duckdb, mut polars, mut lines) = (vec![], vec![], vec![], vec![]);
    for _ in 0..LOADS {
        ours.push(load_ours(&dataset)?);
        duckdb.push(peers.seconds("load duckdb", None)?);
        polars.push(peers.seconds("load polars", None)?);
        lines.push(peers.seconds("wc", None)?);
    }
    let theirs = [("polars", &*polars), ("duckdb", &*duckdb), ("wc -l", &*lines)];
    table.line("load, two threads", &ours, &theirs, "aim: ahead of polars");

    let overlay = Overlay::start(&dataset, Profile::Parallel).await?;
    let mut client = overlay.client().await?;
    for (what, aim) in [
        ("count", "aim: 0.25"),
        ("records", "aim: 1.00; as JSON chunks, DuckDB's as Python rows"),
        ("arrow", "aim: 1.00; all rows"),
    ] {
        let (mut ours, mut theirs) = (vec![], vec![]);
        let rounds = if what == "arrow" { rounds.div_ceil(4) } else { rounds };
        for number in 1..=rounds {
            let began = Instant::now();
            let (rows, expected) = match what {
                "count" => {
                    let said = client.query(question(number, Some(0))).await?.into_inner();
                    (said.matched as usize, MATCHED)
                }
                "records" => (records(&mut client, number, 2000).await?, 2000),
                _ => (arrow(&mut client, number + 1_000_000).await?, MATCHED),
            };
            ours.push(began.elapsed().as_secs_f64());
            if rows as u64 != expected {
                return Err(format!("{what}: {rows} rows").into());
            }
            theirs.push(peers.seconds(&format!("{what} {number}"), Some(expected))?);
        }
        let spread = percentile(&ours, 99) / percentile(&ours, 50);
        let judged = if spread <= 3.0 { "it is" } else { "IT IS NOT" };
        let aim = format!("{aim}; p99 within 3 x p50: {judged}, {spread:.1} x");
        table.line(what, &ours, &[("duckdb", &theirs)], &aim);
    }
    drop((client, overlay));

    for profile in Profile::ALL {
        let overlay = Overlay::start(&dataset, *profile).await?;
        let (at_once, all, limit) = ORIGINAL;
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for worker in 0..at_once {
            let mut client = overlay.client().await?;
            tasks.spawn(async move {
                let mut times = Vec::new();
                for number in (worker..all).step_by(at_once) {
                    let began = Instant::now();
                    let count =
                        records(&mut client, number + 1, limit).await.map_err(|error| error.to_string())?;
                    if count as u64 != limit {
                        return Err(format!("{count} records"));
                    }
                    times.push(began.elapsed().as_secs_f64());
                }
                Ok(times)
            });
        }
        let mut times = Vec::new();
        while let Some(told) = tasks.join_next().await {
            times.extend(told??);
        }
        let rate = all as f64 / began.elapsed().as_secs_f64();
        let what = format!("400 at 20, {}", profile.name());
        let aim = format!(
            "{rate:.0} requests/s, {:.0} x the original's; aim: 20 x, p99 below its average of {} ms",
            rate / PUBLISHED.0,
            PUBLISHED.1
        );
        table.line(&what, &times, &[], &aim);
    }
    if let Ok(out) = std::env::var("OUT") {
        std::fs::write(out, Value::from(table.raw).to_string())?;
    }
    Ok(())
}
