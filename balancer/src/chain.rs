//! Errors with their causes, for people.

/// An error and its causes, in one line.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words} ({cause})");
        source = cause.source();
    }
    words
}
