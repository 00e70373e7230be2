//! What a batch's columns reach from and to: a question that lies outside passes the whole batch over.

use arrow_array::{Array, Float64Array};

/// The least and the greatest of a column; `None` if it holds nothing.
pub(super) type Reach = Option<(f64, f64)>;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stats {
    pub(super) latitude: Reach,
    pub(super) longitude: Reach,
    pub(super) value: Reach,
}

impl Stats {
    pub(super) fn of(latitude: &Float64Array, longitude: &Float64Array, value: &Float64Array) -> Self {
        Self { latitude: reach(latitude), longitude: reach(longitude), value: reach(value) }
    }
}

fn reach(column: &Float64Array) -> Reach {
    let wider = |reach: Reach, value: f64| {
        let (least, greatest) = reach.unwrap_or((value, value));
        Some((least.min(value), greatest.max(value)))
    };
    match column.null_count() {
        0 => column.values().iter().fold(None, |reach, &value| wider(reach, value)),
        _ => column.iter().flatten().fold(None, wider),
    }
}

/// Whether a column that reaches so far can hold a value within the bounds.
pub(super) fn meets(reach: Reach, min: Option<f64>, max: Option<f64>) -> bool {
    match reach {
        _ if min.is_none() && max.is_none() => true,
        None => false,
        Some((least, greatest)) => {
            min.is_none_or(|min| greatest >= min) && max.is_none_or(|max| least <= max)
        }
    }
}
