use super::EIGHT;
use crate::topology::*;

fn names(graph: &Graph) -> Vec<String> {
    let name = |id| graph.node(id).unwrap().name.clone();
    graph.arcs().map(|(from, to)| format!("{}>{}", name(from), name(to))).collect()
}

fn refused(graph: Result<Graph, GraphError>) -> Vec<String> {
    graph.unwrap_err().to_string().lines().map(str::to_owned).collect()
}

#[test]
fn a_list_of_edges() {
    let graph =
        Graph::parse_edges("a b # both ways\n\n// nothing\nb -> c\r\n  c -- d\nalone\na b\n").unwrap();
    assert_eq!(names(&graph), ["a>b", "b>a", "b>c", "c>d", "d>c"]);
    assert_eq!((graph.nodes().len(), graph.edge_count(), graph.arc_count()), (5, 3, 5));
    assert!(!graph.is_connected() && !graph.is_symmetric());
    assert_eq!(graph.ancestors(3), (0..4).collect(), "d is told by c, which all the others tell");
    assert_eq!(graph.descendants(3), [2, 3].into());
}

#[test]
fn a_line_that_is_no_edge_is_told_with_its_number() {
    let words = refused(Graph::parse_edges("a b\na -> \n-> b\na b c\na -> b -> c\nx x\n-- \na\u{7}b c\n"));
    let why = "`a b` or `a -- b` links both ways, `a -> b` one way, `a` is a node alone";
    assert_eq!(
        words,
        [
            format!("line 2: 'a ->' is no edge: {why}"),
            format!("line 3: '-> b' is no edge: {why}"),
            format!("line 4: 'a b c' is no edge: {why}"),
            format!("line 5: 'a -> b -> c' is no edge: {why}"),
            "line 6: 'x' cannot be its own neighbor".to_owned(),
            format!("line 7: '--' is no edge: {why}"),
            "line 8: the name \"a\\u{7}b\" cannot be: it takes 1 to 128 bytes of text in one line".to_owned(),
        ]
    );
}

#[test]
fn numbers_are_ports_then_names_then_whatever_is_free() {
    let graph = Graph::parse_dot("digraph { x; 1; 007; y [port=2]; 2; z }").unwrap();
    let ids: Vec<_> = graph.nodes().iter().map(|node| (node.name.as_str(), node.id)).collect();
    assert_eq!(ids, [("x", 0), ("1", 1), ("007", 3), ("y", 2), ("2", 4), ("z", 5)]);
}

#[test]
fn dot_as_people_write_it() {
    let graph = Graph::parse_dot(
        r#"
# made by hand
strict graph "my net" {
  rankdir=LR; node [shape=box, cpu=6]
  edge [color="red"];
  graph [label="not a node's"]
  a -- b -- "c \"d\"" -- a [weight=3] /* a
  triangle */
  b [port=8001; cpu=2 label="the \
second\nline"] b:n -- é_1:p:ne; // parts are left away
  -2.5
}"#,
    );
    let graph = graph.unwrap();
    assert!(graph.is_symmetric());
    let nodes: Vec<_> =
        graph.nodes().iter().map(|n| (n.name.as_str(), n.id, n.cpu, n.label.as_deref())).collect();
    assert_eq!(
        nodes,
        [
            ("a", 0, Some(6), None),
            ("b", 8001, Some(2), Some("the second\nline")),
            ("c \"d\"", 1, Some(6), None),
            ("é_1", 2, Some(6), None),
            ("-2.5", 3, Some(6), None),
        ]
    );
    assert_eq!(graph.edge_count(), 4);
    assert_eq!(Graph::parse_dot(&graph.to_dot()).unwrap(), graph);
}

#[test]
fn dot_that_cannot_be_is_told_with_its_line() {
    for (text, words) in [
        ("", "line 1: `graph` or `digraph` should stand where the end is"),
        ("\n\nflow { a }", "line 3: `graph` or `digraph` should stand where 'flow' is"),
        ("graph x y { }", "line 1: `{` should stand where 'y' is"),
        ("graph {\na\n", "line 3: a node, an edge or `}` should stand where the end is"),
        ("graph {\n a -- }", "line 2: a node should stand where '}' is"),
        (
            "graph {\n a -- {b c} }",
            "line 2: subgraphs are not read here: write the nodes and edges one by one",
        ),
        (
            "graph { subgraph x { } }",
            "line 1: subgraphs are not read here: write the nodes and edges one by one",
        ),
        (
            "graph { a [label=<b>] }",
            "line 1: texts in HTML are not read here: write the nodes and edges one by one",
        ),
        ("graph { a [port] }", "line 1: the port true cannot be: it takes a number from 1 to 65535"),
        ("graph { a [label=\"b }", "line 1: a value should stand where a text in quotes without its end is"),
        (
            "graph { a /* b }",
            "line 1: a node, an edge or `}` should stand where a comment without its end is",
        ),
        ("graph { a ! b }", "line 1: a node, an edge or `}` should stand where '!' is"),
        ("graph { a - b }", "line 1: a node, an edge or `}` should stand where '-' is"),
        ("graph { a-b }", "line 1: a node, an edge or `}` should stand where '-' is"),
        ("graph { a } graph { b }", "line 1: the end should stand where 'graph' is"),
        ("graph { \"\" }", "line 1: the name \"\" cannot be: it takes 1 to 128 bytes of text in one line"),
        ("graph { a -- node }", "line 1: a node should stand where 'node' is"),
    ] {
        assert_eq!(refused(Graph::parse_dot(text)), [words], "{text:?}");
    }
}

#[test]
fn what_dot_says_of_nodes_and_cannot_be_is_told_together() {
    let words = refused(Graph::parse_dot(
        "graph {\n a [port=0]\n b [port=8000]\n c [port=8000, cpu=0]\n d -> e\n f -- f\n node [port=1]\n node [cpu=x]\n g [cpu=5000, port=\"70000\"]\n}",
    ));
    assert_eq!(
        words,
        [
            "line 2: the port 0 cannot be: it takes a number from 1 to 65535",
            "line 4: 'c' has the port 8000, and so has 'b'",
            "line 4: the cpu 0 cannot be: it takes a number from 1 to 1024",
            "line 5: in a graph edges are written `a -- b`",
            "line 6: 'f' cannot be its own neighbor",
            "line 7: a port is one node's: it cannot be given to all that follow",
            "line 8: the cpu x cannot be: it takes a number from 1 to 1024",
            "line 9: the port 70000 cannot be: it takes a number from 1 to 65535",
            "line 9: the cpu 5000 cannot be: it takes a number from 1 to 1024",
        ]
    );
}

#[test]
fn the_overlays_graph() {
    let text = include_str!("../../../../overlay/topologies/baseline.json");
    let graph = Graph::parse_overlay(text).unwrap();
    assert_eq!(graph.nodes().iter().map(|node| node.name.as_str()).collect::<String>(), "ABCDEF");
    let edges: Vec<_> = graph.edges().collect();
    assert_eq!(edges, [(0, 1), (0, 4), (1, 2), (1, 3), (3, 4), (4, 5)]);
    assert!(graph.is_symmetric());
    assert_eq!(
        graph.to_tree().unwrap_err().to_string(),
        "a tree has no cycle, and here is one: A, B, D, E",
        "D has two parents"
    );
}

#[test]
fn an_overlays_link_counts_both_ways_whoever_names_it() {
    let graph =
        Graph::parse_overlay(r#"{"processes":{"a":{"neighbors":["b"]},"b":{"id":"b","port":"any"}}}"#);
    assert_eq!(graph.unwrap().arcs().collect::<Vec<_>>(), [(0, 1), (1, 0)]);
    let words = refused(Graph::parse_overlay(
        r#"{"processes":{"a":{"neighbors":["b","x","a"]},"b":{"id":"c"},"":{"neighbors":["a"]}}}"#,
    ));
    assert_eq!(
        words,
        [
            "processes.: the name \"\" cannot be: it takes 1 to 128 bytes of text in one line",
            "processes.a: there is no neighbor 'x'",
            "processes.a: 'a' cannot be its own neighbor",
            "processes.b: its id is 'c': both must be the same",
        ]
    );
    for text in ["", "{}", "[]", r#"{"processes":[]}"#, r#"{"processes":{"a":3}}"#] {
        assert!(matches!(Graph::parse_overlay(text), Err(GraphError::Overlay(_))), "{text}");
    }
}

#[test]
fn a_graph_that_is_a_tree_becomes_one() {
    let tree = Tree::parse(EIGHT).unwrap();
    assert_eq!(Graph::from(&tree).to_tree().unwrap(), tree);
    let tree = Graph::parse_edges("top left\ntop right\nleft low").unwrap().to_tree().unwrap();
    let units: Vec<_> = tree.units().iter().map(|unit| (unit.name.as_str(), unit.port, unit.cpu)).collect();
    assert_eq!(units, [("top", 8000, 4), ("left", 8001, 4), ("low", 8002, 4), ("right", 8003, 4)]);
    let tree = Graph::parse_dot("digraph { low [port=8001]; left -> low; top -> left }").unwrap().to_tree();
    let tree = tree.unwrap();
    assert_eq!(tree.root().name, "top");
    assert_eq!(tree.edges().collect::<Vec<_>>(), [(8000, 8002), (8002, 8001)], "8001 was taken");
}

#[test]
fn a_graph_that_is_no_tree_is_refused_and_why() {
    let long = |units: usize| Graph::line(units);
    for (graph, words) in [
        (Graph::default(), "there is no root: the graph is empty"),
        (Graph::ring(5), "a tree has no cycle, and here is one: 0, 1, 2, 3, 4"),
        (Graph::one_way_ring(3), "a tree has no cycle, and here is one: 0, 1, 2"),
        (
            Graph::parse_edges("t a\na b\nb c\nc d\nd b").unwrap(),
            "a tree has no cycle, and here is one: b, c, d",
        ),
        (Graph::parse_edges("a b\nc d").unwrap(), "'c' is not connected with the root 'a'"),
        (
            Graph::parse_edges("a -> c\nb -> c").unwrap(),
            "'b' points at 'c', which is nearer to the root 'a': links lead away from it",
        ),
        (long(61), "'60' is too deep: 60 levels are the most"),
        (long(1_001), "1001 units are too many: each is a process, and 1000 are the most"),
    ] {
        assert_eq!(graph.to_tree().unwrap_err().to_string(), words);
    }
    assert!(long(60).to_tree().is_ok());
}

#[test]
fn a_two_node_cycle_is_one_link() {
    let graph = Graph::parse_dot("digraph { a -> b; b -> a }").unwrap();
    assert_eq!(graph.to_tree().unwrap().edges().count(), 1);
}

#[test]
fn json_for_whoever_draws() {
    let json = |text: &str| serde_json::to_value(Graph::parse_dot(text).unwrap()).unwrap();
    assert_eq!(
        json("graph { a [port=8000, cpu=2]; a -- b }"),
        serde_json::json!({
            "directed": false,
            "nodes": [{"id": 8000, "name": "a", "port": 8000, "cpu": 2}, {"id": 0, "name": "b"}],
            "edges": [[8000, 0]],
        })
    );
    assert_eq!(
        json("digraph { 5 -> 6; 6 -> 5; 6 -> 7 }")["edges"],
        serde_json::json!([[5, 6], [6, 5], [6, 7]])
    );
}

#[test]
fn every_form_is_recognized() {
    let is_tree = |text: &str| match Topology::parse(text) {
        Ok(Topology::Tree(_)) => true,
        Ok(Topology::Graph(_)) => false,
        Err(error) => panic!("{text}: {error}"),
    };
    assert!(is_tree(EIGHT) && is_tree(&format!("\n {EIGHT}")));
    for graph in [
        include_str!("../../../../overlay/topologies/baseline.json"),
        "strict digraph G { a -> b }",
        "graph{a}",
        "a b\nb c",
        "graph b\ndigraph -> strict",
        "# nothing but a comment",
    ] {
        assert!(!is_tree(graph), "{graph}");
    }
    for none in ["", "null", "{}", "[]", " \n", "\"a\"", "{\"processes\":null}"] {
        assert!(matches!(Topology::parse(none), Err(TopologyError::Tree(_))), "{none:?}");
    }
}

#[test]
fn every_labelled_graph_is_there_once() {
    let connected = |nodes: usize| {
        let pairs = nodes * (nodes - 1) / 2;
        (0..1 << pairs).filter(|bits| Graph::of_bits(nodes, *bits).is_connected()).count()
    };
    assert_eq!([2, 3, 4, 5].map(connected), [1, 4, 38, 728], "as the contract counts them");
}
