//! One setting, wherever it was written: a flag before the environment, the environment before the file.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::parse::Expected;
use super::report::{ConfigError, Mistake};

/// What the settings are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file's name, for messages, and its text.
    pub file: Option<(String, String)>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Settings of the command line: key, value.
    pub flags: BTreeMap<String, String>,
}

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag,
    /// In this environment variable.
    Environment(String),
    /// In these bytes of the file.
    File(Range<usize>),
    /// Nowhere: the default.
    Default,
}

/// A value as the user wrote it.
#[derive(Clone, Debug)]
pub(super) enum Written {
    One(String),
    Many(Vec<String>),
}

impl Written {
    pub(super) fn text(&self) -> Result<&str, Expected> {
        match self {
            Self::One(text) => Ok(text),
            Self::Many(_) => Err("one value, not a list".into()),
        }
    }

    /// A list; outside a file it is separated by commas.
    pub(super) fn list(&self) -> Vec<String> {
        match self {
            Self::Many(items) => items.clone(),
            Self::One(text) if text.trim().is_empty() => Vec::new(),
            Self::One(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        let one = |value: &DeValue<'_>| match value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => Some(number.to_string()),
            DeValue::Float(number) => Some(number.to_string()),
            DeValue::Boolean(flag) => Some(flag.to_string()),
            _ => None,
        };
        match value {
            DeValue::Array(items) => {
                items.iter().map(|item| one(item.get_ref())).collect::<Option<_>>().map(Self::Many)
            }
            value => one(value).map(Self::One),
        }
    }

    /// A default, in the notation of the file.
    fn from_default(text: &str) -> Self {
        let document = format!("value = {text}");
        DeTable::parse(&document)
            .ok()
            .and_then(|table| table.get_ref().get("value").and_then(|value| Self::from_toml(value.get_ref())))
            .unwrap_or_else(|| Self::One(text.to_owned()))
    }
}

struct Setting {
    origin: Origin,
    written: Written,
}

struct Documented {
    key: &'static str,
    default: &'static str,
    words: &'static str,
}

/// Reads settings, remembers what was asked for and what was wrong.
pub(super) struct Reader<'a> {
    sources: &'a Sources,
    in_file: BTreeMap<String, Setting>,
    documented: Vec<Documented>,
    sections: Vec<(&'static str, &'static str)>,
    mistakes: Vec<Mistake>,
    /// Keys whose values must not be printed.
    secrets: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        let mut reader = Self {
            sources,
            in_file: BTreeMap::new(),
            documented: Vec::new(),
            sections: Vec::new(),
            mistakes: Vec::new(),
            secrets: Vec::new(),
        };
        if let Some((_, text)) = &sources.file {
            let (table, errors) = DeTable::parse_recoverable(text);
            for error in errors {
                let origin = Origin::File(error.span().unwrap_or(0..0));
                reader.mistakes.push(Mistake::syntax(origin, error.message()));
            }
            reader.flatten("", table.get_ref());
        }
        reader
    }

    fn flatten(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            match value.get_ref() {
                DeValue::Table(inner) => self.flatten(&key, inner),
                other => {
                    let origin = Origin::File(name.span().start..value.span().end);
                    match Written::from_toml(other) {
                        Some(written) => {
                            self.in_file.insert(key, Setting { origin, written });
                        }
                        None => self.mistakes.push(Mistake::value(
                            &key,
                            origin,
                            "a text, a number, a truth value or a list of them",
                        )),
                    }
                }
            }
        }
    }

    pub(super) fn section(&mut self, name: &'static str, words: &'static str) {
        self.sections.push((name, words));
    }

    /// The value of `key`, or of `default` when it is set nowhere or wrongly (which is remembered).
    pub(super) fn key<T>(
        &mut self,
        key: &'static str,
        default: &'static str,
        words: &'static str,
        parse: impl Fn(&Written) -> Result<T, Expected>,
    ) -> T {
        self.documented.push(Documented { key, default, words });
        if let Some(setting) = self.find(key) {
            match parse(&setting.written) {
                Ok(value) => return value,
                Err(expected) => self.mistakes.push(Mistake::value(key, setting.origin, &expected)),
            }
        }
        parse(&Written::from_default(default)).expect("a default is valid: the example is tested")
    }

    /// As [`Reader::key`]; what was written is never printed.
    pub(super) fn secret<T>(
        &mut self,
        key: &'static str,
        default: &'static str,
        words: &'static str,
        parse: impl Fn(&Written) -> Result<T, Expected>,
    ) -> T {
        self.secrets.push(key);
        self.key(key, default, words, parse)
    }

    fn find(&self, key: &str) -> Option<Setting> {
        if let Some(text) = self.sources.flags.get(key) {
            return Some(Setting { origin: Origin::Flag, written: Written::One(text.clone()) });
        }
        for variable in variables(key) {
            if let Some(text) = self.sources.environment.get(&variable) {
                return Some(Setting {
                    origin: Origin::Environment(variable),
                    written: Written::One(text.clone()),
                });
            }
        }
        self.in_file.get(key).map(|s| Setting { origin: s.origin.clone(), written: s.written.clone() })
    }

    pub(super) fn is_set(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// How near to the user a key was set: 0 on the command line, 1 in the environment, 2 in the file, 3 nowhere.
    pub(super) fn rank(&self, key: &str) -> u8 {
        match self.find(key).map(|setting| setting.origin) {
            Some(Origin::Flag) => 0,
            Some(Origin::Environment(_)) => 1,
            Some(Origin::File(_)) => 2,
            Some(Origin::Default) | None => 3,
        }
    }

    /// Values that are right by themselves and wrong beside each other: the first of `keys` that somebody set is
    /// to blame.
    pub(super) fn mistake(&mut self, keys: &[&str], expected: &str) {
        let set = keys.iter().find_map(|key| Some((*key, self.find(key)?.origin)));
        let (key, origin) = set.unwrap_or((keys[0], Origin::Default));
        self.mistakes.push(Mistake::value(key, origin, expected));
    }

    pub(super) fn finish(mut self) -> Result<(), ConfigError> {
        let known = |key: &str| self.documented.iter().any(|documented| documented.key == key);
        let unknown_in_file = self
            .in_file
            .iter()
            .filter(|(key, _)| !known(key))
            .map(|(key, s)| (key.clone(), s.origin.clone()));
        let unknown_flags =
            self.sources.flags.keys().filter(|key| !known(key)).map(|key| (key.clone(), Origin::Flag));
        let known_variables: Vec<_> =
            self.documented.iter().flat_map(|documented| variables(documented.key)).collect();
        let unknown_variables = self
            .sources
            .environment
            .keys()
            .filter(|name| {
                name.starts_with("SLIPRING_")
                    && !known_variables.contains(name)
                    && !NOT_SETTINGS.contains(&name.as_str())
            })
            .map(|name| {
                (
                    name["SLIPRING_".len()..].to_lowercase().replacen('_', ".", 1),
                    Origin::Environment(name.clone()),
                )
            });
        let unknown: Vec<_> = unknown_in_file.chain(unknown_flags).chain(unknown_variables).collect();
        for (key, origin) in unknown {
            let nearest = self.nearest(&key);
            self.mistakes.push(Mistake::unknown(&key, origin, nearest));
        }
        if self.mistakes.is_empty() {
            return Ok(());
        }
        Err(ConfigError::new(self.sources.file.clone(), self.mistakes, &self.secrets))
    }

    /// The known key that was probably meant: the same last word elsewhere, or a near spelling.
    fn nearest(&self, key: &str) -> Option<&'static str> {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let renamed = RENAMED.iter().find(|(old, _)| *old == last(key)).map(|(_, new)| *new);
        let keys = || self.documented.iter().map(|documented| documented.key);
        renamed.or_else(|| keys().find(|known| last(known) == last(key))).or_else(|| {
            keys()
                .map(|known| (strsim::jaro_winkler(&last(known), &last(key)), known))
                .filter(|(likeness, _)| *likeness > 0.8)
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, known)| known)
        })
    }

    pub(super) fn example(&self) -> String {
        let mut text = String::from(
            "# Every key of the balancer with its default. A flag (--set KEY=VALUE) goes before the environment\n\
             # (SLIPRING_FLEET_REPLICAS for fleet.replicas), the environment before this file.\n",
        );
        for (section, words) in &self.sections {
            let _ = write!(text, "\n# {words}\n");
            if !section.is_empty() {
                let _ = writeln!(text, "[{section}]");
            }
            for documented in &self.documented {
                let (place, name) = documented.key.rsplit_once('.').unwrap_or(("", documented.key));
                if place == *section {
                    let _ =
                        writeln!(text, "# {}\n{name} = {}", documented.words, notation(documented.default));
                }
            }
        }
        text
    }
}

/// Names of the original project, and the keys that they are here.
const RENAMED: [(&str, &str); 6] = [
    ("hash_num", "ring.hash"),
    ("virtual_nodes", "ring.virtual_servers"),
    ("docker_task_batch", "fleet.task_batch"),
    ("max_fail_count", "fleet.failures"),
    ("n", "fleet.replicas"),
    ("port", "listen"),
];

/// Variables that other parts of the program read.
const NOT_SETTINGS: [&str; 4] = ["SLIPRING_REQUIRE", "SLIPRING_CONFIG", "SLIPRING_URL", "SLIPRING_LOG"];

/// The environment variables that set a key.
fn variables(key: &str) -> Vec<String> {
    let own = format!("SLIPRING_{}", key.replace('.', "_").to_uppercase());
    if key == "ring.hash" { vec![own, "HASH_NUM".to_owned()] } else { vec![own] }
}

/// A default as TOML: numbers, truth values and lists as they are, anything else quoted.
fn notation(default: &str) -> String {
    if default.starts_with('[') || default.parse::<f64>().is_ok() || default.parse::<bool>().is_ok() {
        default.to_owned()
    } else {
        format!("{default:?}")
    }
}
