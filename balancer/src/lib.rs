//! The appliance: a consistent-hash balancer that keeps its replicas alive.
//!
//! [`config`] is what the user wants, [`fleet`] keeps the replicas, [`proxy`] is the data plane, [`admin`] the
//! control plane; the last two know the fleet only through one immutable [`snapshot`]. [`app`] puts them together.

pub mod admin;
pub mod app;
mod chain;
pub mod config;
pub mod fleet;
pub mod inherit;
pub mod limit;
pub mod metrics;
pub mod places;
pub mod proxy;
pub mod reload;
pub mod sampled;
pub mod snapshot;
pub mod socket;
pub mod start;
