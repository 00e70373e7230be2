use serde_json::{Value, json};

use super::EIGHT;
use crate::topology::*;

fn words(text: &str) -> String {
    match Tree::parse(text) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

fn edited(edit: impl FnOnce(&mut Value)) -> String {
    let mut file = serde_json::from_str(EIGHT).unwrap();
    edit(&mut file);
    words(&file.to_string())
}

#[test]
fn the_contracts_eight_servers() {
    let tree = Tree::parse(EIGHT).unwrap();
    let described: Vec<_> = tree.units().iter().map(|unit| (unit.port, unit.cpu)).collect();
    let cpus = [4, 2, 6, 4, 6, 2, 8, 6];
    assert_eq!(described, (8000..8008).zip(cpus).collect::<Vec<_>>());
    let edges: Vec<_> = tree.edges().collect();
    assert_eq!(
        edges,
        [(8000, 8001), (8001, 8002), (8001, 8003), (8003, 8004), (8003, 8005), (8005, 8006), (8000, 8007)]
    );
    assert_eq!(tree.root().port, 8000);
    assert_eq!(tree.levels(), 5);
    assert_eq!(tree.parent_of(8005), Some(8003));
    assert_eq!(tree.ancestors(8006).collect::<Vec<_>>(), [8005, 8003, 8001, 8000]);
    assert_eq!(tree.children_of(8003).collect::<Vec<_>>(), [8004, 8005]);
    assert_eq!(tree.neighbors(8003).collect::<Vec<_>>(), [8001, 8004, 8005]);
    assert_eq!(tree.subtree(8003).iter().map(|unit| unit.port).collect::<Vec<_>>(), [8003, 8004, 8005, 8006]);
    assert_eq!(tree.unit(8002).map(|unit| unit.cpu), Some(6));
}

#[test]
fn a_port_that_is_no_units_has_nobody_around_it() {
    let tree = Tree::parse(EIGHT).unwrap();
    for port in [0, 7999, 8008, u16::MAX] {
        assert_eq!(tree.unit(port), None);
        assert_eq!(tree.parent_of(port), None);
        assert_eq!(tree.neighbors(port).count(), 0);
        assert_eq!(tree.ancestors(port).count(), 0);
        assert_eq!(tree.subtree(port), []);
    }
}

#[test]
fn what_is_written_is_read_again() {
    let tree = Tree::parse(EIGHT).unwrap();
    assert_eq!(Tree::parse(&tree.to_json()).unwrap(), tree);
}

#[test]
fn fields_that_mean_nothing_here_are_left_alone() {
    assert_eq!(edited(|file| file["children"][0]["color"] = json!({"of": ["the", "rack"]})), "");
    assert_eq!(words(r#"{"name":"a","port":1,"cpu":1}"#), "");
    assert_eq!(words(r#"{"name":"a","port":1,"cpu":1,"children":null}"#), "");
}

#[test]
fn every_mistake_is_named_at_once() {
    let words = edited(|file| {
        file["cpu"] = 0.into();
        file["children"][0]["port"] = 8000.into();
        file["children"][0]["children"][0]["port"] = 0.into();
        file["children"][0]["children"][0]["cpu"] = 100_000.into();
        let deep = &mut file["children"][0]["children"][1];
        deep["name"] = " ".into();
        deep["children"][0] = "8004".into();
        deep["children"][1]["children"] = json!({"one": 1});
        deep["children"][1]["name"] = "root".into();
        file["children"][1] = json!({"name": "x".repeat(1_000_000), "port": 65_536, "cpu": -1.5});
        file["children"][1]["children"] = json!([{}]);
    });
    assert_eq!(
        words.lines().collect::<Vec<_>>(),
        [
            "the root: the cpu 0 cannot be: it takes a number from 1 to 1024",
            "children[0]: the port 8000 is that of the root, too",
            "children[0].children[0]: the port 0 cannot be: it takes a number from 1 to 65535",
            "children[0].children[0]: the cpu 100000 cannot be: it takes a number from 1 to 1024",
            "children[0].children[1]: the name \" \" cannot be: it takes 1 to 128 bytes of text in one line",
            "children[0].children[1].children[0]: a text is no unit: one is {\"name\",\"port\",\"cpu\",\"children\":[…]}",
            "children[0].children[1].children[1]: the name 'root' is that of the root, too",
            "children[0].children[1].children[1]: the children are an object, and not a list of units",
            &format!(
                "children[1]: the name \"{}… cannot be: it takes 1 to 128 bytes of text in one line",
                "x".repeat(39)
            ),
            "children[1]: the port 65536 cannot be: it takes a number from 1 to 65535",
            "children[1]: the cpu -1.5 cannot be: it takes a number from 1 to 1024",
            "children[1].children[0]: name is missing",
            "children[1].children[0]: port is missing",
            "children[1].children[0]: cpu is missing",
        ]
    );
}

#[test]
fn without_a_root_there_is_no_tree() {
    for (text, found) in [
        ("null", "null"),
        ("{}", "an empty object"),
        ("[]", "an empty list"),
        ("[{\"name\":\"a\",\"port\":1,\"cpu\":1}]", "a list"),
        ("8000", "a number"),
        ("\"root\"", "a text"),
    ] {
        match Tree::parse(text) {
            Err(TreeError::NoRoot { found: told }) => assert_eq!(told, found),
            other => panic!("{text}: {other:?}"),
        }
    }
    for text in ["", "{", "root", "{\"name\":\"a\",}", "\u{0}"] {
        assert!(matches!(Tree::parse(text), Err(TreeError::Json(_))), "{text:?}");
    }
}

/// One below the other.
fn chain(levels: usize) -> String {
    let mut text = String::new();
    for level in 0..levels {
        text += &format!("{{\"name\":\"u{level}\",\"port\":{},\"cpu\":1,\"children\":[", 8000 + level);
    }
    text + &"]}".repeat(levels)
}

#[test]
fn what_is_too_deep_is_refused_however_deep_it_is() {
    let deepest = Tree::parse(&chain(Tree::MOST_LEVELS)).unwrap();
    assert_eq!(deepest.levels(), Tree::MOST_LEVELS);
    assert_eq!(Tree::parse(&deepest.to_json()).unwrap(), deepest);
    assert_eq!(
        words(&chain(Tree::MOST_LEVELS + 1)),
        format!("{}: this is too deep: 60 levels are the most", Place(vec![0; Tree::MOST_LEVELS]))
    );
    assert!(matches!(Tree::parse(&chain(1_000)), Err(TreeError::Json(_))));
    assert!(matches!(Tree::parse(&"[".repeat(10_000_000)), Err(TreeError::Json(_))));
}

/// Two chains below one root.
fn fork(left: usize, right: usize) -> Value {
    let chain = |side: &str, units: usize, first: usize| {
        (0..units).rev().fold(None::<Value>, |below, place| {
            let children: Vec<_> = below.into_iter().collect();
            Some(json!({"name": format!("{side}{place}"), "port": first + place, "cpu": 1, "children": children}))
        })
    };
    let children: Vec<_> =
        chain("left", left, 9_000).into_iter().chain(chain("right", right, 9_500)).collect();
    json!({"name": "root", "port": 8000, "cpu": 1, "children": children})
}

#[test]
fn who_is_too_far_from_another_for_a_wave_is_named() {
    let tree = Tree::parse(EIGHT).unwrap();
    let (from, to, units) = tree.longest_path();
    assert_eq!(([from.port.min(to.port), from.port.max(to.port)], units), ([8006, 8007], 6));
    let alone = Tree::parse(&fork(0, 0).to_string()).unwrap();
    assert_eq!(alone.longest_path().2, 1);

    for (left, right) in [(31, 31), (59, 3), (59, 0)] {
        let tree = Tree::parse(&fork(left, right).to_string()).unwrap();
        assert_eq!(tree.longest_path().2, left + right + 1);
    }
    assert_eq!(
        words(&fork(32, 31).to_string()),
        "the root: from 'right30' to 'left31' the way is 64 units long: a wave that begins at its end gathers all of it, and 63 \
         are the most"
    );
    // Not over the root: the longest way may be anywhere.
    let mut low = fork(0, 0);
    low["children"] = json!([fork(40, 40)]);
    low["children"][0]["name"] = "fork".into();
    low["children"][0]["port"] = 7_000.into();
    assert!(
        words(&low.to_string()).contains("'right39' to 'left39' the way is 81 units"),
        "{}",
        words(&low.to_string())
    );
    let edges: String = (0..32).map(|n| format!("r{n} -- r{}\nl{n} -- l{}\n", n + 1, n + 1)).collect();
    let graph = Graph::parse_edges(&format!("top -- r0\ntop -- l0\n{edges}")).unwrap();
    assert!(matches!(graph.to_tree(), Err(NotATree::TooLong { units: 67, .. })), "{:?}", graph.to_tree());
}

#[test]
fn ten_thousand_units_are_not_run() {
    let children: Vec<_> =
        (1..10_000).map(|n| json!({"name": format!("u{n}"), "port": 8000 + n, "cpu": 2})).collect();
    let root = json!({"name": "root", "port": 8000, "cpu": 2, "children": children}).to_string();
    assert_eq!(
        words(&root),
        "the root: with those below it these are 10000 units: each is a process, and 1000 are the most"
    );
    let tree = Tree::parse_at_most(&root, 10_000).unwrap();
    assert_eq!(tree.units().len(), 10_000);
    assert_eq!(tree.children_of(8000).count(), 9_999);
}

#[test]
fn a_long_list_of_mistakes_is_cut() {
    let children: Vec<_> = (0..100).map(|_| json!(1)).collect();
    let words = words(&json!({"name": "root", "port": 1, "cpu": 2, "children": children}).to_string());
    assert_eq!(words.lines().count(), 21);
    assert!(words.ends_with("\nand 80 more"), "{words}");
}
