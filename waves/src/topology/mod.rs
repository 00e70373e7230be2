//! Who is next to whom: the tree of units that a file describes, and graphs in general.
//!
//! | from | read by |
//! |---|---|
//! | the nested `topology.json` | [`Tree::parse`] |
//! | an overlay's configuration | [`Graph::parse_overlay`] |
//! | a list of edges | [`Graph::parse_edges`] |
//! | DOT | [`Graph::parse_dot`] |
//! | a seed | [`Tree::random`], [`Graph::random_connected`], [`Graph::random_directed`] |
//!
//! [`Topology::parse`] recognizes the first four. A graph that has to be a tree is made one, or refused, by
//! [`Graph::to_tree`].

mod convert;
mod dot;
mod generate;
mod graph;
mod json;
mod overlay;
mod read;
mod text;
mod tree;
mod words;

pub use convert::NotATree;
pub use graph::{Graph, GraphMistake, Node};
pub use read::{Mistake, Place, TreeError, Wrong};
pub use text::{AtLine, AtProcess, GraphError, WrongLine, WrongProcess};
pub use tree::{Tree, Unit};

/// A topology of any form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Units.
    Tree(Tree),
    /// Nodes in general.
    Graph(Graph),
}

/// Why a text is no topology.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// It looks like a tree, and is none.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// It looks like a graph, and is none.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// It is a graph, where a tree is needed.
    #[error(transparent)]
    NotATree(#[from] NotATree),
}

impl Topology {
    /// Reads any of the forms. JSON with `processes` is an overlay's configuration, other JSON a tree; what begins like
    /// DOT and has braces is DOT; all else is a list of edges.
    ///
    /// # Errors
    /// With every mistake that the form's own reader finds.
    pub fn parse(text: &str) -> Result<Self, TopologyError> {
        let bare = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
        if bare.is_empty() || bare.starts_with(['{', '[', '"']) || bare.starts_with("null") {
            let is_overlay = serde_json::from_str(text).is_ok_and(|file: Head| file.processes.is_some());
            return match is_overlay {
                true => Ok(Self::Graph(Graph::parse_overlay(text)?)),
                false => Ok(Self::Tree(Tree::parse(text)?)),
            };
        }
        match dot::is_likely(text) {
            true => Ok(Self::Graph(Graph::parse_dot(text)?)),
            false => Ok(Self::Graph(Graph::parse_edges(text)?)),
        }
    }

    /// As a graph.
    pub fn graph(&self) -> Graph {
        match self {
            Self::Tree(tree) => tree.into(),
            Self::Graph(graph) => graph.clone(),
        }
    }

    /// As a tree.
    ///
    /// # Errors
    /// When it is a graph that is none.
    pub fn tree(&self) -> Result<Tree, TopologyError> {
        match self {
            Self::Tree(tree) => Ok(tree.clone()),
            Self::Graph(graph) => Ok(graph.to_tree()?),
        }
    }
}

/// What tells an overlay's configuration from a tree.
#[derive(serde::Deserialize)]
struct Head {
    processes: Option<serde::de::IgnoredAny>,
}

#[cfg(test)]
mod tests;
