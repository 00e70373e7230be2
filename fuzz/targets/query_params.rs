//! A question is refused, or has one text and one name, which say the same as it does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipring_overlay::query::{Basis, Layout, Query, Uid};
use slipring_overlay::topology::Chunking;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok((uid, ..)) = Uid::parse(text) {
        assert_eq!(uid.as_str(), text, "a name is its own text");
    }
    let Ok(query) = Query::from_json(text) else { return };
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
