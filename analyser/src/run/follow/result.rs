//! What is counted so far: for whoever looks on, for a checkpoint, and at the end.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::Analysis;
use super::super::checkpoint::{Content, Mark};
use super::super::event::{Event, Turn};
use super::super::plan::{Plan, name};
use super::super::proof::{cores, first_wrong, hash_of};
use super::super::saver::SoFar;
use super::super::state::State;
use super::folder::Followed;
use super::log::Log;
use crate::output::{Run, Unread};
use crate::source::LogFile;

impl Followed {
    pub(super) fn files(&self) -> usize {
        self.logs.len()
    }

    pub(super) fn resumed(&self) -> Option<usize> {
        self.resumed
    }

    pub(super) fn bytes(&self) -> u64 {
        self.fold.bytes
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    pub(super) fn so_far(&self) -> SoFar {
        SoFar { files: self.logs.iter().filter(|log| log.is_over).count(), bytes: self.fold.bytes }
    }

    pub(super) fn progress(&self) -> Event {
        let length = |log: &Log| log.length().ok().flatten().unwrap_or_default().max(log.counted());
        let levels = self.fold.levels.seen().map(|(level, count)| (level.name(), count)).collect();
        Event::Progress {
            bytes: self.logs.iter().map(Log::counted).sum(),
            of: self.logs.iter().map(length).sum(),
            files: self.logs.len(),
            levels,
        }
    }

    /// What a checkpoint holds.
    pub(super) fn content(&self) -> Content {
        let mark = |log: &Log| Mark {
            log: log.file.clone(),
            identity: log.identity,
            is_over: log.is_over,
            is_gone: log.is_gone,
            in_record: log.in_record,
        };
        let plan = Plan {
            folder: self.folder.clone(),
            query: self.query.clone(),
            logs: self.logs.iter().map(|log| log.file.clone()).collect(),
            formats: Vec::new(),
            refused: Vec::new(),
            size: NonZeroU64::MIN,
            bundle: NonZeroU64::MIN,
            counted: Vec::new(),
        };
        let mut state = State::new(&plan);
        state.sum.fold = self.fold.clone();
        state.entries.clone_from(&self.entries);
        Content { plan, state, marks: self.logs.iter().map(mark).collect() }
    }

    /// Goes on where a checkpoint stopped: each log from the newline that it counted last, if what it has counted is still
    /// there. What became of the others meanwhile.
    pub(super) fn resume(&mut self, content: Content) -> io::Result<Vec<Event>> {
        let Content { state, marks, .. } = content;
        let seen = self.seen()?;
        let mut logs: Vec<Log> = marks.into_iter().map(Log::of).collect();
        for log in logs.iter_mut().filter(|log| !log.is_over) {
            log.handle = seen.get(&log.identity).map(|seen| File::open(&seen.path)).transpose()?;
        }
        let wrong: Vec<AtomicBool> = logs.iter().map(|_| AtomicBool::new(false)).collect();
        // None of them is a reason to stop looking at the others.
        let looked = first_wrong(cores(), &state.entries, |entry| {
            let counted = &entry.counted;
            let file = counted.range.file;
            if let Some(log) = logs[file].opened(counted.end) {
                let holds = hash_of(&log, counted.begin, counted.end).is_ok_and(|hash| hash == counted.hash);
                wrong[file].fetch_or(!holds, Ordering::Relaxed);
            }
            Ok::<(), std::convert::Infallible>(())
        });
        looked.unwrap_or_else(|never| match never {});
        let mut turns = Vec::new();
        self.resumed = Some(logs.len());
        self.fold = state.sum.fold;
        for entry in state.entries {
            let log = &mut logs[entry.counted.range.file];
            log.format = Some(entry.counted.format);
            self.enter(entry);
        }
        for (mut log, wrong) in logs.into_iter().zip(wrong) {
            let counted = log.counted();
            let mut tell = |turn| turns.push(Event::Turn { file: name(&log.file.path), turn });
            if !log.is_over && log.handle.is_none() {
                tell(Turn::Gone { counted });
                (log.is_over, log.is_gone) = (true, true);
            } else if !log.is_over
                && (wrong.into_inner() || log.length()?.is_some_and(|length| length < counted))
            {
                tell(Turn::Cut { counted });
                (log.is_over, log.is_gone, log.handle) = (true, true, None);
            }
            self.remember(log, &seen);
        }
        Ok(turns)
    }

    /// The lines that are open.
    pub(super) fn left(&self) -> Vec<Event> {
        let open = self.logs.iter().filter_map(|log| {
            let bytes = log.length().ok().flatten()?.checked_sub(log.counted()).filter(|bytes| *bytes > 0)?;
            Some(Event::Turn { file: name(&log.file.path), turn: Turn::Left { bytes } })
        });
        open.collect()
    }

    pub(super) fn into_analysis(mut self, checkpoints_saved: u64, took: Duration) -> Analysis {
        self.entries.sort_by_key(|entry| (entry.counted.range.file, entry.counted.begin));
        let unread = self.refused.into_iter().map(|(path, why)| Unread { path, why }).collect();
        let files_processed = self.logs.len() as u64;
        let run = Run { files_processed, unread, failed_workers: 0, checkpoints_saved, took };
        let gone = (0..).zip(&self.logs).filter(|(_, log)| log.is_gone).map(|(at, _)| at).collect();
        let files: Vec<LogFile> = self.logs.into_iter().map(|log| log.file).collect();
        Analysis { query: self.query, fold: self.fold, run, files, gone, entries: self.entries }
    }
}

impl Log {
    fn of(mark: Mark) -> Self {
        let Mark { log, identity, is_over, is_gone, in_record } = mark;
        let length = log.length;
        let mut of = Self::new(log, identity, None);
        of.file.length = length;
        (of.is_over, of.is_gone, of.in_record) = (is_over, is_gone, in_record);
        of
    }
}
