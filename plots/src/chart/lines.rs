//! Lines: how a figure develops, a line for each thing compared, against what theory says.
//!
//! Where lines end apart they are named at their ends; where all of them share one path (means do) the
//! points are set side by side and the key stands above. A point may carry its range and its
//! expectation. Rejected: error bars for the theory; the band behind the lines says the same once.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::frame::{self, Room, each, on_sheet};
use super::legend::{self, Entry, Swatch, spread};
use super::paper::{Drawn, Plot, Sheet, Type, dashed, page, px, size_of, stroke, write};
use super::picture::{ChartError, Picture};
use super::text;
use super::theme::{BAND, Colour, GRID, INK, PAGE};

pub use super::axis::Scale;

/// A point of a line.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Where along the bottom; a whole number.
    pub x: u32,
    /// How high.
    pub y: f64,
    /// The lowest and highest of what the point stands for, drawn as a whisker.
    pub range: Option<(f64, f64)>,
    /// What was expected, drawn as a short dark stroke.
    pub expected: Option<f64>,
}

/// A line and its name.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// Its points, left to right.
    pub points: Vec<Point>,
}

/// A grey band behind the lines: its name and, for each x, its lower and upper edge.
#[derive(Clone, Debug)]
pub struct Band {
    /// What it means.
    pub name: String,
    /// `(x, lower, upper)`, left to right.
    pub edges: Vec<(u32, f64, f64)>,
}

/// A line chart.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The claim of the chart.
    pub title: String,
    /// What was measured and how, a line each.
    pub subtitle: Vec<String>,
    /// The name of what runs along the bottom.
    pub x_name: String,
    /// The name and unit of the heights.
    pub y_name: String,
    /// How heights are spread.
    pub scale: Scale,
    /// Sets the points of one x side by side, for lines that would otherwise hide each other.
    pub side_by_side: bool,
    /// What the short dark strokes are.
    pub expected_name: String,
    /// What theory says: a dashed line, its name and its points.
    pub theory: Option<(String, Vec<(u32, f64)>)>,
    /// Where chance would put a point.
    pub band: Option<Band>,
    /// The lines.
    pub series: Vec<Series>,
}

/// The page's width, and its height under the subtitle, in pixels.
const WIDTH: u32 = 960;
const DATA_HEIGHT: f64 = 486.0;
/// How much of one step along the bottom the points side by side take up.
const DODGE: f64 = 0.62;
/// Half the length of theory's dash behind points side by side.
const LEVEL: f64 = 0.42;

impl Lines {
    /// Draws the chart.
    pub fn draw(&self) -> Result<Picture, ChartError> {
        let (subtitle, heading) = frame::heading(&self.subtitle, WIDTH);
        let size = (WIDTH, (heading + DATA_HEIGHT) as u32);
        page(size, &self.title, &self.subtitle.join(" "), |root| {
            let rest = frame::header(root, &self.title, &subtitle)?;
            let rest = legend::row(&rest, &self.key())?;
            let right = if self.side_by_side { 4.0 } else { self.widest_name() + 26.0 };
            let room = Room { top: 28.0, right, bottom: 46.0, left: 52.0 };
            let (x, y) = (self.across(), self.upward());
            let plot = frame::plot(&rest, room, (&x, &self.x_name), (&y, &self.y_name))?;
            self.background(&plot, &x, &y)?;
            for (i, series) in self.series.iter().enumerate() {
                self.line(&plot, series, self.offset(i), &y)?;
            }
            if self.side_by_side { Ok(()) } else { self.names(&rest, &plot, room, &x, &y) }
        })
    }

    fn key(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        if self.side_by_side {
            entries.extend(self.series.iter().map(|s| Entry::new(Swatch::Dot(s.colour), &s.name)));
        }
        if self.points().any(|point| point.expected.is_some()) {
            entries.push(Entry::new(Swatch::Stroke(INK), &self.expected_name));
        }
        entries.extend(self.theory.as_ref().map(|(name, _)| Entry::new(Swatch::Dashed(INK), name)));
        entries.extend(self.band.as_ref().map(|band| Entry::new(Swatch::Area(BAND), &band.name)));
        entries
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        self.series.iter().flat_map(|series| &series.points)
    }

    fn widest_name(&self) -> f64 {
        self.series.iter().map(|series| text::width(&series.name, 12.5, true)).fold(0.0, f64::max)
    }

    fn across(&self) -> Axis {
        let mut values: Vec<u32> = self.points().map(|point| point.x).collect();
        values.sort_unstable();
        values.dedup();
        let mut axis = Axis::whole(&values);
        if !self.side_by_side && values.len() > 1 {
            (axis.from, axis.to) = (axis.from + 0.3, axis.to - 0.4);
        }
        axis
    }

    fn upward(&self) -> Axis {
        let heights = self
            .points()
            .flat_map(|point| {
                let (low, high) = point.range.unwrap_or((point.y, point.y));
                [point.y, low, high, point.expected.unwrap_or(point.y)]
            })
            .chain(self.theory.iter().flat_map(|(_, points)| points.iter().map(|point| point.1)))
            // A band that the floor cut off would seem to run to a corner where it does not end.
            .chain(self.band.iter().flat_map(|band| band.edges.iter().flat_map(|edge| [edge.1, edge.2])));
        let (low, high) =
            heights.filter(|height| height.is_finite()).fold((f64::INFINITY, 0.0), |(low, high), height| {
                (f64::min(low, height), f64::max(high, height))
            });
        match self.scale {
            Scale::Linear => Axis::from_zero(high, 5),
            // Zero has no logarithm: whatever is below one is drawn on the floor.
            Scale::Log => Axis::log(low.max(1.0), high),
        }
    }

    fn offset(&self, index: usize) -> f64 {
        let count = self.series.len();
        if !self.side_by_side || count < 2 {
            return 0.0;
        }
        DODGE * (index as f64 / (count - 1) as f64 - 0.5)
    }

    fn background(&self, plot: &Plot<'_>, x: &Axis, y: &Axis) -> Drawn {
        if let Some(band) = &self.band {
            let upper = band.edges.iter().map(|&(at, _, high)| (x.place(f64::from(at)), y.place(high)));
            let lower = band.edges.iter().rev().map(|&(at, low, _)| (x.place(f64::from(at)), y.place(low)));
            plot.draw(&Polygon::new(upper.chain(lower).collect::<Vec<_>>(), BAND.filled()))?;
            // The band hides the grid: draw it again where it passed over.
            let (from, to) = (band.edges.first(), band.edges.last());
            if let (Some(from), Some(to)) = (from, to) {
                let (from, to) = (x.place(f64::from(from.0)), x.place(f64::from(to.0)));
                each(y.ticks.iter().skip(1), |tick| {
                    let level = y.place(tick.at);
                    plot.draw(&PathElement::new(vec![(from, level), (to, level)], stroke(GRID, 1.0)))
                })?;
            }
        }
        let Some((_, points)) = &self.theory else { return Ok(()) };
        let at = |x_value: f64, height: f64| (x.place(x_value), y.place(height));
        if self.side_by_side {
            return each(points, |&(x_value, height)| {
                let (from, to) = (f64::from(x_value) - LEVEL, f64::from(x_value) + LEVEL);
                dashed(plot, vec![at(from, height), at(to, height)], stroke(INK, 1.5))
            });
        }
        let path = points.iter().map(|&(x_value, height)| at(f64::from(x_value), height));
        dashed(plot, path.collect(), stroke(INK, 1.5))
    }

    fn line(&self, plot: &Plot<'_>, series: &Series, offset: f64, y: &Axis) -> Drawn {
        let at = |point: &Point, height: f64| (f64::from(point.x) + offset, y.place(height));
        let path: Vec<_> = series.points.iter().map(|point| at(point, point.y)).collect();
        let width = if self.side_by_side { 1.2 } else { 2.4 };
        plot.draw(&PathElement::new(path, stroke(series.colour, width)))?;
        each(&series.points, |point| {
            if let Some((low, high)) = point.range {
                let whisker = vec![at(point, low), at(point, high)];
                plot.draw(&PathElement::new(whisker, stroke(series.colour, 2.6)))?;
            }
            if let Some(expected) = point.expected {
                let (x, level) = at(point, expected);
                plot.draw(&PathElement::new(vec![(x - 0.06, level), (x + 0.06, level)], stroke(INK, 2.0)))?;
            }
            plot.draw(&Circle::new(at(point, point.y), px(5.6), PAGE.filled()))?;
            plot.draw(&Circle::new(at(point, point.y), px(4.4), series.colour.filled()))
        })
    }

    fn names(&self, sheet: &Sheet<'_>, plot: &Plot<'_>, room: Room, x: &Axis, y: &Axis) -> Drawn {
        let ends: Vec<(&Series, (f64, f64))> = self
            .series
            .iter()
            .filter_map(|series| series.points.last().map(|point| (series, point)))
            .map(|(series, point)| {
                (series, on_sheet(sheet, plot, (x.place(f64::from(point.x)), y.place(point.y))))
            })
            .collect();
        let (width, height) = size_of(sheet);
        let wanted: Vec<f64> = ends.iter().map(|(_, (_, at))| *at).collect();
        let placed = spread(&wanted, 18.0, room.top, height - room.bottom - 8.0);
        let left = width - room.right + 22.0;
        each(ends.iter().zip(placed), |((series, (end_x, end_y)), level)| {
            let leader = vec![(px(end_x + 8.0), px(*end_y)), (px(left - 4.0), px(level))];
            sheet.draw(&PathElement::new(leader, stroke(series.colour, 1.0)))?;
            let style = Type::bold(12.5, INK).anchored(HPos::Left, VPos::Center);
            write(sheet, &series.name, &style, (left, level + 1.0))
        })
    }
}

/// Used where a chart of lines has nothing to say about chance.
impl Default for Lines {
    fn default() -> Lines {
        Lines {
            title: String::new(),
            subtitle: Vec::new(),
            x_name: String::new(),
            y_name: String::new(),
            scale: Scale::Linear,
            side_by_side: false,
            expected_name: String::new(),
            theory: None,
            band: None,
            series: Vec::new(),
        }
    }
}
