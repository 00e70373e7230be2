//! One setting, wherever it was written: a flag before the environment, the environment before the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write as _};
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::keys::{Effect, Keys, Value};
use super::names::{Names, pool_of};
use super::overlay::ReadOverlay;
use super::parse::Expected;
use super::report::{ConfigError, Mistake};
use super::waves::ReadWaves;

/// What the settings are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file's name, for messages, and its text.
    pub file: Option<(String, String)>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Names of variables that are not UTF-8, they or their values.
    pub unreadable: Vec<String>,
    /// Settings of the command line: key, value.
    pub flags: BTreeMap<String, String>,
    /// Whether what the files of our own servers' certificates hold is looked at, too. Those for TLS to replicas are read
    /// in any case: what is in them is what is configured.
    pub files: bool,
    /// Who can read an overlay's file; `None`: it is not looked at.
    pub overlay: Option<ReadOverlay>,
    /// Who can read a tree of units; `None`: it is not looked at.
    pub waves: Option<ReadWaves>,
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

    /// As a person reads it.
    fn shown(&self) -> String {
        match self {
            Self::One(text) => text.clone(),
            Self::Many(items) => items.join(", "),
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

#[derive(Clone)]
struct Setting {
    origin: Origin,
    written: Written,
    /// Where the items of a list are, if it is in the file.
    items: Vec<Range<usize>>,
}

impl Setting {
    fn new(origin: Origin, written: Written) -> Self {
        Self { origin, written, items: Vec::new() }
    }

    /// Where item `index` of a list was written, as precisely as that is known.
    fn origin_of(&self, index: usize) -> Origin {
        self.items.get(index).map_or_else(|| self.origin.clone(), |span| Origin::File(span.clone()))
    }

    /// What is to blame for a refusal: the first item of a list that is refused also by itself, or all of it.
    fn culprit(&self, is_refused: impl Fn(&Written) -> bool) -> Origin {
        let Written::Many(items) = &self.written else { return self.origin.clone() };
        let alone = |item: &String| is_refused(&Written::Many(vec![item.clone()]));
        items.iter().position(alone).map_or_else(|| self.origin.clone(), |index| self.origin_of(index))
    }
}

struct Documented {
    key: &'static str,
    effect: Effect,
    default: &'static str,
    words: &'static str,
}

/// Of what the keys are read at the moment, if it is a pool: `pool.NAME.` goes before each of them.
struct Scope {
    prefix: String,
    /// Where the pool was first spoken of.
    origin: Origin,
}

/// Whether what is set for the balancer is what a pool has that says nothing of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heir {
    Yes,
    No,
}

/// Reads settings, remembers what was asked for and what was wrong.
pub(super) struct Reader<'a> {
    sources: &'a Sources,
    in_file: BTreeMap<String, Setting>,
    /// The tables below `pool`, by name.
    pools_in_file: BTreeMap<String, Origin>,
    scope: Option<Scope>,
    /// Keys of pools, as they are written, beside those that are documented.
    scoped: BTreeSet<String>,
    /// Keys that a pool may have, and whether it inherits them.
    of_pools: Vec<(&'static str, Heir)>,
    documented: Vec<Documented>,
    sections: Vec<(&'static str, &'static str)>,
    mistakes: Vec<Mistake>,
    /// Whether something was wrong before the first pool was read: its mistakes would be told once more for each.
    unsound: bool,
    /// Keys whose values must not be printed.
    secrets: Vec<&'static str>,
    values: Keys,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        let mut reader = Self {
            sources,
            in_file: BTreeMap::new(),
            pools_in_file: BTreeMap::new(),
            scope: None,
            scoped: BTreeSet::new(),
            of_pools: Vec::new(),
            documented: Vec::new(),
            sections: Vec::new(),
            mistakes: Vec::new(),
            unsound: false,
            secrets: Vec::new(),
            values: Keys::default(),
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
                DeValue::Table(inner) => {
                    if prefix == "pool" {
                        let origin = Origin::File(name.span());
                        self.pools_in_file.insert(name.get_ref().to_string(), origin);
                    }
                    self.flatten(&key, inner);
                }
                other => {
                    let origin = Origin::File(name.span().start..value.span().end);
                    let items = match other {
                        DeValue::Array(items) => items.iter().map(toml::Spanned::span).collect(),
                        _ => Vec::new(),
                    };
                    match Written::from_toml(other) {
                        Some(written) => {
                            self.in_file.insert(key, Setting { origin, written, items });
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
        if self.scope.is_none() {
            self.sections.push((name, words));
        }
    }

    /// The names of the pools that the file or the command line speaks of, each with where it does.
    pub(super) fn pools(&self) -> BTreeMap<String, Origin> {
        let mut pools = self.pools_in_file.clone();
        for key in self.sources.flags.keys() {
            if let Some((name, _)) = key.strip_prefix("pool.").and_then(|rest| rest.split_once('.')) {
                pools.entry(name.to_owned()).or_insert(Origin::Flag);
            }
        }
        pools
    }

    /// Reads the keys of one pool: what `read` asks for is looked for under `pool.NAME` first.
    pub(super) fn within<T>(&mut self, pool: &str, origin: Origin, read: impl FnOnce(&mut Self) -> T) -> T {
        if self.of_pools.is_empty() {
            self.unsound = !self.mistakes.is_empty();
        }
        self.of_pools.clear();
        self.scope = Some(Scope { prefix: format!("pool.{pool}."), origin });
        let value = read(self);
        self.scope = None;
        value
    }

    /// The value of `key`, or of `default` when it is set nowhere or wrongly (which is remembered). A pool that does
    /// not set it has what the balancer has. Whoever declares a key says when a change of it takes `effect`.
    pub(super) fn key<T: Debug>(
        &mut self,
        key: &'static str,
        effect: Effect,
        default: &'static str,
        words: &'static str,
        parse: impl Fn(&Written) -> Result<T, Expected>,
    ) -> T {
        self.read(Documented { key, effect, default, words }, Heir::Yes, parse)
    }

    /// As [`Reader::key`]; a pool that does not set it has the default.
    pub(super) fn own<T: Debug>(
        &mut self,
        key: &'static str,
        effect: Effect,
        default: &'static str,
        words: &'static str,
        parse: impl Fn(&Written) -> Result<T, Expected>,
    ) -> T {
        self.read(Documented { key, effect, default, words }, Heir::No, parse)
    }

    fn read<T: Debug>(
        &mut self,
        declared: Documented,
        heir: Heir,
        parse: impl Fn(&Written) -> Result<T, Expected>,
    ) -> T {
        let Documented { key, effect, default, .. } = declared;
        let full = self.full(key);
        if self.scope.is_some() {
            self.scoped.insert(full.clone());
            self.of_pools.push((key, heir));
        } else {
            self.documented.push(declared);
        }
        let mut valid = None;
        if let Some(setting) = self.find(&full) {
            match parse(&setting.written) {
                Ok(value) => valid = Some((value, setting.written, false)),
                Err(expected) => {
                    let origin = setting.culprit(|item| parse(item).is_err());
                    self.mistakes.push(Mistake::value(&full, origin, &expected));
                }
            }
        }
        // What is wrong with an inherited value was told when the balancer's own keys were read.
        let inherits = self.scope.is_some() && heir == Heir::Yes;
        if valid.is_none()
            && inherits
            && let Some(Setting { written, .. }) = self.find(key)
        {
            valid = parse(&written).ok().map(|value| (value, written, true));
        }
        let (value, written, inherited) = valid.unwrap_or_else(|| {
            let written = Written::from_default(default);
            let value = parse(&written).expect("a default is valid: the example is tested");
            (value, written, inherits)
        });
        let (meaning, shown) = match self.secrets.contains(&key) {
            true => (written.shown(), "…".to_owned()),
            false => (format!("{value:?}"), written.shown()),
        };
        self.values.0.insert(full, Value { effect, meaning, shown, inherited });
        value
    }

    /// The key as it is written where the reader is.
    fn full(&self, key: &str) -> String {
        self.scope.as_ref().map_or_else(|| key.to_owned(), |scope| format!("{}{key}", scope.prefix))
    }

    /// As [`Reader::key`]; what was written is never printed.
    pub(super) fn secret<T: Debug>(
        &mut self,
        key: &'static str,
        effect: Effect,
        default: &'static str,
        words: &'static str,
        parse: impl Fn(&Written) -> Result<T, Expected>,
    ) -> T {
        self.secrets.push(key);
        self.key(key, effect, default, words, parse)
    }

    /// As [`Reader::secret`]; a pool that does not set it has the default.
    pub(super) fn own_secret<T: Debug>(
        &mut self,
        key: &'static str,
        effect: Effect,
        default: &'static str,
        words: &'static str,
        parse: impl Fn(&Written) -> Result<T, Expected>,
    ) -> T {
        self.secrets.push(key);
        self.own(key, effect, default, words, parse)
    }

    fn find(&self, key: &str) -> Option<Setting> {
        if let Some(text) = self.sources.flags.get(key) {
            return Some(Setting::new(Origin::Flag, Written::One(text.clone())));
        }
        for variable in variables(key) {
            if let Some(text) = self.sources.environment.get(&variable) {
                return Some(Setting::new(Origin::Environment(variable), Written::One(text.clone())));
            }
        }
        self.in_file.get(key).cloned()
    }

    /// Whether the keys of a pool with a name are being read.
    pub(super) fn is_pool(&self) -> bool {
        self.scope.is_some()
    }

    /// Whether it is set where the reader is; what a pool inherits is not.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.find(&self.full(key)).is_some()
    }

    /// Whether a variable of the environment sets it.
    pub(super) fn is_of_environment(&self, key: &str) -> bool {
        self.find(&self.full(key)).is_some_and(|setting| matches!(setting.origin, Origin::Environment(_)))
    }

    /// Whether it is set to nothing where the reader is, as the example has it.
    pub(super) fn is_empty(&self, key: &str) -> bool {
        self.find(&self.full(key)).is_some_and(|setting| setting.written.text().is_ok_and(str::is_empty))
    }

    /// Whether it is set where the reader is, or inherited.
    pub(super) fn is_set_anywhere(&self, key: &str) -> bool {
        self.is_set(key) || self.find(key).is_some()
    }

    /// Whether what files hold is to be looked at.
    pub(super) fn looks_into_files(&self) -> bool {
        self.sources.files
    }

    /// Who can read an overlay's file.
    pub(super) fn overlay(&self) -> Option<ReadOverlay> {
        self.sources.overlay
    }

    /// Who can read a tree of units.
    pub(super) fn waves(&self) -> Option<ReadWaves> {
        self.sources.waves
    }

    /// A variable that is not one of our own.
    pub(super) fn variable(&self, name: &str) -> Option<&'a str> {
        self.sources.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// How near to the user a key was set: 0 on the command line, 1 in the environment, 2 in the file, 3 nowhere; for
    /// a pool, what it inherits is three further away than what was said for the pool itself.
    pub(super) fn rank(&self, key: &str) -> u8 {
        let rank = |key: &str| match self.find(key).map(|setting| setting.origin) {
            Some(Origin::Flag) => 0,
            Some(Origin::Environment(_)) => 1,
            Some(Origin::File(_)) => 2,
            Some(Origin::Default) | None => 3,
        };
        match (rank(&self.full(key)), &self.scope) {
            (3, Some(_)) => 3 + rank(key),
            (rank, _) => rank,
        }
    }

    /// Values that are right by themselves and wrong beside each other: the first of `keys` that somebody set is
    /// to blame; or the pool as a whole, if it has them all from the balancer.
    pub(super) fn mistake(&mut self, keys: &[&str], expected: &str) {
        let own = keys.iter().find_map(|key| {
            let full = self.full(key);
            let origin = self.find(&full)?.origin;
            Some((full, origin))
        });
        let (key, origin) = match (own, &self.scope) {
            (Some(own), _) => own,
            (None, None) => (keys[0].to_owned(), Origin::Default),
            (None, Some(_)) if self.unsound => return,
            (None, Some(scope)) => (self.full(keys[0]), scope.origin.clone()),
        };
        self.mistakes.push(Mistake::value(&key, origin, expected));
    }

    /// Something is wrong with item `index` of the list `key`, which somebody set.
    pub(super) fn wrong_item(&mut self, key: &str, index: usize, expected: &str) {
        let full = self.full(key);
        let origin = self.find(&full).map_or(Origin::Default, |setting| setting.origin_of(index));
        self.mistakes.push(Mistake::value(&full, origin, expected));
    }

    /// How many mistakes were found up to now.
    pub(super) fn mistakes(&self) -> usize {
        self.mistakes.len()
    }

    /// Something is wrong with a pool as a whole.
    pub(super) fn wrong_pool(&mut self, name: &str, origin: Origin, expected: &str) {
        self.mistakes.push(Mistake::value(&format!("pool.{name}"), origin, expected));
    }

    /// The values of all keys, if nothing was wrong.
    pub(super) fn finish(mut self) -> Result<Keys, ConfigError> {
        let names = Names {
            keys: self.documented.iter().map(|documented| documented.key).collect(),
            of_pools: self.of_pools.iter().map(|(key, _)| *key).collect(),
            pools: self.scoped.iter().filter_map(|key| pool_of(key)).collect(),
        };
        let known = |key: &str| names.keys.contains(&key) || self.scoped.contains(key);
        let unknown_in_file = self
            .in_file
            .iter()
            .filter(|(key, _)| !known(key))
            .map(|(key, s)| (key.clone(), s.origin.clone()));
        let unknown_flags =
            self.sources.flags.keys().filter(|key| !known(key)).map(|key| (key.clone(), Origin::Flag));
        let all_keys = names.keys.iter().copied();
        let known_variables: BTreeSet<_> =
            all_keys.chain(self.scoped.iter().map(String::as_str)).flat_map(variables).collect();
        let unknown_variables = self.sources.environment.keys().filter(|name| {
            name.starts_with("SLIPRING_")
                && !known_variables.contains(*name)
                && !NOT_SETTINGS.contains(&name.as_str())
        });
        let unknown_variables =
            unknown_variables.map(|name| (names.key_of(name), Origin::Environment(name.clone())));
        let unknown: Vec<_> = unknown_in_file.chain(unknown_flags).chain(unknown_variables).collect();
        for (key, origin) in unknown {
            self.mistakes.push(Mistake::unknown(&key, origin, &names.advice(&key)));
        }
        let ours = |name: &&String| {
            let is_setting = name.starts_with("SLIPRING_") || known_variables.contains(*name);
            is_setting && *name != MAY_BE_ANY_PATH
        };
        self.mistakes.extend(self.sources.unreadable.iter().filter(ours).map(|name| Mistake::not_text(name)));
        if self.mistakes.is_empty() {
            return Ok(self.values);
        }
        Err(ConfigError::new(self.sources.file.clone(), self.mistakes, &self.secrets))
    }

    pub(super) fn example(&self) -> String {
        let mut text = String::from(
            "# Every key of the balancer with its default. A flag (--set KEY=VALUE) goes before the environment\n\
             # (SLIPRING_FLEET_REPLICAS for fleet.replicas), the environment before this file. All three are read again at\n\
             # a reload (SIGHUP, or POST /reload on the admin port); keys marked [restart] have to wait for a restart.\n",
        );
        for (section, words) in &self.sections {
            let _ = write!(text, "\n# {words}\n");
            if !section.is_empty() {
                let _ = writeln!(text, "[{section}]");
            }
            for documented in &self.documented {
                let (place, name) = documented.key.rsplit_once('.').unwrap_or(("", documented.key));
                if place == *section {
                    let mark = if documented.effect == Effect::AtRestart { " [restart]" } else { "" };
                    let (words, default) = (documented.words, notation(documented.default));
                    let _ = writeln!(text, "# {words}{mark}\n{name} = {default}");
                }
            }
        }
        text
    }

    /// The keys that a pool may have: those that it inherits, and those that it does not.
    pub(super) fn of_pools(&self) -> [Vec<&'static str>; 2] {
        [Heir::Yes, Heir::No].map(|wanted| {
            self.of_pools.iter().filter(|(_, heir)| *heir == wanted).map(|(key, _)| *key).collect()
        })
    }
}

/// Variables that other parts of the program read.
const NOT_SETTINGS: [&str; 10] = [
    "SLIPRING_DATASET_ROOT",
    "SLIPRING_CACHE",
    "SLIPRING_REQUIRE",
    MAY_BE_ANY_PATH,
    "SLIPRING_URL",
    "SLIPRING_ADMIN_URL",
    "SLIPRING_CA",
    "SLIPRING_CERT",
    "SLIPRING_KEY",
    "SLIPRING_LOG",
];

/// It names a file, whose name need not be text.
const MAY_BE_ANY_PATH: &str = "SLIPRING_CONFIG";

/// The environment variables that set a key.
fn variables(key: &str) -> Vec<String> {
    let own = format!("SLIPRING_{}", key.replace(['.', '-'], "_").to_uppercase());
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
