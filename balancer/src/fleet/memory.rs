//! The desired membership, remembered over a restart of the balancer: one small file, written atomically.
//!
//! With the ring's slots kept beside the names, because the contract's probing depends on history: without them
//! a restart after a removal would move keys. With the name of the runtime, because containers outlive a balancer:
//! one that came back with processes would leave them to nobody. What tells the fleet from others on one engine is
//! in a file beside it that is written once, so that a corrupt membership does not cost the containers too.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slipring_hashing::{Placement, ReplicaId};

use super::names;

/// One member: identity, name, and its slots on a ring of slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its identity.
    pub id: ReplicaId,
    /// Its name.
    pub name: String,
    /// Its slots; empty on other placements.
    pub claims: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    placement: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    replicas: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: u32,
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    slots: Vec<u32>,
}

const VERSION: u32 = 1;

/// What was found where the memory should be.
#[derive(Debug, PartialEq, Eq)]
pub enum Recollection {
    /// There is no file: a first start.
    Nothing,
    /// What an earlier balancer wrote.
    Members {
        /// The members, in their order.
        members: Vec<Remembered>,
        /// What ran them.
        runtime: Option<String>,
    },
    /// A file that cannot be believed, and why.
    Corrupt(String),
}

/// The memory could not be taken, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The file system refused.
    #[error("the membership file {path} cannot be {verb}: check its folder's permissions and space, or set `state`", path = path.display())]
    Io { path: PathBuf, verb: &'static str, source: std::io::Error },
    /// Two balancers with one memory would undo each other's changes.
    #[error("another balancer uses the membership file {path}: stop it, or give this one a `state` of its own", path = .0.display())]
    Held(PathBuf),
}

/// The file that remembers, held by one balancer at a time.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    placement: String,
    runtime: Option<&'static str>,
    /// Locked for as long as it is open; the kernel unlocks it however this process ends.
    _lock: File,
}

impl Memory {
    /// Takes the memory in `path` for this placement.
    pub fn open(path: PathBuf, placement: &Placement) -> Result<Self, MemoryError> {
        let lock_path = PathBuf::from(format!("{}.lock", path.display()));
        let lock = lock(&lock_path).map_err(|source| match source.kind() {
            ErrorKind::WouldBlock => MemoryError::Held(path.clone()),
            _ => MemoryError::Io { path: lock_path, verb: "written", source },
        })?;
        Ok(Self { path, placement: describe(placement), runtime: None, _lock: lock })
    }

    /// From here on this runtime is remembered with the members.
    pub fn run_by(&mut self, runtime: &'static str) {
        self.runtime = Some(runtime);
    }

    /// What tells this fleet from all others: what `first` says at the first call, remembered for ever.
    pub fn fleet(&self, first: impl FnOnce() -> String) -> Result<String, MemoryError> {
        let path = PathBuf::from(format!("{}.fleet", self.path.display()));
        match std::fs::read_to_string(&path) {
            Ok(text) => match text.strip_suffix('\n') {
                Some(label) if label.split('/').all(names::is_docker_name) => return Ok(label.to_owned()),
                _ => {} // half a file: nothing was started under it yet
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(MemoryError::Io { path, verb: "read", source }),
        }
        let fleet = first();
        match write_atomically(&path, format!("{fleet}\n").as_bytes()) {
            Ok(()) => Ok(fleet),
            Err(source) => Err(MemoryError::Io { path, verb: "written", source }),
        }
    }

    /// Reads the members. A file that is not what this program writes is not obeyed; see [`Memory::set_aside`].
    pub fn recall(&self) -> Result<Recollection, MemoryError> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Recollection::Nothing),
            Err(source) => return Err(MemoryError::Io { path: self.path.clone(), verb: "read", source }),
        };
        Ok(self.parse(&text).unwrap_or_else(Recollection::Corrupt))
    }

    /// Keeps a corrupt file for whoever wants to know; says under which name, unless it cannot be moved.
    pub fn set_aside(&self) -> Option<PathBuf> {
        let aside = self.free_name();
        std::fs::rename(&self.path, &aside).is_ok().then_some(aside)
    }

    /// A name beside the file that no earlier corrupt one has.
    fn free_name(&self) -> PathBuf {
        let numbered = |n: u32| PathBuf::from(format!("{}.corrupt-{n}", self.path.display()));
        (1..=u32::MAX).map(numbered).find(|path| !path.exists()).unwrap_or_else(|| numbered(0))
    }

    fn parse(&self, text: &[u8]) -> Result<Recollection, String> {
        let file: Content = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if file.version != VERSION {
            return Err(format!("its version is {}, this program writes {VERSION}", file.version));
        }
        let same_ring = file.placement == self.placement;
        let mut members: Vec<Remembered> = Vec::with_capacity(file.replicas.len());
        let (mut ids, mut taken) = (HashSet::new(), HashSet::new());
        for entry in file.replicas {
            let id = entry.id.checked_sub(1).and_then(|id| u16::try_from(id).ok()).map(ReplicaId);
            let id = id.ok_or_else(|| format!("{} is no identity", entry.id))?;
            if !names::is_valid(&entry.name) {
                return Err(format!("{:?} is no name", entry.name));
            }
            if !ids.insert(id) || !taken.insert(entry.name.clone()) {
                return Err(format!("{} (identity {}) is there twice", entry.name, entry.id));
            }
            let claims = if same_ring { entry.slots } else { Vec::new() };
            members.push(Remembered { id, name: entry.name, claims });
        }
        Ok(Recollection::Members { members, runtime: file.runtime })
    }

    /// Writes the members so that a crash leaves the old file or the new one.
    pub fn store(&self, members: &[Remembered]) -> Result<(), MemoryError> {
        let error = |source| MemoryError::Io { path: self.path.clone(), verb: "written", source };
        let entry =
            |m: &Remembered| Entry { id: m.id.number(), name: m.name.clone(), slots: m.claims.clone() };
        let file = Content {
            version: VERSION,
            placement: self.placement.clone(),
            runtime: self.runtime.map(str::to_owned),
            replicas: members.iter().map(entry).collect(),
        };
        let text = serde_json::to_vec_pretty(&file).map_err(|source| error(source.into()))?;
        write_atomically(&self.path, &text).map_err(error)
    }
}

fn lock(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = File::options().create(true).append(true).open(path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// The placement, in words of the file's own: slots of another ring are no use.
fn describe(placement: &Placement) -> String {
    match placement {
        Placement::Slots { pair, slots, virtual_servers, probing } => {
            format!("slots/{pair}/{slots}/{virtual_servers}/{probing}")
        }
        other => other.name().to_owned(),
    }
}

fn write_atomically(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<Remembered> {
        let member = |id, name: &str, claims: &[u32]| Remembered {
            id: ReplicaId(id),
            name: name.into(),
            claims: claims.into(),
        };
        vec![member(3, "S5", &[1, 2]), member(0, "Server-1", &[7, 9])]
    }

    fn memory(folder: &tempfile::TempDir, placement: &Placement) -> Memory {
        Memory::open(folder.path().join("deep/state.json"), placement).unwrap()
    }

    #[test]
    fn what_was_stored_is_recalled_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = memory(&folder, &Placement::Rendezvous);
        assert_eq!(memory.recall().unwrap(), Recollection::Nothing);
        memory.store(&members()).unwrap();
        assert_eq!(memory.recall().unwrap(), Recollection::Members { members: members(), runtime: None });
        memory.run_by("docker");
        memory.store(&members()).unwrap();
        let runtime = Some("docker".to_owned());
        assert_eq!(memory.recall().unwrap(), Recollection::Members { members: members(), runtime });
    }

    #[test]
    fn the_fleets_label_is_made_once_and_survives_a_corrupt_membership() {
        let folder = tempfile::tempdir().unwrap();
        let memory = memory(&folder, &Placement::Rendezvous);
        let label = || "slipring-my_balancer.1".to_owned();
        assert_eq!(memory.fleet(label).unwrap(), label());
        std::fs::write(&memory.path, "corrupt").unwrap();
        assert_eq!(memory.fleet(|| unreachable!("it is remembered")).unwrap(), label());
        std::fs::write(folder.path().join("state.json.fleet"), "slipring-my").unwrap();
        assert_eq!(memory.fleet(label).unwrap(), label(), "half a file is none");
    }

    #[test]
    fn slots_of_another_ring_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        memory(&folder, &Placement::contract(slipring_hashing::HashPair::Given)).store(&members()).unwrap();
        let recalled = memory(&folder, &Placement::Maglev).recall().unwrap();
        let Recollection::Members { members: recalled, .. } = recalled else { panic!("{recalled:?}") };
        assert!(recalled.iter().all(|member| member.claims.is_empty()));
    }

    #[test]
    fn one_balancer_at_a_time_has_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = memory(&folder, &Placement::Rendezvous);
        let path = first.path.clone();
        let second = Memory::open(path.clone(), &Placement::Rendezvous);
        assert!(matches!(second, Err(MemoryError::Held(_))));
        drop(first);
        assert!(Memory::open(path, &Placement::Rendezvous).is_ok());
    }

    #[test]
    fn a_corrupt_file_is_set_aside_and_never_obeyed() {
        let entry = |id: i64, name: &str| format!(r#"{{"id":{id},"name":"{name}"}}"#);
        let file = |entries: &[String]| {
            format!(r#"{{"version":1,"placement":"rendezvous","replicas":[{}]}}"#, entries.join(","))
        };
        for text in [
            String::new(),
            "{\"version\":1".into(),
            "\u{0}\u{1}".into(),
            r#"{"version":2,"placement":"","replicas":[]}"#.into(),
            file(&[entry(0, "a")]),
            file(&[entry(-1, "a")]),
            file(&[entry(70_000, "a")]),
            file(&[entry(1, "../a")]),
            file(&[entry(1, "a"), entry(1, "b")]),
            file(&[entry(1, "a"), entry(2, "a")]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let memory = memory(&folder, &Placement::Rendezvous);
            std::fs::create_dir_all(memory.path.parent().unwrap()).unwrap();
            std::fs::write(&memory.path, &text).unwrap();
            assert!(matches!(memory.recall().unwrap(), Recollection::Corrupt(_)), "{text}");
            let aside = memory.set_aside().unwrap();
            assert_eq!(std::fs::read_to_string(aside).unwrap(), text);
            assert_eq!(memory.recall().unwrap(), Recollection::Nothing);
        }
    }
}
