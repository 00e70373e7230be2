//! Text: the embedded font, how wide a string is in it, and how a number is written.
//!
//! Widths come from the renderer itself (a one-line SVG is laid out and its box read), not from a
//! table of guesses: a legend that is laid out by guessing is clipped on the day a name is long. A
//! browser without Noto Sans sets the same text up to a tenth wider, so callers leave that much air.

use std::sync::{Arc, LazyLock};

use resvg::usvg;

use super::theme::FONT_FAMILY;

static FONTS: LazyLock<Arc<usvg::fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(notosans::REGULAR_TTF.to_vec());
    fonts.load_font_data(notosans::BOLD_TTF.to_vec());
    fonts.set_sans_serif_family("Noto Sans");
    Arc::new(fonts)
});

/// How an SVG is read: with the embedded fonts and no others.
pub(super) fn options() -> usvg::Options<'static> {
    usvg::Options {
        font_family: "Noto Sans".to_owned(),
        fontdb: Arc::clone(&FONTS),
        ..usvg::Options::default()
    }
}

/// The width of `text` in pixels at a font size of `size` pixels, plus a tenth for wider fallbacks.
pub(super) fn width(text: &str, size: f64, bold: bool) -> f64 {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    let weight = if bold { "bold" } else { "normal" };
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"10\" height=\"10\"><text y=\"9\" \
         font-family=\"{FONT_FAMILY}\" font-size=\"{size}\" font-weight=\"{weight}\">{escaped}</text></svg>"
    );
    let measured = usvg::Tree::from_str(&svg, &options())
        .map_or(0.0, |tree| f64::from(tree.root().layer_bounding_box().right().max(0.0)));
    // A string the font cannot set at all still takes room in a browser.
    let measured = if measured > 0.0 { measured } else { 0.6 * size * text.chars().count() as f64 };
    measured * 1.1
}

/// Breaks lines at spaces so that none is wider than `room` pixels, unless a single word is.
pub(super) fn wrapped(lines: &[String], size: f64, room: f64) -> Vec<String> {
    let mut broken: Vec<String> = Vec::new();
    for line in lines {
        let mut current = String::new();
        for word in line.split(' ') {
            let longer = if current.is_empty() { word.to_owned() } else { format!("{current} {word}") };
            if !current.is_empty() && width(&longer, size, false) > room {
                broken.push(std::mem::replace(&mut current, word.to_owned()));
            } else {
                current = longer;
            }
        }
        broken.push(current);
    }
    broken
}

/// 12345.6 as `12,346`: a count in words of three digits.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value <= -0.5 {
        out.push('−');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A tick's label: no more decimals than the distance between ticks (`step`) calls for.
pub(super) fn tick(value: f64, step: f64) -> String {
    if step >= 1.0 || value.abs() >= 1000.0 {
        return grouped(value);
    }
    let decimals = (-step.log10()).ceil().clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}").replace('-', "−")
}
