//! Whoever counts, in however many parts, in whichever store: the bytes of the result are the same.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use slipring_store::testing::Cluster;
use slipring_tests::skipped;

use crate::{SLIPRING, err, out, slipring};

/// Nobody is given up, however slow the machine is.
const LEASE: [&str; 2] = ["--lease", "10m"];
/// Everything that can be asked of a folder, and levels alone.
const ASKED: [&[&str]; 3] = [
    &[],
    &["--top", "templates=1000", "--per", "minute", "--where", "level>=WARN"],
    &["--top", "templates=1000", "--per", "hour", "--where", "message~e"],
];

/// Logs of three shapes: continued lines, no newline at an end, a packed one, one that is empty.
fn logs() -> tempfile::TempDir {
    let folder = tempfile::TempDir::new().expect("a folder");
    let made = slipring(folder.path(), &["generate", "logs", "--files", "4", "--lines", "1500"]);
    assert!(made.status.success(), "{}", err(&made));
    let (mut pairs, mut python) = (String::new(), String::new());
    for number in 0..1200 {
        let level = ["error", "info", "warn"][number % 3];
        pairs += &format!("level={level} ts=2025-11-05T23:{:02}:07Z msg=\"part {number}\"\n", number % 60);
        python +=
            &format!("2025-11-06 01:{:02}:09,123 - app.db - ERROR - row {number} is odd\n", number % 60);
        python +=
            "Traceback (most recent call last):\n  File \"/app/db.py\", line 7, in read\nValueError: odd\n";
    }
    let logs = folder.path().join("logs");
    std::fs::write(logs.join("pairs.log"), pairs.trim_end()).expect("the folder is ours");
    std::fs::write(logs.join("python.log"), python).expect("the folder is ours");
    std::fs::write(logs.join("empty.log"), "").expect("the folder is ours");
    let packed = Command::new("gzip").arg(logs.join("node4.log")).status().expect("gzip is everywhere");
    assert!(packed.success());
    folder
}

/// Reads for others until the test is over.
struct Worker(Child);

impl Worker {
    fn start(place: &Path, store: &str) -> Self {
        let mut command = Command::new(SLIPRING);
        command
            .current_dir(place)
            .args(["analyse", "worker", "--workers", "1", "--store", store])
            .args(LEASE);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            self.0.wait().expect("it was killed");
        }
    }
}

/// The result, without how long it took; its ledger adds up.
fn result(place: &Path, asked: &[&str], how: &[&str]) -> String {
    let all = ["logs", "--output", "json", "--checkpoints", "none", "--ledger", "ledger"];
    let ran = slipring(place, &[&all[..], &LEASE, asked, how].concat());
    assert!(ran.status.success(), "{how:?}: {}", err(&ran));
    let verified = slipring(place, &["verify", "ledger"]);
    assert!(verified.status.success(), "{how:?}: {}", err(&verified));
    let text = out(&ran);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("  \"seconds\": ")).collect();
    assert_eq!(lines.len() + 1, text.lines().count(), "it says how long it took: {text}");
    lines.join("\n")
}

fn check(place: &Path, asked: &[&str], how: &[&str], expected: &str) {
    assert_eq!(result(place, asked, how), expected, "{asked:?} {how:?}");
}

/// One thread, whole files.
fn sequential(place: &Path, asked: &[&str]) -> String {
    result(place, asked, &["--workers", "1", "--split", "1GB"])
}

#[test]
fn threads_and_parts_of_any_size_give_the_bytes_of_one_thread() {
    let folder = logs();
    for asked in ASKED {
        let expected = sequential(folder.path(), asked);
        for (workers, split) in [("1", "3000"), ("2", "77777"), ("3", "4KiB"), ("8", "20000"), ("8", "1MiB")]
        {
            check(folder.path(), asked, &["--workers", workers, "--split", split], &expected);
        }
        check(folder.path(), asked, &[], &expected);
    }
}

/// By its own threads, by processes, and by both, in a store.
fn check_store(url: impl Fn(usize) -> String) {
    let folder = logs();
    for (number, asked) in ASKED.into_iter().enumerate() {
        let expected = sequential(folder.path(), asked);
        let store = url(number);
        let how = |workers, split| ["--store", &store, "--workers", workers, "--split", split];
        check(folder.path(), asked, &how("2", "20000"), &expected);
        let _workers = [(); 3].map(|()| Worker::start(folder.path(), &store));
        check(folder.path(), asked, &how("0", "5000"), &expected);
        check(folder.path(), asked, &how("0", "1GB"), &expected);
        check(folder.path(), asked, &how("1", "33333"), &expected);
    }
}

#[test]
fn processes_on_sqlite_give_the_bytes_of_one_thread() {
    let place = tempfile::TempDir::new().expect("a folder");
    check_store(|number| format!("sqlite:{}", place.path().join(format!("{number}.db")).display()));
}

#[test]
fn processes_on_postgresql_give_the_bytes_of_one_thread() {
    let cluster = match Cluster::start(false) {
        Ok(cluster) => cluster,
        Err(missing) => {
            skipped("postgres", &missing.to_string());
            return;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    check_store(|_| runtime.block_on(cluster.database()));
}
