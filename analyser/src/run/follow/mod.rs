//! Following a folder: what is written to its logs is counted as it comes, until somebody says that it is enough.
//!
//! A log is a file, whatever it is called (`log.rs`): one that is renamed is read to its end, and the new one under its name is
//! another log. One that was cut (copied and truncated, say) is another log from there on, too. Counted are whole lines, each
//! range from the newline that was counted last (`round.rs`); the line that is open waits for its end. So every byte is counted
//! once, but for those that a cut took before anybody saw them.
//!
//! It is one process with threads of its own: what comes in a quarter of a second is no work to hand around. Rejected: inotify,
//! which needs a look at everything all the same when its queue runs over, and knows nothing of other hosts' writes.

mod folder;
mod log;
mod result;
mod round;

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use self::folder::Followed;
pub(crate) use self::log::Identity;
use super::begin::blocking;
use super::checkpoint::{Shelf, Subject};
use super::event::{Event, Tell};
use super::saver::Saver;
use super::{Analysis, Options, RunError};
use crate::output::Unread;

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(250);
/// Progress is told on for so long after the last change: whoever shows it now and then shows how it ended.
const TOLD_ON: Duration = Duration::from_secs(3);

/// What came with a look.
struct Look {
    /// What happened to logs.
    events: Vec<Event>,
    /// Whether there was more than one look takes.
    is_behind: bool,
}

/// Counts what is in a folder and what comes, until `stop` is true: then what is there is counted, and the result is whole up to
/// the newlines that were there. `checkpoints` are gone on from, and written every so often.
///
/// # Errors
/// See [`RunError`]; the store's cannot happen.
pub async fn follow(
    options: Options,
    tell: Tell,
    mut stop: watch::Receiver<bool>,
) -> Result<Analysis, RunError> {
    let begin = Instant::now();
    let mut saver = options
        .checkpoints
        .as_ref()
        .map(|checkpoints| Saver::new(checkpoints, Subject::following(&options), begin));
    let (asked, telling) = (options, tell.clone());
    let mut followed = blocking(move || start(&asked, &telling)).await?;
    let (files, done) = (followed.files(), followed.resumed());
    tell.tell(Event::Found { files, done });
    let (mut changed, mut counted) = (begin, None);
    let mut saved = 0;
    let mut failed = None;
    loop {
        let is_last = *stop.borrow_and_update();
        let (now, look) = blocking(move || {
            let look = followed.look();
            (followed, look)
        })
        .await;
        followed = now;
        let is_behind = match look {
            Ok(look) => {
                look.events.into_iter().for_each(|event| tell.tell(event));
                look.is_behind
            }
            // The folder has gone: what is counted stays.
            Err(why) => {
                failed = Some(why);
                false
            }
        };
        if counted.replace(followed.bytes()) != Some(followed.bytes()) {
            changed = Instant::now();
        }
        if changed.elapsed() < TOLD_ON {
            tell.tell(followed.progress());
        }
        if let Some(saver) = &mut saver {
            saved += saver.save(followed.so_far(), Duration::MAX, || followed.content(), &tell).await;
        }
        if is_last || failed.is_some() {
            break;
        }
        if !is_behind && let Ok(Err(_)) = timeout(LOOK, stop.changed()).await {
            // Nobody is left to say that it is enough: it is.
            break;
        }
    }
    if let Some(saver) = &mut saver {
        saved += saver.save_last(followed.so_far(), || followed.content(), &tell).await;
    }
    followed.left().into_iter().for_each(|event| tell.tell(event));
    let folder = followed.folder();
    let mut analysis = followed.into_analysis(saved, begin.elapsed());
    if let Some(why) = failed {
        let path = folder.display().to_string();
        analysis.run.unread.push(Unread { path, why: format!("the folder cannot be read any more ({why})") });
    }
    Ok(analysis)
}

/// Anew, or from the newest checkpoint that was written while following this folder.
fn start(options: &Options, tell: &Tell) -> Result<Followed, RunError> {
    let mut followed = Followed::new(options);
    let found = crate::folder::look_into(&options.folder)?;
    followed.refuse(found.refused);
    if let Some(checkpoints) = options.checkpoints.as_ref().filter(|checkpoints| !checkpoints.fresh) {
        let (newest, skipped) =
            Shelf::new(&checkpoints.folder, Subject::following(options)).newest_followed();
        for (path, why) in skipped {
            tell.tell(Event::Skipped { path, why });
        }
        if let Some((path, content)) = newest {
            tell.tell(Event::Resumed { path });
            let turns = followed.resume(content).map_err(|source| gone(options, source))?;
            turns.into_iter().for_each(|turn| tell.tell(turn));
        }
    }
    // Packed files are whole when they are there at the beginning; those that come later were logs that are counted.
    for log in found.logs {
        followed.begin_with(log);
    }
    Ok(followed)
}

fn gone(options: &Options, source: io::Error) -> RunError {
    crate::folder::FolderError::Unreadable { path: options.folder.clone(), source }.into()
}
