//! `slipring analyse` as a user runs it: the contract's output byte for byte, exit codes, refusals.

mod equal;
mod memory;

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use slipring_tests::{Process, require, skipped, wait_until};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");

fn slipring(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(SLIPRING).current_dir(folder).arg("analyse").args(arguments).output().expect("it runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Ten logs of a hundred lines, and what is in them.
fn logs() -> (tempfile::TempDir, String) {
    let folder = tempfile::TempDir::new().expect("a folder");
    let made = slipring(folder.path(), &["generate", "logs", "--lines", "100"]);
    assert!(made.status.success(), "{}", err(&made));
    let levels: Vec<String> = out(&made).lines().skip(1).map(str::to_owned).collect();
    (folder, levels.join("\n"))
}

/// Without what differs from run to run.
fn timeless(text: &str) -> String {
    let line = |line: &str| {
        let varies =
            ["Total time: ", "Checkpoints saved: "].into_iter().find(|begin| line.starts_with(begin));
        varies.map_or(line.to_owned(), |begin| format!("{begin}…"))
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_output_is_the_contracts() {
    let (folder, levels) = logs();
    let ran = slipring(folder.path(), &["logs"]);
    assert_eq!((ran.status.code(), err(&ran).as_str()), (Some(0), ""));
    let ruler = "=".repeat(49);
    let expected = format!(
        "Found 10 log file(s) to analyse\nStarting distributed analysis...\n\n{ruler}\nANALYSIS RESULTS\n{ruler}\n{levels}\n\
         {ruler}\nTotal time: …\nFiles processed: 10\nFailed workers: 0\nCheckpoints saved: …\n{ruler}"
    );
    assert_eq!(timeless(&out(&ran)), expected);
    let time = out(&ran).lines().find_map(|line| Some(line.strip_prefix("Total time: ")?.to_owned()));
    let time = time.expect("it says how long it took");
    let (seconds, hundredths) = time.strip_suffix('s').and_then(|time| time.split_once('.')).expect("1.23s");
    assert!(seconds.parse::<u32>().is_ok() && hundredths.len() == 2, "{time}");
    assert!(folder.path().join("checkpoints").is_dir());
}

#[test]
fn a_log_that_comes_later_is_added_to_what_is_counted() {
    let (folder, _) = logs();
    assert!(slipring(folder.path(), &["logs"]).status.success());
    std::fs::copy(folder.path().join("logs/node1.log"), folder.path().join("logs/node11.log"))
        .expect("a copy");
    let ran = out(&slipring(folder.path(), &["logs"]));
    let begin = "Loading checkpoint from previous run...\nResuming from checkpoint: 10 files already processed\n\
                 Found 11 log file(s) to analyse (1 remaining)\nStarting distributed analysis...\n\n";
    assert!(ran.starts_with(begin), "{ran}");
    let fresh = out(&slipring(folder.path(), &["logs", "--fresh", "--checkpoints", "none"]));
    let results = |text: &str| timeless(text).split_once("RESULTS").expect("results").1.to_owned();
    assert_eq!(results(&ran), results(&fresh));
}

#[test]
fn with_v_it_says_who_reads_what() {
    let (folder, _) = logs();
    let ran = out(&slipring(folder.path(), &["logs", "-v", "--workers", "1"]));
    for line in ["[Master] Assigning node6.log to worker 1\n", "[Worker 1] Processing node6.log\n"] {
        assert!(ran.contains(line), "{line} is not in: {ran}");
    }
}

#[test]
fn no_folder_no_logs_and_what_cannot_be_read_exit_with_1() {
    let (folder, levels) = logs();
    std::fs::create_dir(folder.path().join("empty")).expect("the folder is ours");
    for (path, word) in [("missing", "missing"), ("empty", "no logs")] {
        let ran = slipring(folder.path(), &[path]);
        assert!(ran.status.code() == Some(1) && err(&ran).contains(word), "{}", err(&ran));
    }
    std::fs::create_dir(folder.path().join("logs/x.log")).expect("the folder is ours");
    let ran = slipring(folder.path(), &["logs"]);
    assert!(ran.status.code() == Some(1) && err(&ran).contains("x.log"), "{}", err(&ran));
    assert!(out(&ran).contains(&levels), "{}", out(&ran));
}

#[test]
fn what_cannot_be_asked_exits_with_2() {
    let (folder, _) = logs();
    let cases: [(&[&str], &str); 7] = [
        (&[], "FOLDER"),
        (&["logs", "--workers", "0"], "--store"),
        (&["logs", "--standby"], "--store"),
        (&["logs", "--format", "nonsense"], "brackets"),
        (&["logs", "--where", "level"], "level=ERROR"),
        (&["logs", "--store", "nonsense:"], "sqlite:PATH"),
        (&["logs", "--output", "csv", "--per", "minute", "--top", "templates"], "-o"),
    ];
    for (arguments, word) in cases {
        let ran = slipring(folder.path(), arguments);
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {}", err(&ran));
        assert!(err(&ran).to_lowercase().contains(&word.to_lowercase()), "{arguments:?}: {}", err(&ran));
    }
}

#[test]
fn results_come_in_six_forms_and_the_ledger_proves_them() {
    let (folder, _) = logs();
    let all =
        ["logs", "--per", "hour", "--top", "templates=3", "--where", "level>=WARN", "--ledger", "ledger"];
    for output in ["text", "json", "csv", "html", "svg", "png"] {
        let ran = slipring(folder.path(), &[&all[..], &["--output", output, "-o", "result.x"]].concat());
        assert!(ran.status.success(), "{}", err(&ran));
        assert_eq!(out(&ran), "");
        assert!(std::fs::metadata(folder.path().join("result.x")).expect("it was written").len() > 0);
    }
    for name in ["result.over-time.x", "result.templates.x"] {
        assert!(folder.path().join(name).is_file(), "{name}");
    }
    let verified = slipring(folder.path(), &["verify", "ledger"]);
    assert!(verified.status.success(), "{}", err(&verified));
    let log = folder.path().join("logs/node3.log");
    let text = std::fs::read_to_string(&log).expect("a log");
    std::fs::write(&log, text.replacen('a', "b", 1)).expect("the log is ours");
    let verified = slipring(folder.path(), &["verify", "ledger"]);
    assert!(verified.status.code() == Some(1) && err(&verified).contains("node3.log"), "{}", err(&verified));
}

#[test]
fn a_chart_is_a_picture_with_and_without_time() {
    let (folder, _) = logs();
    for more in [&[][..], &["--per", "minute"]] {
        let svg = slipring(folder.path(), &[&["logs", "--output", "svg"], more].concat());
        assert!(svg.status.success(), "{}", err(&svg));
        let svg = out(&svg);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        for word in ["DEBUG", "ERROR", "INFO", "WARN", "10 files, 1,000 lines, 1,000 records."] {
            assert!(svg.contains(word), "{word} is missing");
        }
        let png = slipring(folder.path(), &[&["logs", "--output", "png"], more].concat());
        assert!(png.status.success(), "{}", err(&png));
        assert!(png.stdout.starts_with(b"\x89PNG\r\n\x1a\n"));
    }
}

#[test]
fn copies_are_kept_mended_and_read_back() {
    let (folder, levels) = logs();
    let at = |path: &str| folder.path().join(path);
    let copies = |copy: u8| -> Vec<std::path::PathBuf> {
        let all = std::fs::read_dir(at(&format!("archive/copy-{copy}/logs"))).expect("it is there");
        let mut all: Vec<_> = all.map(|entry| entry.expect("an entry").path()).collect();
        all.sort();
        all
    };
    let kept = slipring(folder.path(), &["logs", "--replicate", "3"]);
    assert!(kept.status.success() && out(&kept).contains(&levels), "{}", err(&kept));
    assert_eq!((err(&kept).as_str(), copies(1).len(), copies(3).len()), ("", 10, 10));
    // One byte of one, and another one whole.
    let mut bytes = std::fs::read(&copies(1)[0]).expect("a copy");
    bytes[7] ^= 1;
    std::fs::write(&copies(1)[0], bytes).expect("the folder is ours");
    std::fs::remove_file(&copies(2)[1]).expect("the folder is ours");
    std::fs::remove_dir_all(at("logs")).expect("the folder is ours");
    let restored = slipring(folder.path(), &["restore", "archive", "logs"]);
    assert_eq!((restored.status.code(), out(&restored).as_str()), (Some(0), "10 logs restored, 0 lost\n"));
    let told = err(&restored);
    assert!(told.contains("copy 1 of ") && told.contains("another hash: mended"), "{told}");
    assert!(told.contains("copy 2 of ") && told.contains("is missing: mended"), "{told}");
    let again = slipring(folder.path(), &["logs", "--fresh", "--replicate", "3"]);
    assert!(again.status.success() && out(&again).contains(&levels), "{}", err(&again));
    assert_eq!(err(&again), "", "what was mended is good");
    // All copies of one: it is named, and the others are there.
    let name = copies(1)[0].file_name().expect("a name").to_owned();
    for copy in 1..=3 {
        std::fs::write(at(&format!("archive/copy-{copy}/logs")).join(&name), "x")
            .expect("the folder is ours");
    }
    std::fs::remove_dir_all(at("logs")).expect("the folder is ours");
    let restored = slipring(folder.path(), &["restore", "archive", "logs"]);
    assert_eq!((restored.status.code(), out(&restored).as_str()), (Some(1), "9 logs restored, 1 lost\n"));
    let log = name.to_string_lossy().split_once('-').expect("a hash and a name").1.to_owned();
    assert!(
        err(&restored).contains(&format!("no copy of {log} is good: copy 1 has 1 bytes of")),
        "{}",
        err(&restored)
    );
}

/// Whether this machine lets us have mounts of our own.
fn has_mounts(folder: &Path) -> bool {
    let mount = ["--map-root-user", "--mount", "mount", "-t", "tmpfs", "-o", "size=4k", "none", "."];
    Command::new("unshare").args(mount).current_dir(folder).output().is_ok_and(|ran| ran.status.success())
}

#[test]
fn a_full_disk_under_the_checkpoints_is_said_and_the_run_goes_on() {
    let folder = tempfile::TempDir::new().expect("a folder");
    // More than fits.
    let made = slipring(folder.path(), &["generate", "logs", "--files", "60", "--lines", "10"]);
    let levels = out(&made).lines().skip(1).collect::<Vec<_>>().join("\n");
    if !has_mounts(folder.path()) {
        skipped("namespaces", "unshare cannot mount a folder in memory here");
        return;
    }
    let script = "mkdir checkpoints && mount -t tmpfs -o size=4k none checkpoints && \"$@\"; code=$?; \
                  ls -A checkpoints; exit $code";
    let ran = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh", SLIPRING, "analyse", "logs"])
        .current_dir(folder.path())
        .output()
        .expect("it ran before");
    assert!(ran.status.success(), "{}", err(&ran));
    assert!(out(&ran).contains(&levels) && out(&ran).contains("Checkpoints saved: 0\n"), "{}", out(&ran));
    assert!(err(&ran).contains("No space left") && err(&ran).contains("make room"), "{}", err(&ran));
    // What did not fit takes no room.
    assert!(out(&ran).ends_with("=\n"), "{}", out(&ran));
}

#[test]
fn a_line_of_gigabytes_is_one_line() {
    let folder = tempfile::TempDir::new().expect("a folder");
    std::fs::create_dir(folder.path().join("logs")).expect("the folder is ours");
    // Zeros that take no room on the disk.
    let bytes: u64 = if require("long") { 5_000_000_000 } else { 500_000_000 };
    let log = File::create(folder.path().join("logs/long.log")).expect("the folder is ours");
    log.set_len(bytes).expect("the disk has files with holes");
    let asked = ["logs", "--checkpoints", "none", "--top", "templates", "--output", "json"];
    let ran = slipring(folder.path(), &asked);
    assert!(ran.status.success(), "{}", err(&ran));
    let json: serde_json::Value = serde_json::from_str(&out(&ran)).expect("it is JSON");
    assert_eq!((json["bytes"].as_u64(), json["lines"].as_u64()), (Some(bytes), Some(1)), "{json}");
}

/// Followed over a rename and a cut until SIGTERM, by a process that is then told to go on.
#[tokio::test]
async fn a_folder_is_followed_until_sigterm_and_gone_on_with() {
    let (folder, _) = logs();
    let log = folder.path().join("logs/node1.log");
    let append = |text: &str| {
        let log = OpenOptions::new().create(true).append(true).open(&log);
        log.expect("the log is ours").write_all(text.as_bytes()).expect("the disk has room");
    };
    let plain = |name: &str| {
        let ran = slipring(folder.path(), &["logs", "--checkpoints", "none", "--output", "json"]);
        let json: serde_json::Value = serde_json::from_str(&out(&ran)).expect(name);
        json["levels"].clone()
    };
    let follow = async |until: &str| {
        let files = ["out", "err"].map(|name| folder.path().join(name));
        let [out, err] = files.clone().map(|file| File::create(file).expect("the folder is ours"));
        let mut command = Command::new(SLIPRING);
        command.args(["analyse", "logs", "--follow", "--output", "json", "--ledger", "ledger"]);
        let mut child =
            command.current_dir(folder.path()).stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.as_mut().expect("it starts");
        wait_until(until, Duration::from_secs(60), async || {
            let told = std::fs::read_to_string(&files[1]).expect("the file is there");
            if told.contains(until) { Ok(()) } else { Err(told) }
        })
        .await;
        Process::new(child.id()).signal(Signal::TERM);
        let status = child.wait().expect("it is ours");
        let [out, err] = files.map(|file| std::fs::read_to_string(file).expect("the file is there"));
        assert!(status.success(), "{err}");
        let verified = slipring(folder.path(), &["verify", "ledger"]);
        assert!(verified.status.success(), "{}", self::err(&verified));
        let json: serde_json::Value = serde_json::from_str(&out).expect("it is JSON");
        (json["levels"].clone(), err)
    };
    let (levels, _) = follow("[Master] So far: ").await;
    assert_eq!(levels, plain("at the beginning"));
    append("[2025-11-05T23:20:11.594011] [ERROR] one more\nand half a li");
    let expected = plain("with one more");
    std::fs::rename(&log, folder.path().join("logs/node1.log.1")).expect("the log is ours");
    append("");
    let (levels, told) = follow("node1.log is node1.log.1 now").await;
    assert_eq!(levels, expected, "{told}");
    assert!(told.contains("node1.log.1 ends with 13 bytes that are not counted"), "{told}");
}
