//! Why a call has no answer.

use thiserror::Error;

/// Why a call has no answer. What to do next is in the words; the database's own are the source.
#[derive(Debug, Error)]
pub enum Error {
    /// The database cannot be reached, is starting or stopping, or is locked for long: it may be there again in a
    /// moment. What was asked has happened or has not, see the crate's documentation; repeat it
    /// ([`crate::with_patience`]).
    #[error("the database does not answer ({doing}); what was asked can be repeated")]
    Unavailable {
        /// What was asked.
        doing: &'static str,
        /// What the driver says.
        source: sqlx::Error,
    },
    /// The data were written by a newer program.
    #[error(
        "the store has schema {found}, and this program knows schemas up to {known}: start the newer program, or give this \
         one a store of its own (nothing was changed)"
    )]
    NewerSchema {
        /// Of the store.
        found: i64,
        /// Of this program.
        known: i64,
    },
    /// The data are damaged, or no store's.
    #[error(
        "the store is damaged, or is none ({doing}): restore it from a backup, or move it away to begin anew"
    )]
    Corrupt {
        /// What was asked.
        doing: &'static str,
        /// What the driver says.
        source: sqlx::Error,
    },
    /// No room is left on the database's disk. Nothing of the call has happened.
    #[error("the database's disk is full ({doing}): make room, then repeat")]
    Full {
        /// What was asked.
        doing: &'static str,
        /// What the driver says.
        source: sqlx::Error,
    },
    /// What was asked is not allowed. Nothing of the call has happened.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The database refuses for a reason of its own: rights, a read-only disk, a version that is too old. Nothing of the
    /// call has happened.
    #[error(
        "the database refuses ({doing}); its reason stands beside this, and repeating does not help before it is gone"
    )]
    Rejected {
        /// What was asked.
        doing: &'static str,
        /// What the driver says.
        source: sqlx::Error,
    },
}

impl Error {
    /// Whether waiting may help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// What is not allowed in a call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// A name or key that no place would keep in order.
    #[error("{what} {name:?}: it takes 1 to {most} bytes without control characters and without U+10FFFF")]
    Name {
        /// What it names.
        what: &'static str,
        /// As given, shortened.
        name: String,
        /// Bytes.
        most: usize,
    },
    /// More bytes than are taken.
    #[error(
        "{what} of {bytes} bytes: at most {most} are taken; keep large things in a folder or object store"
    )]
    TooLong {
        /// What is long.
        what: &'static str,
        /// How long.
        bytes: usize,
        /// Bytes.
        most: usize,
    },
    /// More items than are taken at a time.
    #[error("{number} {what} at a time: ask for 1 to {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        number: usize,
        /// At most.
        most: usize,
    },
    /// A batch names something twice.
    #[error("a transaction names {what} {name:?} twice: its changes have no order")]
    Twice {
        /// Record or task.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// A task that may never be claimed.
    #[error("task {key:?} with 0 attempts: it takes 1 or more")]
    NoAttempts {
        /// Which.
        key: String,
    },
    /// A delete that expects nothing to be there.
    #[error("deleting record {key:?} if it is absent: expect a version, or anything")]
    DeleteAbsent {
        /// Which.
        key: String,
    },
    /// A URL that names no store.
    #[error("{url:?} names no store: memory: | sqlite:PATH | postgres://USER@HOST/DATABASE")]
    Url {
        /// As given, without password.
        url: String,
    },
    /// An older PostgreSQL.
    #[error("PostgreSQL {found} is too old: {least} or newer")]
    OldServer {
        /// Its major version.
        found: i64,
        /// The oldest that is known to do.
        least: i64,
    },
}
