//! What came to logs, read on all threads and put behind what was counted before.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use super::super::plan::{best_of, in_words};
use super::super::proof::hash_of;
use super::super::task::Counted;
use crate::fold::Query;
use crate::format::Format;
use crate::ranges::Range;
use crate::scan::{Part, scan, scan_on};
use crate::source::{LogFile, Packing, SourceError};

/// Bytes of a range at most.
const SIZE: u64 = 8 << 20;
/// Ranges of one log become one in the ledger as long as they have no more bytes than this.
const JOINED: u64 = 1 << 20;

/// What came to a log: whole lines.
pub(super) struct Job {
    /// The log's place among all.
    pub(super) log: usize,
    /// To be read through its handle.
    pub(super) file: LogFile,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) format: Option<Format>,
    pub(super) in_record: bool,
    /// What was counted last: if it is not there any more, the log was cut and written anew.
    pub(super) last: Option<Counted>,
}

/// What was found.
pub(super) enum Came {
    /// Ranges from where it was counted to, without a gap; none, if it changed while it was read: the next look sees how.
    Parts(Format, Vec<Part>),
    /// What was counted last is not there any more.
    Changed,
    Unreadable(String),
}

/// Calls `work` for each on so many threads; what it gives, in their order.
fn on_threads<T: Sync, R: Send>(threads: NonZero<usize>, all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(all.len())));
    let turn = || {
        while let Some((at, one)) = all.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let result = work(one);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get().min(all.len()) {
            scope.spawn(turn);
        }
        turn();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Reads them all.
pub(super) fn count(jobs: &[Job], query: &Query, threads: NonZero<usize>) -> Vec<Came> {
    let formats = on_threads(threads, jobs, Job::format);
    let mut ranges = Vec::new();
    for (at, (job, format)) in jobs.iter().zip(&formats).enumerate() {
        if let Ok(format) = format {
            let size = if job.file.packing == Packing::Plain { SIZE } else { u64::MAX };
            let mut start = job.from;
            while start < job.to {
                let end = start.saturating_add(size).min(job.to);
                ranges.push((at, *format, Range { file: job.log, start, end }));
                start = end;
            }
        }
    }
    let mut parts = on_threads(threads, &ranges, |(at, format, range)| {
        let (job, mut go_on) = (&jobs[*at], |_| ControlFlow::Continue(()));
        if range.start == job.from && job.from > 0 {
            return scan_on(&job.file, *range, *format, query, job.in_record, &mut go_on);
        }
        scan(&job.file, *range, *format, query, &mut go_on)
    })
    .into_iter()
    .zip(ranges.iter().map(|(at, ..)| *at))
    .peekable();
    let mut came = Vec::with_capacity(jobs.len());
    for (at, (job, format)) in jobs.iter().zip(formats).enumerate() {
        let own = std::iter::from_fn(|| parts.next_if(|(_, of)| *of == at).map(|(part, _)| part));
        let own: Vec<_> = own.collect();
        came.push(match format {
            Ok(format) => job.came(format, own),
            Err(came) => came,
        });
    }
    came
}

impl Job {
    /// How it is to be read, if it still is what was counted.
    fn format(&self) -> Result<Format, Came> {
        let unreadable = |error: &SourceError| Came::Unreadable(in_words(error));
        if !self.still_holds().map_err(|error| unreadable(&error))? {
            return Err(Came::Changed);
        }
        match self.format {
            Some(format) => Ok(format),
            None => best_of(&self.file).map_err(|error| unreadable(&error)),
        }
    }

    fn still_holds(&self) -> Result<bool, SourceError> {
        let Some(last) = &self.last else { return Ok(true) };
        match hash_of(&self.file, last.begin, last.end) {
            Ok(hash) => Ok(hash == last.hash),
            Err(SourceError::Shrunk { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn came(&self, format: Format, found: Vec<Result<Part, SourceError>>) -> Came {
        let mut parts = Vec::with_capacity(found.len());
        for part in found {
            match part {
                Ok(part) => parts.push(part),
                // What is behind it would leave a gap.
                Err(SourceError::Shrunk { .. }) => break,
                Err(error) if parts.is_empty() => return Came::Unreadable(in_words(&error)),
                Err(_) => break,
            }
        }
        Came::Parts(format, parts)
    }
}

/// One line of the ledger instead of two, if both are short and their bytes are still those that were counted.
pub(super) fn joined(file: &LogFile, one: &Counted, other: &Counted) -> Option<Counted> {
    let fits = one.end == other.begin && one.format == other.format && other.end - one.begin <= JOINED;
    if !fits || file.packing != Packing::Plain {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(other.end - one.begin).ok()?];
    let mut source = file.open_at(one.begin).ok()?;
    let mut filled = 0;
    while filled < bytes.len() {
        match source.read(&mut bytes[filled..]).ok()? {
            0 => return None,
            read => filled += read,
        }
    }
    let (first, second) = bytes.split_at(usize::try_from(one.end - one.begin).ok()?);
    let hash = |bytes: &[&[u8]]| {
        let mut hash = Xxh3::new();
        bytes.iter().for_each(|bytes| hash.update(bytes));
        format!("{:032x}", hash.digest128())
    };
    (hash(&[first]) == one.hash && hash(&[second]) == other.hash).then(|| {
        let mut levels = one.levels;
        levels.merge(&other.levels);
        Counted {
            range: Range { start: one.begin, end: other.end, ..one.range },
            begin: one.begin,
            end: other.end,
            hash: hash(&[first, second]),
            format: one.format,
            lines: one.lines + other.lines,
            records: one.records + other.records,
            continued: one.continued + other.continued,
            unrecognised: one.unrecognised + other.unrecognised,
            levels,
        }
    })
}
