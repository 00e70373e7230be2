//! A topology of any form is read or refused; what was read is written and read again, and is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipring_waves::topology::{Graph, Topology, Tree};

/// What a topology may hold; chance alone would not find it.
const PIECES: [&str; 16] = [
    "graph {",
    "digraph {",
    "strict ",
    " -- ",
    " -> ",
    "[port=8000, cpu=2]",
    "[label=\"a\\nb\"]",
    "node [cpu=4]",
    "}",
    "{\"name\":\"a\",\"port\":8000,\"cpu\":2",
    ",\"children\":[",
    "]}",
    "{\"processes\":{\"A\":{\"neighbors\":[\"B\"]},",
    "\"B\":{}",
    "/* ",
    "\n",
];

/// Bytes below 16 stand for pieces.
fn text(input: &[u8]) -> String {
    let mut text = Vec::new();
    for byte in input {
        match PIECES.get(usize::from(*byte)) {
            Some(piece) => text.extend_from_slice(piece.as_bytes()),
            None => text.push(*byte),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn check_graph(graph: &Graph) {
    let text = graph.to_dot();
    let again = Graph::parse_dot(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(again, *graph, "{text}");
    if let Ok(tree) = graph.to_tree() {
        check_tree(&tree);
    }
}

fn check_tree(tree: &Tree) {
    assert_eq!(Tree::parse(&tree.to_json()).expect("it was written by us"), *tree);
    assert_eq!(Graph::from(tree).to_tree().as_ref(), Ok(tree));
}

fuzz_target!(|input: &[u8]| {
    let text = text(input);
    match Topology::parse(&text) {
        Ok(Topology::Tree(tree)) => check_tree(&tree),
        Ok(Topology::Graph(graph)) => check_graph(&graph),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    for graph in [Graph::parse_dot(&text), Graph::parse_edges(&text), Graph::parse_overlay(&text)]
        .into_iter()
        .flatten()
    {
        check_graph(&graph);
    }
});
