//! What surrounds the data: the title block, and a plot's grid, ticks and axis names.
//!
//! The name of the vertical axis is written level above it rather than turned by a quarter, because
//! nobody should have to tilt their head; vertical gridlines are left out, because positions along
//! the bottom are few and labelled.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::paper::{Drawn, Plot, Sheet, Type, px, size_of, stroke, write};
use super::text;
use super::theme::{AXIS, GRID, INK, MUTED};

/// The air around a page, in pixels.
pub(super) const PAGE_MARGIN: f64 = 24.0;
/// The size of tick labels.
pub(super) const SMALL: f64 = 11.5;

const SUBTITLE: f64 = 13.0;
const SUBTITLE_LINE: f64 = 18.5;

/// The lines of a subtitle on a page `width` pixels wide, and how high the block over the data is with them.
pub(super) fn heading(subtitle: &[String], width: u32) -> (Vec<String>, f64) {
    let lines = text::wrapped(subtitle, SUBTITLE, f64::from(width) - 2.0 * PAGE_MARGIN);
    let height = 55.0 + SUBTITLE_LINE * lines.len() as f64;
    (lines, height)
}

/// Writes title and subtitle lines and returns what is left of the page below them.
pub(super) fn header<'a>(
    page: &Sheet<'a>,
    title: &str,
    subtitle: &[String],
) -> Result<Sheet<'a>, DrawingAreaErrorKind<std::io::Error>> {
    let mut y = 18.0;
    write(page, title, &Type::bold(19.0, INK).anchored(HPos::Left, VPos::Top), (PAGE_MARGIN, y))?;
    y += 29.0;
    for line in subtitle {
        write(page, line, &Type::plain(SUBTITLE, MUTED).anchored(HPos::Left, VPos::Top), (PAGE_MARGIN, y))?;
        y += SUBTITLE_LINE;
    }
    let (_, rest) = page.split_vertically(px(y + 8.0));
    let margin = px(PAGE_MARGIN);
    Ok(rest.margin(0, px(14.0), margin, margin))
}

/// Room for labels around a plot, in pixels.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    pub(super) left: f64,
}

/// Draws gridlines, ticks and axis names and returns the plot inside them.
pub(super) fn plot<'a>(
    sheet: &Sheet<'a>,
    room: Room,
    (x, x_name): (&Axis, &str),
    (y, y_name): (&Axis, &str),
) -> Result<Plot<'a>, DrawingAreaErrorKind<std::io::Error>> {
    let (width, height) = size_of(sheet);
    let inner = sheet.margin(px(room.top), px(room.bottom), px(room.left), px(room.right));
    let (origin, (columns, rows)) = (inner.get_base_pixel(), inner.dim_in_pixel());
    let plot = inner.apply_coord_spec(Cartesian2d::<RangedCoordf64, RangedCoordf64>::new(
        x.place(x.from)..x.place(x.to),
        y.place(y.from)..y.place(y.to),
        (origin.0..origin.0 + columns as i32, origin.1 + rows as i32..origin.1),
    ));
    let (left, right) = (x.place(x.from), x.place(x.to));
    let label = Type::plain(SMALL, MUTED);
    for tick in &y.ticks {
        let level = y.place(tick.at);
        plot.draw(&PathElement::new(vec![(left, level), (right, level)], stroke(GRID, 1.0)))?;
        let (_, at) = on_sheet(sheet, &plot, (left, level));
        write(sheet, &tick.label, &label.anchored(HPos::Right, VPos::Center), (room.left - 7.0, at + 1.0))?;
    }
    let floor = y.place(y.from);
    plot.draw(&PathElement::new(vec![(left, floor), (right, floor)], stroke(AXIS, 1.0)))?;
    for tick in &x.ticks {
        let (at, _) = on_sheet(sheet, &plot, (x.place(tick.at), floor));
        let below = height - room.bottom + 11.0;
        write(sheet, &tick.label, &label.anchored(HPos::Center, VPos::Top), (at, below))?;
    }
    let name = Type::plain(SMALL, INK);
    write(sheet, y_name, &name.anchored(HPos::Left, VPos::Bottom), (0.0, room.top - 9.0))?;
    let middle = room.left + (width - room.left - room.right) / 2.0;
    write(sheet, x_name, &name.anchored(HPos::Center, VPos::Bottom), (middle, height - 2.0))?;
    Ok(plot)
}

/// Where a point of the plot lies on the sheet, in the sheet's pixels.
pub(super) fn on_sheet(sheet: &Sheet<'_>, plot: &Plot<'_>, point: (f64, f64)) -> (f64, f64) {
    let (origin, at) = (sheet.get_base_pixel(), plot.map_coordinate(&point));
    let unit = f64::from(px(1.0));
    (f64::from(at.0 - origin.0) / unit, f64::from(at.1 - origin.1) / unit)
}

/// Draws each of the items, up to the first that fails.
pub(super) fn each<T>(items: impl IntoIterator<Item = T>, draw: impl FnMut(T) -> Drawn) -> Drawn {
    items.into_iter().try_for_each(draw)
}
