//! Where the settings are read from, as often as they are wanted: the command line's own words, the environment, the
//! file.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Config, ConfigError, DEFAULT_FILE, Sources};

/// What the command line said.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The file, if one was named; else [`DEFAULT_FILE`] is read if it is there.
    pub file: Option<PathBuf>,
    /// Settings: key, value.
    pub flags: BTreeMap<String, String>,
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
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Sources { file, environment, flags: self.flags.clone() })
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
