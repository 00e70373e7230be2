//! Waves, live: units that emulate video decoding, with a queue of tasks and a number of cores each; their links, one
//! WebSocket per edge of a tree; and the balancer that begins waves and has tasks moved.
//!
//! The algorithms are the state machines of `slipring-waves`, the very same that are model-checked; here are sockets,
//! clocks, deadlines and a journal.

pub mod balancer;
pub mod config;
mod frame;
mod gathered;
mod link;
mod places;
mod serving;
mod site;
mod tasks;
mod trace;
pub mod unit;

pub use places::Places;
