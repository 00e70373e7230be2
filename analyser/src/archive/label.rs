//! A label: what a copy is of, with a hash of its own, so that a label that rots is no label.

use object_store::path::Path;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// Bytes of a label at most: a name has 255, and JSON may write each as six.
const LONGEST: usize = 4096;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Label {
    pub(super) name: String,
    pub(super) length: u64,
    /// XXH3, 128 bits, in hexadecimal.
    pub(super) hash: String,
}

pub(super) fn folder(copy: u8) -> Path {
    Path::from_iter([format!("copy-{copy}"), "labels".to_owned()])
}

pub(super) fn path(name: &str, copy: u8) -> Path {
    Path::from_iter([format!("copy-{copy}"), "labels".to_owned(), format!("{name}.json")])
}

impl Label {
    /// One line of JSON, and one with its hash.
    pub(super) fn written(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).expect("texts and a number");
        format!("{json}\n{:032x}\n", xxh3_128(json.as_bytes())).into_bytes()
    }

    /// `None` if it is damaged, or nobody's of ours.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..bytes.len().min(LONGEST))?).ok()?;
        let (json, sum) = text.strip_suffix('\n')?.split_once('\n')?;
        let label: Self = serde_json::from_str(json).ok()?;
        let hash = label.hash.len() == 32 && label.hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let name = !label.name.is_empty()
            && !label.name.contains(['/', '\0'])
            && label.name != ".."
            && label.name != ".";
        (hash && name && sum == format!("{:032x}", xxh3_128(json.as_bytes()))).then_some(label)
    }
}
