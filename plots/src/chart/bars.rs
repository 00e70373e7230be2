//! Bars: a panel of bars for each thing compared, all on one scale, with the expectation marked.
//!
//! The counts stand in a row under the bars, where no line crosses them; a dark stroke across a bar
//! says what was expected of it, and one dashed line through all panels says what an even split would
//! be. Rejected: bars of all things side by side in one panel, which compares the wrong neighbours.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::frame::{self, PAGE_MARGIN, Room, SMALL, each, on_sheet};
use super::legend::{self, Entry, Swatch};
use super::paper::{Drawn, Sheet, Type, dashed, page, px, size_of, stroke, write};
use super::picture::{ChartError, Picture};
use super::text;
use super::theme::{Colour, INK, MUTED};

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Its name, short.
    pub label: String,
    /// Its height.
    pub value: f64,
    /// What was expected of it, drawn as a dark stroke.
    pub expected: Option<f64>,
}

/// The bars of one thing.
#[derive(Clone, Debug)]
pub struct BarPanel {
    /// Its name.
    pub title: String,
    /// A line of figures under the name.
    pub note: String,
    /// The colour of its bars.
    pub colour: Colour,
    /// The bars, left to right.
    pub bars: Vec<Bar>,
}

/// A page of bar panels.
#[derive(Clone, Debug)]
pub struct Bars {
    /// The claim of the chart.
    pub title: String,
    /// What was measured and how, a line each.
    pub subtitle: Vec<String>,
    /// The name and unit of the heights.
    pub y_name: String,
    /// What a bar is, e.g. "replica".
    pub bar_name: String,
    /// What the dark stroke is, if bars have an expectation.
    pub expected_name: String,
    /// The dashed line: its height and its name.
    pub even: Option<(f64, String)>,
    /// The panels, row by row, three to a row.
    pub panels: Vec<BarPanel>,
}

/// How many panels stand side by side when one has so many bars: the counts need room under them.
fn columns_for(bars: usize) -> usize {
    match bars {
        0..=7 => 3,
        8..=11 => 2,
        _ => 1,
    }
}

const PANEL_HEIGHT: f64 = 252.0;

impl Bars {
    /// Draws the page.
    pub fn draw(&self) -> Result<Picture, ChartError> {
        let most = self.panels.iter().map(|panel| panel.bars.len()).max().unwrap_or(0);
        let columns = self.panels.len().clamp(1, columns_for(most));
        let rows = self.panels.len().div_ceil(columns).max(1);
        let width = if columns == 1 && most <= 11 { 560 } else { 960 };
        let (subtitle, heading) = frame::heading(&self.subtitle, width);
        let size = (width, (heading + 42.0 + PANEL_HEIGHT * rows as f64) as u32);
        let highest = self
            .panels
            .iter()
            .flat_map(|panel| &panel.bars)
            .flat_map(|bar| [Some(bar.value), bar.expected])
            .flatten()
            .chain(self.even.as_ref().map(|even| even.0))
            .fold(1.0, f64::max);
        let axis = Axis::from_zero(highest, 4);
        page(size, &self.title, &self.subtitle.join(" "), |root| {
            let rest = frame::header(root, &self.title, &subtitle)?;
            let rest = legend::row(&rest, &self.key())?;
            for (i, (panel, sheet)) in self.panels.iter().zip(rest.split_evenly((rows, columns))).enumerate()
            {
                let gutter = if i % columns == columns - 1 { 0.0 } else { PAGE_MARGIN };
                self.panel(&sheet.margin(0, px(14.0), 0, px(gutter)), panel, &axis)?;
            }
            Ok(())
        })
    }

    fn key(&self) -> Vec<Entry> {
        let expected = self.panels.iter().flat_map(|panel| &panel.bars).any(|bar| bar.expected.is_some());
        let stroke = expected.then(|| Entry::new(Swatch::Stroke(INK), &self.expected_name));
        let even = self.even.as_ref().map(|(_, name)| Entry::new(Swatch::Dashed(MUTED), name));
        stroke.into_iter().chain(even).collect()
    }

    fn panel(&self, sheet: &Sheet<'_>, panel: &BarPanel, axis: &Axis) -> Drawn {
        let room = Room { top: 64.0, right: 0.0, bottom: 40.0, left: 44.0 };
        let count = panel.bars.len();
        let across = Axis::exactly(0.0, count.max(1) as f64, 1);
        let blank = Axis { ticks: Vec::new(), ..across };
        sheet.draw(&Rectangle::new([(0, px(3.0)), (px(10.0), px(13.0))], panel.colour.filled()))?;
        let name = Type::bold(13.5, INK).anchored(HPos::Left, VPos::Top);
        write(sheet, &panel.title, &name, (16.0, 1.0))?;
        write(sheet, &panel.note, &Type::plain(SMALL, MUTED).anchored(HPos::Left, VPos::Top), (0.0, 21.0))?;
        let plot = frame::plot(sheet, room, (&blank, ""), (axis, &self.y_name))?;
        each(panel.bars.iter().enumerate(), |(i, bar)| {
            let left = i as f64;
            let body = [(left + 0.19, 0.0), (left + 0.81, bar.value)];
            plot.draw(&Rectangle::new(body, panel.colour.filled()))
        })?;
        if let Some((height, _)) = &self.even {
            dashed(&plot, vec![(0.0, *height), (count as f64, *height)], stroke(MUTED, 1.3))?;
        }
        let counts = panel.bars.iter().map(|bar| text::width(&text::grouped(bar.value), SMALL, true));
        let (width, _) = size_of(sheet);
        let counted = counts.fold(0.0, f64::max) <= (width - room.left) / count.max(1) as f64;
        each(panel.bars.iter().enumerate(), |(i, bar)| {
            let left = i as f64;
            if let Some(expected) = bar.expected {
                let across = vec![(left + 0.12, expected), (left + 0.88, expected)];
                plot.draw(&PathElement::new(across, stroke(INK, 2.0)))?;
            }
            let (x, floor) = on_sheet(sheet, &plot, (left + 0.5, 0.0));
            let row = |bold, colour| Type { size: SMALL, bold, colour }.anchored(HPos::Center, VPos::Top);
            if counted {
                write(sheet, &text::grouped(bar.value), &row(true, INK), (x, floor + 5.0))?;
            }
            write(sheet, &bar.label, &row(false, MUTED), (x, floor + 21.0))
        })?;
        let (_, floor) = on_sheet(sheet, &plot, (0.0, 0.0));
        let name = Type::plain(SMALL, MUTED).anchored(HPos::Right, VPos::Top);
        write(sheet, &self.bar_name, &name, (room.left - 7.0, floor + 21.0))
    }
}
