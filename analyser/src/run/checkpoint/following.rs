//! Checkpoints of a folder that is followed. A plain one is of files that must not have changed; one of these is of logs
//! that go on, each of them judged by itself when it is gone on from.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::follow::Identity;
use super::super::plan::Plan;
use super::super::state::State;
use super::{Document, LOOKED_AT, Shelf, Skipped, all, read};
use crate::source::LogFile;

/// A log that is followed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Where it was seen last; as long as what is counted of it.
    pub(crate) log: LogFile,
    pub(crate) identity: Identity,
    /// Nothing more will be read of it.
    pub(crate) is_over: bool,
    /// What is counted is not under its path any more.
    pub(crate) is_gone: bool,
    /// A record of it has begun.
    pub(crate) in_record: bool,
}

/// What a checkpoint is made of.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) plan: Plan,
    pub(crate) state: State,
    /// Of each log, if they are followed.
    pub(crate) marks: Vec<Mark>,
}

impl Content {
    /// Of files that are only read.
    pub(crate) fn of(plan: &Plan, state: &State) -> Self {
        Self { plan: plan.clone(), state: state.clone(), marks: Vec::new() }
    }

    /// Whether nothing of a file is left to do.
    pub(super) fn is_processed(&self, file: usize) -> bool {
        self.marks.get(file).map_or_else(|| self.state.is_processed(file), |mark| mark.is_over)
    }
}

impl Shelf {
    /// The newest valid one of a folder that is followed, and which newer ones are passed over.
    pub(crate) fn newest_followed(&self) -> (Option<(PathBuf, Content)>, Vec<Skipped>) {
        let (mut documents, mut skipped) = (Vec::new(), Vec::new());
        // A folder that is not there holds none.
        for path in all(&self.folder).unwrap_or_default().into_iter().take(LOOKED_AT) {
            match read(&path) {
                Ok(document) if document.subject() == self.subject => documents.push((document, path)),
                Ok(_) => {}
                Err(why) => skipped.push((path, why)),
            }
        }
        documents.sort_by_key(|(document, _)| std::cmp::Reverse(document.sequence));
        for (document, path) in documents {
            match document.followed(&self.subject.folder) {
                Ok(content) => return (Some((path, content)), skipped),
                Err(why) => skipped.push((path, why.to_owned())),
            }
        }
        (None, skipped)
    }
}

impl Document {
    fn followed(self, folder: &Path) -> Result<Content, &'static str> {
        let Self { sum, entries, marks, query, .. } = self;
        if entries.iter().any(|entry| entry.counted.range.file >= marks.len()) {
            return Err("it names files that it does not list");
        }
        let plan = Plan {
            folder: folder.to_owned(),
            query,
            logs: marks.iter().map(|mark| mark.log.clone()).collect(),
            formats: Vec::new(),
            refused: Vec::new(),
            size: NonZeroU64::MIN,
            bundle: NonZeroU64::MIN,
            counted: Vec::new(),
        };
        let state = State::again(&plan, sum, entries);
        Ok(Content { plan, state, marks })
    }
}
