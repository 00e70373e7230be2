//! What a user is shown, as pure functions of a [`Report`]: the same report gives the same bytes.

mod chart;
mod csv;
mod html;
mod json;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fold::{Fold, Query};

pub use self::chart::{Stack, stack};
pub use self::csv::{levels_csv, over_time_csv, templates_csv};
pub use self::html::html;
pub use self::json::json;
pub use self::text::{found, resuming, text};

/// How the analysis went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Files that are wholly in the result.
    pub files_processed: u64,
    /// Files that are not, and why.
    pub unread: Vec<Unread>,
    pub failed_workers: u64,
    pub checkpoints_saved: u64,
    pub took: Duration,
}

/// A file that is not in the result, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    pub path: String,
    pub why: String,
}

/// What was asked, what was found, and how that went.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    pub query: &'a Query,
    pub fold: &'a Fold,
    pub run: &'a Run,
    /// How many templates are shown.
    pub top: usize,
}
