//! How mistakes are told, and what a name is: the same for every form of text.

use std::fmt;

use super::Tree;

/// Whether this can be a node's name.
pub(super) fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= Tree::LONGEST_NAME && !name.chars().any(char::is_control)
}

/// As it is written, but not a megabyte of it.
pub(super) fn cut(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The first mistakes, one a line, and how many more there are.
pub(super) struct Listed<'a, M>(pub(super) &'a [M]);

impl<M: fmt::Display> fmt::Display for Listed<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        for (number, mistake) in self.0.iter().take(SHOWN).enumerate() {
            write!(f, "{}{mistake}", if number == 0 { "" } else { "\n" })?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}
