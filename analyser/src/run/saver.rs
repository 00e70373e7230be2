//! When checkpoints are written: beside the counting, one at a time. What comes due meanwhile is one checkpoint, the next.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Checkpoints;
use super::checkpoint::{Content, Shelf, Subject};
use super::event::{Event, Tell};

/// Files that a checkpoint is written after.
const FILES: usize = 5;
/// Of the time, checkpoints take one part in so many at most; the first few are not held back.
const SHARE: u32 = 33;
const FIRST: u64 = 3;

/// How far the counting is: files of which nothing is left, and bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SoFar {
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// When and where checkpoints are written.
pub(super) struct Saver {
    /// Away while one is being written.
    shelf: Option<Shelf>,
    folder: PathBuf,
    every: Duration,
    begin: Instant,
    last: Instant,
    /// What was counted when the last one was begun.
    at: SoFar,
    saved: u64,
    spent: Duration,
    /// How long the last one took.
    took: Duration,
    running: Option<JoinHandle<(Shelf, io::Result<PathBuf>, Duration)>>,
    /// The last one could not be written, and why.
    failed: Option<String>,
}

impl Saver {
    pub(super) fn new(checkpoints: &Checkpoints, subject: Subject, begin: Instant) -> Self {
        Self {
            shelf: Some(Shelf::new(&checkpoints.folder, subject)),
            folder: checkpoints.folder.clone(),
            every: checkpoints.every,
            begin,
            last: Instant::now(),
            at: SoFar::default(),
            saved: 0,
            spent: Duration::ZERO,
            took: Duration::ZERO,
            running: None,
            failed: None,
        }
    }

    /// Hears of the one that was begun, and begins one if it is due: not if the end, which is `left` away, comes
    /// sooner than it would be written, because the one before the end holds all. How many have been written.
    pub(super) async fn save(
        &mut self,
        so_far: SoFar,
        left: Duration,
        content: impl FnOnce() -> Content,
        tell: &Tell,
    ) -> u64 {
        let is_written = self.running.as_ref().is_some_and(JoinHandle::is_finished);
        let saved = if is_written { self.written(tell).await } else { 0 };
        let enough = so_far.files >= self.at.files + FILES || self.last.elapsed() >= self.every;
        let cheap = self.saved < FIRST || self.spent * SHARE < self.begin.elapsed();
        if enough && cheap && left > self.took && so_far.bytes > self.at.bytes {
            self.start(so_far, content);
        }
        saved
    }

    /// The one before the end, unless nothing has come since the last one; how many have been written.
    pub(super) async fn save_last(
        &mut self,
        so_far: SoFar,
        content: impl FnOnce() -> Content,
        tell: &Tell,
    ) -> u64 {
        let mut saved = self.written(tell).await;
        if so_far.bytes > self.at.bytes || self.failed.is_some() {
            self.start(so_far, content);
            saved += self.written(tell).await;
        }
        saved
    }

    /// Nothing, as long as one is being written.
    fn start(&mut self, so_far: SoFar, content: impl FnOnce() -> Content) {
        let Some(mut shelf) = self.shelf.take() else { return };
        (self.last, self.at) = (Instant::now(), so_far);
        let content = content();
        self.running = Some(tokio::task::spawn_blocking(move || {
            let begin = Instant::now();
            let written = shelf.write(content);
            (shelf, written, begin.elapsed())
        }));
    }

    /// Waits for the one that is being written; 1 if one was.
    async fn written(&mut self, tell: &Tell) -> u64 {
        let Some(running) = self.running.take() else { return 0 };
        let (shelf, written, took) =
            running.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        self.shelf = Some(shelf);
        self.spent += took;
        self.took = took;
        match written {
            Ok(path) => {
                self.saved += 1;
                self.failed = None;
                tell.tell(Event::Saved { path });
                1
            }
            Err(error) => {
                let why = format!(
                    "{} ({error}): make room there, or name another folder with --checkpoints",
                    self.folder.display()
                );
                // Once for each reason.
                if self.failed.as_ref() != Some(&why) {
                    tell.tell(Event::Unsaved { why: why.clone() });
                }
                self.failed = Some(why);
                0
            }
        }
    }
}
