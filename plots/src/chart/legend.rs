//! The key to a chart: a row of swatches above the data, never on it; and names at the ends of lines.
//!
//! Lines that end apart are named where they end, so that no eye has to travel; [`spread`] moves
//! names that would overlap just far enough apart. Everything else is explained in the row above.

use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::paper::{Drawn, Sheet, Type, px, size_of, stroke, write};
use super::text;
use super::theme::{ALARM, Colour, INK};

const SIZE: f64 = 12.0;
const SWATCH: f64 = 18.0;
const GAP: f64 = 20.0;
/// The height of one row of the key, in pixels.
const ROW: f64 = 20.0;

/// What stands before a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Swatch {
    Dashed(Colour),
    Area(Colour),
    Dot(Colour),
    /// The short dark stroke that marks an expectation.
    Stroke(Colour),
    Cross,
}

/// A swatch and its name.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) swatch: Swatch,
    pub(super) name: String,
}

impl Entry {
    pub(super) fn new(swatch: Swatch, name: impl Into<String>) -> Entry {
        Entry { swatch, name: name.into() }
    }
}

/// Draws the key along the top of the sheet, in as many rows as it takes, and returns the rest.
pub(super) fn row<'a>(
    sheet: &Sheet<'a>,
    entries: &[Entry],
) -> Result<Sheet<'a>, DrawingAreaErrorKind<std::io::Error>> {
    let (room, _) = size_of(sheet);
    let (mut x, mut y) = (0.0, 0.0);
    for entry in entries {
        let takes = SWATCH + 7.0 + text::width(&entry.name, SIZE, false);
        if x > 0.0 && x + takes > room {
            (x, y) = (0.0, y + ROW);
        }
        swatch(sheet, entry.swatch, (x, y + ROW / 2.0))?;
        let style = Type::plain(SIZE, INK).anchored(HPos::Left, VPos::Center);
        write(sheet, &entry.name, &style, (x + SWATCH + 7.0, y + ROW / 2.0 + 1.0))?;
        x += takes + GAP;
    }
    let (_, rest) = sheet.split_vertically(px(y + ROW + 8.0));
    Ok(rest)
}

fn swatch(sheet: &Sheet<'_>, swatch: Swatch, (x, y): (f64, f64)) -> Drawn {
    let at = |dx: f64, dy: f64| (px(x + dx), px(y + dy));
    let middle = SWATCH / 2.0;
    match swatch {
        Swatch::Dashed(colour) => sheet.draw(&DashedPathElement::new(
            vec![at(0.0, 0.0), at(SWATCH, 0.0)],
            px(5.0),
            px(4.0),
            stroke(colour, 1.5),
        )),
        Swatch::Area(colour) => {
            sheet.draw(&Rectangle::new([at(2.0, -6.0), at(SWATCH - 2.0, 6.0)], colour.filled()))
        }
        Swatch::Dot(colour) => sheet.draw(&Circle::new(at(middle, 0.0), px(4.0), colour.filled())),
        Swatch::Stroke(colour) => {
            sheet.draw(&PathElement::new(vec![at(2.0, 0.0), at(SWATCH - 2.0, 0.0)], stroke(colour, 2.2)))
        }
        Swatch::Cross => cross(sheet, at(middle, 0.0)),
    }
}

/// The mark of a failed request, at a point in drawing units.
fn cross(sheet: &Sheet<'_>, (x, y): (i32, i32)) -> Drawn {
    let arm = px(4.0);
    for (dx, dy) in [(arm, arm), (arm, -arm)] {
        sheet.draw(&PathElement::new(vec![(x - dx, y - dy), (x + dx, y + dy)], stroke(ALARM, 2.0)))?;
    }
    Ok(())
}

/// Moves positions apart until neighbours are at least `gap` from each other, inside `low..=high` if
/// they fit there; each stays as near to where it was as the others allow. The order is kept.
#[must_use]
pub fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // Runs of touching labels, each centred on the mean of where its members want to be.
    let mut runs: Vec<(f64, usize)> = Vec::new();
    let top = |(centre, count): (f64, usize)| {
        let span = (count - 1) as f64 * gap;
        (centre - span / 2.0).clamp(low, (high - span).max(low))
    };
    for &index in &order {
        runs.push((wanted[index], 1));
        while let [.., before, last] = runs[..] {
            if top(before) + before.1 as f64 * gap <= top(last) {
                break;
            }
            let count = before.1 + last.1;
            let centre = (before.0 * before.1 as f64 + last.0 * last.1 as f64) / count as f64;
            runs.truncate(runs.len() - 2);
            runs.push((centre, count));
        }
    }
    let mut placed = vec![0.0; wanted.len()];
    let slots = runs.into_iter().flat_map(|run| (0..run.1).map(move |k| (run, k)));
    for (&index, (run, k)) in order.iter().zip(slots) {
        placed[index] = top(run) + k as f64 * gap;
    }
    placed
}
