//! What a user asks an overlay with, and what puts load on it: `slipring client query`, `metrics` and `echo`, `overlay
//! bench`.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};
use slipring_overlay::topology::Profile;
use slipring_tests::{Setup, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[allow(dead_code, reason = "the overlay's own tests use the rest")]
#[path = "../../overlay/tests/it/cluster.rs"]
mod cluster;
#[path = "../../overlay/tests/it/data.rs"]
mod data;

use cluster::{Cluster, shown, six};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");

/// Runs the executable: exit code, standard output, standard error.
async fn slipring(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(SLIPRING, arguments, &[], "").await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn client(cluster: &Cluster, url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments: Vec<_> = ["client", "--url", url].iter().chain(arguments).copied().collect();
    cluster.block_on(slipring(&arguments))
}

fn pm(row: &data::Row) -> bool {
    row.parameter == "PM2.5" && row.value.is_some_and(|value| (5.0..=35.0).contains(&value))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[test]
fn every_format_holds_all_records_through_a_balancer_and_from_a_process() {
    let cluster = Cluster::start(six(), Some(Profile::Parallel));
    let leader = cluster.url("A");
    let address = leader.trim_start_matches("http://").parse().expect("an address");
    let balancer = cluster.block_on(async { Setup::fixed(SLIPRING, &[address]).start().await });
    let expected = cluster.expected(pm);
    for url in [leader, format!("http://{}", balancer.main.address)] {
        let ask = |arguments: &[&str]| {
            let arguments: Vec<_> = ["query", "pm2.5", "5", "35"].iter().chain(arguments).copied().collect();
            let (code, output, error) = client(&cluster, &url, &arguments);
            assert_eq!(code, Some(0), "{arguments:?}: {error}");
            (output, error)
        };
        let (text, error) = ask(&["--format", "json"]);
        let whole: Value = serde_json::from_str(&text).expect("one JSON object");
        let records = whole["records"].as_array().expect("a list");
        assert_eq!(records.iter().map(shown).collect::<Vec<_>>(), expected);
        assert_eq!((&whole["matched"], &whole["coverage"]["answered"]), (&json!(expected.len()), &json!(9)));
        assert_eq!(error, "");

        let (text, error) = ask(&["--format", "ndjson"]);
        assert_eq!(lines(&text), *records);
        assert_eq!(error, format!("{} records\n", expected.len()));

        let (text, _) = ask(&["--format", "csv"]);
        assert_eq!(text.lines().count(), expected.len() + 1);
        assert!(text.starts_with("latitude,longitude,timestamp,parameter,value,"), "{text}");

        let (text, error) = ask(&["--explain"]);
        let table: Vec<_> = text.lines().take_while(|line| !line.is_empty()).collect();
        assert_eq!(table.len(), expected.len() + 1, "{text}");
        let places: Vec<_> = table.iter().map(|line| line.chars().take(27).collect::<String>()).collect();
        assert!(places[0].starts_with("time              parameter"), "{text}");
        assert!(places[1..].iter().all(|place| place.trim_end().ends_with("  PM2.5")), "{text}");
        assert!(
            text.contains("9 of 9 partitions answered") && text.contains("\nprocess  partitions"),
            "{text}"
        );
        for worker in ["C", "D", "F"] {
            assert!(text.lines().any(|line| line.starts_with(&format!("{worker}     "))), "{worker}: {text}");
        }
        assert_eq!(error, "");

        let (code, text, error) = client(&cluster, &url, &["metrics"]);
        assert_eq!(code, Some(0), "{error}");
        let up = text
            .lines()
            .filter(|line| line.contains("  up  ") && line.ends_with("parallel async adaptive strict"));
        assert_eq!(up.count(), 6, "{text}");

        cluster.block_on(async {
            let (status, mut watcher) = cluster.watch(&url).await;
            assert_eq!(status, 200);
            for _ in 0..2 {
                let survey = watcher.event().await.expect("another event");
                assert_eq!(survey["processes"].as_array().map(Vec::len), Some(6), "{survey}");
            }
        });

        let (code, text, error) = client(&cluster, &url, &["echo", "--timeout", "10"]);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{text}");
        // Behind B or E, whichever of the two was quicker.
        let name = |line: &str| line.trim_start_matches(['│', '├', '└', ' ']).chars().next();
        let names: Vec<_> = text.lines().skip(1).take(6).filter_map(name).collect();
        assert_eq!(names.first(), Some(&'A'), "{text}");
        assert_eq!(
            names.iter().collect::<BTreeSet<_>>(),
            ['A', 'B', 'C', 'D', 'E', 'F'].iter().collect(),
            "{text}"
        );
        assert!(
            text.contains("\n\n6 of 6 processes, 12 of 12 messages, ") && text.ends_with(")\n"),
            "{text}"
        );
        let (code, text, error) = client(&cluster, &url, &["echo", "--json"]);
        assert_eq!(code, Some(0), "{error}");
        let wave: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(wave["nodes"].as_object().map(serde_json::Map::len), Some(6), "{wave}");
    }
    cluster.block_on(balancer.stop());
}

#[test]
fn a_question_is_what_the_arguments_say() {
    let cluster = Cluster::start(six(), None);
    let url = cluster.url("A");
    let ask = |arguments: &[&str]| {
        let arguments: Vec<_> =
            ["query"].iter().chain(arguments).chain(&["--format", "ndjson"]).copied().collect();
        let (code, output, error) = client(&cluster, &url, &arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {error}");
        (lines(&output).iter().map(shown).collect::<Vec<_>>(), error)
    };
    let days = |first: u32, last: u32| move |row: &data::Row| (first..=last).contains(&row.date);
    assert_eq!(ask(&[]).0, cluster.expected(|_| true));
    assert_eq!(ask(&["--dates", "20200814..20200822"]).0, cluster.expected(days(20_200_814, 20_200_822)));
    assert_eq!(ask(&["--dates", "..20200814"]).0, cluster.expected(days(0, 20_200_814)));
    assert_eq!(ask(&["--dates", "20200815"]).0, cluster.expected(days(20_200_815, 20_200_815)));
    let cold =
        |row: &data::Row| row.parameter == "SO2" && row.value.is_some_and(|v| (-3.0..=-0.5).contains(&v));
    assert_eq!(ask(&["so2", "-3", "-0.5"]).0, cluster.expected(cold));
    let all = cluster.expected(pm);
    let (records, error) = ask(&["PM2.5", "5", "35", "--limit", "7", "--explain"]);
    assert_eq!(records, all[..7]);
    let told = format!("7 of {} records: the limit left out {}\n", all.len(), all.len() - 7);
    assert!(error.starts_with(&told) && error.contains("partitions"), "{error}");
    assert_eq!(ask(&["--limit", "0"]).0, Vec::<Value>::new());
}

#[test]
fn an_incomplete_answer_has_an_exit_code_and_names_what_is_missing() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    let url = cluster.url("A");
    let there = |row: &data::Row| !(20_200_821..=20_200_823).contains(&row.date);
    let known = client(&cluster, &url, &["query", "--limit", "0"]);
    assert_eq!(known.0, Some(0), "{}", known.2);
    cluster.kill("D");
    // D has the first half of pink's six days.
    for format in ["table", "json", "ndjson", "csv"] {
        let (code, output, error) = client(&cluster, &url, &["query", "--format", format]);
        assert_eq!((code, output.as_str()), (Some(4), ""), "{format}: {error}");
        assert!(error.contains("6 of 9 partitions") || error.contains("missing from D: 20200821"), "{error}");
        assert!(error.contains("the answer is incomplete") && error.contains("20200823"), "{error}");

        let (code, output, error) = client(&cluster, &url, &["query", "--partial", "--format", format]);
        assert_eq!(code, Some(4), "{format}: {error}");
        let told = if format == "table" { &output } else { &error };
        assert!(told.contains("missing from D: 20200821, 20200822, 20200823 ("), "{format}: {told}");
        if format == "ndjson" {
            assert_eq!(lines(&output).iter().map(shown).collect::<Vec<_>>(), cluster.expected(there));
        }
    }
    let (code, output, _) = client(&cluster, &url, &["metrics"]);
    assert_eq!(code, Some(4), "{output}");
    let down = output.lines().find(|line| line.starts_with("D ")).expect("D has a line");
    assert!(down.contains("down") && down.contains("it cannot be reached"), "{output}");

    let (code, output, error) = client(&cluster, &url, &["echo"]);
    assert_eq!(code, Some(4), "{output}");
    assert!(output.contains("5 of 6 processes, 8 of 12 messages, ") && !output.contains(" D "), "{output}");
    let gone = "gave it up: it cannot be reached";
    assert_eq!(error, format!("slipring: the answer is incomplete:\nmissing D: B {gone}; E {gone}\n"));

    cluster.respawn("D");
    let (code, output, error) = client(&cluster, &url, &["--wait", "10", "metrics", "--format", "json"]);
    let survey: Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!(survey["processes"][0]["metrics"]["process_id"], "A", "{code:?} {error}");
}

#[test]
fn whoever_reads_no_more_has_read_a_whole_answer_or_hears_that_it_is_none() {
    let mut cluster = Cluster::start(six(), Some(Profile::Parallel));
    let url = cluster.url("A");
    // Another question later: what is kept whole stays whole.
    let unread = |parameter: &str, format: &str| {
        let arguments = ["client", "--url", &url, "query", parameter, "--partial", "--format", format];
        let mut command = std::process::Command::new(SLIPRING);
        let (output, error) = (std::process::Stdio::piped(), std::process::Stdio::piped());
        let mut child = command.args(arguments).stdout(output).stderr(error).spawn().expect("it starts");
        drop(child.stdout.take());
        let ended = child.wait_with_output().expect("it ends");
        (ended.status.code(), String::from_utf8(ended.stderr).expect("text"))
    };
    for format in ["table", "json", "ndjson", "csv"] {
        assert_eq!(unread("OZONE", format).0, Some(0), "{format}");
    }
    cluster.kill("D");
    for format in ["table", "json", "ndjson", "csv"] {
        let (code, error) = unread("PM2.5", format);
        assert_eq!(code, Some(4), "{format}: {error}");
        assert!(error.contains("missing from D: 20200821"), "{format}: {error}");
    }
}

#[test]
fn what_is_refused_mistaken_or_not_there_has_other_exit_codes() {
    let cluster = Cluster::start(six(), None);
    let url = cluster.url("A");
    let (code, output, error) = client(&cluster, &url, &["query", "PM2.5", "35", "5"]);
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(error.contains("invalid_query:the smallest value, 35, is above the largest, 5"), "{error}");
    for mistake in [
        &["--dates", "2020"][..],
        &["--format", "xml"],
        &["PM2.5", "x"],
        &["PM2.5", "nan"],
        &["--limit", "-1"],
    ] {
        let arguments: Vec<_> = ["query"].iter().chain(mistake).copied().collect();
        assert_eq!(client(&cluster, &url, &arguments).0, Some(2), "{mistake:?}");
    }
    let (code, output, error) = client(&cluster, &url, &["echo", "--timeout", "60"]);
    assert_eq!((code, output.as_str()), (Some(1), ""));
    assert!(error.contains("invalid_timeout:60 is not from 0.01 to 10 seconds"), "{error}");
    let other = cluster.block_on(async { Setup::new(SLIPRING).set("fleet.replicas", 1).start().await });
    let (code, _, error) = client(&cluster, &format!("http://{}", other.main.address), &["query"]);
    assert!(code == Some(1) && error.contains("endpoint does not exist"), "no overlay's balancer: {error}");
    cluster.block_on(other.stop());
    let nobody = format!("http://{}", free_address());
    for command in ["query", "metrics", "echo"] {
        let (code, output, error) = client(&cluster, &nobody, &[command]);
        assert_eq!((code, output.as_str()), (Some(3), ""), "{error}");
        let (code, output, _) = cluster.block_on(slipring(&["client", command, "--help"]));
        assert!(
            code == Some(0) && output.contains("    4  an answer of an overlay is incomplete"),
            "{output}"
        );
    }
}

fn free_address() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free")
}

/// Something that speaks HTTP and breaks off in the middle of its records.
#[tokio::test]
async fn a_stream_that_ends_early_is_no_answer() {
    for (head, words) in [
        ("x-slipring-matched: 3\r\nx-slipring-returned: 3\r\nx-slipring-missing: 0\r\n", "they should be 3"),
        ("", "it does not say of how many"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            request(&mut stream).await;
            let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{head}\r\n{{}}\n{{}}\n");
            stream.write_all(answer.as_bytes()).await.expect("it reads");
        });
        let (code, output, error) = slipring(&["client", "--url", &url, "query", "--format", "ndjson"]).await;
        assert_eq!((code, output.as_str()), (Some(4), "{}\n{}\n"), "{error}");
        assert!(error.contains("ended after 2 records") && error.contains(words), "{error}");
        answering.await.expect("it answered");
    }
}

/// Reads a request whose head is all there is, or whose body ends with `}`.
async fn request(stream: &mut tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    let end: &[u8] = loop {
        if bytes.len() >= 4 {
            break if bytes.starts_with(b"GET ") { b"\r\n\r\n" } else { b"}" };
        }
        assert_ne!(stream.read_buf(&mut bytes).await.expect("it sends"), 0);
    };
    while !bytes.ends_with(end) {
        assert_ne!(
            stream.read_buf(&mut bytes).await.expect("it sends"),
            0,
            "{:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
    String::from_utf8(bytes).expect("text")
}

#[tokio::test]
async fn a_chunk_is_asked_for_again_where_the_connection_had_ended_and_a_rejection_says_when() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let answering = tokio::spawn(async move {
        let answer = |status: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        let said = json!({"uid": "u", "status": "ready", "chunks": 1, "matched": 0, "returned": 0, "truncated": false,
            "coverage": {"partitions": 0, "answered": 0, "missing": [], "rows_scanned": 0, "visited": []}, "next": ""});
        let (mut first, _) = listener.accept().await.expect("a client");
        assert!(request(&mut first).await.starts_with("POST /overlay/query "));
        first.write_all(answer("200 OK", &said.to_string()).as_bytes()).await.expect("it reads");
        let again = request(&mut first).await;
        drop(first);
        let (mut second, _) = listener.accept().await.expect("the client again");
        assert_eq!(request(&mut second).await, again);
        second.write_all(answer("200 OK", "[]").as_bytes()).await.expect("it reads");
        let (mut third, _) = listener.accept().await.expect("another client");
        request(&mut third).await;
        let rejected = answer("429 Too Many Requests\r\nretry-after: 7", "{\"status\":\"rejected\"}");
        third.write_all(rejected.as_bytes()).await.expect("it reads");
    });
    let (code, output, error) = slipring(&["client", "--url", &url, "query", "--format", "json"]).await;
    assert_eq!(code, Some(0), "{error}");
    let whole: Value = serde_json::from_str(&output).expect("one JSON object");
    assert_eq!((&whole["records"], &whole["status"]), (&json!([]), &json!("ready")));
    let (code, _, error) = slipring(&["client", "--url", &url, "query"]).await;
    assert!(code == Some(1) && error.contains("rejected; try again in 7 s"), "{code:?} {error}");
    answering.await.expect("it answered");
}

/// Both files of a benchmark, and whether their numbers add up.
fn figures(folder: &Path, name: &str) -> Value {
    let read = |kind: &str| {
        let path = folder.join(format!("benchmark_{name}.{kind}"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let json: Value = serde_json::from_str(&read("json")).expect("JSON");
    let number = |name: &str| json[name].as_u64().unwrap_or_else(|| panic!("{name}: {json}"));
    let failures = json["failures"].as_object().expect("an object").values();
    assert_eq!(failures.filter_map(Value::as_u64).sum::<u64>(), number("failed"), "{json}");
    assert_eq!(number("answered") + number("failed"), number("requests"), "{json}");
    let seconds = json["seconds"].as_f64().expect("a number");
    let rate = json["requests_per_second"].as_f64().expect("a number");
    assert!((rate * seconds - number("answered") as f64).abs() < 1e-6, "{json}");
    if let Some(latency) = json["latency_ms"].as_object() {
        let order: Vec<_> =
            ["min", "p50", "p95", "p99", "max"].iter().filter_map(|q| latency[*q].as_f64()).collect();
        assert!(order.len() == 5 && order.is_sorted() && order[4] <= seconds * 1000.0, "{json}");
    }
    let text = read("txt");
    assert!(text.contains(&format!("{:<13}{}", "answered", number("answered"))), "{text}");
    assert!(text.contains(&format!("{:<13}{}", "failed", number("failed"))), "{text}");
    json
}

#[test]
fn a_benchmark_without_a_terminal_writes_both_files_and_its_numbers_add_up() {
    let mut cluster = Cluster::start(six(), Some(Profile::Balanced));
    let config = cluster.data().join("overlay.json").display().to_string();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let out = folder.path().join("figures").display().to_string();
    let bench = |cluster: &Cluster, arguments: &[&str]| {
        let load =
            ["overlay", "bench", "--requests", "40", "--concurrency", "5", "--limit", "20", "--out", &out];
        let arguments: Vec<_> = load.iter().chain(arguments).copied().collect();
        cluster.block_on(slipring(&arguments))
    };
    let name = "capacity_async_query_based_weighted";
    let (code, output, error) = bench(&cluster, &[&config, "--profile", "balanced"]);
    assert_eq!(code, Some(0), "{output}{error}");
    let json = figures(Path::new(&out), name);
    let all = cluster.expected(pm).len().min(20) as u64;
    assert_eq!((&json["answered"], &json["records"]), (&json!(40), &json!(40 * all)), "{json}");
    assert_eq!((&json["question"]["limit"], &json["distinct_questions"]), (&json!(20), &json!(true)));
    let processes = json["processes"].as_array().expect("a list");
    assert_eq!(processes.iter().map(|one| &one["state"]).collect::<Vec<_>>(), ["up"; 6], "{json}");
    let logs = processes[0]["metrics"]["recent_logs"].as_array().expect("lines");
    let asked: BTreeSet<_> =
        logs.iter().filter_map(|line| line.as_str()?.split_once('}')).map(|it| it.0).collect();
    assert_eq!((logs.len(), asked.len()), (20, 20), "no question twice: {logs:?}");

    let (code, _, error) = bench(&cluster, &[&config, "--profile", "baseline"]);
    assert!(code == Some(2) && error.contains("is capacity, not round_robin"), "{code:?} {error}");
    let target = cluster.url("A").trim_start_matches("http://").to_owned();
    cluster.kill("D");
    let (code, _, error) = bench(&cluster, &["--target", &target, "--query", "{\"parameter\":\"PM2.5\"}"]);
    assert_eq!(code, Some(1), "{error}");
    let json = figures(Path::new(&out), name);
    assert_eq!(
        (&json["failures"], &json["latency_ms"]),
        (&json!({"incomplete": 40}), &Value::Null),
        "{json}"
    );
    assert_eq!(json["processes"].as_array().map(Vec::len), Some(1), "only the one that is asked is known");
    cluster.kill("A");
    let (code, _, error) = bench(&cluster, &["--target", &target]);
    assert!(code == Some(3) && error.contains("--start"), "{code:?} {error}");
}

#[test]
fn a_benchmark_starts_the_processes_and_ends_them() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let root = folder.path().display().to_string();
    let rows = data::write(folder.path(), 11);
    // An address of this test's own: nobody else takes the ports that are free there.
    let [high, low, ..] = (std::process::id() + 0x100).to_le_bytes();
    let host = format!("127.42.{high}.{low}");
    let mut file = six();
    let mut ports = Vec::new();
    for process in file["processes"].as_object_mut().expect("an object").values_mut() {
        let listener = TcpListener::bind((host.as_str(), 0)).expect("loopback has many addresses");
        process["host"] = host.clone().into();
        process["port"] = listener.local_addr().expect("it is bound").port().into();
        ports.push(listener);
    }
    let addresses: Vec<_> = ports.iter().map(|port| port.local_addr().expect("it is bound")).collect();
    drop(ports);
    let config = folder.path().join("six.json");
    std::fs::write(&config, file.to_string()).expect("a file can be written");
    let config = config.display().to_string();
    let arguments = [
        "overlay",
        "bench",
        &config,
        "--start",
        "--dataset-root",
        &root,
        "--requests",
        "10",
        "--concurrency",
        "2",
        "--profile",
        "parallel",
        "--out",
        &root,
        "--same",
    ];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let (code, output, error) = runtime.block_on(slipring(&arguments));
    assert_eq!(code, Some(0), "{output}{error}");
    let json = figures(folder.path(), "parallel_async_adaptive_strict");
    let matched = rows.iter().filter(|row| pm(row)).count() as u64;
    assert_eq!(
        (&json["records"], &json["distinct_questions"]),
        (&json!(10 * matched), &json!(false)),
        "{json}"
    );
    for address in addresses {
        assert!(std::net::TcpStream::connect(address).is_err(), "{address} is still there");
    }
}
