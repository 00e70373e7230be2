//! The fleet: which replicas there should be, which there are, and what to do about the difference.
//!
//! [`core`] decides (an event and a time go in, commands come out); [`shell`] owns it in one task and performs
//! its commands through a [`runtime`]; readers see a [`crate::snapshot::Snapshot`].

pub mod backoff;
pub mod core;
pub mod events;
pub mod handle;
pub mod heartbeat;
pub mod memory;
pub mod names;
pub mod past;
pub mod request;
pub mod runtime;
pub mod scribe;
pub mod shell;
pub mod state;
