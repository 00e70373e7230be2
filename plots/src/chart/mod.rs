//! Charts: a value goes in, a [`Picture`] comes out.
//!
//! A chart is described by plain data ([`Bars`], [`Lines`], [`Stacked`], [`Timeline`]) and drawn in one go into
//! SVG; the PNG is rendered from that very SVG, so the two can never disagree. Nothing here reads a
//! file, a clock or a system font: the same data gives the same bytes on every machine, which is
//! what lets the pictures of the README be compared with `git diff`.
//!
//! Rejected: a bitmap backend beside the SVG one. It is a second renderer with its own text metrics,
//! and needs system font libraries that a static executable does not have.

mod axis;
mod bars;
mod frame;
mod legend;
mod lines;
mod paper;
mod picture;
mod stacked;
mod text;
mod theme;
mod timeline;

#[cfg(test)]
mod tests;

pub use bars::{Bar, BarPanel, Bars};
pub use legend::spread;
pub use lines::{Band, Lines, Point, Scale, Series};
pub use picture::{ChartError, Picture};
pub use stacked::{Layer, Stacked};
pub(crate) use text::grouped;
pub use theme::{Colour, VICTIM_COLOUR, level_colour, placement_colour, replica_colour};
pub use timeline::{Dot, Lane, Mark, Timeline, Zoom};
