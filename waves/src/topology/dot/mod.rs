//! Graphs as Graphviz writes them, read and written.
//!
//! Of the language this is read: `graph` and `digraph`, `strict` or not; nodes and chains of edges; lists of attributes, of
//! which `port`, `cpu` and `label` of a node mean something and all others nothing; `node [cpu=4]`, for all nodes that are
//! first named after it; `name=value`, which means nothing; names in quotes; comments. Parts of a node (`a:n`) are left
//! away. Subgraphs and HTML are refused: what they would mean for a graph nobody would guess.
//!
//! The first word that cannot be where it is ends the reading; what is said of nodes and cannot be (two equal ports, `cpu` 0,
//! a node linked with itself) is noted, and told together.

mod words;
mod write;

use words::{Word, Words};

use super::graph::Sketch;
use super::words::cut;
use super::{AtLine, Graph, GraphError, Tree, WrongLine};

impl Graph {
    /// Reads DOT, as the module says.
    ///
    /// # Errors
    /// With the mistakes in it, each with its line.
    pub fn parse_dot(text: &str) -> Result<Self, GraphError> {
        let mut words = Words::of(text);
        let (line, next) = words.next();
        let mut parser = Parser {
            words,
            line,
            next,
            is_directed: false,
            cpu: None,
            sketch: Sketch::default(),
            mistakes: Vec::new(),
        };
        if let Err(wrong) = parser.graph() {
            parser.mistakes.push(AtLine { line: parser.line, wrong });
        }
        if parser.mistakes.is_empty() {
            Ok(parser.sketch.finish())
        } else {
            Err(GraphError::Text(parser.mistakes))
        }
    }
}

/// What may be said of a node.
#[derive(Default)]
struct Attributes {
    port: Option<(usize, String)>,
    cpu: Option<(usize, String)>,
    label: Option<String>,
}

struct Parser<'a> {
    words: Words<'a>,
    line: usize,
    next: Word,
    is_directed: bool,
    /// Of the nodes that are named from here on.
    cpu: Option<u32>,
    sketch: Sketch,
    mistakes: Vec<AtLine>,
}

type Parsed<T = ()> = Result<T, WrongLine>;

impl Parser<'_> {
    fn take(&mut self) -> Word {
        let (line, next) = self.words.next();
        self.line = line;
        std::mem::replace(&mut self.next, next)
    }

    fn takes(&mut self, sign: char) -> bool {
        let is_there = self.next == Word::Sign(sign);
        if is_there {
            self.take();
        }
        is_there
    }

    fn expected<T>(&self, wanted: &'static str) -> Parsed<T> {
        Err(WrongLine::Expected { wanted, found: self.next.told() })
    }

    fn id(&mut self, wanted: &'static str) -> Parsed<String> {
        if self.next == Word::Sign('<') {
            return Err(WrongLine::NotRead("texts in HTML"));
        }
        match &self.next {
            Word::Id { .. } if !self.next.is_keyword() => match self.take() {
                Word::Id { text, .. } => Ok(text),
                _ => self.expected(wanted),
            },
            _ => self.expected(wanted),
        }
    }

    fn note(&mut self, line: usize, wrong: impl Into<WrongLine>) {
        self.mistakes.push(AtLine { line, wrong: wrong.into() });
    }

    fn graph(&mut self) -> Parsed {
        if self.next.is("strict") {
            self.take();
        }
        self.is_directed = self.next.is("digraph");
        if !self.is_directed && !self.next.is("graph") {
            return self.expected("`graph` or `digraph`");
        }
        self.take();
        if self.next != Word::Sign('{') {
            self.id("`{`")?;
        }
        if !self.takes('{') {
            return self.expected("`{`");
        }
        while !self.takes('}') {
            self.statement()?;
            self.takes(';');
        }
        if self.next == Word::End { Ok(()) } else { self.expected("the end") }
    }

    fn statement(&mut self) -> Parsed {
        if self.next.is("subgraph") || self.next == Word::Sign('{') {
            return Err(WrongLine::NotRead("subgraphs"));
        }
        if self.next.is("node") {
            self.take();
            return self.defaults();
        }
        if self.next.is("graph") || self.next.is("edge") {
            self.take();
            return self.attributes().map(drop);
        }
        let line = self.line;
        let name = self.id("a node, an edge or `}`")?;
        if self.takes('=') {
            return self.id("a value").map(drop);
        }
        self.nodes(line, &name)
    }

    fn defaults(&mut self) -> Parsed {
        let said = self.attributes()?;
        if let Some((line, _)) = said.port {
            self.note(line, WrongLine::PortForAll);
        }
        if let Some((line, cpu)) = said.cpu {
            match number(&cpu, Tree::MOST_CPU) {
                Some(cpu) => self.cpu = Some(cpu),
                None => self.note(line, WrongLine::Cpu(cut(&cpu))),
            }
        }
        Ok(())
    }

    /// A node, or a chain of them, and what is said of it.
    fn nodes(&mut self, line: usize, first: &str) -> Parsed {
        let mut last = self.node(line, first)?;
        let mut is_chain = false;
        while let Word::Edge { is_directed } = self.next {
            let line = self.line;
            if is_directed != self.is_directed {
                let (kind, right) =
                    if self.is_directed { ("digraph", "`a -> b`") } else { ("graph", "`a -- b`") };
                self.note(line, WrongLine::OtherEdge { kind, right });
            }
            self.take();
            if self.next.is("subgraph") || self.next == Word::Sign('{') {
                return Err(WrongLine::NotRead("subgraphs"));
            }
            let name = self.id("a node")?;
            let node = self.node(line, &name)?;
            if let Err(wrong) = self.sketch.link(last, node, !self.is_directed) {
                self.note(line, wrong);
            }
            (last, is_chain) = (node, true);
        }
        let said = self.attributes()?;
        if !is_chain {
            self.say(last, said);
        }
        Ok(())
    }

    fn node(&mut self, line: usize, name: &str) -> Parsed<usize> {
        // `a:port:compass`
        while self.takes(':') {
            self.id("a node's part")?;
        }
        let is_new = !self.sketch.has(name);
        let node = match self.sketch.add(name) {
            Ok(node) => node,
            Err(wrong) => {
                self.line = line;
                return Err(wrong.into());
            }
        };
        if is_new {
            self.sketch.nodes[node].cpu = self.cpu;
        }
        Ok(node)
    }

    fn say(&mut self, node: usize, said: Attributes) {
        if let Some((line, text)) = said.port {
            match number(&text, u32::from(u16::MAX)).and_then(|port| u16::try_from(port).ok()) {
                None => self.note(line, WrongLine::Port(cut(&text))),
                Some(port) => {
                    if let Err(wrong) = self.sketch.set_port(node, port) {
                        self.note(line, wrong);
                    }
                }
            }
        }
        if let Some((line, text)) = said.cpu {
            match number(&text, Tree::MOST_CPU) {
                None => self.note(line, WrongLine::Cpu(cut(&text))),
                Some(cpu) => self.sketch.nodes[node].cpu = Some(cpu),
            }
        }
        if said.label.is_some() {
            self.sketch.nodes[node].label = said.label;
        }
    }

    fn attributes(&mut self) -> Parsed<Attributes> {
        let mut said = Attributes::default();
        while self.takes('[') {
            while !self.takes(']') {
                let line = self.line;
                let key = self.id("an attribute or `]`")?;
                let value = if self.takes('=') { self.id("a value")? } else { "true".to_owned() };
                match key.as_str() {
                    "port" => said.port = Some((line, value)),
                    "cpu" => said.cpu = Some((line, value)),
                    "label" => said.label = Some(value),
                    _ => {}
                }
                if !self.takes(',') {
                    self.takes(';');
                }
            }
        }
        Ok(said)
    }
}

/// From 1 to `most`.
fn number(text: &str, most: u32) -> Option<u32> {
    text.parse().ok().filter(|number| (1..=most).contains(number))
}

/// Whether a text begins as DOT does: an edge list may well have a node that is called `graph`.
pub(super) fn is_likely(text: &str) -> bool {
    let mut words = Words::of(text);
    let (_, mut word) = words.next();
    if word.is("strict") {
        (_, word) = words.next();
    }
    let is_graph = word.is("graph") || word.is("digraph");
    let (_, next) = words.next();
    let name = |word: &Word| matches!(word, Word::Id { .. });
    is_graph && (next == Word::Sign('{') || (name(&next) && words.next().1 == Word::Sign('{')))
}
