//! One look for every chart: a white page, grey furniture, colour only where it carries meaning.
//!
//! The colours are Okabe and Ito's ("Color Universal Design", 2008), which people with any of the
//! common colour-vision deficiencies can tell apart, and each keeps its meaning across pictures: a
//! placement has the same colour in the bars, the means and the deviations. Pages are white, not
//! transparent, so that a picture is as readable on a dark README as on a light one.
//!
//! Rejected: a theme per chart type. Three charts that look like three products.

use plotters::style::RGBColor;

/// A colour of the palette.
pub type Colour = RGBColor;

pub(super) const PAGE: Colour = RGBColor(0xff, 0xff, 0xff);
pub(super) const INK: Colour = RGBColor(0x1b, 0x24, 0x30);
pub(super) const MUTED: Colour = RGBColor(0x5b, 0x67, 0x75);
pub(super) const GRID: Colour = RGBColor(0xe6, 0xea, 0xee);
pub(super) const AXIS: Colour = RGBColor(0x9a, 0xa6, 0xb2);
pub(super) const BAND: Colour = RGBColor(0xea, 0xed, 0xf1);
pub(super) const ALARM: Colour = RGBColor(0xc4, 0x1e, 0x3a);

const VERMILLION: Colour = RGBColor(0xd5, 0x5e, 0x00);
const ORANGE: Colour = RGBColor(0xe6, 0x9f, 0x00);
const PURPLE: Colour = RGBColor(0xcc, 0x79, 0xa7);
const SKY: Colour = RGBColor(0x56, 0xb4, 0xe9);
const GREEN: Colour = RGBColor(0x00, 0x9e, 0x73);
const BLUE: Colour = RGBColor(0x00, 0x72, 0xb2);

/// For things without a colour of their own, calm ones first; orange is kept for [`VICTIM_COLOUR`].
const WHEEL: [Colour; 5] = [BLUE, SKY, GREEN, PURPLE, VERMILLION];

/// The colour of the replica that something happens to.
pub const VICTIM_COLOUR: Colour = ORANGE;

/// What a browser sets the text in: the font that the PNG has inside, then each system's own sans.
pub(super) const FONT_FAMILY: &str =
    "Noto Sans, Segoe UI, Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif";

/// The colour of a placement, the same in every picture; `fallback` picks one for an unknown name.
#[must_use]
pub fn placement_colour(name: &str, fallback: usize) -> Colour {
    match name {
        "given" => VERMILLION,
        "modified" => ORANGE,
        "sha256" => PURPLE,
        "rendezvous" => BLUE,
        "maglev" => GREEN,
        "ketama" => SKY,
        _ => WHEEL[fallback % WHEEL.len()],
    }
}

/// The colour of a log's level, the colder the milder; of records without one, for any other name.
#[must_use]
pub fn level_colour(name: &str) -> Colour {
    match name {
        "TRACE" => AXIS,
        "DEBUG" => SKY,
        "INFO" => BLUE,
        "NOTICE" => GREEN,
        "WARN" => ORANGE,
        "ERROR" => VERMILLION,
        "FATAL" => ALARM,
        _ => PURPLE,
    }
}

/// The colour of the n-th replica of a timeline to which nothing happens.
#[must_use]
pub fn replica_colour(n: usize) -> Colour {
    WHEEL[n % WHEEL.len()]
}
