//! What can be wrong with a text that describes a graph, line by line; and the plainest such text, a list of edges.
//!
//! A line is `a b` or `a -- b` for a link that counts both ways, `a -> b` for one that counts one way, or `a` for a node
//! alone. What follows `#` or `//` is a comment.

use super::graph::Sketch;
use super::words::Listed;
use super::{Graph, GraphMistake, Tree};

/// Why there is no graph.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The text says what cannot be.
    #[error("{}", Listed(.0))]
    Text(Vec<AtLine>),
    /// An overlay's configuration that cannot be read.
    #[error(
        "an overlay's configuration is JSON of the form {{\"processes\":{{\"A\":{{\"id\",\"neighbors\":[…]}}}}}}"
    )]
    Overlay(#[source] serde_json::Error),
    /// An overlay's processes that cannot be.
    #[error("{}", Listed(.0))]
    Processes(Vec<AtProcess>),
}

/// A mistake and its line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {wrong}")]
pub struct AtLine {
    /// The first line is 1.
    pub line: usize,
    /// What is wrong.
    pub wrong: WrongLine,
}

/// What can be wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongLine {
    /// Nothing that can be said of a graph.
    #[error(transparent)]
    Graph(#[from] GraphMistake),
    /// No edge.
    #[error("'{0}' is no edge: `a b` or `a -- b` links both ways, `a -> b` one way, `a` is a node alone")]
    NoEdge(String),
    /// DOT: something else should stand here.
    #[error("{wanted} should stand where {found} is")]
    Expected {
        /// What should.
        wanted: &'static str,
        /// What does.
        found: String,
    },
    /// DOT: part of the language that is not read here.
    #[error("{0} are not read here: write the nodes and edges one by one")]
    NotRead(&'static str),
    /// DOT: the other kind of edge.
    #[error("in a {kind} edges are written {right}")]
    OtherEdge {
        /// The kind of graph.
        kind: &'static str,
        /// How they are written.
        right: &'static str,
    },
    /// DOT: a port that is none.
    #[error("the port {0} cannot be: it takes a number from 1 to 65535")]
    Port(String),
    /// DOT: a port for all nodes that follow.
    #[error("a port is one node's: it cannot be given to all that follow")]
    PortForAll,
    /// DOT: a number of cores that is none.
    #[error("the cpu {0} cannot be: it takes a number from 1 to {most}", most = Tree::MOST_CPU)]
    Cpu(String),
}

/// A mistake and the process that it is in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("processes.{process}: {wrong}")]
pub struct AtProcess {
    /// Under which name it stands in the file.
    pub process: String,
    /// What is wrong.
    pub wrong: WrongProcess,
}

/// What can be wrong with a process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongProcess {
    /// Nothing that can be said of a graph.
    #[error(transparent)]
    Graph(#[from] GraphMistake),
    /// It is called otherwise than it stands there.
    #[error("its id is '{0}': both must be the same")]
    OtherId(String),
    /// A neighbor that is not there.
    #[error("there is no neighbor '{0}'")]
    NoNeighbor(String),
}

impl Graph {
    /// Reads a list of edges, as the module says.
    ///
    /// # Errors
    /// With every mistake in it, each with its line.
    pub fn parse_edges(text: &str) -> Result<Self, GraphError> {
        let mut sketch = Sketch::default();
        let mut mistakes = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if let Err(wrong) = edge(line, &mut sketch) {
                mistakes.push(AtLine { line: number + 1, wrong });
            }
        }
        if mistakes.is_empty() { Ok(sketch.finish()) } else { Err(GraphError::Text(mistakes)) }
    }
}

fn edge(line: &str, sketch: &mut Sketch) -> Result<(), WrongLine> {
    let line = line.split("//").next().unwrap_or_default();
    let line = line.split('#').next().unwrap_or_default().trim();
    // Four words are as wrong as a million.
    let words: Vec<_> = line.split_whitespace().take(4).collect();
    let (from, to, both_ways) = match words[..] {
        [] => return Ok(()),
        [alone] if !is_arrow(alone) => {
            sketch.add(alone)?;
            return Ok(());
        }
        [from, to] if !is_arrow(from) && !is_arrow(to) => (from, to, true),
        [from, arrow, to] if is_arrow(arrow) && !is_arrow(from) && !is_arrow(to) => (from, to, arrow == "--"),
        _ => return Err(WrongLine::NoEdge(super::words::cut(line))),
    };
    let (from, to) = (sketch.add(from)?, sketch.add(to)?);
    Ok(sketch.link(from, to, both_ways)?)
}

fn is_arrow(word: &str) -> bool {
    word == "--" || word == "->"
}
