//! What masks leave, and that nothing depends on order.

use proptest::prelude::*;

use super::{Templates, mask};

fn masked(message: &str) -> String {
    let mut out = Vec::new();
    mask(message.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_varies_is_masked_and_what_does_not_stays() {
    for (message, template) in [
        ("Configuration loaded", "Configuration loaded"),
        ("took 15 ms, 3.5%, -7", "took <num> ms, <num>, <num>"),
        ("took 15ms for 20MB.", "took <duration> for <size>."),
        ("from 10.0.0.1:8080 to /10.250.19.102:54106", "from <ip> to /<ip>"),
        ("session 0x14ed93111f20005 closed", "session <hex> closed"),
        ("commit deadbeef01 of 2025-11-05T23:20:11.594Z at 23:20:11", "commit <hex> of <time> at <time>"),
        ("id 550e8400-e29b-41d4-a716-446655440000:", "id <uuid>:"),
        ("Received block blk_-1608999687919862906 of size 91178", "Received block blk_<num> of size <num>"),
        ("Received block blk_38865049064139660", "Received block blk_<num>"),
        ("open \"/etc/x y\" failed (2: No such file)", "open \"<str>\" failed (<num>: No such file)"),
        ("can't open 'a b' now", "can't open '<str>' now"),
        ("user=root uid=0, rhost=10.1.2.3", "user=<value> uid=<value>, rhost=<value>"),
        ("GET http://example.com/a?b done", "GET <url>?b done"),
        ("read /var/log/syslog and/or C:\\temp\\x", "read <path> and/or <path>"),
        ("node7 and node-12 said v1.2.3", "node<num> and node-<num> said v<num>"),
        ("fe80::1ff:fe23:4567:890a is up", "<addr> is up"),
        ("key a8f3k2j9x0 expired", "key <id> expired"),
        ("1e-5 of 12:30", "<num> of <time>"),
        ("", ""),
        ("==", "=="),
    ] {
        assert_eq!(masked(message), template, "{message}");
    }
}

#[test]
fn a_word_with_many_values_is_open_and_one_with_few_is_not() {
    let mut templates = Templates::new(100);
    for user in ["ann", "bob", "eve", "joe", "kim"] {
        for _ in 0..2 {
            templates.add(format!("user {user} has logged in").as_bytes());
        }
    }
    for what in ["opened", "closed", "opened"] {
        templates.add(format!("the door was {what} again").as_bytes());
    }
    let ranked = templates.ranked();
    let ranked: Vec<_> = ranked.iter().map(|t| (t.count, t.text.as_str(), t.example.as_str())).collect();
    assert_eq!(
        ranked,
        [
            (10, "user <*> has logged in", "user ann has logged in"),
            (2, "the door was opened again", "the door was opened again"),
            (1, "the door was closed again", "the door was closed again"),
        ]
    );
}

fn messages() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-c] [a-d] (x|y|1|22|k=[a-c])( z[a-e])?", 0..60)
}

fn counted(messages: &[String], most: u32) -> Templates {
    let mut templates = Templates::new(most);
    for message in messages {
        templates.add(message.as_bytes());
    }
    templates
}

proptest! {
    #[test]
    fn neither_order_nor_parts_can_be_seen(
        messages in messages(), most in 1_u32..40, cut in any::<prop::sample::Index>(), order in any::<u64>(),
    ) {
        let whole = counted(&messages, most);
        let mut shuffled = messages.clone();
        shuffled.sort_by_key(|message| xxhash_rust::xxh3::xxh3_64_with_seed(message.as_bytes(), order));
        prop_assert_eq!(&counted(&shuffled, most), &whole);
        let (one, two) = shuffled.split_at(cut.index(messages.len() + 1));
        let (one, two) = (counted(one, most), counted(two, most));
        let (mut forth, mut back) = (one.clone(), two.clone());
        forth.merge(two);
        back.merge(one);
        prop_assert_eq!(&forth, &whole);
        prop_assert_eq!(&back, &whole);
        prop_assert_eq!(forth.ranked(), whole.ranked());
        let sum: u64 = whole.ranked().iter().map(|template| template.count).sum();
        prop_assert_eq!(sum + whole.other(), messages.len() as u64);
        let text = serde_json::to_string(&whole).unwrap();
        prop_assert_eq!(serde_json::to_string(&forth).unwrap(), text.as_str());
        prop_assert_eq!(serde_json::from_str::<Templates>(&text).unwrap(), whole);
    }

    #[test]
    fn any_bytes_have_a_template(message in prop::collection::vec(
        prop_oneof![any::<u8>(), prop::sample::select(b" =\"'/:.-_0x1a<>".to_vec())], 0..2000,
    )) {
        let (mut once, mut again) = (Vec::new(), Vec::new());
        mask(&message, &mut once);
        mask(&message, &mut again);
        prop_assert_eq!(&once, &again);
        // A placeholder is longer than what it stands for by six bytes at most.
        prop_assert!(once.len() <= message.len() * 7 + 3);
    }
}
