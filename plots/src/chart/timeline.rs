//! A timeline: what answered when, and one moment under the magnifying glass.
//!
//! Above, the whole run: requests per bucket, a band for each replica that answered, stacked, so that a
//! dent in the outline is a failure and a band that vanishes shows who took over. Below, the moment that matters: every
//! single request as a dot, when it was due and how long it took. Rejected: percentiles per bucket for
//! the moment itself; a gap of two hundred milliseconds is two buckets wide, and the question is what
//! happened to each request in it.

use std::collections::HashSet;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::axis::Axis;
use super::frame::{self, Room, SMALL, each, on_sheet};
use super::legend::{self, Entry, Swatch};
use super::paper::{Drawn, Plot, Sheet, Type, page, px, size_of, stroke, write};
use super::picture::{ChartError, Picture};
use super::stacked::band;
use super::text;
use super::theme::{ALARM, Colour, INK, PAGE};

/// The page's width, and its height under the subtitle, in pixels.
const WIDTH: u32 = 960;
const DATA_HEIGHT: f64 = 608.0;
/// Where the plots begin, in pixels.
const PLOT_LEFT: f64 = 52.0;

/// More dots than this are drawn smaller.
const CROWD: usize = 1000;

/// A band of the stack: one replica.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// Its colour.
    pub colour: Colour,
    /// The requests of each bucket that it answered.
    pub counts: Vec<u64>,
}

/// A vertical line with a label: something happened.
#[derive(Clone, Debug)]
pub struct Mark {
    /// When, in seconds.
    pub at: f64,
    /// What.
    pub label: String,
    /// Drawn in the colour of alarm.
    pub alarm: bool,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Dot {
    /// When it was due, in seconds.
    pub at: f64,
    /// How long it took from then, in milliseconds.
    pub latency_ms: f64,
    /// The lane that answered; none for a failed request.
    pub lane: Option<usize>,
}

/// The moment to look at closely.
#[derive(Clone, Debug)]
pub struct Zoom {
    /// From when, in seconds.
    pub from: f64,
    /// To when, in seconds.
    pub to: f64,
    /// The requests due in between.
    pub dots: Vec<Dot>,
}

/// A timeline chart.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The claim of the chart.
    pub title: String,
    /// What was measured and how, a line each.
    pub subtitle: Vec<String>,
    /// The length of a bucket, in seconds.
    pub bucket: f64,
    /// The bands, bottom up.
    pub lanes: Vec<Lane>,
    /// Failed requests in each bucket.
    pub errors: Vec<u64>,
    /// What happened.
    pub marks: Vec<Mark>,
    /// The moment to look at closely.
    pub zoom: Zoom,
}

impl Timeline {
    /// Draws the chart.
    pub fn draw(&self) -> Result<Picture, ChartError> {
        let (subtitle, heading) = frame::heading(&self.subtitle, WIDTH);
        let size = (WIDTH, (heading + DATA_HEIGHT) as u32);
        page(size, &self.title, &self.subtitle.join(" "), |root| {
            let rest = frame::header(root, &self.title, &subtitle)?;
            let rest = legend::row(&rest, &self.key())?;
            let (_, height) = size_of(&rest);
            let (above, below) = rest.split_vertically(px(height * 0.49));
            self.whole(&above)?;
            self.moment(&below)
        })
    }

    fn key(&self) -> Vec<Entry> {
        let failed: u64 = self.errors.iter().sum();
        let lanes = self.lanes.iter().map(|lane| Entry::new(Swatch::Area(lane.colour), &lane.name));
        let failures = Entry::new(Swatch::Cross, format!("failed requests: {failed}"));
        lanes.chain([failures]).collect()
    }

    fn buckets(&self) -> usize {
        self.lanes.iter().map(|lane| lane.counts.len()).max().unwrap_or(0).max(self.errors.len())
    }

    fn whole(&self, sheet: &Sheet<'_>) -> Drawn {
        let room = Room { top: 28.0, right: 8.0, bottom: 44.0, left: PLOT_LEFT };
        let buckets = self.buckets();
        let of = |lane: &Lane, bucket: usize| lane.counts.get(bucket).copied().unwrap_or(0) as f64;
        let total = |bucket| self.lanes.iter().map(|lane| of(lane, bucket)).sum::<f64>();
        let highest = (0..buckets).map(total).fold(1.0, f64::max);
        let x = Axis::exactly(0.0, self.bucket * buckets.max(1) as f64, 12);
        // Some air, so that an outline at a round number is not drawn on the frame.
        let y = Axis::from_zero(highest * 1.08, 6);
        let y_name = format!("requests due per {:.0} ms, by who answered them", self.bucket * 1000.0);
        let plot = frame::plot(sheet, room, (&x, "seconds since the load began"), (&y, &y_name))?;
        let mut floor = vec![0.0; buckets];
        for lane in &self.lanes {
            let roof: Vec<f64> = (0..buckets).map(|bucket| floor[bucket] + of(lane, bucket)).collect();
            band(&plot, &floor, &roof, self.bucket, lane.colour)?;
            floor = roof;
        }
        each(self.errors.iter().enumerate().filter(|(_, count)| **count > 0), |(bucket, _)| {
            cross(&plot, ((bucket as f64 + 0.5) * self.bucket, y.to * 0.96), 4.0)
        })?;
        let (from, to) = (self.zoom.from, self.zoom.to);
        let bracket = vec![(from, 0.0), (from, y.to), (to, y.to), (to, 0.0), (from, 0.0)];
        plot.draw(&PathElement::new(bracket, stroke(INK, 1.0)))?;
        self.marks(sheet, &plot, (0.0, y.to), false)
    }

    fn moment(&self, sheet: &Sheet<'_>) -> Drawn {
        let room = Room { top: 58.0, right: 8.0, bottom: 42.0, left: PLOT_LEFT };
        let x = Axis::exactly(self.zoom.from, self.zoom.to, 10);
        let dots = &self.zoom.dots;
        let (low, high) = dots.iter().fold((f64::INFINITY, 1.0), |(low, high), dot| {
            (f64::min(low, dot.latency_ms), f64::max(high, dot.latency_ms))
        });
        let y = Axis::log(low.clamp(0.05, 1.0), high);
        let plot = frame::plot(sheet, room, (&x, "seconds since the load began"), (&y, ""))?;
        // Above the names of the marks, which stand directly on the plot.
        let y_name = "the framed moment: latency of each request from when it was due, ms (logarithmic)";
        let style = Type::plain(SMALL, INK).anchored(HPos::Left, VPos::Bottom);
        write(sheet, y_name, &style, (0.0, room.top - 31.0))?;
        self.marks(sheet, &plot, (y.place(y.from), y.place(y.to)), true)?;
        let (answered, failed): (Vec<&Dot>, Vec<&Dot>) = dots.iter().partition(|dot| dot.lane.is_some());
        let radius = if answered.len() > CROWD { 1.6 } else { 2.3 };
        // Dots of one replica that fall on one pixel are drawn once: there may be thousands.
        let mut drawn = HashSet::new();
        each(answered, |dot| {
            let at = (dot.at, y.place(dot.latency_ms));
            let (left, top) = plot.map_coordinate(&at);
            if !drawn.insert((left / px(1.0), top / px(1.0), dot.lane)) {
                return Ok(());
            }
            let colour = dot.lane.and_then(|lane| self.lanes.get(lane)).map_or(INK, |lane| lane.colour);
            plot.draw(&Circle::new(at, px(radius), colour.filled()))
        })?;
        each(failed, |dot| cross(&plot, (dot.at, y.place(dot.latency_ms)), 4.0))
    }

    /// Draws the marks over a plot whose heights run from `floor` to `roof`, named above it or not.
    fn marks(&self, sheet: &Sheet<'_>, plot: &Plot<'_>, (floor, roof): (f64, f64), named: bool) -> Drawn {
        let (width, _) = size_of(sheet);
        // The first on top: what follows within a pixel must not hide it.
        each(self.marks.iter().enumerate().rev(), |(i, mark)| {
            let colour = if mark.alarm { ALARM } else { INK };
            let line = vec![(mark.at, floor), (mark.at, roof)];
            plot.draw(&PathElement::new(line.clone(), stroke(PAGE, 3.0)))?;
            plot.draw(&PathElement::new(line, stroke(colour, 1.6)))?;
            if !named {
                return Ok(());
            }
            let (x, top) = on_sheet(sheet, plot, (mark.at, roof));
            // Labels lean away from each other, the first to the left of its line, if there is room.
            let takes = text::width(&mark.label, SMALL, true);
            let leans_left = (i == 0 && x - takes > PLOT_LEFT) || x + takes > width;
            let (anchor, x) = if leans_left { (HPos::Right, x + 2.0) } else { (HPos::Left, x - 2.0) };
            write(
                sheet,
                &mark.label,
                &Type::bold(SMALL, colour).anchored(anchor, VPos::Bottom),
                (x, top - 6.0),
            )
        })
    }
}

/// The mark of a failed request.
fn cross(plot: &Plot<'_>, at: (f64, f64), arm: f64) -> Drawn {
    let arm = px(arm);
    let bar = |dx: i32, dy: i32| PathElement::new(vec![(-dx, -dy), (dx, dy)], stroke(ALARM, 2.0));
    plot.draw(&(EmptyElement::at(at) + bar(arm, arm) + bar(arm, -arm)))
}
