//! Memory does not grow with what is read: eight times as many bytes take the same.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use slipring_tests::{Process, measured, require};

use crate::{SLIPRING, err, slipring};

/// Resident, at most, whatever is read.
const MOST: u64 = 100_000_000;
/// What one size may take beside the other: threads meet differently, and there are more ranges to remember.
const MORE: u64 = 12_000_000;
const LONG: Duration = Duration::from_secs(600);

/// A folder of so many logs that are one file, by several names: they take no room, and are read all the same.
fn logs(place: &Path, log: &Path, many: usize) -> PathBuf {
    let folder = place.join(format!("logs-{many}"));
    std::fs::create_dir(&folder).expect("the folder is ours");
    for number in 0..many {
        std::fs::hard_link(log, folder.join(format!("node{number}.log"))).expect("the disk has links");
    }
    folder
}

/// All that is written into a pipe, from its first writer to its last.
fn read(pipe: PathBuf) -> String {
    let (done, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = File::open(pipe).and_then(|mut pipe| pipe.read_to_string(&mut text));
        // Whoever waits for it may have given up.
        drop(done.send(read.map(|_| text)));
    });
    told.recv_timeout(LONG).expect("it is written in time").expect("a pipe can be read")
}

/// The most memory that a process had which counted a folder. It is held at its end by a pipe that nobody reads: the
/// result's second table is written when all else is done.
fn peak(folder: &Path, asked: &[&str], lines: u64) -> u64 {
    let place = tempfile::TempDir::new().expect("a folder");
    let tables = ["result.csv", "result.over-time.csv"].map(|name| place.path().join(name));
    for pipe in &tables {
        mknodat(CWD, pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("the folder takes pipes");
    }
    let mut command = Command::new(SLIPRING);
    command.current_dir(place.path()).arg("analyse").arg(folder);
    command.args(["--workers", "2", "--output", "csv", "-o", "result.csv", "--per", "day"]).args(asked);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
    let process = Process::new(child.id());
    let [levels, over_time] = tables;
    let levels = read(levels);
    let peak = process.peak_memory();
    read(over_time);
    let status = child.wait().expect("it is ours");
    assert!(status.success(), "{status}");
    let counted: u64 = levels.lines().filter_map(|line| line.rsplit(',').next()?.parse::<u64>().ok()).sum();
    assert_eq!(counted, lines, "{levels}");
    peak
}

fn check(name: &str, log: &Path, lines: u64, asked: &[&str]) {
    let place = log.parent().expect("it is in a folder");
    let (few, many) = if require("long") { (8, 64) } else { (2, 16) };
    let [less, more] = [few, many].map(|many| {
        let folder = logs(place, log, many);
        let peak = peak(&folder, asked, lines * many as u64);
        std::fs::remove_dir_all(folder).expect("it is ours");
        peak
    });
    let size = std::fs::metadata(log).expect("it is there").len();
    measured(&format!(
        "{name}: {} MB of logs took {:.1} MB of memory, {} MB took {:.1} MB",
        size * few as u64 / 1_000_000,
        less as f64 / 1e6,
        size * many as u64 / 1_000_000,
        more as f64 / 1e6
    ));
    assert!(more < MOST && less < MOST, "{name}: {less} and {more} bytes of memory");
    assert!(more < less + MORE, "{name}: {less} bytes of memory for few logs, {more} for many");
}

#[test]
fn memory_is_under_100_mb_however_much_is_read() {
    let place = tempfile::TempDir::new().expect("a folder");
    let made = slipring(place.path(), &["generate", ".", "--files", "1", "--lines", "150000"]);
    assert!(made.status.success(), "{}", err(&made));
    let log = place.path().join("node1.log");
    check("levels", &log, 150_000, &[]);
    check("templates", &log, 150_000, &["--top", "templates"]);
}
