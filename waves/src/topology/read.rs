//! From a nested `topology.json` to a [`Tree`]: every mistake is found before one is told.
//!
//! The text is read as plain JSON first and looked at by hand, because a reader made from a type stops at the first mistake
//! and does not know what is twice. Fields that mean nothing here are left alone, as the original does.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::words::{Listed, cut, is_name};
use super::{Tree, Unit};

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// It is no JSON, or too deep to be read at all.
    #[error(
        "a tree is JSON of the form {{\"name\",\"port\",\"cpu\",\"children\":[…]}}, at most {} levels deep",
        Tree::MOST_LEVELS
    )]
    Json(#[source] serde_json::Error),
    /// There is nothing that could be the root.
    #[error(
        "there is no root: the whole is {found}, and not one {{\"name\",\"port\",\"cpu\",\"children\":[…]}} that holds all \
         others"
    )]
    NoRoot {
        /// What there is instead.
        found: &'static str,
    },
    /// It says what cannot be.
    #[error("{}", Listed(.0))]
    Mistakes(Vec<Mistake>),
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {wrong}")]
pub struct Mistake {
    /// In which unit.
    pub at: Place,
    /// What.
    pub wrong: Wrong,
}

/// Where a unit stands in the file: which child of which child of the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(pub Vec<usize>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the root");
        }
        for (level, child) in self.0.iter().enumerate() {
            write!(f, "{}children[{child}]", if level == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// What can be wrong with a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// It is something else.
    #[error("{0} is no unit: one is {{\"name\",\"port\",\"cpu\",\"children\":[…]}}")]
    NotAUnit(&'static str),
    /// A field is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The name is none.
    #[error("the name {0} cannot be: it takes 1 to {most} bytes of text in one line", most = Tree::LONGEST_NAME)]
    Name(String),
    /// Somebody else has the name.
    #[error("the name '{name}' is that of {of}, too")]
    NameTaken {
        /// The name.
        name: String,
        /// Who had it before.
        of: Place,
    },
    /// The port is none.
    #[error("the port {0} cannot be: it takes a number from 1 to 65535")]
    Port(String),
    /// Somebody else has the port.
    #[error("the port {port} is that of {of}, too")]
    PortTaken {
        /// The port.
        port: u16,
        /// Who had it before.
        of: Place,
    },
    /// The number of cores is none.
    #[error("the cpu {0} cannot be: it takes a number from 1 to {most}", most = Tree::MOST_CPU)]
    Cpu(String),
    /// The children are no list.
    #[error("the children are {0}, and not a list of units")]
    Children(&'static str),
    /// More units than may be run.
    #[error("with those below it these are {units} units: each is a process, and {most} are the most")]
    TooMany {
        /// How many there are.
        units: usize,
        /// How many there may be.
        most: usize,
    },
    /// Too far below the root.
    #[error("this is too deep: {most} levels are the most", most = Tree::MOST_LEVELS)]
    TooDeep,
    /// Two units are too far from each other.
    #[error(
        "from '{from}' to '{to}' the way is {units} units long: a wave that begins at its end gathers all of it, and {most} are \
         the most",
        most = Tree::LONGEST_PATH
    )]
    TooLong {
        /// One.
        from: String,
        /// The other.
        to: String,
        /// How many there are on the way, with them.
        units: usize,
    },
}

impl Tree {
    /// Reads a nested `topology.json` of at most [`Tree::MOST_UNITS`] units.
    ///
    /// # Errors
    /// With every mistake in it, each with its place.
    pub fn parse(text: &str) -> Result<Self, TreeError> {
        Self::parse_at_most(text, Self::MOST_UNITS)
    }

    /// The same, of at most so many units.
    ///
    /// # Errors
    /// With every mistake in it, each with its place.
    pub fn parse_at_most(text: &str, most: usize) -> Result<Self, TreeError> {
        // The reader gives up at 128 levels, so that what walks over the value need not fear for its stack.
        let root: Value = serde_json::from_str(text).map_err(TreeError::Json)?;
        match &root {
            Value::Object(fields) if fields.is_empty() => {
                return Err(TreeError::NoRoot { found: "an empty object" });
            }
            Value::Object(_) => {}
            other => return Err(TreeError::NoRoot { found: kind(other) }),
        }
        let mut reader = Reader::default();
        reader.unit(&root, None);
        if reader.seen > most {
            let wrong = Wrong::TooMany { units: reader.seen, most };
            reader.mistakes.insert(0, Mistake { at: Place::default(), wrong });
        }
        if !reader.mistakes.is_empty() {
            return Err(TreeError::Mistakes(reader.mistakes));
        }
        let tree = Self::of(reader.units, reader.parents);
        let (from, to, units) = tree.longest_path();
        if units > Self::LONGEST_PATH {
            let wrong = Wrong::TooLong { from: from.name.clone(), to: to.name.clone(), units };
            return Err(TreeError::Mistakes(vec![Mistake { at: Place::default(), wrong }]));
        }
        Ok(tree)
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    here: Place,
    seen: usize,
    units: Vec<Unit>,
    parents: Vec<Option<usize>>,
    names: BTreeMap<String, Place>,
    ports: BTreeMap<u16, Place>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn note(&mut self, wrong: Wrong) {
        self.mistakes.push(Mistake { at: self.here.clone(), wrong });
    }

    /// A unit and all below it. What is wrong with one does not keep the others from being looked at.
    fn unit(&mut self, value: &Value, parent: Option<usize>) {
        self.seen += 1;
        if self.here.0.len() >= Tree::MOST_LEVELS {
            return self.note(Wrong::TooDeep);
        }
        let Value::Object(fields) = value else { return self.note(Wrong::NotAUnit(kind(value))) };
        let name = self.name(fields.get("name"));
        let port = self.port(fields.get("port"));
        let cpu = self.cpu(fields.get("cpu"));
        // Whoever is wrong keeps a place in the list all the same: there will be no tree of it.
        let place = self.units.len();
        self.units.push(Unit { name, port, cpu });
        self.parents.push(parent);
        match fields.get("children") {
            None | Some(Value::Null) => {}
            Some(Value::Array(children)) => {
                for (number, child) in children.iter().enumerate() {
                    self.here.0.push(number);
                    self.unit(child, Some(place));
                    self.here.0.pop();
                }
            }
            Some(other) => self.note(Wrong::Children(kind(other))),
        }
    }

    fn name(&mut self, value: Option<&Value>) -> String {
        match value {
            None => self.note(Wrong::Missing("name")),
            Some(Value::String(name)) if is_name(name) => match self.names.get(name) {
                Some(of) => self.note(Wrong::NameTaken { name: name.clone(), of: of.clone() }),
                None => {
                    self.names.insert(name.clone(), self.here.clone());
                    return name.clone();
                }
            },
            Some(other) => self.note(Wrong::Name(short(other))),
        }
        String::new()
    }

    fn port(&mut self, value: Option<&Value>) -> u16 {
        let Some(value) = value else {
            self.note(Wrong::Missing("port"));
            return 0;
        };
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        let Some(port) = number.filter(|port| *port > 0) else {
            self.note(Wrong::Port(short(value)));
            return 0;
        };
        match self.ports.get(&port) {
            Some(of) => self.note(Wrong::PortTaken { port, of: of.clone() }),
            None => drop(self.ports.insert(port, self.here.clone())),
        }
        port
    }

    fn cpu(&mut self, value: Option<&Value>) -> u32 {
        let Some(value) = value else {
            self.note(Wrong::Missing("cpu"));
            return 0;
        };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        number.filter(|cpu| (1..=Tree::MOST_CPU).contains(cpu)).unwrap_or_else(|| {
            self.note(Wrong::Cpu(short(value)));
            0
        })
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(list) if list.is_empty() => "an empty list",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// As it is written, but not a megabyte of it.
fn short(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
        other => cut(&other.to_string()),
    }
}
