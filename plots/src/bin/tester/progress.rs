//! The progress bar: on a terminal only, so that a log holds figures and no carriage returns.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps on standard error; invisible where that is not a terminal.
pub(crate) fn bar(length: u64, message: String) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg:20} {wide_bar:.cyan/black} {pos}/{len}  {per_sec}  eta {eta}")
            .expect("the template is a constant and a test reads it");
    ProgressBar::new(length).with_style(style.progress_chars("━━─")).with_message(message)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_template_is_well_formed() {
        super::bar(1, "test".to_owned()).finish();
    }
}
