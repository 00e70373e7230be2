//! What is asked: the same records each time, but never the same question, because an overlay keeps its results.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

/// By so much the bound of one question is below that of the one before: no measurement lies between.
const STEP: f64 = 1e-10;
/// Runs begin somewhere among so many questions, so that one does not find what the last one left.
const BEGINNINGS: u64 = 1 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Questions {
    base: Map<String, Value>,
    /// What the bound of the first one is lowered by, in steps; none: all are the same.
    first: Option<u64>,
}

impl Questions {
    /// Of a JSON object; `limit` is its limit, if it has none.
    pub(super) fn of(text: &str, limit: u64, same: bool) -> Result<Self, String> {
        slipring_overlay::query::Query::from_json(text).map_err(|error| error.to_string())?;
        let mut base: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        base.entry("limit").or_insert_with(|| limit.into());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let first = u64::from(now.subsec_nanos()) % BEGINNINGS;
        Ok(Self { base, first: (!same).then_some(first) })
    }

    /// As it is told.
    pub(super) fn text(&self) -> String {
        Value::from(self.base.clone()).to_string()
    }

    pub(super) fn are_same(&self) -> bool {
        self.first.is_none()
    }

    /// The question of this number.
    pub(super) fn nth(&self, number: u64) -> String {
        let Some(first) = self.first else { return self.text() };
        let lower = (first + number) as f64 * STEP;
        let mut question = self.base.clone();
        // Every record has a latitude, not every one a concentration: only a bound that is there already may move.
        let (name, bound) = match question.get("min_value").and_then(Value::as_f64) {
            Some(bound) => ("min_value", bound),
            None => ("lat_min", question.get("lat_min").and_then(Value::as_f64).unwrap_or(-90.0)),
        };
        question.insert(name.into(), (bound - lower).into());
        Value::from(question).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use slipring_overlay::query::Query;

    use super::*;

    #[test]
    fn every_question_is_another_and_asks_for_the_same() {
        for (text, bound) in
            [(r#"{"min_value":5,"max_value":35}"#, "min_value"), (r#"{"limit":7}"#, "lat_min")]
        {
            let questions =
                Questions { first: Some(BEGINNINGS), ..Questions::of(text, 2000, false).unwrap() };
            let all: Vec<_> =
                (0..1000).map(|number| Query::from_json(&questions.nth(number)).unwrap()).collect();
            let names: BTreeSet<_> = all.iter().map(Query::normal_form).collect();
            assert_eq!(names.len(), all.len());
            for query in &all {
                let (is, was) = match bound {
                    "min_value" => (query.min_value.unwrap(), 5.0),
                    _ => (query.lat_min.unwrap(), -90.0),
                };
                assert!(was - is < 1e-3 && is < was, "{is}");
                assert_eq!(query.limit, Some(if bound == "min_value" { 2000 } else { 7 }));
            }
        }
        let same = Questions::of("{}", 10, true).unwrap();
        assert_eq!((same.nth(0), same.nth(1)), (same.text(), r#"{"limit":10}"#.into()));
        assert!(
            Questions::of("[]", 1, false).is_err() && Questions::of(r#"{"colour":1}"#, 1, false).is_err()
        );
    }
}
