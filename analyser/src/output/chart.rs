//! What a chart of counts over time shows: stacked bars, from the first bucket to the last without a gap.

use crate::fold::OverTime;
use crate::level::Level;
use crate::time::Time;

/// Stacked bars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// How long a bar is, in seconds.
    pub seconds: u64,
    /// When the first bar begins.
    pub begin: Time,
    /// How many bars there are.
    pub bars: usize,
    /// A series for each level that was seen, by name, then for records without one: a count for each bar.
    pub series: Vec<(Option<Level>, Vec<u64>)>,
}

impl Stack {
    /// The height of the highest bar.
    #[must_use]
    pub fn highest(&self) -> u64 {
        let height = |bar: usize| self.series.iter().map(|(_, counts)| counts[bar]).sum();
        (0..self.bars).map(height).max().unwrap_or(0)
    }
}

/// Counts over time as at most so many bars (one at least): several buckets share a bar if there are more. `None` if there
/// is nothing to show.
#[must_use]
pub fn stack(counts: &OverTime, most: usize) -> Option<Stack> {
    let unit = u64::from(counts.unit().seconds());
    let number = |time: Time| time.0.unsigned_abs() / 1_000_000 / unit;
    let mut numbers = counts.buckets().map(|(begin, _)| number(begin));
    let first = numbers.next()?;
    let last = numbers.last().unwrap_or(first);
    let buckets = last - first + 1;
    let share = buckets.div_ceil(most.max(1) as u64);
    let bars = buckets.div_ceil(share) as usize;
    let kinds = Level::BY_NAME.into_iter().map(Some).chain([None]);
    let series = kinds.filter_map(|level| {
        let mut heights = vec![0; bars];
        for (begin, levels) in counts.buckets() {
            heights[((number(begin) - first) / share) as usize] += levels[level];
        }
        heights.iter().any(|height| *height > 0).then_some((level, heights))
    });
    Some(Stack { seconds: unit * share, begin: counts.unit().begin(first), bars, series: series.collect() })
}
