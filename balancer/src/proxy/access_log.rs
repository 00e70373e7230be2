//! One line for each request, written by a thread of its own.
//!
//! Whoever serves a request makes its line and leaves it in a bounded queue; a full queue loses the line, which is
//! counted, and never makes a request wait. The thread writes what has gathered at once, and looks each second
//! whether the file was moved away (rotation), to begin the new one.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use prometheus::IntCounter;
use serde_json::json;

use super::trace::Span;

/// Lines that wait to be written.
const QUEUE: usize = 16 * 1024;
/// Bytes that are written at once.
const BATCH: usize = 256 * 1024;
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// The Common Log Format of the NCSA.
    Common,
    /// The same with referer and user agent.
    Combined,
}

/// What is logged, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// How; `None`: nothing is.
    pub access: Option<Format>,
    /// Into which file; `None`: standard output.
    pub file: Option<PathBuf>,
    /// The share of requests that is logged.
    pub sample: f64,
}

/// What came of a request, gathered on its way.
#[derive(Debug, Default)]
pub struct Tally {
    /// Of the answer that was begun; 0: none was.
    pub status: Cell<u16>,
    /// Replicas that were asked.
    pub attempts: Cell<u32>,
    /// Bytes of the answer's body.
    pub bytes: Cell<u64>,
    /// The last one that was asked; noted only if somebody wants to know.
    pub replica: RefCell<Option<HeaderValue>>,
    /// The answer was begun, and not carried to its end.
    pub broken_off: Cell<bool>,
    /// What a call of gRPC ended with.
    pub grpc_status: Cell<Option<u32>>,
}

/// A request that is going to have a line, a span or both.
#[derive(Clone, Debug)]
pub struct Noted {
    at: SystemTime,
    began: Instant,
    /// Whether it is to have a line.
    pub logged: bool,
    /// Its span, perhaps.
    pub span: Span,
    /// Whose request it is; `None`: no pool's.
    pub pool: Option<Arc<str>>,
    /// Whether it came over TLS. This and the next are known for a span only.
    pub secure: bool,
    /// Which host it asks for.
    pub host: Vec<u8>,
    /// What it asks for, as it was written.
    pub method: String,
    /// Where.
    pub target: String,
    /// What it was sent as.
    pub protocol: &'static str,
    /// Its name.
    pub request_id: Vec<u8>,
    /// `Referer`.
    pub referer: Vec<u8>,
    /// `User-Agent`.
    pub agent: Vec<u8>,
}

impl Noted {
    /// A request of which nothing is known but that it came.
    pub fn new(protocol: &'static str, logged: bool, span: Span) -> Self {
        Self {
            at: SystemTime::now(),
            began: Instant::now(),
            logged,
            span,
            pool: None,
            secure: false,
            host: Vec::new(),
            method: "-".to_owned(),
            target: "-".to_owned(),
            protocol,
            request_id: Vec::new(),
            referer: Vec::new(),
            agent: Vec::new(),
        }
    }

    /// When it came.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// How long it has taken up to now.
    pub fn took(&self) -> Duration {
        self.began.elapsed()
    }
}

/// See the module.
#[derive(Debug)]
pub struct AccessLog {
    format: Format,
    sample: f64,
    file: Option<PathBuf>,
    lines: SyncSender<Message>,
    lost: IntCounter,
    ended: Arc<Mutex<Receiver<()>>>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    End,
}

impl AccessLog {
    /// Begins a log, if one is wanted. Lines that are `lost` are counted.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub fn begin(config: &LogConfig, lost: IntCounter) -> io::Result<Option<Self>> {
        let Some(format) = config.access else { return Ok(None) };
        let output = match &config.file {
            Some(path) => Output::File { file: open(path)?, path: path.clone(), looked: Instant::now() },
            None => Output::Stdout,
        };
        let (lines, queue) = sync_channel(QUEUE);
        let (done, ended) = sync_channel(1);
        let unwritten = lost.clone();
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            write(&queue, output, &unwritten);
            drop(done);
        })?;
        let (sample, file, ended) = (config.sample, config.file.clone(), Arc::new(Mutex::new(ended)));
        Ok(Some(Self { format, sample, file, lines, lost, ended }))
    }

    /// The log that follows `earlier`: its thread goes on where only format and share are others; else it writes what
    /// it has got, and ends with the last request that knows it.
    ///
    /// # Errors
    /// As [`AccessLog::begin`].
    pub fn after(earlier: Option<&Self>, config: &LogConfig, lost: IntCounter) -> io::Result<Option<Self>> {
        let Some(format) = config.access else { return Ok(None) };
        let Some(earlier) = earlier.filter(|earlier| earlier.file == config.file) else {
            return Self::begin(config, lost);
        };
        let (lines, ended, file) = (earlier.lines.clone(), earlier.ended.clone(), config.file.clone());
        Ok(Some(Self { format, sample: config.sample, file, lines, lost, ended }))
    }

    /// Whether the next request is among those that are logged.
    pub fn wants(&self) -> bool {
        self.sample >= 1.0 || rand::random::<f64>() < self.sample
    }

    /// Leaves the line of a request.
    pub fn write(&self, noted: &Noted, client: IpAddr, tally: &Tally) {
        let line = line(self.format, noted, client, tally, noted.took());
        match self.lines.try_send(Message::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lost.inc(),
        }
    }

    /// Waits until everything is written, at most `within`.
    pub fn end(&self, within: Duration) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lines.try_send(Message::End).is_err()
            || ended.recv_timeout(within) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!("the end of the access log was not written in time");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

enum Output {
    Stdout,
    File { file: File, path: PathBuf, looked: Instant },
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Self::File { file, .. } => file.write_all(bytes),
        }
    }

    /// Begins the file anew if it is no longer there under its name.
    fn look(&mut self) -> io::Result<()> {
        let Self::File { file, path, looked } = self else { return Ok(()) };
        if looked.elapsed() < LOOK {
            return Ok(());
        }
        *looked = Instant::now();
        let here = file.metadata()?;
        let there = std::fs::metadata(&*path).ok();
        if there.is_none_or(|there| (there.dev(), there.ino()) != (here.dev(), here.ino())) {
            *file = open(path)?;
        }
        Ok(())
    }
}

/// Writes what comes, to its end; counts the lines that are `lost` to a write that failed.
fn write(queue: &Receiver<Message>, mut output: Output, lost: &IntCounter) {
    let (mut batch, mut lines) = (Vec::with_capacity(BATCH), 0);
    let mut failing = false;
    loop {
        let mut over = false;
        match queue.recv_timeout(LOOK) {
            Ok(Message::Line(line)) => {
                batch.extend_from_slice(&line);
                lines += 1;
            }
            Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => over = true,
            Err(RecvTimeoutError::Timeout) => {}
        }
        while !over && batch.len() < BATCH {
            match queue.try_recv() {
                Ok(Message::Line(line)) => {
                    batch.extend_from_slice(&line);
                    lines += 1;
                }
                Ok(Message::End) => over = true,
                Err(_) => break,
            }
        }
        // A file that cannot be begun anew is still there.
        let (looked, written) = (output.look(), output.write(&batch));
        if written.is_err() {
            lost.inc_by(lines);
        }
        batch.clear();
        lines = 0;
        let outcome = written.and(looked);
        if let Err(error) = &outcome
            && !failing
        {
            tracing::warn!(%error, "the access log cannot be written");
        }
        failing = outcome.is_err();
        if over {
            return;
        }
    }
}

fn line(format: Format, noted: &Noted, client: IpAddr, tally: &Tally, took: Duration) -> Vec<u8> {
    let (client, status, bytes) = (client.to_canonical(), tally.status.get(), tally.bytes.get());
    let replica = tally.replica.borrow();
    let replica = replica.as_ref().map(HeaderValue::as_bytes).map(String::from_utf8_lossy);
    if format == Format::Json {
        let mut object = json!({
            "time": humantime::format_rfc3339_millis(noted.at).to_string(),
            "client": client.to_string(),
            "method": noted.method,
            "path": noted.target,
            "protocol": noted.protocol,
            "status": status,
            "bytes": bytes,
            "duration_ms": took.as_secs_f64() * 1000.0,
            "pool": noted.pool.as_deref(),
            "replica": replica,
            "attempts": tally.attempts.get(),
            "request_id": String::from_utf8_lossy(&noted.request_id),
        });
        if let Some(code) = tally.grpc_status.get() {
            object["grpc_status"] = code.into();
        }
        if tally.broken_off.get() {
            object["broken_off"] = true.into();
        }
        return format!("{object}\n").into_bytes();
    }
    let mut out = format!("{client} - - [{}] \"", date(noted.at)).into_bytes();
    escape(&mut out, noted.method.as_bytes());
    out.push(b' ');
    escape(&mut out, noted.target.as_bytes());
    out.extend_from_slice(format!(" {}\" {status} {bytes}", noted.protocol).as_bytes());
    if format == Format::Combined {
        for field in [&noted.referer, &noted.agent] {
            out.extend_from_slice(b" \"");
            escape(&mut out, if field.is_empty() { b"-" } else { field });
            out.push(b'"');
        }
    }
    out.push(b'\n');
    out
}

/// What could end a field or a line, or move a terminal's cursor, is written as `\xHH`.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        if matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\') {
            out.push(byte);
        } else {
            write!(out, "\\x{byte:02x}").expect("writing into memory");
        }
    }
}

/// `10/Oct/2000:13:55:36 +0000`; the day by Howard Hinnant's `civil_from_days`.
fn date(at: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let name = MONTHS[(month - 1) as usize];
    format!("{day:02}/{name}/{year}:{:02}:{:02}:{:02} +0000", time / 3600, time / 60 % 60, time % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(target: &str, agent: &[u8]) -> Noted {
        let at = UNIX_EPOCH + Duration::from_secs(971_186_136);
        Noted {
            at,
            method: "GET".into(),
            target: target.into(),
            agent: agent.into(),
            ..Noted::new("HTTP/1.1", true, Span::default())
        }
    }

    fn text(format: Format, target: &str, agent: &[u8]) -> String {
        let tally = Tally::default();
        tally.status.set(200);
        tally.bytes.set(11);
        let line =
            line(format, &noted(target, agent), [10, 0, 0, 1].into(), &tally, Duration::from_millis(3));
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn the_old_formats() {
        let common = "10.0.0.1 - - [10/Oct/2000:13:55:36 +0000] \"GET /a HTTP/1.1\" 200 11";
        assert_eq!(text(Format::Common, "/a", b""), format!("{common}\n"));
        assert_eq!(text(Format::Combined, "/a", b"curl"), format!("{common} \"-\" \"curl\"\n"));
    }

    #[test]
    fn days_of_all_kinds() {
        let day = |seconds| date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(day(0), "01/Jan/1970:00:00:00 +0000");
        assert_eq!(day(951_782_400), "29/Feb/2000:00:00:00 +0000");
        assert_eq!(day(4_107_542_399), "28/Feb/2100:23:59:59 +0000");
    }

    #[test]
    fn lines_that_cannot_be_written_are_lost_and_counted() {
        let lost = IntCounter::new("lost", "lines").unwrap();
        let (lines, queue) = sync_channel(QUEUE);
        for _ in 0..3 {
            lines.send(Message::Line(b"line\n".to_vec())).unwrap();
        }
        drop(lines);
        let path = PathBuf::from("/dev/full");
        write(&queue, Output::File { file: open(&path).unwrap(), path, looked: Instant::now() }, &lost);
        assert_eq!(lost.get(), 3);
    }

    /// The folder was moved away: what is open is still a file.
    #[test]
    fn a_file_that_cannot_be_begun_anew_is_still_written() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (folder.path().join("before"), folder.path().join("after"));
        std::fs::create_dir(&before).unwrap();
        let lost = IntCounter::new("lost", "lines").unwrap();
        let (lines, queue) = sync_channel(QUEUE);
        lines.send(Message::Line(b"line\n".to_vec())).unwrap();
        drop(lines);
        let path = before.join("log");
        let looked = Instant::now().checked_sub(LOOK).unwrap();
        let output = Output::File { file: open(&path).unwrap(), path, looked };
        std::fs::rename(&before, &after).unwrap();
        write(&queue, output, &lost);
        assert_eq!(std::fs::read(after.join("log")).unwrap(), b"line\n");
        assert_eq!(lost.get(), 0);
    }

    #[test]
    fn whose_a_request_is() {
        for (pool, told) in [(Some("api"), "\"pool\":\"api\""), (None, "\"pool\":null")] {
            let noted = Noted { pool: pool.map(Arc::from), ..noted("/a", b"") };
            let line = line(Format::Json, &noted, [10, 0, 0, 1].into(), &Tally::default(), Duration::ZERO);
            let line = String::from_utf8(line).unwrap();
            assert!(line.contains(told), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_stays_one_line(target in "\\PC{0,40}|[\\x00-\\x7f]{0,40}", agent in proptest::collection::vec(0_u8.., 0..40)) {
            for format in [Format::Common, Format::Combined] {
                let line = text(format, &target, &agent);
                proptest::prop_assert!(line.trim_end_matches('\n').bytes().all(|byte| matches!(byte, b' '..=b'~')));
                proptest::prop_assert_eq!(line.matches('"').count(), if format == Format::Common { 2 } else { 6 });
            }
            let line = text(Format::Json, &target, &agent);
            proptest::prop_assert_eq!(line.matches('\n').count(), 1);
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            proptest::prop_assert_eq!(&object["path"], &target);
        }
    }
}
