//! A replica that runs as a child process must not outlive its balancer, not even one that was killed.
//!
//! Linux delivers a signal of our choice when the parent *thread* dies (`PR_SET_PDEATHSIG`); the child asks
//! for it itself, which needs no code between `fork` and `exec`. A parent that died before the request is
//! seen by comparing process ids afterwards.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Why a replica could not be tied to its parent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeashError {
    /// The kernel refused the request.
    #[error("the kernel refused to tie this process to its parent")]
    Refused(#[source] std::io::Error),
    /// The parent was gone already.
    #[error("the balancer that started this replica is gone")]
    Orphaned,
}

/// From here on this process is killed as soon as the thread that started it, in process `parent`, ends.
pub fn die_with_parent(parent: u32) -> Result<(), LeashError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| LeashError::Refused(error.into()))?;
    let expected = i32::try_from(parent).ok().and_then(Pid::from_raw);
    if getppid() == expected { Ok(()) } else { Err(LeashError::Orphaned) }
}
