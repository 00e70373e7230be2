//! Errors as a person reads them: what happened, and the whole chain of causes, once.

use std::error::Error;

/// `message: cause: cause`.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}\n  because: {words}");
        }
        source = cause.source();
    }
    text
}

/// Prints an error where errors go.
pub(crate) fn complain(error: &dyn Error) {
    eprintln!("slipring: {}", chain(error));
}
