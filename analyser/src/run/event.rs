//! What happens while an analysis runs, for whoever shows it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many logs are there; with `done` of them a checkpoint (or a coordinator before this one) is gone on from.
    Found { files: usize, done: Option<usize> },
    /// A worker has taken on a part of a file.
    Assigned { worker: u32, file: String },
    /// It reads it.
    Processing { worker: u32, file: String },
    /// Its lease ran out: it has not been heard of.
    TimedOut { worker: u32 },
    /// What a failed worker had is another's now.
    Reassigned { worker: u32, file: String },
    /// A part that takes long is given to a second worker.
    Doubled { worker: u32, file: String },
    /// Results that came too late, of parts that another had counted.
    Late { worker: u32, parts: usize },
    /// A checkpoint was written.
    Saved { path: PathBuf },
    /// A checkpoint could not be written; the analysis goes on.
    Unsaved { why: String },
    /// A checkpoint is gone on from.
    Resumed { path: PathBuf },
    /// A checkpoint is passed over.
    Skipped { path: PathBuf, why: String },
    /// So many bytes of the folder's are counted, so many files wholly, and these levels were seen.
    Progress { bytes: u64, of: u64, files: usize, levels: Vec<(&'static str, u64)> },
    /// Something became of a log that is followed.
    Turn { file: String, turn: Turn },
    /// The store does not answer; it is waited for.
    Waiting { why: String, waited: Duration },
    /// The store answers again.
    Back { after: Duration },
    /// Somebody else coordinates this analysis; this process waits to take over.
    StandingBy { who: String },
    /// This process coordinates from now on, after somebody else did.
    TookOver,
}

/// What becomes of a log that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is new.
    Appeared,
    /// It is called otherwise now, and read on.
    Renamed { to: String },
    /// It was cut, or written anew: so many bytes had been counted, and it is read from its beginning.
    Cut { counted: u64 },
    /// It was taken away while nobody followed it; so many bytes had been counted.
    Gone { counted: u64 },
    /// It is packed, and came later: what was packed was counted as it came.
    Packed,
    /// It cannot be read.
    Unreadable { why: String },
    /// So many bytes behind its last newline are not counted: their line has not ended.
    Left { bytes: u64 },
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appeared => f.write_str("is new"),
            Self::Renamed { to } => write!(f, "is {to} now, and read on"),
            Self::Cut { counted } => write!(
                f,
                "was cut: {counted} bytes of it are counted, what was written behind them and not seen is lost; it is read \
                 from its beginning"
            ),
            Self::Gone { counted } => write!(
                f,
                "was taken away while nobody followed it: {counted} bytes of it are counted, what was behind them is not"
            ),
            Self::Packed => f.write_str(
                "is packed, and not counted: what came before it was packed is; analyse it by itself if it was not followed",
            ),
            Self::Unreadable { why } => write!(f, "cannot be read: {why}"),
            Self::Left { bytes } => {
                write!(f, "ends with {bytes} bytes that are not counted: their line has no end yet")
            }
        }
    }
}

/// Where events go: it must not block for long.
#[derive(Clone)]
pub struct Tell(Arc<dyn Fn(Event) + Send + Sync>);

impl Tell {
    pub fn new(tell: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// To nobody.
    #[must_use]
    pub fn nobody() -> Self {
        Self::new(drop)
    }

    pub(crate) fn tell(&self, event: Event) {
        (self.0)(event);
    }
}

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

impl fmt::Display for Event {
    /// The contract's lines, and others like them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { files, done: None } => write!(f, "[Master] {files} logs"),
            Self::Found { files, done: Some(done) } => {
                write!(f, "[Master] {files} logs, {done} counted before")
            }
            Self::Assigned { worker, file } => write!(f, "[Master] Assigning {file} to worker {worker}"),
            Self::Processing { worker, file } => write!(f, "[Worker {worker}] Processing {file}"),
            Self::TimedOut { worker } => {
                write!(f, "[Master] Worker {worker} timeout detected - marking as failed")
            }
            Self::Reassigned { worker, file } => write!(f, "[Master] Reassigning {file} to worker {worker}"),
            Self::Doubled { worker, file } => {
                write!(f, "[Master] {file} takes long - worker {worker} reads it too")
            }
            Self::Late { worker, parts } => {
                write!(f, "[Worker {worker}] {parts} results came too late and are not counted")
            }
            Self::Saved { path } => write!(f, "[Master] Checkpoint saved: {}", path.display()),
            Self::Unsaved { why } => write!(f, "[Master] Checkpoint not saved, going on: {why}"),
            Self::Resumed { path } => write!(f, "[Master] Going on from {}", path.display()),
            Self::Skipped { path, why } => {
                write!(f, "[Master] Checkpoint skipped: {}: {why}", path.display())
            }
            Self::Progress { bytes, of, files, levels } => {
                write!(f, "[Master] So far: {bytes} of {of} bytes, {files} files")?;
                levels.iter().try_for_each(|(level, count)| write!(f, ", {level}: {count}"))
            }
            Self::Turn { file, turn } => write!(f, "[Master] {file} {turn}"),
            Self::Waiting { why, waited } => {
                write!(f, "[Master] Waiting for the store, {:.1}s so far: {why}", waited.as_secs_f64())
            }
            Self::Back { after } => write!(f, "[Master] The store is back after {:.1}s", after.as_secs_f64()),
            Self::StandingBy { who } => write!(f, "[Standby] {who} coordinates - waiting to take over"),
            Self::TookOver => f.write_str("[Master] Taking over from the coordinator before"),
        }
    }
}
