//! Axes: where the ticks go, on a linear and on a logarithmic scale.
//!
//! Ticks sit on 1, 2 or 5 times a power of ten, because those are the numbers people read off an axis
//! without thinking. An axis maps values to the unit in which the plot is drawn (the value itself or
//! its logarithm), so that everything behind it is linear.

use super::text;

/// How values are spread along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps are equally far apart.
    Linear,
    /// Equal factors are equally far apart; values must be positive, smaller ones are drawn at the edge.
    Log,
}

/// A tick: its value and what is written beside it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// An axis: its range in values, its scale and its ticks.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) scale: Scale,
    pub(super) ticks: Vec<Tick>,
}

impl Axis {
    /// From 0 to a round number at or above `max`, with about `count` ticks.
    pub(super) fn from_zero(max: f64, count: usize) -> Axis {
        let step = nice_step(max.max(f64::MIN_POSITIVE), count);
        let steps = (max / step).ceil().max(1.0);
        Axis { from: 0.0, to: steps * step, scale: Scale::Linear, ticks: stepped(0.0, steps * step, step) }
    }

    /// Exactly `from..to`, ticks where round numbers fall inside, about `count` of them.
    pub(super) fn exactly(from: f64, to: f64, count: usize) -> Axis {
        let step = nice_step((to - from).max(f64::MIN_POSITIVE), count);
        Axis { from, to, scale: Scale::Linear, ticks: stepped((from / step).ceil() * step, to, step) }
    }

    /// Logarithmic, from the 1-2-5 number at or below `min` to the one at or above `max`. Over more than
    /// three powers of ten only these have ticks.
    pub(super) fn log(min: f64, max: f64) -> Axis {
        let min = min.max(1e-9);
        let max = max.max(min * 10.0);
        let lowest = min.log10().floor() as i32;
        let highest = max.log10().ceil() as i32;
        let round: Vec<f64> = (lowest..=highest)
            .flat_map(|exponent| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(exponent)))
            .collect();
        let from = round.iter().copied().rfind(|&value| value <= min * 1.0001).unwrap_or(min);
        let to = round.iter().copied().find(|&value| value >= max * 0.9999).unwrap_or(max);
        let crowded = to / from > 2000.0;
        let ticks = round
            .into_iter()
            .enumerate()
            .filter(|(i, _)| !crowded || i % 3 == 0)
            .map(|(_, value)| value)
            .filter(|&value| value >= from * 0.999 && value <= to * 1.001)
            .map(|at| Tick { at, label: text::tick(at, at.min(1.0)) })
            .collect();
        Axis { from, to, scale: Scale::Log, ticks }
    }

    /// Ticks at the given whole numbers, with half a step of air at either end.
    pub(super) fn whole(values: &[u32]) -> Axis {
        let low = values.iter().copied().min().unwrap_or(0);
        let high = values.iter().copied().max().unwrap_or(1);
        let ticks =
            values.iter().map(|&value| Tick { at: f64::from(value), label: value.to_string() }).collect();
        Axis { from: f64::from(low) - 0.5, to: f64::from(high) + 0.5, scale: Scale::Linear, ticks }
    }

    /// Where `value` is drawn, in the plot's own unit; values outside the range land on the edge.
    pub(super) fn place(&self, value: f64) -> f64 {
        let inside = value.clamp(self.from, self.to);
        match self.scale {
            Scale::Linear => inside,
            Scale::Log => inside.log10(),
        }
    }
}

/// The 1-2-5 step that cuts `span` into about `count` pieces.
fn nice_step(span: f64, count: usize) -> f64 {
    let rough = span / count.max(1) as f64;
    let magnitude = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|&f| f * magnitude >= rough * 0.999).unwrap_or(10.0);
    factor * magnitude
}

fn stepped(from: f64, to: f64, step: f64) -> Vec<Tick> {
    let count = ((to - from) / step + 1e-9).floor().max(0.0) as usize;
    (0..=count)
        .map(|i| from + i as f64 * step)
        .map(|at| if at.abs() < step * 1e-9 { 0.0 } else { at })
        .map(|at| Tick { at, label: text::tick(at, step) })
        .collect()
}
