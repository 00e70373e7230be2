//! Tests that need what a machine may not have.

use std::io::Write as _;

/// What `SLIPRING_REQUIRE` can make compulsory, and what it stands for. `.ci/rules` reads this list, too.
const WHAT: [(&str, &str); 15] = [
    ("chromium", "Chromium and its chromedriver"),
    ("connections", "room for ten thousand connections in the kernel's table of them"),
    ("data", "the archive of real measurements, beside the checkout"),
    ("deny", "cargo-deny, for `make verify`"),
    ("docker", "a Docker engine"),
    ("files", "a limit of open files that ten thousand connections fit in"),
    ("grpcio", "Python with grpcio and grpcio-tools (PYTHON says which)"),
    ("ipv6", "an IPv6 loopback"),
    (
        "long",
        "what the suite has no time for: storms and schedules of faults at length, most of what Docker does",
    ),
    ("namespaces", "leave to make a process namespace"),
    ("netns", "leave to make a network namespace, and iproute2"),
    ("network", "an address of this machine beside its loopback"),
    ("nginx", "nginx, to compare with"),
    ("postgres", "PostgreSQL's initdb, 15 or newer"),
    ("slowhttptest", "the attacker of that name"),
];

/// Whether `SLIPRING_REQUIRE` (a list with commas) makes `what` compulsory.
///
/// # Panics
/// When it holds something that there is not: what it was meant to make compulsory would be skipped in silence.
pub fn require(what: &str) -> bool {
    let required = required(&std::env::var("SLIPRING_REQUIRE").unwrap_or_default());
    assert!(WHAT.iter().any(|(name, _)| *name == what), "{what} is not among what can be required");
    required.iter().any(|item| item == what)
}

/// Reads the list, for those who skip nothing.
pub(crate) fn check_required() {
    required(&std::env::var("SLIPRING_REQUIRE").unwrap_or_default());
}

/// The items of the list.
fn required(list: &str) -> Vec<String> {
    let items: Vec<_> =
        list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
    for item in &items {
        let known = WHAT.map(|(name, meaning)| format!("{name} ({meaning})")).join(", ");
        assert!(
            WHAT.iter().any(|(name, _)| name == item),
            "SLIPRING_REQUIRE holds {item:?}, and there are {known}"
        );
    }
    items
}

/// Says so when a test is skipped for want of `what`, whatever the test runner captures.
///
/// # Panics
/// When `what` is compulsory.
pub fn skipped(what: &str, why: &str) {
    assert!(!require(what), "SLIPRING_REQUIRE holds {what}, and {why}");
    say(&format!("SKIPPED: {}: {why}", test_name()));
}

/// Shows a figure that a test measured, whatever the test runner captures.
pub fn measured(what: &str) {
    say(&format!("measured: {}: {what}", test_name()));
}

fn test_name() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// `eprintln!` would be captured. A standard error that is gone is nothing to fail for.
fn say(line: &str) {
    drop(std::io::stderr().write_all(format!("{line}\n").as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_with_its_blanks() {
        assert_eq!(required(" docker,,deny "), ["docker", "deny"]);
        assert!(required("").is_empty());
    }

    #[test]
    #[should_panic(expected = "\"dokcer\", and there are chromium (")]
    fn a_typo_is_an_error() {
        required("deny,dokcer");
    }
}
