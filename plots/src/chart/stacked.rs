//! Stacked counts: how many of each kind there were, bucket after bucket, or one bar for each thing.
//!
//! The first layer stands on the ground, where heights can be compared: what matters most belongs there. Rejected: a line
//! for each kind, which crosses the others and hides how many there were of all.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::{Axis, Tick};
use super::frame::{self, Room, SMALL, each, on_sheet};
use super::legend::{self, Entry, Swatch};
use super::paper::{Drawn, Plot, Sheet, Type, page, write};
use super::picture::{ChartError, Picture};
use super::text;
use super::theme::{Colour, INK};

/// The page's width, and its height under the subtitle, in pixels.
const WIDTH: u32 = 960;
const DATA_HEIGHT: f64 = 392.0;
/// The part of its place that a bar takes which stands apart.
const APART: f64 = 0.62;

/// One kind of thing.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its name.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// How many there were in each bar; one that is missing is 0.
    pub counts: Vec<u64>,
}

/// A chart of stacked bars.
#[derive(Clone, Debug)]
pub struct Stacked {
    /// The claim of the chart.
    pub title: String,
    /// What was counted and how, a line each.
    pub subtitle: Vec<String>,
    /// The name of what runs along the bottom.
    pub x_name: String,
    /// The name and unit of the heights.
    pub y_name: String,
    /// How many bars there are.
    pub bars: usize,
    /// Bars stand apart, each with its height in figures above it; else they touch, as time does.
    pub is_apart: bool,
    /// What is written under the bottom line, and where: 0 is the left edge of the first bar, 1 of the second.
    pub ticks: Vec<(f64, String)>,
    /// The layers, bottom up.
    pub layers: Vec<Layer>,
}

impl Layer {
    fn at(&self, bar: usize) -> f64 {
        self.counts.get(bar).copied().unwrap_or(0) as f64
    }
}

impl Stacked {
    /// Draws the chart.
    ///
    /// # Errors
    /// When the drawing backend refuses an element.
    pub fn draw(&self) -> Result<Picture, ChartError> {
        let (subtitle, heading) = frame::heading(&self.subtitle, WIDTH);
        let size = (WIDTH, (heading + DATA_HEIGHT) as u32);
        page(size, &self.title, &self.subtitle.join(" "), |root| {
            let rest = frame::header(root, &self.title, &subtitle)?;
            let entry = |layer: &Layer| Entry::new(Swatch::Area(layer.colour), &layer.name);
            let key: Vec<Entry> = self.layers.iter().rev().map(entry).collect();
            // Bars that stand apart have their names under them.
            let rest = if self.is_apart { rest } else { legend::row(&rest, &key)? };
            self.plot(&rest)
        })
    }

    fn height(&self, bar: usize) -> f64 {
        self.layers.iter().map(|layer| layer.at(bar)).sum()
    }

    fn plot(&self, sheet: &Sheet<'_>) -> Drawn {
        let highest = (0..self.bars).map(|bar| self.height(bar)).fold(1.0, f64::max);
        let places = Axis::exactly(0.0, self.bars.max(1) as f64, 1);
        let ticks = self.ticks.iter().map(|(at, label)| Tick { at: *at, label: label.clone() }).collect();
        let x = Axis { ticks, ..places };
        let y = Axis::from_zero(highest * 1.08, 6);
        let left = y.ticks.iter().map(|tick| text::width(&tick.label, SMALL, false)).fold(32.0, f64::max);
        // The last tick may stand at the edge.
        let right = x.ticks.last().map_or(8.0, |tick| text::width(&tick.label, SMALL, false) / 2.0 + 8.0);
        let room = Room { top: 28.0, right, bottom: 44.0, left: left + 12.0 };
        let plot = frame::plot(sheet, room, (&x, &self.x_name), (&y, &self.y_name))?;
        if self.is_apart {
            return self.apart(sheet, &plot);
        }
        let mut floor = vec![0.0; self.bars];
        for layer in &self.layers {
            let roof: Vec<f64> = floor.iter().enumerate().map(|(bar, low)| low + layer.at(bar)).collect();
            band(&plot, &floor, &roof, 1.0, layer.colour)?;
            floor = roof;
        }
        Ok(())
    }

    fn apart(&self, sheet: &Sheet<'_>, plot: &Plot<'_>) -> Drawn {
        each(0..self.bars, |bar| {
            let (left, mut floor) = (bar as f64 + (1.0 - APART) / 2.0, 0.0);
            for layer in self.layers.iter().filter(|layer| layer.at(bar) > 0.0) {
                let roof = floor + layer.at(bar);
                let body = [(left, floor), (left + APART, roof)];
                plot.draw(&Rectangle::new(body, layer.colour.filled()))?;
                floor = roof;
            }
            let (x, top) = on_sheet(sheet, plot, (bar as f64 + 0.5, floor));
            let figure = Type::bold(SMALL, INK).anchored(HPos::Center, VPos::Bottom);
            write(sheet, &text::grouped(floor), &figure, (x, top - 5.0))
        })
    }
}

/// Fills what lies between two outlines of steps, each step `width` wide.
pub(super) fn band(plot: &Plot<'_>, floor: &[f64], roof: &[f64], width: f64, colour: Colour) -> Drawn {
    let steps = |level: &[f64]| -> Vec<(f64, f64)> {
        let edges = level.iter().enumerate().flat_map(|(bar, &height)| {
            [(bar, height), (bar + 1, height)].map(|(edge, height)| (edge as f64 * width, height))
        });
        edges.collect()
    };
    let outline = steps(roof).into_iter().chain(steps(floor).into_iter().rev());
    plot.draw(&Polygon::new(outline.collect::<Vec<_>>(), colour.filled()))
}
