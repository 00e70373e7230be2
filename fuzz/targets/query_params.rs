//! A question is refused, or has one text and one name, which say the same as it does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipring_overlay::query::{Basis, Layout, Query, Uid};
use slipring_overlay::topology::Chunking;

/// What a question may hold; chance alone would not find it.
const KEYS: [&str; 12] = [
    "parameter",
    "min_value",
    "max_value",
    "date_start",
    "date_end",
    "lat_min",
    "lat_max",
    "lon_min",
    "lon_max",
    "limit",
    "team",
    "mode",
];

/// The first byte says whether the rest is all there is, or lines, each of them a value whose key its first byte chooses.
fn params(text: &str) -> String {
    let Some(values) = text.strip_prefix('=') else { return text.to_owned() };
    let pairs = values.lines().filter_map(|line| {
        let value = line.get(1..)?;
        Some(format!("\"{}\":{value}", KEYS[usize::from(line.as_bytes()[0]) % KEYS.len()]))
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok((uid, ..)) = Uid::parse(text) {
        assert_eq!(uid.as_str(), text, "a name is its own text");
    }
    let text = params(text);
    let question = Query::from_json(&text);
    // A name that nobody gave, of anything.
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let named = Uid::parse(&format!("0123456789abcdef01234567-a200-{hex}")).is_ok();
    let is_normal = question.as_ref().is_ok_and(|question| question.normal_form() == text);
    assert_eq!(named, is_normal, "one question has one name: {text}");

    let Ok(query) = question else { return };
    let normal = query.normal_form();
    let again = Query::from_json(&normal).expect("what it says of itself is a question");
    assert_eq!((&again, again.normal_form()), (&query, normal), "and the same one");
    let layout = Layout { chunking: Chunking::Adaptive, chunk_size: 200 };
    let uid = Uid::new(&query, Basis { data: 1, missing: "", layout });
    assert_eq!(
        Uid::parse(uid.as_str()),
        Ok((uid.clone(), layout, query)),
        "whoever has the name can ask again"
    );
});
