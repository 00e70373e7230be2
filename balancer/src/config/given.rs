//! Where the settings are read from, as often as they are wanted: the command line's own words, the environment, the
//! file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Config, ConfigError, DEFAULT_FILE, ReadOverlay, ReadWaves, Sources};

/// What the command line said.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The file, if one was named; else [`DEFAULT_FILE`] is read if it is there.
    pub file: Option<PathBuf>,
    /// Settings: key, value.
    pub flags: BTreeMap<String, String>,
    /// Who can read an overlay's file.
    pub overlay: Option<ReadOverlay>,
    /// Who can read a tree of units.
    pub waves: Option<ReadWaves>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{file} cannot be read: {source}", file = .file.display())]
    File {
        /// Its name.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not everything in it, or beside it, is right.
    #[error(transparent)]
    Mistakes(#[from] ConfigError),
}

impl Given {
    /// Reads everything, the file and the environment as they are now.
    ///
    /// # Errors
    /// When the file cannot be read; that one which nobody named is not there is none.
    pub fn sources(&self) -> Result<Sources, LoadError> {
        let path = self.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        let file = match std::fs::read_to_string(path) {
            Ok(text) => Some((path.display().to_string(), text)),
            Err(error) if error.kind() == ErrorKind::NotFound && self.file.is_none() => None,
            Err(source) => return Err(LoadError::File { file: path.to_owned(), source }),
        };
        let (environment, unreadable) = readable(std::env::vars_os());
        Ok(Sources {
            file,
            environment,
            unreadable,
            flags: self.flags.clone(),
            files: true,
            overlay: self.overlay,
            waves: self.waves,
        })
    }

    /// Reads and validates everything. The file that was read is required from then on: the next time, that it is gone
    /// is no wish for all defaults.
    ///
    /// # Errors
    /// As [`Given::sources`]; and all mistakes.
    pub fn load(&mut self) -> Result<Config, LoadError> {
        let sources = self.sources()?;
        let config = Config::load(&sources)?;
        if sources.file.is_some() {
            self.file.get_or_insert_with(|| DEFAULT_FILE.into());
        }
        Ok(config)
    }
}

/// The variables that are text, and the names of those that are not. Others' variables may be whatever they like; what
/// becomes of ours is for the reader to say.
fn readable(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> (BTreeMap<String, String>, Vec<String>) {
    let (mut environment, mut unreadable) = (BTreeMap::new(), Vec::new());
    for (name, value) in variables {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => drop(environment.insert(name, value)),
            (Ok(name), Err(_)) => unreadable.push(name),
            (Err(name), _) => unreadable.push(name.to_string_lossy().into_owned()),
        }
    }
    (environment, unreadable)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_variable_of_ours_that_is_not_text_is_a_mistake_and_not_as_if_it_were_not_there() {
        let raw = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let variables = [
            (raw(b"SLIPRING_FLEET_REPLICAS"), raw(b"4\xff")),
            (raw(b"SLIPRING_\xff"), raw(b"4")),
            (raw(b"HASH_NUM"), raw(b"\xff")),
            (raw(b"SLIPRING_CONFIG"), raw(b"/etc/\xff.toml")),
            (raw(b"OTHER"), raw(b"\xff")),
            (raw(b"SLIPRING_LISTEN"), raw(b"127.0.0.1:7")),
        ];
        let (environment, unreadable) = readable(variables.into_iter());
        assert_eq!(environment.into_keys().collect::<Vec<_>>(), ["SLIPRING_LISTEN"]);
        let error = Config::load(&Sources { unreadable, ..Sources::default() }).unwrap_err();
        let told = error.to_string();
        for name in ["SLIPRING_FLEET_REPLICAS", "SLIPRING_\u{fffd}", "HASH_NUM"] {
            assert!(
                told.contains(&format!("environment variable {name}\n  = ")),
                "{name} is missing from\n{told}"
            );
        }
        assert!(told.contains("UTF-8") && error.mistakes().len() == 3, "{told}");
    }
}
