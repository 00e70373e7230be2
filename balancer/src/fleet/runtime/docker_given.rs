//! Containers whose work is given: an overlay's processes.
//!
//! A container's name is the pool's with the process's behind it, because the engine takes no name of one letter, and
//! because that name is what the other containers find it by on their network, whatever host the overlay's file says.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::models::{Mount, MountType};

use crate::config::FixedMember;

/// What is given, by the names of members; of a pool of replicas like any other, nothing.
#[derive(Debug, Default)]
pub(super) struct Given {
    prefix: String,
    members: HashMap<String, FixedMember>,
}

impl Given {
    pub(super) fn new(members: &[FixedMember], prefix: &str) -> Self {
        let members = members.iter().map(|member| (member.name.clone(), member.clone())).collect();
        Self { prefix: prefix.to_owned(), members }
    }

    pub(super) fn container_name(&self, name: &str) -> String {
        if self.members.contains_key(name) { format!("{}-{name}", self.prefix) } else { name.to_owned() }
    }

    pub(super) fn port(&self, name: &str) -> Option<u16> {
        self.members.get(name).map(|member| member.port)
    }

    /// What a container of this member is told apart by from one that does other work under its name.
    pub(super) fn digest(&self, name: &str) -> Option<String> {
        self.members.get(name).map(|member| format!("{:016x}", member.digest))
    }

    pub(super) fn arguments(&self, name: &str) -> Option<Vec<String>> {
        self.members.get(name).map(|member| member.container.arguments.clone())
    }

    pub(super) fn mounts(&self, name: &str) -> Option<Vec<Mount>> {
        let mounts = self.members.get(name)?.container.mounts.iter();
        let mount = |(outside, inside): &(PathBuf, String)| Mount {
            source: Some(outside.to_string_lossy().into_owned()),
            target: Some(inside.clone()),
            typ: Some(MountType::BIND),
            read_only: Some(true),
            ..Mount::default()
        };
        Some(mounts.map(mount).collect())
    }

    /// Folders that are written; the engine makes those that are not there, which it does not of mounts.
    pub(super) fn binds(&self, name: &str) -> Option<Vec<String>> {
        let folders = self.members.get(name)?.container.state.iter();
        Some(folders.map(|(outside, inside)| format!("{}:{inside}", outside.display())).collect())
    }
}
