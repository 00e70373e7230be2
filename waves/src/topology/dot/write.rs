//! Graphs as Graphviz reads them.

use std::fmt::Write as _;

use super::super::{Graph, Node, Tree};

impl Graph {
    /// As [`Graph::parse_dot`] reads it: `graph` where every link counts both ways, else `digraph`.
    pub fn to_dot(&self) -> String {
        let is_symmetric = self.is_symmetric();
        let (kind, arrow) = if is_symmetric { ("graph", "--") } else { ("digraph", "->") };
        let mut text = format!("{kind} {{\n");
        for node in self.nodes() {
            push(&mut text, format_args!("  {}{}\n", quoted(&node.name), attributes(node)));
        }
        let mut edge = |from, to| {
            if let (Some(from), Some(to)) = (self.node(from), self.node(to)) {
                push(&mut text, format_args!("  {} {arrow} {}\n", quoted(&from.name), quoted(&to.name)));
            }
        };
        if is_symmetric {
            self.edges().for_each(|(from, to)| edge(from, to));
        } else {
            self.arcs().for_each(|(from, to)| edge(from, to));
        }
        text + "}\n"
    }
}

impl Tree {
    /// As [`Graph::parse_dot`] reads it, and [`Graph::to_tree`] makes a tree of it again.
    pub fn to_dot(&self) -> String {
        Graph::from(self).to_dot()
    }
}

fn push(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("memory takes what is written");
}

fn attributes(node: &Node) -> String {
    let port = node.port.map(|port| format!("port={port}"));
    let cpu = node.cpu.map(|cpu| format!("cpu={cpu}"));
    let label = node.label.as_ref().map(|label| format!("label={}", quoted(label)));
    let said: Vec<_> = [port, cpu, label].into_iter().flatten().collect();
    if said.is_empty() { String::new() } else { format!(" [{}]", said.join(", ")) }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
