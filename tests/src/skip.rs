//! Tests that need what a machine may not have.

use std::io::Write as _;

/// Whether `SLIPRING_REQUIRE` (a list with commas) makes `what` compulsory.
pub fn require(what: &str) -> bool {
    let required = std::env::var("SLIPRING_REQUIRE").unwrap_or_default();
    required.split(',').any(|item| item.trim() == what)
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
