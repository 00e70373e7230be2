//! Following: every byte that is written to a log is counted once, whatever becomes of the log.

#![allow(clippy::unwrap_used, reason = "clippy.toml's exception does not reach the helpers of a test")]

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slipring_analyser::fold::{Fold, Query};
use slipring_analyser::format::Format;
use slipring_analyser::ranges::Range;
use slipring_analyser::run::{Analysis, Checkpoints, Event, Options, RunError, Tell, Turn, follow, ledger};
use slipring_analyser::scan::scan;
use slipring_analyser::source::LogFile;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_secs(60);

type Running = JoinHandle<Result<Analysis, RunError>>;

/// A folder that is followed.
struct Site {
    place: tempfile::TempDir,
    query: Query,
    format: Option<Format>,
    every: Duration,
    run: Option<(Running, watch::Sender<bool>)>,
    seen: Arc<Mutex<Vec<Event>>>,
    /// Bytes that are counted, of all logs.
    bytes: watch::Receiver<u64>,
    told: watch::Sender<u64>,
}

impl Site {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("logs")).unwrap();
        let (told, bytes) = watch::channel(0);
        let (query, every) = (Query::default(), Duration::from_secs(3600));
        Self { place, query, format: None, every, run: None, seen: Arc::default(), bytes, told }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.place.path().join("logs").join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let log = OpenOptions::new().create(true).append(true).open(self.log(name));
        log.unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn start(&mut self) {
        let checkpoints =
            Checkpoints { folder: self.place.path().join("checkpoints"), every: self.every, fresh: false };
        let options = Options {
            folder: self.place.path().join("logs"),
            query: self.query.clone(),
            format: self.format,
            workers: 2,
            size: None,
            lease: LONG,
            patience: LONG,
            standby: false,
            is_shared: false,
            checkpoints: Some(checkpoints),
        };
        self.seen.lock().unwrap().clear();
        let (seen, told) = (self.seen.clone(), self.told.clone());
        let tell = Tell::new(move |event| {
            if let Event::Progress { bytes, .. } = event {
                told.send_replace(bytes);
            } else {
                seen.lock().unwrap().push(event);
            }
            // Whoever waits for an event looks again.
            told.send_modify(|_| {});
        });
        let (end, ended) = watch::channel(false);
        self.run = Some((tokio::spawn(follow(options, tell, ended)), end));
    }

    /// Waits until so many bytes are counted.
    async fn until(&mut self, bytes: u64) {
        let waited = tokio::time::timeout(LONG, self.bytes.wait_for(|counted| *counted == bytes)).await;
        assert!(
            waited.is_ok(),
            "{} bytes are counted, not {bytes}: {:?}",
            *self.told.borrow(),
            self.seen.lock()
        );
    }

    async fn until_told(&mut self, what: impl Fn(&Event) -> bool) {
        let seen = self.seen.clone();
        let told = self.bytes.wait_for(|_| seen.lock().unwrap().iter().any(&what));
        let waited = tokio::time::timeout(LONG, told).await.is_ok();
        assert!(waited, "{:?}", self.seen.lock());
    }

    fn turns(&self) -> Vec<(String, Turn)> {
        let seen = self.seen.lock().unwrap();
        let turn = |event: &Event| match event {
            Event::Turn { file, turn } => Some((file.clone(), turn.clone())),
            _ => None,
        };
        seen.iter().filter_map(turn).collect()
    }

    /// As SIGTERM does; the ledger must add up.
    async fn stop(&mut self) -> Analysis {
        let (run, end) = self.run.take().unwrap();
        end.send_replace(true);
        let analysis = tokio::time::timeout(LONG, run).await.unwrap().unwrap().unwrap();
        let path = self.place.path().join("ledger");
        ledger::write(&path, &self.place.path().join("logs"), &analysis).unwrap();
        let found = ledger::verify(&path).unwrap();
        assert_eq!(found.mistakes, Vec::<String>::new());
        assert_eq!((found.total.bytes, found.total.levels), (analysis.fold.bytes, analysis.fold.levels));
        analysis
    }

    /// As `kill -9` does.
    async fn kill(&mut self) {
        let (run, _end) = self.run.take().unwrap();
        run.abort();
        assert!(run.await.unwrap_err().is_cancelled());
    }

    /// What the text would have given in one piece.
    fn at_once(&self, text: &str) -> Fold {
        let place = tempfile::tempdir().unwrap();
        at_once(&place.path().join("x.log"), text, &self.query, self.format.unwrap_or_else(Format::seed))
    }
}

fn at_once(path: &Path, text: &str, query: &Query, format: Format) -> Fold {
    fs::write(path, text).unwrap();
    let log = LogFile::look_at(path).unwrap();
    let range = Range { file: 0, start: 0, end: log.length };
    let mut go_on = |_| std::ops::ControlFlow::Continue(());
    scan(&log, range, format, query, &mut go_on).unwrap().fold
}

fn lines(from: usize, to: usize) -> String {
    let level = |number: usize| ["INFO", "WARN", "ERROR", "DEBUG"][number % 4];
    (from..to)
        .map(|number| format!("[2025-11-05T23:20:11.{number:06}] [{}] m {number}\n", level(number)))
        .collect()
}

#[tokio::test]
async fn lines_are_counted_as_they_end_and_the_open_one_waits() {
    let mut site = Site::new();
    let all = lines(0, 40);
    let (first, rest) = all.split_at(100);
    site.append("a.log", first);
    site.start();
    site.until(first.rfind('\n').unwrap() as u64 + 1).await;
    let (middle, last) = rest.split_at(rest.len() - 7);
    site.append("a.log", middle);
    site.append("b.log", &all);
    site.until((first.len() + middle.rfind('\n').unwrap() + 1 + all.len()) as u64).await;
    let half = site.stop().await;
    let open = first.len() + middle.len() - (half.fold.bytes as usize - all.len());
    assert!(
        site.turns().contains(&("a.log".to_owned(), Turn::Left { bytes: open as u64 })),
        "{:?}",
        site.turns()
    );
    // Who goes on finds the line's end, and counts it once.
    site.append("a.log", last);
    site.start();
    site.until(2 * all.len() as u64).await;
    let whole = site.stop().await;
    assert_eq!(whole.fold, site.at_once(&all.repeat(2)));
    assert_eq!((whole.run.files_processed, whole.entries.len()), (2, 2), "{:?}", whole.entries);
}

#[tokio::test]
async fn a_log_that_is_renamed_is_read_to_its_end_and_the_new_one_from_its_beginning() {
    let mut site = Site::new();
    let all = lines(0, 60);
    let (old, new) = (lines(0, 30), lines(30, 60));
    site.append("a.log", &old[..old.len() - 9]);
    let mut writer = OpenOptions::new().append(true).open(site.log("a.log")).unwrap();
    site.start();
    site.until(old[..old.len() - 9].rfind('\n').unwrap() as u64 + 1).await;
    fs::rename(site.log("a.log"), site.log("a.log.1")).unwrap();
    site.append("a.log", &new);
    site.until_told(
        |event| matches!(event, Event::Turn { turn: Turn::Renamed { to }, .. } if to == "a.log.1"),
    )
    .await;
    // Whoever writes has it open still.
    writer.write_all(&old.as_bytes()[old.len() - 9..]).unwrap();
    site.until(all.len() as u64).await;
    // And what is packed of it is no new log.
    fs::write(site.log("old.log.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    site.until_told(|event| matches!(event, Event::Turn { turn: Turn::Packed, .. })).await;
    fs::remove_file(site.log("a.log.1")).unwrap();
    writer.write_all(lines(60, 61).as_bytes()).unwrap();
    site.until((all.len() + lines(60, 61).len()) as u64).await;
    let analysis = site.stop().await;
    assert_eq!(analysis.fold, site.at_once(&lines(0, 61)));
    assert_eq!((analysis.files.len(), analysis.gone.len()), (2, 1));
}

#[tokio::test]
async fn a_log_that_is_cut_is_read_from_its_beginning_and_it_is_said() {
    let mut site = Site::new();
    let (old, new) = (lines(0, 30), lines(30, 35));
    site.append("a.log", &old);
    site.start();
    site.until(old.len() as u64).await;
    // Copied and truncated.
    fs::copy(site.log("a.log"), site.log("a.log.1")).unwrap();
    File::options().write(true).open(site.log("a.log")).unwrap().set_len(0).unwrap();
    site.append("a.log", &new);
    let cut = Turn::Cut { counted: old.len() as u64 };
    site.until_told(|event| matches!(event, Event::Turn { turn, .. } if *turn == cut)).await;
    site.until((old.len() + new.len()) as u64).await;
    // Cut, and longer than before when it is looked at again.
    let longer = lines(100, 160);
    fs::write(site.log("a.log"), &longer).unwrap();
    site.until((old.len() + new.len() + longer.len()) as u64).await;
    let analysis = site.stop().await;
    assert_eq!(analysis.fold, site.at_once(&(old.clone() + &new + &longer)));
    let cuts =
        [old.len(), new.len()].map(|counted| ("a.log".to_owned(), Turn::Cut { counted: counted as u64 }));
    assert_eq!(site.turns(), cuts);
    assert_eq!((analysis.files.len(), analysis.gone.len()), (3, 2));
}

#[tokio::test]
async fn records_of_several_lines_are_one_however_they_come() {
    let mut site = Site::new();
    site.format = Some("log4j".parse().unwrap());
    site.query = Query { templates: Some(100), ..Query::default() };
    let record = |number: usize| {
        format!(
            "2025-11-05 23:20:11,{number:03} ERROR [main] a.B: it failed {number}\n\tat a.B(B.java:1)\n\tat a.C\n"
        )
    };
    let all: String = "a line before all records\n".to_owned() + &(0..5).map(record).collect::<String>();
    let whole = site.at_once(&all);
    assert_eq!((whole.records, whole.continued, whole.unrecognised), (5, 10, 1));
    site.append("a.log", "");
    site.start();
    let mut written = 0;
    for line in all.split_inclusive('\n') {
        site.append("a.log", line);
        written += line.len() as u64;
        site.until(written).await;
    }
    let analysis = site.stop().await;
    assert_eq!(analysis.fold, whole);
}

/// Killed at any moment, and gone on with: what came meanwhile is counted, what was counted is not again.
#[tokio::test]
async fn who_was_killed_goes_on_where_the_newest_checkpoint_stopped() {
    let mut site = Site::new();
    // A checkpoint as often as there is something new.
    site.every = Duration::ZERO;
    let all = lines(0, 200);
    let mut at = 0;
    for (turn, end) in [500, 501, 2000, 2600, all.len()].into_iter().enumerate() {
        site.append("a.log", &all[at..end]);
        at = end;
        site.start();
        let newline = all[..end].rfind('\n').unwrap() as u64 + 1;
        site.until(newline).await;
        // Sometimes with a checkpoint, sometimes before it is written.
        if turn % 2 == 0 {
            site.until_told(|event| matches!(event, Event::Saved { .. })).await;
        }
        site.kill().await;
    }
    // Renamed, cut and new while nobody looked.
    fs::rename(site.log("a.log"), site.log("b.log")).unwrap();
    site.append("b.log", &lines(200, 210));
    site.append("c.log", &lines(210, 230));
    site.start();
    site.until(lines(0, 230).len() as u64).await;
    assert!(site.seen.lock().unwrap().iter().any(|event| matches!(event, Event::Resumed { .. })));
    let analysis = site.stop().await;
    assert_eq!(analysis.fold, site.at_once(&lines(0, 230)));
    fs::write(site.log("c.log"), lines(300, 303)).unwrap();
    fs::remove_file(site.log("b.log")).unwrap();
    site.start();
    site.until(lines(0, 230).len() as u64 + lines(300, 303).len() as u64).await;
    let analysis = site.stop().await;
    assert_eq!(analysis.fold, site.at_once(&(lines(0, 230) + &lines(300, 303))));
    let turns = site.turns();
    assert!(
        turns.iter().any(|(file, turn)| file == "b.log" && matches!(turn, Turn::Gone { .. })),
        "{turns:?}"
    );
    assert!(
        turns.iter().any(|(file, turn)| file == "c.log" && matches!(turn, Turn::Cut { .. })),
        "{turns:?}"
    );
}

#[tokio::test]
async fn a_folder_that_goes_away_ends_it_with_what_was_counted() {
    let mut site = Site::new();
    site.append("a.log", &lines(0, 3));
    site.start();
    site.until(lines(0, 3).len() as u64).await;
    fs::rename(site.place.path().join("logs"), site.place.path().join("away")).unwrap();
    let (run, _end) = site.run.take().unwrap();
    let analysis = tokio::time::timeout(LONG, run).await.unwrap().unwrap().unwrap();
    assert_eq!(analysis.fold, site.at_once(&lines(0, 3)));
    let [unread] = &analysis.run.unread[..] else { panic!("{:?}", analysis.run.unread) };
    assert!(unread.why.contains("cannot be read any more"), "{unread:?}");
}
