//! Log analysis: what is in a folder of logs, exactly once, whoever reads which part of it.
//!
//! Files are cut into [`ranges`]; a worker [`scan`](scan::scan)s one and returns a
//! [`Part`](scan::Part), whose [`Fold`](fold::Fold) is merged with all others. Merging is commutative and associative, and
//! a range's part does not depend on where the cuts around it are, so neither the number of workers nor the order in which
//! they finish can be seen in a result.
//!
//! All but [`run`] and [`archive`] is pure: it knows no clock, no network and no database. What is read of a file is bounded, whatever its
//! lines are. [`run`] is the part that acts: it hands ranges out through a store, under leases, and adds up what comes back.
//!
//! ```
//! use std::num::NonZeroU64;
//! use std::ops::ControlFlow;
//! use slipring_analyser::fold::{Fold, Query};
//! use slipring_analyser::format::Format;
//! use slipring_analyser::{generate, ranges, scan, source::LogFile};
//!
//! # let folder = tempfile::tempdir()?;
//! let written = generate::write_folder(folder.path(), 1, 1, generate::Amount::default())?;
//! let logs = [LogFile::look_at(&folder.path().join("node1.log"))?];
//! let query = Query::default();
//! let mut sum = Fold::new(&query);
//! for range in ranges::cut(&logs, NonZeroU64::new(1 << 16).expect("not 0")) {
//!     let go_on = &mut |_| ControlFlow::Continue(());
//!     sum.merge(scan::scan(&logs[range.file], range, Format::seed(), &query, go_on)?.fold);
//! }
//! assert_eq!((sum.lines, sum.records), (written.lines, 5000));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod archive;
pub mod count;
pub mod fold;
pub mod folder;
pub mod format;
pub mod generate;
mod level;
mod lines;
pub mod output;
pub mod ranges;
pub mod run;
pub mod scan;
pub mod source;
pub mod templates;
mod time;

pub use level::Level;
pub use time::{Time, Unit, UnknownUnit};
