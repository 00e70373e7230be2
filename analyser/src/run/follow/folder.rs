//! The folder that is followed: which logs are in it, what became of those that were, and what came to them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::path::PathBuf;

use super::super::event::{Event, Turn};
use super::super::plan::name;
use super::super::state::Entry;
use super::super::task::Counted;
use super::super::{Options, life};
use super::Look;
use super::log::{Identity, Log};
use super::round::{Came, Job, count, joined};
use crate::fold::{Fold, Query};
use crate::folder::is_log;
use crate::format::Format;
use crate::source::{LogFile, Packing, SourceError};

/// Bytes that a look takes for each thread: what a stop waits for at most.
const TAKEN: u64 = 64 << 20;
/// A log under another name is held open for so many looks after it last grew.
const QUIET: u32 = 40;

/// See the module.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) folder: PathBuf,
    pub(super) query: Query,
    format: Option<Format>,
    threads: NonZero<usize>,
    /// The worker's name in the ledger.
    who: String,
    /// All that there ever were, in the order in which they came.
    pub(super) logs: Vec<Log>,
    /// Those that something may come to, or whose file is still there.
    known: HashMap<Identity, usize>,
    /// Of each log, its last entry.
    last: HashMap<usize, usize>,
    /// Packed files that came later: once each.
    passed: HashSet<Identity>,
    /// What has a log's name and cannot be read, and why.
    pub(super) refused: BTreeMap<String, String>,
    pub(super) fold: Fold,
    pub(super) entries: Vec<Entry>,
    pub(super) resumed: Option<usize>,
}

/// A file of the folder.
pub(super) struct Seen {
    pub(super) path: PathBuf,
    is_log: bool,
    length: u64,
}

impl Followed {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            folder: options.folder.clone(),
            query: options.query.clone(),
            format: options.format,
            threads: NonZero::new(options.workers).unwrap_or(NonZero::<usize>::MIN),
            who: life(),
            logs: Vec::new(),
            known: HashMap::new(),
            last: HashMap::new(),
            passed: HashSet::new(),
            refused: BTreeMap::new(),
            fold: Fold::new(&options.query),
            entries: Vec::new(),
            resumed: None,
        }
    }

    /// What could not be looked at.
    pub(super) fn refuse(&mut self, errors: Vec<SourceError>) {
        for error in errors {
            self.refused.insert(name(error.path()), super::super::plan::in_words(&error));
        }
    }

    /// A log that is there at the beginning; packed ones are counted once.
    pub(super) fn begin_with(&mut self, log: LogFile) {
        match File::open(&log.path).and_then(|handle| Ok((Identity::of(&handle.metadata()?), handle))) {
            Ok((identity, _)) if self.known.contains_key(&identity) => {}
            Ok((identity, handle)) => self.add(Log::new(log, identity, Some(handle))),
            Err(error) => {
                self.refused.insert(name(&log.path), not_opened(&error));
            }
        }
    }

    pub(super) fn add(&mut self, log: Log) {
        self.known.insert(log.identity, self.logs.len());
        self.logs.push(log);
    }

    /// A log that a checkpoint had. One whose file is still there is not taken for a new one.
    pub(super) fn remember(&mut self, log: Log, seen: &HashMap<Identity, Seen>) {
        if log.handle.is_some() || (log.is_over && !log.is_gone && seen.contains_key(&log.identity)) {
            self.known.insert(log.identity, self.logs.len());
        }
        self.logs.push(log);
    }

    /// Ranges that were counted.
    pub(super) fn enter(&mut self, entry: Entry) {
        self.last.insert(entry.counted.range.file, self.entries.len());
        self.entries.push(entry);
    }

    /// Looks at the folder, and counts what came.
    pub(super) fn look(&mut self) -> io::Result<Look> {
        let mut events = Vec::new();
        let mut seen = self.seen()?;
        for at in 0..self.logs.len() {
            if self.known.get(&self.logs[at].identity) == Some(&at) {
                let file = seen.remove(&self.logs[at].identity);
                self.turn(at, file.as_ref(), &mut events);
            }
        }
        self.passed.retain(|identity| seen.contains_key(identity));
        let mut new: Vec<_> = seen.into_iter().filter(|(_, file)| file.is_log).collect();
        new.sort_by(|(_, one), (_, other)| one.path.cmp(&other.path));
        for (identity, file) in new {
            self.appeared(identity, &file, &mut events);
        }
        let is_behind = self.take(&mut events);
        Ok(Look { events, is_behind })
    }

    pub(super) fn seen(&self) -> io::Result<HashMap<Identity, Seen>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Gone again, or a link to nowhere.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            if metadata.is_file() {
                let (path, is_log) = (entry.path(), is_log(&entry.file_name()));
                files.push((Identity::of(&metadata), Seen { path, is_log, length: metadata.len() }));
            }
        }
        // Of two names the one that is a log's counts, and of two logs' the first.
        files.sort_by(|(_, one), (_, two)| (two.is_log, &one.path).cmp(&(one.is_log, &two.path)));
        let mut seen = HashMap::with_capacity(files.len());
        for (identity, file) in files {
            seen.entry(identity).or_insert(file);
        }
        Ok(seen)
    }

    /// What became of a log since the last look.
    fn turn(&mut self, at: usize, seen: Option<&Seen>, events: &mut Vec<Event>) {
        let log = &mut self.logs[at];
        let file = name(&log.file.path);
        let tell = |turn| Event::Turn { file: file.clone(), turn };
        let keeps_its_name = seen.is_some_and(|seen| seen.is_log);
        match seen {
            Some(seen) if seen.path != log.file.path => {
                events.push(tell(Turn::Renamed { to: name(&seen.path) }));
                log.file.path.clone_from(&seen.path);
            }
            // A file that is not open is known by its name alone.
            None if log.handle.is_none() => {
                log.is_gone = true;
                log.is_over = true;
                self.known.remove(&log.identity);
                return;
            }
            _ => {}
        }
        log.is_gone = seen.is_none();
        if log.is_over {
            return;
        }
        if let Some(seen) = seen
            && log.handle.is_none()
            && seen.length != log.counted()
        {
            log.handle = File::open(&seen.path).ok();
        }
        log.quiet += 1;
        match log.length() {
            Ok(Some(length)) if length < log.counted() => self.cut(at, events),
            Ok(_) if keeps_its_name || log.quiet < QUIET => {}
            // Whatever comes to it, comes under the name that it has now.
            Ok(_) => log.handle = None,
            Err(error) => {
                self.refused.insert(file, not_opened(&error));
            }
        }
    }

    /// It was cut: it is another log from its beginning on.
    fn cut(&mut self, at: usize, events: &mut Vec<Event>) {
        let log = &mut self.logs[at];
        let counted = log.counted();
        events.push(Event::Turn { file: name(&log.file.path), turn: Turn::Cut { counted } });
        log.is_over = true;
        let anew = Log::new(log.file.clone(), log.identity, log.handle.take());
        log.is_gone = true;
        self.add(anew);
    }

    fn appeared(&mut self, identity: Identity, file: &Seen, events: &mut Vec<Event>) {
        let called = name(&file.path);
        if self.passed.contains(&identity) {
            return;
        }
        let looked = LogFile::look_at(&file.path);
        let opened = looked.map_err(|error| super::super::plan::in_words(&error)).and_then(|log| {
            let handle = File::open(&file.path).map_err(|error| not_opened(&error))?;
            Ok((log, handle))
        });
        let (log, handle) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                if self.refused.insert(called.clone(), why.clone()).as_ref() != Some(&why) {
                    events.push(Event::Turn { file: called, turn: Turn::Unreadable { why } });
                }
                return;
            }
        };
        self.refused.remove(&called);
        if log.packing != Packing::Plain {
            self.passed.insert(identity);
            events.push(Event::Turn { file: called, turn: Turn::Packed });
            return;
        }
        // Another file may have got the name since.
        if handle.metadata().is_ok_and(|metadata| Identity::of(&metadata) == identity) {
            events.push(Event::Turn { file: called, turn: Turn::Appeared });
            self.add(Log::new(log, identity, Some(handle)));
        }
    }

    /// Counts what came, up to what a look takes; whether there was more.
    fn take(&mut self, events: &mut Vec<Event>) -> bool {
        let mut left = TAKEN * self.threads.get() as u64;
        let (mut jobs, mut is_behind) = (Vec::new(), false);
        for at in 0..self.logs.len() {
            match self.job(at, left) {
                Ok(Some(job)) => {
                    is_behind |= job.to < job.file.length;
                    left = left.saturating_sub(job.to - job.from);
                    jobs.push(job);
                }
                Ok(None) => {}
                Err(error) => {
                    self.refused.insert(name(&self.logs[at].file.path), not_opened(&error));
                }
            }
            if left == 0 {
                is_behind = true;
                break;
            }
        }
        let came = count(&jobs, &self.query, self.threads);
        for (job, came) in jobs.into_iter().zip(came) {
            match came {
                Came::Parts(format, parts) => self.counted(&job, format, parts),
                Came::Changed => self.cut(job.log, events),
                Came::Unreadable(why) => {
                    let log = &mut self.logs[job.log];
                    // Half of a packed file is nothing to go on from.
                    log.is_over |= log.file.packing != Packing::Plain;
                    let file = name(&log.file.path);
                    if self.refused.insert(file.clone(), why.clone()).as_ref() != Some(&why) {
                        events.push(Event::Turn { file, turn: Turn::Unreadable { why } });
                    }
                }
            }
        }
        is_behind
    }

    /// What there is to read of a log.
    fn job(&mut self, at: usize, most: u64) -> io::Result<Option<Job>> {
        let log = &mut self.logs[at];
        if log.is_over {
            return Ok(None);
        }
        let Some(length) = log.length()?.filter(|length| *length > log.counted()) else { return Ok(None) };
        let (to, length) = if log.file.packing == Packing::Plain {
            let Some(newline) = log.last_newline(length)? else { return Ok(None) };
            (newline.min(log.counted().saturating_add(most)), newline)
        } else {
            (length, length)
        };
        let Some(file) = log.opened(length) else { return Ok(None) };
        let last = self.last.get(&at).map(|entry| self.entries[*entry].counted.clone());
        let (from, in_record) = (log.counted(), log.in_record);
        Ok(Some(Job { log: at, file, from, to, format: self.format.or(log.format), in_record, last }))
    }

    fn counted(&mut self, job: &Job, format: Format, parts: Vec<crate::scan::Part>) {
        for part in parts {
            let mut counted = Counted::of(&part, format);
            let log = &mut self.logs[job.log];
            if job.file.packing == Packing::Plain {
                (counted.range.start, counted.range.end) = (counted.begin, counted.end);
                log.file.length = counted.end.max(log.file.length);
            } else {
                // Whole, and once.
                (log.file.length, log.is_over, log.handle) = (job.file.length, true, None);
            }
            log.format = Some(format);
            log.in_record |= counted.records > 0;
            log.quiet = 0;
            self.refused.remove(&name(&log.file.path));
            self.fold.merge(part.fold);
            if counted.begin == counted.end {
                continue;
            }
            let last = self.last.get(&job.log).copied();
            if let Some(last) = last
                && let Some(both) = joined(&job.file, &self.entries[last].counted, &counted)
            {
                self.entries[last].counted = both;
                continue;
            }
            let worker = self.who.clone();
            self.enter(Entry { counted, worker, epoch: 0, attempt: 1 });
        }
    }
}

fn not_opened(error: &io::Error) -> String {
    match error.raw_os_error() {
        // EMFILE and ENFILE.
        Some(23 | 24) => format!("too many files are open ({error}): raise the limit (ulimit -n)"),
        _ => format!("it cannot be read ({error})"),
    }
}
