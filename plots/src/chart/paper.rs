//! The page: plotters' SVG backend with sub-pixel precision, and the few strokes that charts are made of.
//!
//! plotters addresses whole pixels, which turns a gentle line into a staircase. The page is therefore
//! drawn [`UNITS`] times larger and its header rewritten so that a viewer scales it back: every
//! coordinate gets a fraction, every stroke can be thinner than a pixel, and the header gains the
//! title and description that a screen reader reads out. Sizes in the chart modules are pixels ([`px`]).

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::picture::{ChartError, Picture};
use super::theme::{self, Colour};

/// Units of the drawing per pixel of the picture.
const UNITS: i32 = 4;

/// plotters' SVG backend divides a font size by this before writing it down.
const FONT_SCALE: f64 = 1.24;

/// A part of the page, addressed from its own top left corner.
pub(super) type Sheet<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A part of the page with a coordinate system.
pub(super) type Plot<'a> = DrawingArea<SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
/// What the backend returns; the text of it is all a caller can use.
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Pixels to drawing units.
pub(super) fn px(pixels: f64) -> i32 {
    (pixels * f64::from(UNITS)).round() as i32
}

/// The size of a part of the page, in pixels.
pub(super) fn size_of(sheet: &Sheet<'_>) -> (f64, f64) {
    let (width, height) = sheet.dim_in_pixel();
    (f64::from(width) / f64::from(UNITS), f64::from(height) / f64::from(UNITS))
}

/// Draws a page of `width` by `height` pixels; `description` is for those who cannot see it.
pub(super) fn page(
    (width, height): (u32, u32),
    title: &str,
    description: &str,
    draw: impl FnOnce(&Sheet<'_>) -> Drawn,
) -> Result<Picture, ChartError> {
    let mut svg = String::new();
    let units = UNITS.unsigned_abs();
    let root = SVGBackend::with_string(&mut svg, (width * units, height * units)).into_drawing_area();
    root.fill(&theme::PAGE)
        .and_then(|()| draw(&root))
        .and_then(|()| root.present())
        .map_err(|error| ChartError::Draw { title: title.to_owned(), message: error.to_string() })?;
    drop(root);
    let body = svg.split_once('\n').map_or("", |(_, body)| body);
    Ok(Picture::new(format!(
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {} {}\" xmlns=\"http://www.w3.org/2000/svg\" \
         role=\"img\" stroke-linejoin=\"round\" stroke-linecap=\"round\">\n<title>{}</title>\n<desc>{}</desc>\n{body}",
        width * units,
        height * units,
        escaped(title),
        escaped(description),
    )))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A stroke `width` pixels wide.
pub(super) fn stroke(colour: Colour, width: f64) -> ShapeStyle {
    colour.stroke_width(px(width).unsigned_abs())
}

/// How a text is set: its size in pixels, its weight and its colour.
#[derive(Clone, Copy)]
pub(super) struct Type {
    pub(super) size: f64,
    pub(super) bold: bool,
    pub(super) colour: Colour,
}

impl Type {
    pub(super) const fn plain(size: f64, colour: Colour) -> Type {
        Type { size, bold: false, colour }
    }

    pub(super) const fn bold(size: f64, colour: Colour) -> Type {
        Type { size, bold: true, colour }
    }

    /// Anchored at its left, centre or right, and at its top, middle or bottom.
    pub(super) fn anchored(self, h: HPos, v: VPos) -> TextStyle<'static> {
        let weight = if self.bold { FontStyle::Bold } else { FontStyle::Normal };
        let size = self.size * f64::from(UNITS) * FONT_SCALE;
        FontDesc::new(FontFamily::Name(theme::FONT_FAMILY), size, weight)
            .color(&self.colour)
            .pos(Pos::new(h, v))
    }
}

/// Writes `text` at a point of the sheet given in pixels.
pub(super) fn write(sheet: &Sheet<'_>, text: &str, style: &TextStyle<'_>, (x, y): (f64, f64)) -> Drawn {
    sheet.draw(&Text::new(text, (px(x), px(y)), style.clone()))
}

/// A dashed path through points of a plot.
pub(super) fn dashed(plot: &Plot<'_>, points: Vec<(f64, f64)>, style: ShapeStyle) -> Drawn {
    plot.draw(&DashedPathElement::new(points, px(6.0), px(4.0), style))
}
