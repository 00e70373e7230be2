//! What the end-to-end tests share: real balancers, clients, load, faults, and waiting.
//!
//! Every test starts balancers of its own, on port 0, in a folder of its own and, where containers are involved,
//! with a label, a network and names of its own, so that tests meet neither each other nor anybody else's
//! balancer. Nothing here sleeps or retries: a wait is for a condition, has a bound, and says when it ends in
//! vain what it last saw. Whoever waits for something that was made to happen asks the balancer for the proof
//! that it did.

mod balancer;
pub mod bare;
pub mod docker;
mod events;
mod faults;
pub mod frames;
mod http;
mod load;
pub mod overlay;
pub mod overlay_pool;
pub mod raw;
pub mod replica;
mod skip;
pub mod units;
pub mod upstream;
mod wait;
mod wire;

pub use balancer::{Balancer, Replica, Setup, run};
pub use events::{Event, Events};
pub use faults::Process;
pub use http::{Answer, Http, Sending, Streams};
pub use load::{Keys, Load, Report};
pub use skip::{measured, require, skipped};
pub use wait::wait_until;
pub use wire::{RawAnswer, Wire};
