//! Checkpoints: folders from which an analysis that died goes on.
//!
//! `checkpoint_2025-10-29_14-30-00/` holds `checkpoint.json` (the contract's keys, and behind them what proves and continues
//! the count) and a link to each processed file. It is written under another name, brought to the disk, and renamed: it is
//! there whole or not at all, and a checksum tells where a disk did not keep that. A sum cannot be taken apart again, so a
//! checkpoint counts only as long as all that it has counted is still there, byte for byte.

mod following;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::Options;
use super::plan::{Plan, in_words, name};
use super::proof::{cores, first_wrong, hash_of};
use super::state::{Entry, State, Sum};
use crate::fold::Query;

pub(crate) use self::following::{Content, Mark};

/// What a checkpoint's name begins with.
const PREFIX: &str = "checkpoint_";
const FILE: &str = "checkpoint.json";
/// Before it has its name.
const UNFINISHED: &str = ".unfinished-";
/// Checkpoints of one analysis that are kept.
const KEPT: usize = 3;
/// Checkpoints that are looked at for the newest valid one.
const LOOKED_AT: usize = 50;
/// Above so many processed files there is one link, to their folder.
const MOST_LINKS: usize = 1000;
/// Bytes of a checkpoint at most.
const LONGEST: u64 = 1 << 30;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Document {
    timestamp: String,
    counts: BTreeMap<String, u64>,
    processed_files: Vec<String>,
    pending_files: Vec<String>,
    failed_workers: Vec<u32>,
    /// Of this form.
    slipring: u32,
    /// Each is larger than those before, whatever the clock shows.
    sequence: u64,
    folder: PathBuf,
    query: Query,
    /// Asked for, if it was.
    format: Option<String>,
    /// Of a folder that is followed: its logs are these, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_followed: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    marks: Vec<Mark>,
    /// The names that the entries' files stand for, and how long those files were.
    files: Vec<(String, u64)>,
    sum: Sum,
    entries: Vec<Entry>,
}

/// What a checkpoint is of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subject {
    pub(crate) folder: PathBuf,
    pub(crate) query: Query,
    pub(crate) format: Option<String>,
    /// Whether the folder is followed.
    pub(crate) is_followed: bool,
}

impl Subject {
    pub(crate) fn of(options: &Options) -> Self {
        let format = options.format.map(|format| format.name().to_owned());
        let (folder, query) = (options.folder.clone(), options.query.clone());
        Self { folder, query, format, is_followed: false }
    }

    pub(crate) fn following(options: &Options) -> Self {
        Self { is_followed: true, ..Self::of(options) }
    }
}

/// Something to go on from.
#[derive(Debug)]
pub(crate) struct Resumed {
    pub(crate) path: PathBuf,
    sum: Sum,
    entries: Vec<Entry>,
    files: Vec<(String, u64)>,
}

/// One that is not used, and why.
pub(crate) type Skipped = (PathBuf, String);

fn parse(bytes: &[u8]) -> Result<Document, String> {
    const TAIL: usize = r#","checksum":""}"#.len() + 32 + 1;
    let cut = "it was not written to its end, or changed since";
    let tail = bytes.len().checked_sub(TAIL).ok_or(cut)?;
    let (body, tail) = bytes.split_at(tail);
    if tail != tail_of(body).as_bytes() {
        let foreign = serde_json::from_slice::<serde_json::Value>(bytes)
            .is_ok_and(|json| json.get("slipring").is_none());
        return Err(if foreign {
            "another program wrote it: it does not say which bytes it has counted"
        } else {
            cut
        }
        .to_owned());
    }
    let mut whole = body.to_vec();
    whole.push(b'}');
    serde_json::from_slice(&whole)
        .map_err(|error| format!("another version of this program wrote it ({error})"))
}

fn tail_of(body: &[u8]) -> String {
    format!(",\"checksum\":\"{:032x}\"}}\n", xxh3_128(body))
}

fn read(path: &Path) -> Result<Document, String> {
    let mut bytes = Vec::new();
    let file = File::open(path.join(FILE)).map_err(|error| format!("its {FILE} cannot be read ({error})"))?;
    io::Read::read_to_end(&mut io::Read::take(file, LONGEST), &mut bytes)
        .map_err(|error| format!("its {FILE} cannot be read ({error})"))?;
    parse(&bytes)
}

/// All that there are, by name, the newest name first.
fn all(checkpoints: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(checkpoints)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    found.sort_unstable_by(|one, other| other.cmp(one));
    Ok(found)
}

/// The newest valid checkpoint of a subject that leaves something to do, and which newer ones are passed over.
pub(crate) fn newest(checkpoints: &Path, subject: &Subject, plan: &Plan) -> (Option<Resumed>, Vec<Skipped>) {
    let mut skipped = Vec::new();
    let found = match all(checkpoints) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, skipped),
        Err(error) => {
            skipped.push((checkpoints.to_owned(), format!("the folder cannot be read ({error})")));
            return (None, skipped);
        }
    };
    let mut documents = Vec::new();
    for path in found.into_iter().take(LOOKED_AT) {
        match read(&path) {
            Ok(document) if document.subject() == *subject => documents.push((document, path)),
            // Of another analysis: none of this one's business.
            Ok(_) => {}
            Err(why) => skipped.push((path, why)),
        }
    }
    documents.sort_by_key(|(document, _)| std::cmp::Reverse(document.sequence));
    for (document, path) in documents {
        match document.still_holds(plan) {
            // Nothing would be left to do: whoever asks again wants to know what is there now.
            Ok(()) if document.pending_files.is_empty() && document.files.len() == plan.logs.len() => {
                return (None, skipped);
            }
            Ok(()) => {
                let Document { sum, entries, files, .. } = document;
                return (Some(Resumed { path, sum, entries, files }), skipped);
            }
            Err(why) => skipped.push((path, why)),
        }
    }
    (None, skipped)
}

impl Document {
    /// And which files are wholly counted.
    fn of(
        subject: &Subject,
        content: Content,
        now: &jiff::civil::DateTime,
        sequence: u64,
    ) -> (Self, Vec<usize>) {
        let (done, pending): (Vec<usize>, Vec<usize>) =
            (0..content.plan.logs.len()).partition(|file| content.is_processed(*file));
        let Content { plan, state, marks } = content;
        let names: Vec<String> = plan.logs.iter().map(|log| name(&log.path)).collect();
        let of = |files: &[usize]| files.iter().map(|file| names[*file].clone()).collect();
        let levels = state.sum.fold.levels.seen();
        let document = Self {
            timestamp: now.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            counts: levels.map(|(level, count)| (level.name().to_owned(), count)).collect(),
            processed_files: of(&done),
            pending_files: of(&pending),
            failed_workers: state.sum.failed.iter().copied().collect(),
            slipring: 1,
            sequence,
            folder: subject.folder.clone(),
            query: subject.query.clone(),
            format: subject.format.clone(),
            is_followed: subject.is_followed,
            marks,
            files: names.into_iter().zip(plan.logs.iter().map(|log| log.length)).collect(),
            sum: state.sum,
            entries: state.entries,
        };
        (document, done)
    }

    fn subject(&self) -> Subject {
        Subject {
            folder: self.folder.clone(),
            query: self.query.clone(),
            format: self.format.clone(),
            is_followed: self.is_followed,
        }
    }

    /// Whether all that it has counted is there as it was.
    fn still_holds(&self, plan: &Plan) -> Result<(), String> {
        let now: BTreeMap<String, &crate::source::LogFile> =
            plan.logs.iter().map(|log| (name(&log.path), log)).collect();
        first_wrong(cores(), &self.entries, |entry| {
            let counted = &entry.counted;
            let (file, length) =
                self.files.get(counted.range.file).ok_or("it names files that it does not list")?;
            let log = now.get(file).ok_or_else(|| format!("{file}, which it has counted, is gone"))?;
            if log.length != *length {
                return Err(format!(
                    "{file}, which it has counted, was {length} bytes long and is {} now",
                    log.length
                ));
            }
            let hash = hash_of(log, counted.begin, counted.end).map_err(|error| in_words(&error))?;
            if hash == counted.hash {
                Ok(())
            } else {
                Err(format!("{file}, which it has counted, was changed"))
            }
        })
    }
}

impl Resumed {
    /// Takes what is counted out of the plan, and gives what is counted.
    pub(crate) fn into_state(self, plan: &mut Plan) -> State {
        let place: BTreeMap<String, usize> =
            plan.logs.iter().enumerate().map(|(file, log)| (name(&log.path), file)).collect();
        let mut entries = self.entries;
        for entry in &mut entries {
            let file = self.files.get(entry.counted.range.file).and_then(|(file, _)| place.get(file));
            entry.counted.range.file = *file.expect("a checkpoint that still holds names files of the plan");
            plan.formats[entry.counted.range.file] = Some(entry.counted.format);
        }
        plan.counted = entries.iter().map(|entry| entry.counted.range).collect();
        // What could not be read is tried again; workers of another run are not those of this one.
        let sum = Sum {
            unread: BTreeMap::new(),
            gone: Vec::new(),
            tasks: 0,
            workers: BTreeMap::new(),
            failed: std::collections::BTreeSet::new(),
            checkpoints: 0,
            resumed: 0,
            pages: 0,
            ..self.sum
        };
        let mut state = State::again(plan, sum, entries);
        state.sum.resumed = state.processed();
        state
    }
}

/// Where checkpoints of one subject are written, and which there are.
pub(crate) struct Shelf {
    folder: PathBuf,
    subject: Subject,
    /// By number, the newest last; looked for when the first one is written.
    own: Option<Vec<(u64, PathBuf)>>,
}

impl Shelf {
    pub(crate) fn new(folder: &Path, subject: Subject) -> Self {
        Self { folder: folder.to_owned(), subject, own: None }
    }

    /// Writes one, and removes those of the same subject that are older than the last few. Gives its folder.
    pub(crate) fn write(&mut self, content: Content) -> io::Result<PathBuf> {
        let mut own = match self.own.take() {
            Some(own) => own,
            None => {
                fs::create_dir_all(&self.folder)?;
                clear(&self.folder)?;
                self.look()?
            }
        };
        let sequence = own.last().map_or(0, |(sequence, _)| sequence + 1);
        let now = jiff::Zoned::now().datetime();
        let (logs, folder) = (content.plan.logs.clone(), content.plan.folder.clone());
        let (document, done) = Document::of(&self.subject, content, &now, sequence);
        let mut bytes = serde_json::to_vec(&document)?;
        bytes.pop();
        let tail = tail_of(&bytes);
        bytes.extend_from_slice(tail.as_bytes());
        let stem = format!("{PREFIX}{}", now.strftime("%Y-%m-%d_%H-%M-%S"));
        let unfinished = self.folder.join(format!("{UNFINISHED}{}-{sequence}", std::process::id()));
        let written = fill(&unfinished, &bytes, &folder, done.iter().map(|file| &logs[*file].path))
            .and_then(|()| place(&self.folder, &unfinished, &stem));
        if written.is_err() {
            // Where there was no room it takes none, at least.
            drop(fs::remove_dir_all(&unfinished));
        }
        let path = written?;
        File::open(&self.folder)?.sync_all()?;
        own.push((sequence, path.clone()));
        for (_, old) in own.drain(..own.len().saturating_sub(KEPT)) {
            match fs::remove_dir_all(old) {
                // Somebody else tidied up.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        self.own = Some(own);
        Ok(path)
    }

    fn look(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let found = all(&self.folder)?.into_iter().take(LOOKED_AT);
        let own = found.filter_map(|path| {
            let document = read(&path).ok().filter(|document| document.subject() == self.subject)?;
            Some((document.sequence, path))
        });
        let mut own: Vec<_> = own.collect();
        own.sort_unstable();
        Ok(own)
    }
}

/// The links come first: what brings the file to the disk brings them along, and the folder after it costs nothing.
fn fill<'a>(
    folder: &Path,
    bytes: &[u8],
    logs: &Path,
    done: impl ExactSizeIterator<Item = &'a PathBuf>,
) -> io::Result<()> {
    fs::create_dir(folder)?;
    if done.len() > MOST_LINKS {
        symlink(logs, folder.join("logs"))?;
    } else {
        for log in done {
            match symlink(log, folder.join(name(log))) {
                // Of logs that are followed several may have had one name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                linked => linked?,
            }
        }
    }
    let mut file = File::create(folder.join(FILE))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

/// Gives it the first name that is free.
fn place(checkpoints: &Path, unfinished: &Path, stem: &str) -> io::Result<PathBuf> {
    for number in 1..1000 {
        let path =
            checkpoints.join(if number == 1 { stem.to_owned() } else { format!("{stem}_{number:03}") });
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match fs::rename(unfinished, &path) {
            Ok(()) => return Ok(path),
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "a thousand checkpoints in one second"))
}

/// Removes what dead processes left unfinished.
fn clear(checkpoints: &Path) -> io::Result<()> {
    for entry in fs::read_dir(checkpoints)? {
        let entry = entry?;
        let left = entry.file_name();
        let left = left.to_string_lossy();
        let process =
            left.strip_prefix(UNFINISHED).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if let Some(process) = process
            && (process == std::process::id() || !Path::new("/proc").join(process.to_string()).exists())
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
