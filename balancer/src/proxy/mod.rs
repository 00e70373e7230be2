//! The data plane: a request comes in, its key finds a slot, the slot's first living replica answers it.
//!
//! It sees one [`crate::snapshot::Snapshot`] per request and reports back only one thing: a connection refused.

pub mod body;
pub mod error;
pub mod forward;
pub mod headers;
pub mod key;
pub mod pool;
pub mod server;
pub mod upload;
pub mod upstream;
