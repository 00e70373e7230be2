//! Wave algorithms: every computation terminates, contains a decision, and every decision is causally preceded by an
//! event in every node (Tel, *Introduction to Distributed Algorithms*, chapter 6).
//!
//! Each algorithm is a state machine of one node in one wave: a message in, [`Step`]s out. It knows its neighbors and
//! nothing else; no clock, no socket, no random number. Whoever runs it, live, simulated or in a model checker, carries
//! the messages, and says when a neighbor is given up.
//!
//! - [`Echo`] (Chang 1982, Segall 1983): one initiator, a connected undirected graph, exactly 2·E messages.
//! - [`Finn`] (1979): any initiators, a strongly connected directed graph, at most 2·N·m messages.
//! - [`Barrier`]: one way, m messages, on acyclic graphs alone.
//!
//! [`topology`] says who is next to whom, [`balance`] what to do with what a wave has gathered, and [`sim`] runs the machines
//! over a network that a seed makes as rough as it likes. The same machines are explored in every order of messages, with
//! every repetition (`tests/model`).
//!
//! A wave has a name, [`WaveId`], so that any number of them run at once and a late message changes nothing; who was
//! heard is a set and not a counter, because a counter does not survive a duplicate.

pub mod balance;
mod barrier;
mod echo;
mod finn;
pub mod random;
mod set;
pub mod sim;
pub mod topology;
mod wave;

pub use barrier::{Barrier, Blocked, Released, blocked};
pub use echo::{Echo, Gather, Token};
pub use finn::{Finn, Known};
pub use set::NodeSet;
pub use wave::{NotAWave, Step, WaveId};

/// A node's unique number: a port, an index.
pub type NodeId = u32;
