//! Leader, team leaders and workers: questions over partitioned CSV data, answered completely or not at all.
//!
//! A worker holds whole days (`partition`); which ones, every process computes from the same file (`topology`,
//! `assignment`). A question (`query`) is planned by whoever is asked: each day is asked for on one way through the
//! graph, so that it is counted once, and again on another if that way fails. What comes back is put together in the
//! order of days, files and rows, whoever answered first.

mod admission;
mod assignment;
mod catalog;
pub mod date;
pub mod disk_cache;
mod gather;
pub mod generate;
mod hedge;
mod holdings;
pub mod node;
pub mod partition;
mod peers;
mod plan;
pub mod query;
pub mod record;
mod results;
mod scan;
pub mod survey;
pub mod topology;
mod wave;

/// The contract with clients, generated from `proto/overlay.proto`.
#[allow(clippy::all, missing_docs, unreachable_pub, reason = "generated")]
pub mod wire {
    tonic::include_proto!("_");

    /// What processes say to each other in waves, generated from `proto/waves.proto`: it knows the contract's metrics as
    /// those of three modules above it.
    pub mod slipring {
        pub mod waves {
            pub mod v1 {
                tonic::include_proto!("slipring.waves.v1");
            }
        }
    }
}

pub(crate) use wire::slipring::waves::v1 as wave_wire;

/// What processes say to each other, generated from `proto/overlay_peer.proto`.
#[allow(clippy::all, missing_docs, unreachable_pub, reason = "generated")]
pub(crate) mod peer_wire {
    tonic::include_proto!("slipring.overlay.v1");
}
